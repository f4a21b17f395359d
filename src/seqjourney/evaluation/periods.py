"""Several test periods: does what holds in the last one hold in those before it?

Runs of one task with other test cutoffs are its earlier periods (`task.shift` trains them: rolling
origins). Each period has models, tokenizer and calibrators of its own, made of what was known then.

A period's figure for a model is the mean over its runs (seeds) there; the pooled one is the mean
over periods, each counting alike: scores of different trainings have no common scale, so that no
ranking across periods would mean anything. Customers are drawn once for all periods: one who was
asked in several moves in all of them. Hence the intervals cover which customers there are; that
other periods might come is seen in how the periods differ, not in the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.errors import DataError
from seqjourney.evaluation.bootstrap import (
    Estimate,
    Resampling,
    difference,
    estimate,
    replicate_weights,
)
from seqjourney.evaluation.metrics import HEADLINE
from seqjourney.evaluation.predictions import TaskPredictions, join_runs
from seqjourney.evaluation.ranking import accumulate, average_precision, rank, roc_auc, tiebreak
from seqjourney.evaluation.results import keys_of, number, numbers, size_of
from seqjourney.evaluation.value import VALUE_HEADLINE, ValueRanking, value_metrics
from seqjourney.page import decimal

METRICS_OVER_PERIODS = (HEADLINE, "roc_auc")
VALUES_OVER_PERIODS = (VALUE_HEADLINE, HEADLINE)

METRIC_WORDS = {HEADLINE: "mean AP", VALUE_HEADLINE: "mean Gini"}

Measure = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Weights (R, n) of a period's snapshots -> metric -> (R,)."""


def join_periods(frames: Sequence[pd.DataFrame]) -> list[list[TaskPredictions]]:
    """Line up checked frames, one per run: per task its periods, the last one last.

    A period is known by its first test cutoff. Every model of an earlier period must also be in
    the last: else these are no periods, but runs that were asked different questions.

    Raises:
        DataError: a model is in an earlier period alone; or as `join_runs`.
    """
    by_task: dict[str, list[pd.DataFrame]] = {}
    for frame in frames:
        for task, part in frame.groupby("task", sort=True):
            by_task.setdefault(str(task), []).append(part)
    if not by_task:
        join_runs(frames)
    found = []
    for _, parts in sorted(by_task.items()):
        periods: dict[pd.Timestamp, list[pd.DataFrame]] = {}
        for part in parts:
            periods.setdefault(part["cutoff"][part["split"] == "test"].min(), []).append(part)
        ordered = [periods[first] for first in sorted(periods, key=lambda t: (not pd.isna(t), t))]
        _refuse_strays(ordered)
        found.append([join_runs(period)[0] for period in ordered])
    return found


def _refuse_strays(periods: Sequence[Sequence[pd.DataFrame]]) -> None:
    """Refuse a model that was tested in an earlier period and not in the last one."""
    last = {part["model"].iloc[0] for part in periods[-1]}
    for part in (part for period in periods for part in period):
        if part["model"].iloc[0] not in last:
            first, end = (_first_test(one) for one in (part, periods[-1][0]))
            raise DataError(
                f"run {part['run'].iloc[0]} of model {part['model'].iloc[0]} is tested at {first}, "
                f"and no run of that model is at {end}, as {periods[-1][0]['run'].iloc[0]} is: "
                "these are not the same snapshots, nor two periods of a model. Train it there too "
                "(the same command without task.shift), or name the runs to compare: runs=[...]."
            )


def _first_test(part: pd.DataFrame) -> str:
    first = part["cutoff"][part["split"] == "test"].min()
    return "no cutoff" if pd.isna(first) else f"{first:%Y-%m-%d %H:%M}"


def period_results(
    periods: Sequence[TaskPredictions],
    *,
    replicates: int,
    seed: int,
    headline: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Measure every model in every period and over all: the entry `periods` in metrics.json.

    Args:
        periods: two or more of one task, the last one last.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        headline: model -> metric -> what the report's main table says of the last period. A model
            with one run there is told the same here: one figure has one interval.

    Returns:
        `periods`: what each was and how each model did; `models`: the means over periods of the
        models that are in all of them, the best first; `comparisons`: the paired differences of
        those, and in how many periods `a` was ahead.
    """
    tests = [period.split("test") for period in periods]
    ids = np.concatenate([test.snapshots["customer_id"].to_numpy(object) for test in tests])
    weight = np.concatenate([test.snapshots["weight"].to_numpy(np.float64) for test in tests])
    bounds = np.cumsum([0, *(len(test.snapshots) for test in tests)])
    prepared = [_measures(test) for test in tests]

    def measure(weights: np.ndarray) -> dict[tuple[int, str, str], np.ndarray]:
        """Weights (R, n) of all snapshots -> (period, model, metric) -> (R,)."""
        out = {}
        for place, models in enumerate(prepared):
            part = weights[:, bounds[place] : bounds[place + 1]]
            for model, runs in models.items():
                each = [run(part) for run in runs]
                for metric in each[0]:
                    out[place, model, metric] = np.mean([run[metric] for run in each], axis=0)
        return out

    point = measure(weight[None])
    draws = Resampling(pd.factorize(ids)[0], weight, replicates, seed)
    chunks = [measure(weights) for weights in replicate_weights(draws)]
    drawn = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in point}
    metrics = VALUES_OVER_PERIODS if tests[0].expected else METRICS_OVER_PERIODS
    everywhere = [m for m in prepared[-1] if all(m in models for models in prepared)]
    pooled = {
        model: {
            metric: estimate(
                float(np.mean([point[place, model, metric] for place in range(len(tests))])),
                np.mean([drawn[place, model, metric] for place in range(len(tests))], axis=0),
            )
            for metric in metrics
        }
        for model in everywhere
    }
    order = sorted(pooled, key=lambda model: -pooled[model][metrics[0]].value)
    found = [
        {
            "first": test.snapshots["cutoff"].min().isoformat(),
            "last": test.snapshots["cutoff"].max().isoformat(),
            **size_of(test.snapshots),
            "runs": {model: len(runs) for model, runs in models.items()},
            "models": {
                model: numbers(
                    {
                        name: estimate(
                            float(point[place, model, name][0]), drawn[place, model, name]
                        )
                        for name in metrics
                    }
                )
                for model in models
            },
        }
        for place, (test, models) in enumerate(zip(tests, prepared, strict=True))
    ]
    for model, values in found[-1]["models"].items():
        if headline and model in headline:  # several runs have names of their own there
            values.update({name: headline[model][name] for name in metrics})
    return {
        "metrics": list(metrics),
        "periods": found,
        "models": {model: numbers(pooled[model]) for model in order},
        "comparisons": _comparisons(pooled, order, metrics, point, len(tests)),
    }


def _measures(test: TaskPredictions) -> dict[str, list[Measure]]:
    """Return how each run of each model is measured; sorting is done here, once."""
    label = test.snapshots["label"].to_numpy(np.float64)
    ties = tiebreak(*keys_of(test.snapshots))
    found: dict[str, list[Measure]] = {}
    for name, score in test.scores.items():
        model = name.removesuffix(f" ({test.runs[name]})")
        expected = test.expected.get(name)
        value = (
            None
            if expected is None
            else ValueRanking.of(test.snapshots["value"].to_numpy(np.float64), expected, ties)
        )
        found.setdefault(model, []).append(_measure(rank(label, score, ties), value))
    return found


def _measure(ranking: Any, value: ValueRanking | None) -> Measure:
    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        curve = accumulate(ranking, weights)
        out = {HEADLINE: average_precision(curve), "roc_auc": roc_auc(curve)}
        if value is not None:
            out[VALUE_HEADLINE] = value_metrics(value, weights)[VALUE_HEADLINE]
        return out

    return measure


def _comparisons(
    pooled: Mapping[str, Mapping[str, Estimate]],
    order: Sequence[str],
    metrics: Sequence[str],
    point: Mapping[tuple[int, str, str], np.ndarray],
    periods: int,
) -> list[dict[str, Any]]:
    """List all pairs, the model that is better over all periods first."""
    out = []
    for position, a in enumerate(order):
        for b in order[position + 1 :]:
            for metric in metrics:
                gap = difference(pooled[a][metric], pooled[b][metric])
                ahead = sum(
                    float(point[place, a, metric][0]) > float(point[place, b, metric][0])
                    for place in range(periods)
                )
                out.append(
                    {"a": a, "b": b, "metric": metric, "difference": number(gap.value)}
                    | {"low": number(gap.low), "high": number(gap.high), "ahead_in": ahead}
                )
    return out


def summary(results: Mapping[str, Any]) -> str:
    """Say in one line which model is best over all periods, and whether that is clear."""
    periods, models = results["periods"], list(results["models"])
    spans = f"Over {len(periods)} test periods since {periods[0]['first'][:10]}"
    if not models:
        return f"{spans}: no model is in all of them."
    best, metric = models[0], results["metrics"][0]
    words = METRIC_WORDS[metric]
    mean = f"{words} {results['models'][best][metric]['value']:.3f}"
    if len(models) == 1:
        return f"{spans}: only {best} has runs in all of them, {mean}."
    said = f"{spans}: {best} ranks best, {mean}"
    for gap in results["comparisons"]:
        if (gap["a"], gap["b"], gap["metric"]) == (best, *models[1:2], metric):
            ends = [decimal(gap[end], sign="+") for end in ("low", "high") if gap[end] is not None]
            return (
                f"{said}; less {gap['b']} {decimal(gap['difference'], sign='+')} "
                f"({' to '.join(ends)}), ahead in {gap['ahead_in']} of {len(periods)}."
            )
    return f"{said}."
