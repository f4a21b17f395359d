"""Simulate a subscription shop's event log; see --help."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="simulate")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.simulate import simulate

    options = cli.to_plain(cfg)
    simulate(Path(options.pop("output")), **options)


if __name__ == "__main__":
    cli.run(main)
