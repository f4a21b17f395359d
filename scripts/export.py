"""Export a trained network as TorchScript; see --help."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="export")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.export import export

    options = cli.to_plain(cfg)
    export(Path(options["run"]), Path(options["output"]) if options["output"] else None)


if __name__ == "__main__":
    cli.run(main)
