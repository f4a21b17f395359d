"""`evaluate` on a `next` task: several runs on the same questions, side by side.

Reads each run's `ranks.parquet` and what it says of its answers; writes `metrics.json`, `report.md`
and `report.html`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqjourney.cli import say, shown, table
from seqjourney.commands.found_runs import mention_other_data
from seqjourney.commands.train_next import RANKS
from seqjourney.errors import ConfigError, DataError
from seqjourney.evaluation.trials import caution, limit_of
from seqjourney.files import read_json

_KEY = ["customer_id", "cutoff", "end", "ranking"]


@dataclass(frozen=True)
class NextEvaluation:
    """The content of metrics.json and where the files are."""

    metrics: dict[str, Any]
    json: Path
    markdown: Path
    html: Path


def find_next_runs(folder: Path) -> list[Path]:
    """Return the finished runs of an experiment, by name.

    Raises:
        DataError: there is none.
    """
    runs = [path.parent for path in sorted(folder.glob(f"*/{RANKS}"))]
    runs = [run for run in runs if run.suffix not in (".partial", ".old")]
    if not runs:
        raise DataError(
            f"{folder} holds no finished run of a next task. Train some first: "
            "python scripts/train.py -m ... model=popularity,markov,gru"
        )
    return runs


def evaluate_next(
    runs: Sequence[Path],
    report_dir: Path,
    *,
    title: str,
    replicates: int = 1000,
    seed: int = 0,
    command: str | None = None,
) -> NextEvaluation:
    """Compare runs on the test questions and write the report.

    `command` is printed in the report under "how to reproduce"; without it the call of this
    function is.

    Raises:
        DataError: the runs were not asked the same questions.
    """
    from importlib.metadata import version

    from seqjourney.evaluation.next_answered import read_answered
    from seqjourney.evaluation.next_ranks import read_ranks
    from seqjourney.evaluation.next_report import write_next_report
    from seqjourney.evaluation.next_results import COMPARED, answer_results, ranking_results
    from seqjourney.events.ledger import sha256_of

    if replicates < 2:
        raise ConfigError(f"replicates={replicates}: an interval needs at least 2; 1000 is usual.")
    frames = {}
    for run in runs:
        ranks = read_ranks(run / RANKS)
        test = ranks[ranks["split"] == "test"].sort_values(_KEY, ignore_index=True)
        name = str(test["model"].iloc[0])
        frames[name if name not in frames else f"{name} ({run.name})"] = test
    first_name, first = next(iter(frames.items()))
    for name, frame in frames.items():
        same = [*_KEY, "task", "target", "candidates", "weight"]
        if not frame[same].equals(first[same]):
            raise DataError(
                f"{name!r} and {first_name!r} were not asked the same questions among the same "
                "values; train both on the same data and task."
            )
    mention_other_data(runs)
    task = read_json(runs[0] / "task.json")
    limited = {
        name: limit for name, run in zip(frames, runs, strict=True) if (limit := limit_of(run))
    }
    measured = {"replicates": replicates, "seed": seed}
    by_ranking = {
        ranking: {name: frame[frame["ranking"] == ranking] for name, frame in frames.items()}
        for ranking in sorted(set(first["ranking"]))
    }
    results = {
        ranking: ranking_results(of, limited, **measured) for ranking, of in by_ranking.items()
    }
    answered = {name: read_answered(run) for name, run in zip(frames, runs, strict=True)}
    metrics = {
        "data": {
            "title": title,
            "split": "test",
            "runs": [
                {"model": name, "run": str(frame["run"].iloc[0]), "ranks": sha256_of(run / RANKS)}
                for (name, frame), run in zip(frames.items(), runs, strict=True)
            ],
            **measured,
            "limited": limited,
            "command": command or _call(runs, report_dir, title, replicates, seed),
            "version": version("seqjourney"),
        },
        "task": task,
        "rankings": results,
        "answers": answer_results(by_ranking["full"], answered, **measured),
    }
    written = write_next_report(report_dir, metrics)
    for ranking, found_here in results.items():
        say(f"{task['name']}: {task['description']}; {ranking} ranking")
        table(
            {"model": "left", **dict.fromkeys(COMPARED, "right")},
            [(name, *(f"{values[m]['value']:.3f}" for m in COMPARED[:-1]),
              _cell(values[COMPARED[-1]]))
             for name, values in found_here["models"].items()],
        )  # fmt: skip
    if limited:
        say(caution(list(limited)))
    say(f"Split: {task['split']}.", f"Report: {shown(written['report.html'])}")
    return NextEvaluation(
        metrics, written["metrics.json"], written["report.md"], written["report.html"]
    )


def _cell(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _call(runs: Sequence[Path], report_dir: Path, title: str, replicates: int, seed: int) -> str:
    # Only the last part of a path: a report travels, and the machine's folders do not.
    names = ", ".join(f"Path({run.name!r})" for run in runs)
    return (
        "from pathlib import Path\n"
        "from seqjourney.commands.evaluate_next import evaluate_next\n"
        f"evaluate_next([{names}], Path({report_dir.name!r}), title={title!r}, "
        f"replicates={replicates}, seed={seed})"
    )
