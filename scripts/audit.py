"""Audit prepared data: is it ready, and for what?; see --help."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from seqjourney import cli


@hydra.main(version_base="1.3", config_path="../configs", config_name="audit")
@cli.mendable
def main(cfg: DictConfig) -> None:
    from seqjourney.commands.audit import audit

    name = cfg.data.name
    tasks = [cfg.tasks] if isinstance(cfg.tasks, str) else cfg.tasks
    audit(
        Path(cfg.processed) / name,
        None if tasks is None else list(tasks),
        Path(cfg.output) / f"{name}_audit",
        holdouts=list(cfg.holdouts),
        memory_limit=cfg.data.memory_limit,
        threads=cfg.data.threads,
        command=cli.command_line(),
    )


if __name__ == "__main__":
    cli.run(main)
