"""Train one model, or several with -m; see --help."""

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
@cli.mendable
def main(cfg: DictConfig) -> float:
    from seqjourney.commands.train import train
    from seqjourney.config import Config, parse

    settings = cli.to_plain(cli.take_prepared_data(cfg))
    return train(parse(Config, settings, "configuration")).objective


if __name__ == "__main__":
    cli.run(main)
