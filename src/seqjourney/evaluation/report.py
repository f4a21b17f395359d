"""Write metrics.json, certificates.json, report.md and report.html: all of them, or none.

`build` gathers what the templates need, `write_report` renders and puts the files in place.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from seqjourney.evaluation import pictures
from seqjourney.evaluation.ablation import MEANINGS, REMOVED
from seqjourney.evaluation.bootstrap import LEVEL
from seqjourney.evaluation.calibrator_choice import MIN_OUTCOMES as MIN_CALIBRATION_OUTCOMES
from seqjourney.evaluation.gate_results import percent
from seqjourney.evaluation.metrics import METRICS, Metric
from seqjourney.evaluation.predictions import TaskPredictions
from seqjourney.evaluation.ranking import DEPTHS_PERCENT, accumulate, rank, tiebreak
from seqjourney.evaluation.results import MIN_OUTCOMES
from seqjourney.evaluation.times import TIME_METRICS, order_of, over_horizons
from seqjourney.evaluation.trials import caution, trials
from seqjourney.evaluation.value import VALUE_METRICS
from seqjourney.evaluation.verdict import headline_of, not_clearly_worse, verdict
from seqjourney.page import NO_BREAK, decimal, render, write_together

# The first table: what a decision needs; the rest is in the second.
MAIN_COLUMNS = ("average_precision", "roc_auc", "precision_at_10", "lift_at_10", "ece")
ALL_PAIRS_MODELS = 5  # ten pairs; more would be a wall of numbers
COMPARED_IN_REPORT = ("average_precision", "roc_auc", "lift_at_10")
# Of a `sum` task, the same: money first.
VALUE_COLUMNS = (
    "normalised_gini",
    "value_share_at_10",
    "value_mean_absolute_error",
    "value_total_bias",
    "average_precision",
)
VALUE_COMPARED_IN_REPORT = ("normalised_gini", "value_share_at_10", "value_mean_absolute_error")
_PLACES = {"number": 3, "percent": 1, "factor": 2, "days": 1, "money": 2}
_UNITS = {
    "number": "",
    "percent": f"{NO_BREAK}%",
    "factor": f"{NO_BREAK}×",
    "days": f"{NO_BREAK}days",
    "money": "",
}


def write_report(
    report_dir: str | Path,
    metrics: Mapping[str, Any],
    predictions: Sequence[TaskPredictions],
    descriptions: Mapping[str, Mapping[str, Any]] | None = None,
    certificates: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Path]:
    """Render the files, then write them; returns name -> path.

    A failure leaves an older report as it was.
    """
    page = build(metrics, predictions, descriptions or {})
    contents = {
        "metrics.json": _json(metrics),
        # Also where there is none: an older certificate must not stay.
        "certificates.json": _json({"certificates": list(certificates)}),
        "report.md": fill("report.md.j2", page),
        "report.html": fill("report.html.j2", page),
    }
    return write_together(Path(report_dir), contents)


def build(
    metrics: Mapping[str, Any],
    predictions: Sequence[TaskPredictions],
    descriptions: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything the templates show, one entry of `tasks` per task."""
    by_name = {task.task: task for task in predictions}
    # A model looks alike in all of a report, wherever it ranks.
    styles = pictures.model_styles(results["models"] for results in metrics["tasks"].values())
    return {
        "data": metrics["data"],
        "level": round(100 * LEVEL),
        "definitions": _metrics({key for task in metrics["tasks"].values() for key in task}),
        "min_outcomes": MIN_OUTCOMES,
        "min_calibration_outcomes": MIN_CALIBRATION_OUTCOMES,
        "max_panels": pictures.MAX_PANELS,
        "questions": over_horizons(metrics["tasks"]),
        "tasks": [
            {
                "name": name,
                "anchor": f"task-{position}",
                "results": results,
                "headline": headline_of(results),
                "metrics": (known := _metrics(results)),
                "main": _named(known, _columns(results, MAIN_COLUMNS, VALUE_COLUMNS)),
                "compared": _named(
                    known, _columns(results, COMPARED_IN_REPORT, VALUE_COMPARED_IN_REPORT)
                ),
                "trials": (limited := trials(metrics["data"]["runs"], results["runs"])),
                "verdict": verdict(results, limited),
                "not_clearly_worse": not_clearly_worse(results),
                "caution": caution(list(limited)),
                "depths": {
                    f"{name}_at_{depth}": max(1, round(depth * results["n"] / 100))
                    for name in ("precision", "recall", "lift")
                    for depth in DEPTHS_PERCENT
                },
                "about": dict.fromkeys(("description", "horizon", "eligibility"), "")
                | dict(descriptions.get(name, {})),
                "test_cutoffs": [c["cutoff"] for c in results["by_cutoff"] if c["split"] == "test"],
                "calibrated": _calibrated(results),
                "pairs": _pairs(results),
                "over_periods": _over_periods(results),
                "all_pairs": len(results["models"]) <= ALL_PAIRS_MODELS,
                "ablations": (poorer := _ablations(results)),
                "removed": {m: REMOVED[name] for name, m in MEANINGS.items() if m in poorer},
                "explained": next((m for m in results["models"] if m in results["examples"]), None),
                "reasons": sorted({r for part in results["excluded"].values() for r in part}),
                "pictures": _pictures(by_name[name].split("test"), results, styles, f"t{position}"),
                "styles": styles,
            }
            for position, (name, results) in enumerate(metrics["tasks"].items(), start=1)
        ],
    }


def _metrics(results: Collection[str]) -> list[Metric]:
    """Return the metrics that a task with such results has; those of money and time first."""
    money = VALUE_METRICS.values() if "value" in results else ()
    time = TIME_METRICS.values() if "times" in results else ()
    return [*money, *time, *METRICS.values()]


def _columns(
    results: Collection[str], usual: Sequence[str], of_money: Sequence[str]
) -> tuple[str, ...]:
    """Return the metrics of a short table."""
    if "value" in results:
        return tuple(of_money)
    return (*usual, *(("concordance",) if "times" in results else ()))


def _named(known: Sequence[Metric], names: Sequence[str]) -> list[Metric]:
    by_name = {metric.name: metric for metric in known}
    return [by_name[name] for name in names]


def _pictures(
    test: TaskPredictions, results: Mapping[str, Any], styles: pictures.Styles, prefix: str
) -> dict[str, Markup]:
    """Draw the pictures of a task; the order of models is the table's."""
    label = test.snapshots["label"].to_numpy(np.float64)
    weight = test.snapshots["weight"].to_numpy(np.float64)
    cutoff_us = test.snapshots["cutoff"].to_numpy("datetime64[us]").astype(np.int64)
    ties = tiebreak(test.snapshots["customer_id"].to_numpy(object), cutoff_us)
    curves = {
        model: accumulate(rank(label, test.scores[model], ties), weight)
        for model in results["models"]
    }
    probabilities = {model: test.probabilities[model] for model in results["models"]}
    base = float(results["base_rate"])
    headline = headline_of(results)
    estimates = {model: values[headline.name] for model, values in results["models"].items()}
    random = 0.0 if "value" in results else base
    drawn = {
        "forest": pictures.forest(estimates, random, headline.title, styles, f"{prefix}-forest"),
        "precision_recall": pictures.precision_recall(curves, base, styles, f"{prefix}-pr"),
        "gain": pictures.gain(curves, base, styles, f"{prefix}-gain"),
        "calibration": pictures.calibration(
            label, weight, probabilities, styles, f"{prefix}-calibration"
        ),
        "scores": pictures.score_distribution(label, weight, probabilities, f"{prefix}-scores"),
    }
    if "value" in results:
        deciles = {model: results["value"]["deciles"][model] for model in results["models"]}
        drawn["deciles"] = pictures.value_deciles(
            deciles, results["value"]["currency"], styles, f"{prefix}-deciles"
        )
    # Safe: matplotlib escapes the text that it writes into an SVG.
    return {name: Markup(svg) for name, svg in drawn.items()}


def _calibrated(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the months and slice values in which probabilities can be judged, as one table."""
    rows = [{"group": f"{r['month']}, {r['split']}", **r} for r in results["by_month"]]
    rows += [
        {"group": f"{name}: {r['value']}", **r}
        for name, values in results["slices"].items()
        for r in values
    ]
    return [row for row in rows if any("ece" in m for m in row["models"].values())]


def _pairs(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per pair of models; of many models, only the pairs with the best one."""
    best = next(iter(results["models"]))
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in results["comparisons"]:
        if len(results["models"]) > ALL_PAIRS_MODELS and entry["a"] != best:
            continue
        row = rows.setdefault((entry["a"], entry["b"]), {"a": entry["a"], "b": entry["b"]})
        row[entry["metric"]] = entry
    return list(rows.values())


def _over_periods(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics and the paired differences of a task with several test periods."""
    if "periods" not in results:
        return {}
    found = results["periods"]
    metrics = _named(_metrics(results), found["metrics"])
    models = [*found["models"], *(m for m in results["models"] if m not in found["models"])]
    seen = {model for period in found["periods"] for model in period["models"]}
    return {
        "metrics": metrics,
        "models": [model for model in models if model in seen],
        "pairs": _pairs(found),
        "runs": max(runs for period in found["periods"] for runs in period["runs"].values()),
    }


def _ablations(results: Mapping[str, Any]) -> dict[str, list[Any]]:
    """One row per poorer history that any model was shown: one difference, or None, per model."""
    measured = [found["variants"] for found in results["ablations"].values()]
    return {
        meaning: [
            variants[name]["difference"] if name in variants else None for variants in measured
        ]
        for name, meaning in MEANINGS.items()
        if any(name in variants for variants in measured)
    }


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def fill(template: str, page: Mapping[str, Any]) -> str:
    """Fill a template of ours, with all filters that they use."""
    return render(
        "seqjourney.evaluation",
        template,
        page,
        shown=shown,
        interval=interval,
        signed=signed,
        day=day,
        words=words,
        percent=percent,
        points=points,
        before=before,
        lead=lead,
        lead_range=lead_range,
    )


def shown(value: float | None, kind: str = "number") -> str:
    """Print a value as a number, a percentage or a factor; a dash where there is none."""
    return "–" if value is None else _bare(value, kind) + _UNITS[kind]


def interval(entry: Mapping[str, float | None], kind: str = "number") -> str:
    """Print the two ends of an interval; beside a minus a dash would be misread."""
    low, high = entry["low"], entry["high"]
    if low is None or high is None:
        return ""
    ends = [_bare(low, kind), _bare(high, kind)]
    return (" to " if "−" in "".join(ends) else " – ").join(ends)


def _bare(value: float, kind: str) -> str:
    return decimal(100 * value if kind == "percent" else value, _PLACES[kind])


def signed(value: float | None) -> str:
    """Print a difference with its sign."""
    return "–" if value is None else decimal(value, sign="+")


def points(share: float) -> str:
    """Print a difference of two shares in percentage points."""
    return decimal(100 * share, 1, "+")


def before(days: float) -> str:
    """Say how long before the cutoff something was."""
    whole = round(days) if days >= 2 else round(24 * days)
    unit = "day" if days >= 2 else "hour"
    return f"{whole:,} {unit}{'s' if whole != 1 else ''} before"


def lead(entry: Mapping[str, float | None], part: str = "value") -> str:
    """Print how many days early a warning came; None: it never did."""
    days = entry[part]
    return "never" if days is None else decimal(days, 0)


def lead_range(entry: Mapping[str, float | None]) -> str:
    """Print the interval of such a time."""
    return f"{lead(entry, 'low')} to {lead(entry, 'high')}"


def day(iso: str) -> str:
    """Print a cutoff without the time of day when that is midnight."""
    moment = datetime.fromisoformat(iso)
    return moment.strftime("%Y-%m-%d" if (moment.hour, moment.minute) == (0, 0) else
                           "%Y-%m-%d %H:%M")  # fmt: skip


def words(name: str) -> str:
    """Turn a key such as `company_only`, or a task such as `time_to@7d`, into words."""
    question, horizon = order_of(name)
    if horizon:
        return f"{words(question)}, by {name.rpartition('@')[2]}"
    return name.replace("_", " ")
