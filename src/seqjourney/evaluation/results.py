"""From aligned predictions to the content of metrics.json, one dictionary per task.

The test split is the headline. Every group of snapshots (all, each cutoff, each month of cutoffs,
each slice value) is measured on the same bootstrap replicates of its split's customers: its order
where `MIN_OUTCOMES` of either outcome were seen, its probabilities where enough were to judge them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.evaluation.bootstrap import (
    Estimate,
    Resampling,
    difference,
    estimate,
    replicate_weights,
)
from seqjourney.evaluation.calibrator_choice import enough_outcomes
from seqjourney.evaluation.metrics import HEADLINE, ranked_metrics
from seqjourney.evaluation.predictions import SLICE_PREFIX, TaskPredictions
from seqjourney.evaluation.probability import calibration_line, ece
from seqjourney.evaluation.ranking import (
    Ranking,
    accumulate,
    average_precision,
    lift_at,
    rank,
    roc_auc,
    tie_mass,
    tiebreak,
)
from seqjourney.evaluation.times import TIME_COMPARED, Times, measure_times
from seqjourney.evaluation.value import VALUE_COMPARED, VALUE_HEADLINE, measure_values

COMPARED = ("average_precision", "roc_auc", "precision_at_10", "lift_at_10", "log_loss", "brier")
# Below this many of either outcome an interval is wider than any use of the number.
MIN_OUTCOMES = 20

Estimates = dict[str, dict[str, Estimate]]


def task_results(
    predictions: TaskPredictions,
    *,
    replicates: int,
    seed: int,
    excluded: Mapping[str, Mapping[str, int]] | None = None,
    times: Times | None = None,
    currency: str | None = None,
) -> dict[str, Any]:
    """Measure one task: the entry of `tasks` in metrics.json, models sorted best first.

    `times` has all horizons of a `time_to` task, of which this is the longest.
    `currency` is that of a `sum` task's values.
    """
    test = predictions.split("test")
    groups = {("slice", column, value): rows for column, value, rows in _slices(test)}
    groups |= _over_time("test", test)
    headline, grouped = _measure(test, groups, replicates, seed)
    value = None
    if test.expected:
        values, deciles = measure_values(test, replicates, seed)
        headline = {name: headline[name] | values[name] for name in headline}
        total = weighted_total(test.snapshots)
        value = {"total": total, "currency": currency, "deciles": deciles}
    when = None
    if times is not None:
        measured_times, when = measure_times(times, replicates, seed)
        headline = {name: headline[name] | measured_times.get(name, {}) for name in headline}
    best = VALUE_HEADLINE if value else HEADLINE
    order = sorted(headline, key=lambda name: -headline[name][best].value)
    by_cutoff, by_month = [], []
    validation = predictions.split("validation")
    if len(validation.snapshots):
        earlier = _over_time("validation", validation)
        _, measured = _measure(validation, earlier, replicates, seed, headline=False)
        by_cutoff += _described(validation, earlier, measured, order, "cutoff")
        by_month += _described(validation, earlier, measured, order, "month")
    by_cutoff += _described(test, groups, grouped, order, "cutoff")
    by_month += _described(test, groups, grouped, order, "month")
    slices: dict[str, list[dict[str, Any]]] = {}
    for entry in _described(test, groups, grouped, order, "slice"):
        slices.setdefault(entry.pop("slice"), []).append(entry)
    weight = test.snapshots["weight"].to_numpy()
    ties = tiebreak(*keys_of(test.snapshots))
    label = test.snapshots["label"].to_numpy()
    return {
        **size_of(test.snapshots),
        "split": "test",
        "models": {name: numbers(headline[name]) for name in order},
        "runs": {name: predictions.runs[name] for name in order},
        "comparisons": _comparisons(headline, order),
        **({"value": value} if value else {}),
        **({"times": when} if when else {}),
        "tie_mass_at_10": {
            name: tie_mass(rank(label, test.scores[name], ties), weight, 0.10) for name in order
        },
        "by_cutoff": by_cutoff,
        "by_month": by_month,
        "slices": slices,
        "excluded": {split: dict(reasons) for split, reasons in (excluded or {}).items()},
    }


def _measure(
    predictions: TaskPredictions,
    groups: Mapping[tuple[str, str, str], np.ndarray],
    replicates: int,
    seed: int,
    headline: bool = True,
) -> tuple[Estimates, dict[tuple[str, str, str], Estimates]]:
    """Measure all models on all snapshots and on each group of rows -> (model -> metrics)s."""
    snapshots = predictions.snapshots
    label = snapshots["label"].to_numpy(np.float64)
    weight = snapshots["weight"].to_numpy(np.float64)
    ties = tiebreak(*keys_of(snapshots))
    kept = {key: rows for key, rows in groups.items() if _enough(label[rows], weight[rows])}
    whole = {m: rank(label, score, ties) for m, score in predictions.scores.items()}
    parts = {
        (key, m): rank(label[rows], score[rows], ties[rows])
        for key, rows in kept.items()
        for m, score in predictions.scores.items()
    }

    def measure(weights: np.ndarray) -> dict[tuple[Any, str], dict[str, np.ndarray]]:
        out: dict[tuple[Any, str], dict[str, np.ndarray]] = {}
        if headline:
            for m, ranking in whole.items():
                probability = predictions.probabilities[m]
                out[None, m] = ranked_metrics(ranking, label, probability, weights)
        for key, rows in kept.items():
            part = weights[:, rows]
            for m in whole:
                out[key, m] = _group_metrics(parts[key, m], part) if key[0] != "month" else {}
            if key[0] != "cutoff" and enough_outcomes(label[rows], weight[rows]):
                for m, probability in predictions.probabilities.items():
                    out[key, m] |= _calibration(label[rows], probability[rows], part)
        return out

    point = measure(weight[None])
    draws = Resampling(pd.factorize(snapshots["customer_id"])[0], weight, replicates, seed)
    chunks = [measure(weights) for weights in replicate_weights(draws)]
    found: dict[Any, Estimates] = {}
    for (key, m), values in point.items():
        found.setdefault(key, {})[m] = {
            name: estimate(
                float(value[0]),
                np.concatenate([chunk[key, m][name] for chunk in chunks]),
                recentre=name == "ece",
            )
            for name, value in values.items()
        }
    return found.pop(None, {}), found


def _group_metrics(ranking: Ranking, weights: np.ndarray) -> dict[str, np.ndarray]:
    curve = accumulate(ranking, weights)
    return {
        "average_precision": average_precision(curve),
        "roc_auc": roc_auc(curve),
        "lift_at_10": lift_at(curve, 0.10),
    }


def _calibration(
    label: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    intercept, slope = calibration_line(label, probability, weights)
    return {
        "ece": ece(label, probability, weights),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
    }


def _slices(predictions: TaskPredictions) -> list[tuple[str, str, np.ndarray]]:
    out = []
    for column in predictions.slices:
        values = predictions.snapshots[column].astype(str).to_numpy()
        for name in sorted(np.unique(values), key=_natural):
            out.append((column.removeprefix(SLICE_PREFIX), str(name),
                        np.flatnonzero(values == name)))  # fmt: skip
    return out


def _natural(name: str) -> tuple[list[int], str]:
    """Order by the numbers in a name: alphabetical order would put "10-20" before "2-10"."""
    return [int(digits) for digits in re.findall(r"\d+", name)], name


def _cutoffs(predictions: TaskPredictions) -> list[tuple[str, np.ndarray]]:
    cutoffs = predictions.snapshots["cutoff"]
    return [
        (cutoff.isoformat(), np.flatnonzero((cutoffs == cutoff).to_numpy()))
        for cutoff in sorted(cutoffs.unique())
    ]


def _over_time(split: str, predictions: TaskPredictions) -> dict[tuple[str, str, str], np.ndarray]:
    """Return the rows of each cutoff and of each calendar month of cutoffs, by group."""
    months = predictions.snapshots["cutoff"].dt.strftime("%Y-%m").to_numpy()
    return {("cutoff", split, cutoff): rows for cutoff, rows in _cutoffs(predictions)} | {
        ("month", split, str(month)): np.flatnonzero(months == month)
        for month in sorted(np.unique(months))
    }


def _described(
    predictions: TaskPredictions,
    groups: Mapping[tuple[str, str, str], np.ndarray],
    measured: Mapping[tuple[str, str, str], Estimates],
    order: list[str],
    kind: str,
) -> list[dict[str, Any]]:
    """List the groups of one kind; `models` is empty where too few outcomes were seen."""
    names = ("slice", "value") if kind == "slice" else ("split", kind)
    return [
        {
            names[0]: key[1],
            names[1]: key[2],
            **size_of(predictions.snapshots.iloc[rows]),
            "models": {m: numbers(measured[key][m]) for m in order}
            if any(measured.get(key, {}).values())
            else {},
        }
        for key, rows in groups.items()
        if key[0] == kind
    ]


def _comparisons(headline: Estimates, order: list[str]) -> list[dict[str, Any]]:
    """List all pairs, the better-ranked model first, on each of `COMPARED`."""
    out = []
    for position, a in enumerate(order):
        for b in order[position + 1 :]:
            for metric in (*COMPARED, *VALUE_COMPARED, *TIME_COMPARED):
                if metric not in headline[a] or metric not in headline[b]:
                    continue
                gap = difference(headline[a][metric], headline[b][metric])
                out.append(
                    {"a": a, "b": b, "metric": metric, "difference": number(gap.value)}
                    | {"low": number(gap.low), "high": number(gap.high)}
                )
    return out


def weighted_total(snapshots: pd.DataFrame) -> float:
    """Return what all snapshots of a `sum` task brought in."""
    return float(snapshots["weight"].to_numpy() @ snapshots["value"].to_numpy())


def size_of(snapshots: pd.DataFrame) -> dict[str, Any]:
    """Say how many snapshots there are, of how many customers, and how often it happened."""
    weight = snapshots["weight"].to_numpy(np.float64)
    label = snapshots["label"].to_numpy(np.float64)
    return {
        "base_rate": float(weight @ label / weight.sum()) if weight.sum() > 0 else None,
        "n": len(snapshots),
        "customers": int(snapshots["customer_id"].nunique()),
        "positives": int(label.sum()),
    }


def keys_of(snapshots: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return customers and cutoffs, by which `tiebreak` orders what scores alike."""
    cutoff_us = snapshots["cutoff"].to_numpy("datetime64[us]").astype(np.int64)
    return snapshots["customer_id"].to_numpy(object), cutoff_us


def _enough(label: np.ndarray, weight: np.ndarray) -> bool:
    counted = label[weight > 0]
    positives = int(counted.sum())
    return min(positives, len(counted) - positives) >= MIN_OUTCOMES


def numbers(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """Return estimates as metrics.json has them."""
    return {
        name: {"value": number(e.value), "low": number(e.low), "high": number(e.high)}
        for name, e in estimates.items()
    }


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if math.isfinite(value) else None
