"""What `evaluate` says on the screen: a table per task, and who may be acted on.

Several runs of a model (seeds) are one row with their mean and their lowest and highest figure; the
horizons of a `time_to` task are the columns of one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqjourney.evaluation.gate_results import summary
from seqjourney.evaluation.periods import summary as over_periods
from seqjourney.evaluation.report import interval, shown
from seqjourney.evaluation.times import over_horizons
from seqjourney.evaluation.trials import caution, trials

if TYPE_CHECKING:
    from rich.table import Table

WITH_INTERVAL = ("normalised_gini", "average_precision", "roc_auc", "concordance")
# Metric, heading, how it is shown.
Column = tuple[str, str, str]
WHO: Sequence[Column] = (
    ("average_precision", "AP", "number"), ("roc_auc", "AUC", "number"),
    ("lift_at_10", "lift@10 %", "factor"), ("ece", "ECE", "number"),
)  # fmt: skip
HOW_MUCH: Sequence[Column] = (
    ("normalised_gini", "Gini", "number"), ("value_share_at_10", "top 10 %", "percent"),
    ("value_total_bias", "bias", "percent"), WHO[0],
)  # fmt: skip


def print_tables(metrics: Mapping[str, Any], html: Path) -> None:
    """Print the results of all tasks and where the report is."""
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    tasks = metrics["tasks"]
    questions = {q["horizons"][-1]: q for q in over_horizons(tasks)}
    shorter = {task for q in questions.values() for task in q["horizons"][:-1]}
    for task, results in tasks.items():
        if task in shorter:
            continue
        asked = questions.get(task)
        console.print(_over_horizons(tasks, asked) if asked else _table(task, results))
        rate = shown(results["base_rate"], "percent")
        several = _several(results)
        console.print(
            f"{results['n']:,} test snapshots of {results['customers']:,} customers at "
            f"{_when(results)}"
            + (
                "; AP by each horizon, whose random order has the base rate"
                if asked
                else f", base rate {rate} (the AP of a random order: {shown(results['base_rate'])})"
            )
            + "; in brackets 95 % intervals"
            + (
                "; ×2 and so on: the mean of so many runs, in brackets lowest and highest"
                if several
                else ""
            ),
            highlight=False,
        )
        if limited := caution(list(trials(metrics["data"]["runs"], results["runs"]))):
            console.print(escape(limited), style="bold", highlight=False)
        if "periods" in results:
            by = f"By {task.rpartition('@')[2]}: " if asked else ""
            console.print(escape(by + over_periods(results["periods"])), highlight=False)
        for name in asked["horizons"] if asked else [task]:
            by = f"By {name.rpartition('@')[2]}: " if asked else ""
            console.print(escape(by + summary(tasks[name]["gate"])), highlight=False)
    console.print(f"Report: {escape(str(html))}", highlight=False, soft_wrap=True)


def _when(results: Mapping[str, Any]) -> str:
    """Say at which cutoffs a test asked."""
    days = [c["cutoff"][:10] for c in results["by_cutoff"] if c["split"] == "test"]
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _table(task: str, results: Mapping[str, Any]) -> Table:
    columns = HOW_MUCH if "value" in results else WHO
    table = _empty(task, [heading for _, heading, _ in columns])
    rows = _rows(results)
    for row in sorted(rows, key=lambda row: -_mean(results, rows[row], columns[0][0])):
        _add(table, row, [_cell(results, rows[row], *column) for column in columns])
    return table


def _over_horizons(tasks: Mapping[str, Any], asked: Mapping[str, Any]) -> Table:
    horizons = asked["horizons"]
    longest = tasks[horizons[-1]]
    table = _empty(asked["name"], [*(f"AP {t.rpartition('@')[2]}" for t in horizons), "C-index"])
    rows = _rows(longest)
    for row in sorted(rows, key=lambda row: -_mean(longest, rows[row], WHO[0][0])):
        each = [shown(_mean(tasks[t], rows[row], WHO[0][0])) for t in horizons]
        _add(table, row, [*each, _cell(longest, rows[row], "concordance", "", "number")])
    random = [shown(tasks[t]["base_rate"]) for t in horizons]
    table.add_section()
    _add(table, "random order", [*random, shown(0.5)])
    return table


def _empty(title: str, headings: Sequence[str]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column("model", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _add(table: Table, row: str, cells: Sequence[str]) -> None:
    from rich.markup import escape

    table.add_row(escape(row), *map(escape, cells))


def _rows(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the rows of a table, each with the names of its runs in the report."""
    rows: dict[str, list[str]] = {}
    for name in results["models"]:
        rows.setdefault(name.removesuffix(f" ({results['runs'][name]})"), []).append(name)
    return {f"{m} ×{len(of)}" if len(of) > 1 else m: of for m, of in rows.items()}


def _several(results: Mapping[str, Any]) -> bool:
    return len(_rows(results)) < len(results["models"])


def _mean(results: Mapping[str, Any], runs: Sequence[str], metric: str) -> float:
    values = [results["models"][run][metric]["value"] for run in runs]
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else float("-inf")


def _cell(
    results: Mapping[str, Any], runs: Sequence[str], metric: str, _heading: str, kind: str
) -> str:
    entries = [results["models"][run][metric] for run in runs]
    values = [entry["value"] for entry in entries if entry["value"] is not None]
    if not values:
        return shown(None)
    value = shown(_mean(results, runs, metric), kind)
    if metric not in WITH_INTERVAL:
        return value
    spread = {"low": min(values), "high": max(values)} if len(runs) > 1 else entries[0]
    return f"{value} [{interval(spread, kind).replace(' ', '')}]"
