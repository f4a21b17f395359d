"""How well does a model say when? The metrics of a `time_to` task, from its horizons together.

Predictions hold a task per horizon, `NAME@7d`, `NAME@14d` and so on. Side by side their labels say
in which interval the event came and their probabilities are a curve; between two horizons both are
taken to be even, and times are counted up to the longest horizon. `concordance` is Harrell's C
(Harrell et al. 1982, JAMA 247:2543) over these intervals.

Shapes: interval, expected (n,); weights (R, n); K horizons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from seqjourney.config.types import Duration
from seqjourney.evaluation.bootstrap import Estimate, Resampling, estimate, replicate_weights
from seqjourney.evaluation.metrics import Metric
from seqjourney.evaluation.predictions import KEY, TaskPredictions

_DAY = timedelta(days=1)
_ALL = [
    Metric("concordance", "Concordance (C-index)",
           "Of two customers of whom one had the event in an earlier interval than the other, how "
           "often the model expected it earlier of that one; 0.5 is a coin, ties count half."),
    Metric("expected_time_error", "Error of the expected time",
           "Mean distance in days between the expected time to the event and the time it took, "
           "both counted up to the longest horizon; lower is better.", "lower", "days"),
    Metric("expected_time_bias", "Bias of the expected time",
           "Mean expected less mean actual time in days, both counted up to the longest horizon.",
           "zero", "days"),
]  # fmt: skip
TIME_METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
TIME_COMPARED = ("concordance", "expected_time_error")


@dataclass(frozen=True)
class Times:
    """One `time_to` task's horizons side by side."""

    days: np.ndarray
    """(K,) ascending."""
    longest: TaskPredictions
    interval: np.ndarray
    """(n,) position of the horizon by which the event came; K where it did not."""
    probabilities: dict[str, np.ndarray]
    """Model → (n, K)."""


def find_times(tasks: Sequence[TaskPredictions], split: str) -> dict[str, Times]:
    """Return the tasks that are one question by several horizons, under the longest one's name."""
    groups: dict[str, list[tuple[timedelta, TaskPredictions]]] = defaultdict(list)
    for task in tasks:
        name, _, span = task.task.rpartition("@")
        if name and (horizon := _horizon(span)) is not None:
            groups[name].append((horizon, task.split(split)))
    found = {}
    for group in groups.values():
        horizons, asked = zip(*sorted(group, key=lambda one: one[0]), strict=True)
        if len(asked) > 1 and all(_alike(asked[-1], other) for other in asked[:-1]):
            found[asked[-1].task] = _side_by_side(horizons, asked)
    return found


def over_horizons(tasks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each `time_to` question of `tasks` in metrics.json: its `name` and its `horizons`.

    `horizons` are the names of its tasks, from short to long; the last one has `times`.
    """
    return [
        {
            "name": (question := name.rpartition("@")[0]),
            "horizons": sorted((t for t in tasks if order_of(t)[0] == question), key=order_of),
        }
        for name, results in tasks.items()
        if "times" in results
    ]


def order_of(task: str) -> tuple[str, timedelta]:
    """Return by what tasks are sorted: by name, and one question's horizons from short to long."""
    name, _, span = task.rpartition("@")
    horizon = _horizon(span)
    return (name, horizon) if name and horizon else (task, timedelta())


def _horizon(text: str) -> timedelta | None:
    try:
        return TypeAdapter(Duration).validate_python(text)
    except ValidationError:
        return None


def _alike(one: TaskPredictions, other: TaskPredictions) -> bool:
    """Whether both ask the same models about the same snapshots."""
    return set(one.scores) == set(other.scores) and one.snapshots[KEY].equals(other.snapshots[KEY])


def _side_by_side(horizons: Sequence[timedelta], asked: Sequence[TaskPredictions]) -> Times:
    labels = np.stack([task.snapshots["label"].to_numpy() for task in asked])  # (K, n)
    return Times(
        np.array([horizon / _DAY for horizon in horizons]),
        asked[-1],
        (np.maximum.accumulate(labels) == 0).sum(axis=0),
        {m: np.stack([t.probabilities[m] for t in asked], axis=1) for m in asked[-1].scores},
    )


def expected_days(days: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the expected time up to the longest horizon, (..., K) -> (...), the curve's area."""
    waits = 1 - np.maximum.accumulate(probabilities, axis=-1)
    waits = np.concatenate([np.ones((*waits.shape[:-1], 1)), waits], axis=-1)
    return (waits[..., 1:] + waits[..., :-1]) / 2 @ np.diff(days, prepend=0.0)


def median_days(days: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return when a curve (K,) reaches one half; None where that is after the longest horizon."""
    reached = np.concatenate([[0.0], np.maximum.accumulate(probabilities)])
    if reached[-1] < 0.5:
        return None
    k = int(np.searchsorted(reached, 0.5, side="left"))
    ends = np.concatenate([[0.0], days])
    share = (0.5 - reached[k - 1]) / (reached[k] - reached[k - 1])
    return float(ends[k - 1] + share * (ends[k] - ends[k - 1]))


def actual_days(days: np.ndarray, interval: np.ndarray) -> np.ndarray:
    """Return the time that it took: the middle of the interval, or the longest horizon."""
    ends = np.concatenate([[0.0], days])
    return np.append((ends[1:] + ends[:-1]) / 2, days[-1])[interval]


def concordance(interval: np.ndarray, expected: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Harrell's C: (n,), (n,), (R, n) -> (R,); NaN where nothing compares."""
    order = np.argsort(-expected, kind="stable")  # the latest first
    starts = np.flatnonzero(np.diff(expected[order], prepend=np.inf))
    interval, weights = interval[order], weights[:, order]
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for k in range(int(interval.max(initial=0))):
        came, later = (
            np.add.reduceat(weights * chosen, starts, axis=1)
            for chosen in (interval == k, interval > k)
        )
        right += (came * (np.cumsum(later, axis=1) - later / 2)).sum(axis=1)
        pairs += came.sum(axis=1) * later.sum(axis=1)
    return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def measure_times(
    times: Times, replicates: int, seed: int
) -> tuple[dict[str, dict[str, Estimate]], dict[str, Any]]:
    """Measure all models of a `time_to` task.

    Returns:
        Model → metric → estimate, whose replicates are those of the other metrics of the report;
        and `horizons_days`, with the mean and the median time, `actual` and by model, in days. A
        mean is counted up to the longest horizon; a median is None where it is later.
    """
    snapshots = times.longest.snapshots
    weight = snapshots["weight"].to_numpy(np.float64)
    actual = actual_days(times.days, times.interval)
    expected = {m: expected_days(times.days, p) for m, p in times.probabilities.items()}
    draws = Resampling(pd.factorize(snapshots["customer_id"])[0], weight, replicates, seed)

    def measure(weights: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        mass = weights.sum(axis=1)
        return {
            m: {
                "concordance": concordance(times.interval, e, weights),
                "expected_time_error": weights @ np.abs(e - actual) / mass,
                "expected_time_bias": weights @ (e - actual) / mass,
            }
            for m, e in expected.items()
        }

    point = measure(weight[None])
    chunks = [measure(weights) for weights in replicate_weights(draws)]
    metrics = {
        m: {
            name: estimate(float(v[0]), np.concatenate([chunk[m][name] for chunk in chunks]))
            for name, v in values.items()
        }
        for m, values in point.items()
    }
    by_then = (times.interval[:, None] <= np.arange(len(times.days))).astype(np.float64)
    curves = {"actual": (by_then, actual)}
    curves |= {m: (p, expected[m]) for m, p in times.probabilities.items()}
    return metrics, {
        "horizons_days": times.days.tolist(),
        "mean_days": {
            m: float(np.average(days, weights=weight)) for m, (_, days) in curves.items()
        },
        "median_days": {
            m: median_days(times.days, np.average(p, axis=0, weights=weight))
            for m, (p, _) in curves.items()
        },
    }
