"""Export what was observed of one customer as JSON Lines; see --help."""

import hydra
from omegaconf import DictConfig, OmegaConf

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="export_customer")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.export_customer import ExportConfig, export_customer
    from seqjourney.config import parse

    # Of the data set only its name counts: the rest stands in what was prepared.
    settings = cli.to_plain(OmegaConf.create(dict(cfg, data=cfg.data.name)))
    export_customer(parse(ExportConfig, settings, "configuration"))


if __name__ == "__main__":
    cli.run(main)
