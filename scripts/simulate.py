"""Simulate a subscription shop, as one event log or as a company's exports; see --help."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="simulate")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.simulate import simulate, simulate_company

    options = {key: value for key, value in cli.to_plain(cfg).items() if value is not None}
    company = options.pop("company")
    folder = Path(options.pop("output", "data/raw/company" if company else "data/raw/demo"))
    (simulate_company if company else simulate)(folder, **options)


if __name__ == "__main__":
    cli.run(main)
