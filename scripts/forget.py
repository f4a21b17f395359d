"""Erase one customer everywhere, and say which models saw them; see --help."""

import hydra
from omegaconf import DictConfig, OmegaConf

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="forget")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.forget import ForgetConfig, forget
    from seqjourney.config import parse

    # Of the data set only its name counts: the rest stands in what was prepared.
    settings = cli.to_plain(OmegaConf.create(dict(cfg, data=cfg.data.name)))
    forget(parse(ForgetConfig, settings, "configuration"))


if __name__ == "__main__":
    cli.run(main)
