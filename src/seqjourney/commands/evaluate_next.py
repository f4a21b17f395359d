"""`evaluate` on a `next` task: several runs on the same questions, side by side.

Reads each run's `ranks.parquet`; writes `metrics.json` and `report.md`. The difference of every
model to the best opponent that counts is paired: both are measured on the same replicates.
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
from seqjourney.files import read_json, replacing_file, write_json

COUNTS = ("popularity", "recent", "markov", "rules")
_KEY = ["customer_id", "cutoff", "end", "ranking"]
_SHOWN = ("hit@1", "hit@10", "ndcg@10", "hit@20", "mrr@20")


@dataclass(frozen=True)
class NextEvaluation:
    """The content of metrics.json and where the files are."""

    metrics: dict[str, Any]
    json: Path
    markdown: Path


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
    runs: Sequence[Path], report_dir: Path, *, title: str, replicates: int = 1000, seed: int = 0
) -> NextEvaluation:
    """Compare runs on the test questions and write the report.

    Raises:
        DataError: the runs were not asked the same questions.
    """
    from seqjourney.evaluation.bootstrap import difference
    from seqjourney.evaluation.next_metrics import gains, next_metrics
    from seqjourney.evaluation.next_ranks import read_ranks

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
    results: dict[str, Any] = {}
    for ranking in sorted(set(first["ranking"])):
        found = {
            name: next_metrics(
                frame[frame["ranking"] == ranking], gains(), replicates=replicates, seed=seed
            )
            for name, frame in frames.items()
        }
        opponents = [name for name in found if name.split(" ")[0] in COUNTS]
        best = max(opponents, key=lambda name: found[name]["mrr@20"].value, default=None)
        results[ranking] = {
            "models": {
                name: {
                    metric: {"value": e.value, "low": e.low, "high": e.high}
                    for metric, e in each.items()
                }
                for name, each in found.items()
            },
            "comparisons": [
                {"a": name, "b": best, "metric": metric, "difference": d.value,
                 "low": d.low, "high": d.high}
                for name in found if best is not None and name != best
                for metric in _SHOWN
                if (d := difference(found[name][metric], found[best][metric]))
            ],
        }  # fmt: skip
    metrics = {
        "data": {
            "title": title,
            "split": "test",
            "replicates": replicates,
            "seed": seed,
            "limited": limited,
        },
        "task": task,
        "rankings": results,
    }
    report_dir.mkdir(parents=True, exist_ok=True)
    write_json(report_dir / "metrics.json", metrics)
    with replacing_file(report_dir / "report.md") as partial:
        partial.write_text(_markdown(metrics), encoding="utf-8")
    for ranking, found_here in results.items():
        say(f"{task['name']}: {task['description']}; {ranking} ranking")
        table(
            {"model": "left", **dict.fromkeys(_SHOWN, "right")},
            [(name, *(f"{values[m]['value']:.3f}" for m in _SHOWN[:-1]), _cell(values[_SHOWN[-1]]))
             for name, values in found_here["models"].items()],
        )  # fmt: skip
    if limited:
        say(caution(list(limited)))
    say(f"Split: {task['split']}.", f"Report: {shown(report_dir / 'report.md')}")
    return NextEvaluation(metrics, report_dir / "metrics.json", report_dir / "report.md")


def _cell(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _markdown(metrics: dict[str, Any]) -> str:
    task = metrics["task"]
    lines = [
        f"# {metrics['data']['title']}",
        "",
        f"{task['name']}: {task['description']}. Split {task['split']}. "
        f"{task['questions'].get('test', 0):,} questions, of which "
        f"{task['never_seen_in_training'].get('test', 0):,} have an answer that training never "
        "saw and nobody can find. In brackets 95 % intervals over customers; ties count as the "
        "mean over all their orders.",
        *(["", caution(list(metrics["data"]["limited"]))] * bool(metrics["data"]["limited"])),
        *(["", "The times of this data are an order only, spaced evenly."] * task["even_spacing"]),
    ]
    for ranking, results in metrics["rankings"].items():
        lines += ["", f"## {ranking} ranking", "", f"| model | {' | '.join(_SHOWN)} |",
                  "|---" * (len(_SHOWN) + 1) + "|"]  # fmt: skip
        for name, values in results["models"].items():
            lines.append(f"| {name} | {' | '.join(_cell(values[m]) for m in _SHOWN)} |")
        for pair in results["comparisons"]:
            if pair["metric"] == "mrr@20":
                lines += [
                    "",
                    f"{pair['a']} − {pair['b']}, MRR@20: {pair['difference']:+.3f} "
                    f"[{pair['low']:+.3f}, {pair['high']:+.3f}]",
                ]
    return "\n".join(lines) + "\n"
