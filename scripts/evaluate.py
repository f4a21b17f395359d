"""Compare the runs of an experiment on the same test snapshots; see --help."""

import shlex
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seqjourney import cli

GATE = ("gate", "gate.precision", "gate.confidence", "gate.valid_for")


@hydra.main(version_base="1.3", config_path="../configs", config_name="evaluate")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.evaluate import evaluate
    from seqjourney.commands.found_runs import find_runs
    from seqjourney.config import GateConfig, TaskConfig, parse

    folder = Path(cfg.output) / cfg.name
    runs = [cfg.runs] if isinstance(cfg.runs, str) else cfg.runs
    if cfg.task.get("kind") == "next":
        from seqjourney.commands.evaluate_next import evaluate_next, find_next_runs

        evaluate_next(
            [Path(run) for run in runs] if runs else find_next_runs(folder),
            Path(cfg.report) if cfg.report else folder / "report",
            title=cfg.title or cfg.name,
            replicates=cfg.replicates,
            seed=cfg.seed,
            command=cli.command_line(),
        )
        return
    folder /= parse(TaskConfig, cli.to_plain(cfg.task), "task").period
    evaluate(
        [Path(run) for run in runs] if runs else find_runs(folder, _training()),
        Path(cfg.report) if cfg.report else folder / "report",
        title=cfg.title or cfg.name,
        replicates=cfg.replicates,
        seed=cfg.seed,
        gate=parse(GateConfig, cli.to_plain(cfg.gate), "gate"),
        command=cli.command_line(),
    )


def _training() -> str:
    """Return the command that trains what this one compares: the same words but for its own."""
    own = ("model", "runs", "report", "title", "replicates", "seed", *GATE)
    words = [w for w in HydraConfig.get().overrides.task if w.split("=")[0].lstrip("+~") not in own]
    command = ["python", "scripts/train.py", "-m", *words, "model=recency,lightgbm,gru"]
    return shlex.join(command)


if __name__ == "__main__":
    cli.run(main)
