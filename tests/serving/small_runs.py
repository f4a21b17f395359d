"""Runs on the small log, trained for a moment each and when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqjourney.commands.train import train
from seqjourney.config import Config

MODELS: dict[str, dict[str, Any]] = {
    "gru": {"width": 16, "context": 32, "members": 2},
    "transformer": {"width": 16, "heads": 2, "layers": 1, "context": 32},
    "base_rate": {},
    "recency": {},
    "logistic": {"penalties": [0.1]},
    "lightgbm": {"trials": 1, "rounds": 20},
    "catboost": {"trials": 1, "rounds": 20},
    "bgnbd": {},
    "paretonbd": {},
}
ConfigOf = Callable[..., Config]
RunOf = Callable[[str], Path]


def configs(
    small_log: Any,
    output: Path,
    task: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    epochs: int = 2,
) -> ConfigOf:
    """Return what builds the configuration of a model's run; it takes changes of the task."""

    def build(model: str, **changes: Any) -> Config:
        trainer = {"max_epochs": epochs, "accelerator": "cpu", "threads": 1, "progress": False}
        return Config.model_validate(
            {
                "name": task.get("name", "small"),
                "output": output,
                "processed": small_log.prepared.parent,
                "data": small_log.config.model_dump(),
                "task": small_log.task.model_dump() | dict(task) | changes,
                "model": {"kind": model, "name": model, **models.get(model, {})},
                "trainer": trainer,
            }
        )

    return build


def trained(config_of: ConfigOf) -> RunOf:
    """Return what trains a model once and gives its folder."""
    done: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in done:
            done[kind] = train(config_of(kind)).folder
        return done[kind]

    return run
