"""Serve live scores over HTTP; see --help."""

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="serve")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.serve import serve

    serve(cli.to_plain(cfg))


if __name__ == "__main__":
    cli.run(main)
