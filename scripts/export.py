"""Export a trained network as TorchScript, ONNX or torch.export; see --help."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="export")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.export import export

    options = cli.to_plain(cfg)
    output = Path(options["output"]) if options["output"] else None
    export(Path(options["run"]), output, options["format"])


if __name__ == "__main__":
    cli.run(main)
