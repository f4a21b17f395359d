"""How well does a model say what customers will bring in? The metrics of a `sum` task.

Order and size are judged apart: `normalised_gini`, Spearman and the shares of the top ask for the
order (Wang, Liu & Miao 2019, section 4), mean absolute error, bias and deciles for the amounts. As
in `ranking.py`, sorting happens once per model and every metric is measured for R weightings of
the n rows at once, with the same bootstrap replicates as all other metrics of the report.

Shapes: value, expected (n,); weights (R, n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from seqjourney.evaluation.bootstrap import Estimate, Resampling, estimate, replicate_weights
from seqjourney.evaluation.metrics import Metric
from seqjourney.evaluation.predictions import TaskPredictions
from seqjourney.evaluation.ranking import Curve, Ranking, accumulate, found_at, rank, tiebreak

GROUPS = 10
_EDGES = [group / GROUPS for group in range(GROUPS + 1)]

_ALL = [
    Metric("normalised_gini", "Normalised Gini",
           "Going down the list from the customer expected to bring in most: how far the share of "
           "the money found runs ahead of the share of customers, as a part of what the perfect "
           "order would reach; a random order scores 0, a perfect one 1."),
    Metric("value_spearman", "Spearman correlation",
           "Correlation of the ranks of what was expected and what came in; ties share a rank."),
    Metric("value_mean_absolute_error", "Mean absolute error",
           "Mean distance between what was expected of a customer and what came in, in money; "
           "lower is better.", "lower", "money"),
    Metric("value_total_bias", "Total bias",
           "All that was expected over all that came in, less 1; below zero too little was "
           "expected.", "zero", "percent"),
    Metric("value_share_at_10", "Value in the top 10\u00a0%",
           "Share of all money that the 10\u00a0% of whom most was expected brought in.",
           shown="percent"),
    Metric("value_weighted_precision_at_10", "Value-weighted precision in the top 10\u00a0%",
           "Of the money expected of these 10\u00a0%, the share expected of customers who did "
           "bring in something.", shown="percent"),
    Metric("value_decile_error", "Decile error",
           "Customers in ten equal groups by what was expected of them: mean distance between a "
           "group's mean expected and mean actual value, as a share of the overall mean; lower is "
           "better. Chance alone keeps it above zero.", "lower", "percent"),
]  # fmt: skip
VALUE_METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
VALUE_HEADLINE = "normalised_gini"
VALUE_COMPARED = (
    "normalised_gini",
    "value_spearman",
    "value_mean_absolute_error",
    "value_share_at_10",
)


@dataclass(frozen=True)
class ValueRanking:
    """What came in and what was expected, (n,), in the model's order and in the perfect one."""

    value: np.ndarray
    expected: np.ndarray
    label: np.ndarray
    by_expected: Ranking
    perfect: Ranking

    @classmethod
    def of(cls, value: np.ndarray, expected: np.ndarray, ties: np.ndarray | None) -> ValueRanking:
        """Sort both ways; equal expectations are ordered by `ties`."""
        return cls(
            value,
            expected,
            (value > 0).astype(np.float64),
            rank(value, expected, ties),
            rank(value, value, ties),
        )

    def along(self, amounts: np.ndarray, weights: np.ndarray) -> Curve:
        """Accumulate any amounts (n,) down the list by expectation."""
        order = self.by_expected.order
        return accumulate(Ranking(order, amounts[order], self.by_expected.ends), weights)


def measure_values(
    test: TaskPredictions, replicates: int, seed: int
) -> tuple[dict[str, dict[str, Estimate]], dict[str, list[dict[str, float | None]]]]:
    """Measure all models of a `sum` task.

    Returns:
        Model → metric → estimate, whose replicates are those of the other metrics of the report;
        and model → ten groups, from the least expected to the most, each with the mean `expected`,
        the mean `actual` value and its interval `low` to `high`.
    """
    snapshots = test.snapshots
    value, weight = (snapshots[name].to_numpy(np.float64) for name in ("value", "weight"))
    cutoff_us = snapshots["cutoff"].to_numpy("datetime64[us]").astype(np.int64)
    ties = tiebreak(snapshots["customer_id"].to_numpy(object), cutoff_us)
    ranked = {model: ValueRanking.of(value, e, ties) for model, e in test.expected.items()}
    draws = Resampling(pd.factorize(snapshots["customer_id"])[0], weight, replicates, seed)
    point = {model: _measure(ranking, weight[None]) for model, ranking in ranked.items()}
    chunks = [
        {model: _measure(ranking, weights) for model, ranking in ranked.items()}
        for weights in replicate_weights(draws)
    ]
    metrics: dict[str, dict[str, Estimate]] = {}
    groups: dict[str, list[dict[str, float | None]]] = {}
    for model, (values, (expected, actual)) in point.items():
        metrics[model] = {
            name: estimate(
                float(found[0]),
                np.concatenate([chunk[model][0][name] for chunk in chunks]),
                recentre=name == "value_decile_error",
            )
            for name, found in values.items()
        }
        drawn = np.concatenate([chunk[model][1][1] for chunk in chunks])  # (replicates, 10)
        means = [estimate(float(a), d) for a, d in zip(actual[0], drawn.T, strict=True)]
        groups[model] = [
            {"expected": float(e), "actual": m.value, "low": _or_none(m.low)}
            | {"high": _or_none(m.high)}
            for e, m in zip(expected[0], means, strict=True)
        ][::-1]
    return metrics, groups


def value_metrics(ranking: ValueRanking, weights: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics of `VALUE_METRICS` for weights (R, n), each (R,)."""
    return _measure(ranking, weights)[0]


def normalised_gini_of(value: np.ndarray, expected: np.ndarray, weight: np.ndarray) -> float:
    """Return the normalised Gini of one model: value, expected, weight (n,)."""
    ranking = ValueRanking.of(value, expected, None)
    return float(value_metrics(ranking, weight[None])["normalised_gini"][0])


def _measure(
    ranking: ValueRanking, weights: np.ndarray
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the metrics, (R,) each, and mean expected and actual value by decile, (R, 10)."""
    value, expected = ranking.value, ranking.expected
    came, perfect = accumulate(ranking.by_expected, weights), accumulate(ranking.perfect, weights)
    total, customers = came.positives, came.total
    hoped, certain = ranking.along(expected, weights), expected * ranking.label
    top_hoped = found_at(hoped, [0.1])[:, 0]
    groups = tuple(
        GROUPS * np.diff(found_at(curve, _EDGES), axis=1) / customers[:, None]
        for curve in (hoped, came)
    )
    distance = np.abs(groups[0] - groups[1]).mean(axis=1)
    metrics = {
        "normalised_gini": _over(_gini(came), _gini(perfect)),
        "value_spearman": _spearman(ranking, came, perfect, weights),
        "value_mean_absolute_error": weights @ np.abs(value - expected) / customers,
        "value_total_bias": _over(hoped.positives, total) - 1,
        "value_share_at_10": _over(found_at(came, [0.1])[:, 0], total),
        "value_weighted_precision_at_10": _over(
            found_at(ranking.along(certain, weights), [0.1])[:, 0], top_hoped
        ),
        "value_decile_error": _over(distance, total / customers),
    }
    return {name: metrics[name] for name in VALUE_METRICS}, (groups[0], groups[1])


def _gini(curve: Curve) -> np.ndarray:
    """2 x the area under the gain curve - 1, (R,); among equals the curve is a straight line."""
    found = np.pad(curve.found_steps, ((0, 0), (1, 0)))
    steps = np.diff(curve.flagged_steps, axis=1, prepend=0.0)
    area = np.einsum("rg,rg->r", steps, (found[:, 1:] + found[:, :-1]) / 2)
    return 2 * _over(area, curve.total * curve.positives) - 1


def _spearman(
    ranking: ValueRanking, came: Curve, perfect: Curve, weights: np.ndarray
) -> np.ndarray:
    """Correlation of mid-ranks, (R,)."""
    a = _ranks(ranking.by_expected, came)
    b = _ranks(ranking.perfect, perfect)
    mass = weights.sum(axis=1, keepdims=True)
    a -= (weights * a).sum(axis=1, keepdims=True) / mass
    b -= (weights * b).sum(axis=1, keepdims=True) / mass
    spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    return _over((weights * a * b).sum(axis=1), spread)


def _ranks(ranking: Ranking, curve: Curve) -> np.ndarray:
    """Weighted mid-ranks of the rows in their original order, (R, n)."""
    middle = curve.flagged_steps - np.diff(curve.flagged_steps, axis=1, prepend=0.0) / 2
    group = np.searchsorted(ranking.ends, np.arange(len(ranking.order)))
    ranks = np.empty_like(curve.flagged)
    ranks[:, ranking.order] = middle[:, group]
    return ranks


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below; NaN where there is nothing to divide by, or more refunds than sales."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return value if np.isfinite(value) else None
