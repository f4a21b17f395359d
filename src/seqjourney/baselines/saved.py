"""What every baseline keeps in `model.json`: settings, what was chosen, and parts of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter

from seqjourney.config import ModelConfig
from seqjourney.files import read_json, write_json


class _Saved(Protocol):
    config: Any
    chosen_: dict[str, Any]
    validation_score_: float


Baseline = TypeVar("Baseline", bound=_Saved)


def write_model(folder: Path, model: _Saved, **own: Any) -> None:
    """Write `model.json`."""
    content = {
        "kind": model.config.kind,
        "config": model.config.model_dump(mode="json"),
        "chosen": model.chosen_,
        "validation_score": model.validation_score_,
    }
    write_json(folder / "model.json", content | own)


def read_model(folder: Path, kind: type[Baseline]) -> tuple[Baseline, dict[str, Any]]:
    """Read what `write_model` wrote: a baseline without its own parts, and all that is there."""
    content = read_json(folder / "model.json")
    config: Any = TypeAdapter(ModelConfig).validate_python(content["config"])
    model = kind(config)  # type: ignore[call-arg]
    model.chosen_, model.validation_score_ = content["chosen"], content["validation_score"]
    return model, content
