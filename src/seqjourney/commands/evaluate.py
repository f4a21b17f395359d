"""Evaluate: several runs on the same snapshots, side by side, as one report.

Reads each run's `predictions.parquet` (and, where they are, `task.json`, `ablations.parquet` and
`explanations.parquet`); writes `metrics.json`,
`certificates.json`, `report.md` and `report.html` into the report folder. Heavy imports happen
inside the functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqjourney.commands.found_runs import currency_of, describe_tasks, mention_other_data
from seqjourney.errors import ConfigError
from seqjourney.files import read_json

if TYPE_CHECKING:
    import pandas as pd

    from seqjourney.config import GateConfig, TaskConfig


@dataclass(frozen=True)
class EvaluationResult:
    """The content of metrics.json and where the files are."""

    metrics: dict[str, Any]
    json: Path
    certificates: Path
    markdown: Path
    html: Path


def evaluate(
    runs: Sequence[str | Path],
    report_dir: str | Path,
    *,
    title: str,
    replicates: int = 1000,
    seed: int = 0,
    gate: GateConfig | None = None,
    command: str | None = None,
) -> EvaluationResult:
    """Compare runs (run directories or predictions files) and write the report.

    Runs of earlier test periods (`task.shift`) are pooled with those of the last one, which all
    else in the report is about. `gate` is what the precision gate asks of a model before it
    certifies a threshold. `command` is printed in the report under "how to reproduce"; without it
    the call of this function is.
    """
    from importlib.metadata import version

    from seqjourney.commands.evaluation_tables import print_tables
    from seqjourney.config import GateConfig
    from seqjourney.evaluation.ablation import ablation_results
    from seqjourney.evaluation.bootstrap import LEVEL
    from seqjourney.evaluation.gate_results import gate_results
    from seqjourney.evaluation.lead_time import lead_results
    from seqjourney.evaluation.leakage import check_predictions
    from seqjourney.evaluation.occlusion import example_results
    from seqjourney.evaluation.periods import join_periods, period_results
    from seqjourney.evaluation.predictions import read_predictions
    from seqjourney.evaluation.report import write_report
    from seqjourney.evaluation.results import task_results
    from seqjourney.evaluation.times import find_times, order_of
    from seqjourney.evaluation.trials import limit_of

    if replicates < 2:
        raise ConfigError(f"replicates={replicates}: an interval needs at least 2; 1000 is usual.")
    paths = [Path(run) for run in runs]
    frames = [read_predictions(path) for path in paths]
    describe_tasks(paths)  # which setting of a task differs says more than which rows do
    joined = sorted(join_periods(frames), key=lambda periods: order_of(periods[-1].task))
    periods = {of_task[-1].task: of_task for of_task in joined}
    tasks = [of_task[-1] for of_task in joined]
    times = find_times(tasks, "test")
    mention_other_data(paths)
    known = list(zip(paths, frames, strict=True))
    # What a report says of a task is said of its last period.
    last = [_origin(name, run, known)[0] for task in tasks for name, run in task.runs.items()]
    about = describe_tasks([*last, *(path for path in paths if path not in last)])
    for path, frame in known:
        check_predictions(frame, _horizon(path))
    gates = {
        task.task: gate_results(
            task,
            gate or GateConfig(),
            {name: _fingerprint(_origin(name, run, known)[0]) for name, run in task.runs.items()},
            horizon=_horizon_of(task.task, known),
            replicates=replicates,
            seed=seed,
        )
        for task in tasks
    }
    metrics = {
        "data": {
            "title": title,
            "split": "test",
            "runs": [
                {
                    "model": str(frame["model"].iloc[0]),
                    "run": str(frame["run"].iloc[0]),
                    "predictions": predictions_digest(path),
                    **({"limited": limit} if (limit := limit_of(path)) else {}),
                }
                for path, frame in zip(paths, frames, strict=True)
            ],
            "replicates": replicates,
            "level": LEVEL,
            "seed": seed,
            "command": command or _call(paths, report_dir, title, replicates, seed, gate),
            "version": version("seqjourney"),
        },
        "tasks": {
            task.task: (
                measured := task_results(
                    task,
                    replicates=replicates,
                    seed=seed,
                    excluded=about.get(task.task, {}).get("excluded"),
                    times=times.get(task.task),
                    currency=currency_of(paths),
                )
            )
            | {"gate": gates[task.task][0]}
            | (
                {
                    "periods": period_results(
                        earlier, replicates=replicates, seed=seed, headline=measured["models"]
                    )
                }
                if len(earlier := periods[task.task]) > 1
                else {}
            )
            | (
                {"lead_time": lead_results(earlier, replicates=replicates, seed=seed)}
                if about.get(task.task, {}).get("kind") == "absence"
                else {}
            )
            | {
                "ablations": {
                    name: ablated
                    for name, run in task.runs.items()
                    if (origin := _main_origin(task.task, name, run, known))
                    and (ablated := ablation_results(*origin, replicates=replicates, seed=seed))
                },
                "examples": {
                    name: examples
                    for name, run in task.runs.items()
                    if (origin := _main_origin(task.task, name, run, known))
                    and (examples := example_results(origin[0]))
                },
            }
            for task in tasks
        },
    }
    certificates = [c.to_dict() for _, issued in gates.values() for c in issued]
    written = write_report(report_dir, metrics, tasks, about, certificates)
    print_tables(metrics, written["report.html"])
    return EvaluationResult(
        metrics,
        written["metrics.json"],
        written["certificates.json"],
        written["report.md"],
        written["report.html"],
    )


Known = Sequence[tuple[Path, "pd.DataFrame"]]


def _origin(name: str, run: str, known: Known) -> tuple[Path, pd.DataFrame]:
    """Return the path and the predictions of the run behind a name of the report."""
    return next(
        (path, frame)
        for path, frame in known
        if frame["run"].iloc[0] == run
        and frame["model"].iloc[0] in (name, name.removesuffix(f" ({run})"))
    )


def _main_origin(task: str, name: str, run: str, known: Known) -> tuple[Path, pd.DataFrame] | None:
    """Return the path and the predictions of a run whose main answer a task is.

    Ablations and examples are of the main answer alone.
    """
    path, frame = _origin(name, run, known)
    config = _task(path)
    if config is not None and config.main != task:
        return None
    return path, frame[frame["task"] == task]


def _fingerprint(path: Path) -> str:
    """Identify a model by its run's content, or by its predictions."""
    from seqjourney.provenance import model_fingerprint

    folder = path if path.is_dir() else path.parent
    return model_fingerprint(folder) if _is_run(folder) else predictions_digest(path)


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def _horizon_of(task: str, known: Known) -> timedelta | None:
    """Return the horizon of a task, from the first of its runs that has a task.json."""
    found = (_horizon(path) for path, frame in known if (frame["task"] == task).any())
    return next((horizon for horizon in found if horizon), None)


def predictions_digest(path: Path) -> str:
    """Identify the predictions of a run directory or a predictions file by their content."""
    file = path / "predictions.parquet" if path.is_dir() else path
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _horizon(path: Path) -> timedelta | None:
    """Read the label window's length from a run's task.json; a bare predictions file has none."""
    config = _task(path)
    return config.horizon if config else None


def _task(path: Path) -> TaskConfig | None:
    from seqjourney.config import TaskConfig, parse

    file = (path if path.is_dir() else path.parent) / "task.json"
    task = read_json(file).get("task") if file.is_file() else None
    return parse(TaskConfig, task, str(file)) if task else None


def _call(
    paths: Sequence[Path],
    report_dir: str | Path,
    title: str,
    replicates: int,
    seed: int,
    gate: GateConfig | None,
) -> str:
    # Only the last part of a path: a report travels, and the machine's folders do not.
    runs = ", ".join(repr(path.name) for path in paths)
    given = f", gate=GateConfig(**{gate.model_dump(mode='json')})" if gate else ""
    return (
        "from seqjourney.commands.evaluate import evaluate\n"
        + "from seqjourney.config import GateConfig\n" * bool(gate)
        + f"evaluate([{runs}], {Path(report_dir).name!r}, title={title!r}, "
        f"replicates={replicates}, seed={seed}{given})"
    )
