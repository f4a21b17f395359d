"""Runs that were cut short on purpose: they show that everything runs, and are no results.

`trainer=fast` and `trainer.limit_batches` let a network see a few batches only. Its figures stand
in a report beside those of others, so the report says what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqjourney.files import read_json
from seqjourney.predictors import NETWORKS


def limit_of(path: Path) -> str | None:
    """Say how a run (its folder, or its predictions file) was cut short, or None."""
    file = (path if path.is_dir() else path.parent) / "run.json"
    run = read_json(file) if file.is_file() else {}
    members = (run.get("chosen") or {}).get("members", [])  # of a blend
    told = ((run.get("config") or {}).get("trainer") or {}).get("limit_batches")
    # Other models see all of the data whatever the trainer says.
    limits = [(run.get("kind"), told), *((m["kind"], m.get("limit_batches")) for m in members)]
    batches = next((n for kind, n in limits if kind in NETWORKS and n is not None), None)
    if batches is None:
        return None
    return f"trained on {batches} batch{'es' if batches != 1 else ''} an epoch"


def trials(runs: Iterable[Mapping[str, Any]], models: Mapping[str, str]) -> dict[str, str]:
    """Return the models of a task that were cut short, and how.

    Args:
        runs: `data.runs` of metrics.json.
        models: of the task: name in the report -> its run.
    """
    limits = {(r["model"], r["run"]): r["limited"] for r in runs if r.get("limited")}
    return {
        name: limits[model, run]
        for name, run in models.items()
        for model in (name, name.removesuffix(f" ({run})"))
        if (model, run) in limits
    }


def caution(models: Sequence[str]) -> str:
    """Warn of models that were cut short; nothing where there are none."""
    if not models:
        return ""
    one = len(models) == 1
    return (
        f"{', '.join(models)}: {'a trial run' if one else 'trial runs'} with trainer=fast or "
        f"trainer.limit_batches. {'Its' if one else 'Their'} figures only show that everything "
        "runs; they are no results."
    )
