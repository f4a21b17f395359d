"""The metrics of a sum task against independent formulas and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from seqjourney.evaluation.predictions import TaskPredictions
from seqjourney.evaluation.value import (
    VALUE_METRICS,
    ValueRanking,
    measure_values,
    normalised_gini_of,
    value_metrics,
)


def drawn(n: int = 400, seed: int = 0, refunds: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Half bring in nothing, a few send back; expectations tie where they are rounded."""
    random = np.random.default_rng(seed)
    size = random.lognormal(3, 1.2, n)
    value = np.where(random.random(n) < 0.5, 0.0, size * random.lognormal(0, 0.5, n))
    if refunds:
        value[random.random(n) < 0.03] *= -0.2
    return value, np.round(size * 0.6, -1)


def gini_by_hand(value: np.ndarray, expected: np.ndarray) -> float:
    """Twice the area between the gain curve and the diagonal, over many shuffles of the ties."""
    areas = []
    for seed in range(300):
        shuffled = np.random.default_rng(seed).permutation(len(value))
        order = shuffled[np.argsort(-expected[shuffled], kind="stable")]
        gained = np.concatenate([[0.0], np.cumsum(value[order])]) / value.sum()
        areas.append(2 * np.trapezoid(gained, np.linspace(0, 1, len(gained))) - 1)
    return float(np.mean(areas))


def measured(value: np.ndarray, expected: np.ndarray, weights: np.ndarray | None = None):
    rows = np.ones((1, len(value))) if weights is None else weights
    return value_metrics(ValueRanking.of(value, expected, None), rows)


def test_normalised_gini_is_the_gini_of_the_order_over_that_of_the_perfect_one():
    value, expected = drawn()
    wanted = gini_by_hand(value, expected) / gini_by_hand(value, value)
    assert normalised_gini_of(value, expected, np.ones(len(value))) == pytest.approx(
        wanted, abs=2e-3
    )
    assert normalised_gini_of(value, value, np.ones(len(value))) == pytest.approx(1)
    assert normalised_gini_of(value, np.ones(len(value)), np.ones(len(value))) == pytest.approx(0)
    assert normalised_gini_of(value, -value, np.ones(len(value))) < 0


def test_a_gini_by_hand():
    # In the model's order the money is found as 0, 3, 1; in the perfect one as 3, 1, 0.
    value, expected = np.array([3.0, 0.0, 1.0]), np.array([2.0, 5.0, 1.0])
    order = 2 * (0 + 3 / 4 / 2 + (3 / 4 + 1) / 2) / 3 - 1
    perfect = 2 * (3 / 4 / 2 + (3 / 4 + 1) / 2 + 1) / 3 - 1
    assert measured(value, expected)["normalised_gini"][0] == pytest.approx(order / perfect)


def test_spearman_is_scipys():
    value, expected = drawn()
    found = measured(value, expected)["value_spearman"][0]
    assert found == pytest.approx(spearmanr(value, expected).statistic)


def test_amounts_by_plain_formulas():
    value, expected = drawn()
    found = {name: v[0] for name, v in measured(value, expected).items()}
    assert list(found) == list(VALUE_METRICS)
    assert found["value_mean_absolute_error"] == pytest.approx(np.abs(value - expected).mean())
    assert found["value_total_bias"] == pytest.approx(expected.sum() / value.sum() - 1)
    order = np.argsort(-expected, kind="stable")
    top = order[: len(value) // 10]
    assert found["value_share_at_10"] == pytest.approx(value[top].sum() / value.sum())
    sure = expected[top] @ (value[top] > 0) / expected[top].sum()
    assert found["value_weighted_precision_at_10"] == pytest.approx(sure)
    groups = np.split(order, 10)
    gaps = [abs(value[g].mean() - expected[g].mean()) for g in groups]
    assert found["value_decile_error"] == pytest.approx(np.mean(gaps) / value.mean())


def test_weights_are_repetitions():
    value, expected = drawn(120)
    counts = np.random.default_rng(1).integers(0, 4, len(value))
    repeated = np.repeat(np.arange(len(value)), counts)
    found = measured(value, expected, counts[None].astype(float))
    for name, wanted in measured(value[repeated], expected[repeated]).items():
        np.testing.assert_allclose(found[name], wanted, err_msg=name)


def test_more_refunds_than_sales_have_no_shares():
    found = measured(np.array([1.0, -5.0, 0.0]), np.array([3.0, 2.0, 1.0]))
    assert np.isnan(found["normalised_gini"][0]) and np.isnan(found["value_total_bias"][0])
    assert found["value_mean_absolute_error"][0] == pytest.approx(10 / 3)


def test_intervals_hold_the_value_and_the_groups_add_up():
    value, expected = drawn(500)
    snapshots = pd.DataFrame(
        {
            "split": "test",
            "customer_id": [f"c{i // 2}" for i in range(500)],
            "cutoff": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(500), "h"),
            "label": (value > 0).astype(int),
            "weight": 1.0,
            "value": value,
        }
    )
    worse = np.random.default_rng(2).permutation(expected)
    test = TaskPredictions("ltv", snapshots, {}, {}, {}, {"good": expected, "bad": worse})
    metrics, deciles = measure_values(test, 200, 0)
    for estimates in metrics.values():
        for name, found in estimates.items():
            assert found.low <= found.value <= found.high, name
            assert len(found.replicates) == 200
    gap = (
        metrics["good"]["normalised_gini"].replicates - metrics["bad"]["normalised_gini"].replicates
    )
    assert np.quantile(gap, 0.025) > 0
    for model, groups in deciles.items():
        assert len(groups) == 10
        assert np.mean([g["actual"] for g in groups]) == pytest.approx(value.mean())
        assert np.mean([g["expected"] for g in groups]) == pytest.approx(
            test.expected[model].mean()
        )
        assert np.diff([g["expected"] for g in groups]).min() >= -1e-9
