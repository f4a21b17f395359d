"""Compare the runs of an experiment on the same test snapshots; see --help."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="evaluate")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.evaluate import evaluate, find_runs

    folder = Path(cfg.output) / cfg.name
    runs = [cfg.runs] if isinstance(cfg.runs, str) else cfg.runs
    evaluate(
        [Path(run) for run in runs] if runs else find_runs(folder),
        Path(cfg.report) if cfg.report else folder / "report",
        title=cfg.title or cfg.name,
        replicates=cfg.replicates,
        seed=cfg.seed,
        command=cli.command_line(),
    )


if __name__ == "__main__":
    cli.run(main)
