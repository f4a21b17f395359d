"""Train one model, or several with -m; see --help."""

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(cfg: DictConfig) -> float:
    from seqjourney.commands.train import train
    from seqjourney.config import Config, parse

    run = train(parse(Config, cli.to_plain(cfg), "configuration"))
    return run.validation["average_precision"]


if __name__ == "__main__":
    cli.run(main)
