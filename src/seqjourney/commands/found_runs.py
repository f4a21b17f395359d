"""The finished runs of an experiment: which there are, and what they say of their tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqjourney.cli import say
from seqjourney.config.task import QUESTION
from seqjourney.errors import DataError
from seqjourney.files import read_json


def find_runs(folder: Path, training: str = "python scripts/train.py -m model=gru") -> list[Path]:
    """Return the finished runs of an experiment, and of its earlier periods, by name.

    Args:
        folder: of the experiment, or of one of its periods.
        training: the command that makes such runs, for the message when there are none.

    Raises:
        DataError: there is none.
    """
    runs = [path.parent for path in sorted(folder.glob("*/predictions.parquet"))]
    runs += [path.parent for path in sorted(folder.glob("shift_*/*/predictions.parquet"))]
    runs = [run for run in runs if run.suffix not in (".partial", ".old")]
    unfinished = [*sorted(folder.glob("*.partial")), *sorted(folder.glob("shift_*/*.partial"))]
    if unfinished:
        names = (run.relative_to(folder).with_suffix("").as_posix() for run in unfinished)
        say(f"Not finished, and left out: {', '.join(names)}")
    if not runs:
        raise DataError(f"{folder} holds no finished run. Train some first: {training}")
    return runs


def mention_other_data(paths: Sequence[Path]) -> None:
    """Say so when runs of one report were trained on different preparations of the data."""
    files = [path / "run.json" for path in paths if (path / "run.json").is_file()]
    fingerprints = {_named(file): read_json(file).get("data_fingerprint") for file in files}
    if len(set(fingerprints.values())) > 1:
        each = ", ".join(f"{run}: {digest}" for run, digest in fingerprints.items())
        say(f"Note: these runs were trained on different preparations of the data ({each}).")


def _named(file: Path) -> str:
    """Name the run of a run.json: its folder, and that of an earlier period's with the period."""
    period = file.parent.parent.name
    return f"{period}/{file.parent.name}" if period.startswith("shift_") else file.parent.name


def currency_of(paths: Sequence[Path]) -> str | None:
    """Return the currency that the runs' data is in, None where it has no name, or several."""
    files = [(path if path.is_dir() else path.parent) / "run.json" for path in paths]
    runs = [read_json(file) for file in files if file.is_file()]
    found = {((run.get("config") or {}).get("data") or {}).get("currency") for run in runs}
    return found.pop() if len(found) == 1 else None


def describe_tasks(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Read the task.json of each run that has one, by task name; the first of a task counts.

    Raises:
        DataError: one is not such a file, or two periods of a task differ in more than the time.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        file = (path if path.is_dir() else path.parent) / "task.json"
        if not file.is_file():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"{file}: not valid JSON ({error}). Correct or delete it; it is optional."
            ) from error
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            raise DataError(f'{file}: must be an object with the key "name". Add it.')
        excluded = content.get("excluded") or {}
        if not isinstance(excluded, dict) or not all(
            isinstance(reasons, dict) and all(type(n) is int for n in reasons.values())
            for reasons in excluded.values()
        ):
            raise DataError(
                f'{file}: key "excluded" must look like {{"test": {{"reason": 12}}}}. Correct it.'
            )
        content["excluded"] = excluded
        for name, own in (content.get("by_horizon") or {content["name"]: {}}).items():
            first = found.setdefault(name, content | own)
            _refuse_another_task(file, content.get("task"), first.get("task"))
    return found


def _refuse_another_task(file: Path, task: Any, first: Any) -> None:
    """Refuse runs that share a task's name and ask something else; when they ask does not count."""
    if not isinstance(task, dict) or not isinstance(first, dict):
        return
    for key in (*QUESTION, "customer_holdout", "certify"):
        # A run of before a key was there has what is its default now.
        if key in task and key in first and task[key] != first[key]:
            raise DataError(
                f"{file}: {key} of task '{task.get('name')}' is {task[key]!r}, of "
                f"another run {first[key]!r}. Give one of them another task.name, and train it "
                "again."
            )
