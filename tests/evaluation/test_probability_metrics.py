import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from seqjourney.evaluation.logistic import fit_logistic, sigmoid
from seqjourney.evaluation.probability import (
    brier,
    brier_skill,
    calibration_line,
    ece,
    log_loss,
    probability_metrics,
)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 80))
def test_log_loss_and_brier_equal_scikit_learn_with_weights(seed, n):
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 2, n)
    label[:2] = (0, 1)
    probability = np.round(draw.random(n), 1)  # has exact zeros and ones
    weight = draw.random(n) + 0.01
    got = log_loss(label, probability, weight[None])[0]
    assert got == pytest.approx(sklearn_log_loss(label, probability, sample_weight=weight))
    got = brier(label, probability, weight[None])[0]
    assert got == pytest.approx(brier_score_loss(label, probability, sample_weight=weight))


def test_brier_skill_is_zero_for_the_base_rate_and_one_for_the_truth():
    label = np.repeat([0, 1], [80, 20])
    ones = np.ones((1, 100))
    assert brier_skill(label, np.full(100, 0.2), ones)[0] == pytest.approx(0)
    assert brier_skill(label, label.astype(float), ones)[0] == pytest.approx(1)


def test_ece_of_fifteen_known_bins():
    # Bin b promises b / 15 and observes 0.05 more: 20 rows each, one positive too many.
    promised = np.repeat(np.arange(15) / 15, 20)
    label = np.concatenate([np.arange(20) < round(20 * b / 15) + 1 for b in range(15)])
    observed = label.reshape(15, 20).mean(axis=1)
    expected = np.abs(observed - np.arange(15) / 15).mean()
    assert ece(label, promised, np.ones((1, 300)))[0] == pytest.approx(expected)


def test_ece_of_a_constant_is_its_distance_from_the_base_rate():
    label = np.tile([0, 0, 0, 1], 25)
    assert ece(label, np.full(100, 0.4), np.ones((1, 100)))[0] == pytest.approx(0.15)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_integer_weights_equal_repeated_rows(seed):
    draw = np.random.default_rng(seed)
    label, probability = draw.integers(0, 2, 60), np.round(draw.uniform(0.05, 0.95, 60), 2)
    label[:4], probability[:4] = (0, 1, 1, 0), (0.2, 0.2, 0.8, 0.8)  # no perfect separation
    weight = draw.integers(0, 4, 60)
    weight[:4] = 1
    weighted = probability_metrics(label, probability, weight[None].astype(float))
    copied = probability_metrics(
        np.repeat(label, weight), np.repeat(probability, weight), np.ones((1, weight.sum()))
    )
    for name, value in weighted.items():
        np.testing.assert_allclose(copied[name], value, atol=1e-7, err_msg=name)


def test_calibration_slope_and_intercept_recover_a_known_distortion():
    draw = np.random.default_rng(1)
    true_logit = draw.normal(-0.5, 1.5, 60_000)
    label = (draw.random(60_000) < sigmoid(true_logit)).astype(int)
    # Too extreme by a factor of two, and shifted: true = 0.5 * given + 0.3.
    given_logit = (true_logit - 0.3) / 0.5
    intercept, slope = calibration_line(label, sigmoid(given_logit), np.ones((1, 60_000)))
    assert slope[0] == pytest.approx(0.5, abs=0.02)
    assert intercept[0] == pytest.approx(0.3, abs=0.03)


def test_the_regression_equals_scikit_learn_for_every_weighting_at_once():
    draw = np.random.default_rng(2)
    x = draw.normal(size=300)
    label = (draw.random(300) < sigmoid(1.5 * x - 1)).astype(int)
    weights = draw.integers(0, 4, (6, 300)).astype(float)
    fitted = fit_logistic(x, label, weights)
    for row in range(6):
        oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        oracle.fit(x[:, None], label, sample_weight=weights[row])
        expected = [oracle.intercept_[0], oracle.coef_[0, 0]]
        np.testing.assert_allclose(fitted[row], expected, atol=1e-4)


def test_the_regression_converges_from_far_away_and_refuses_separation():
    x = np.array([-40.0, -1.0, 0.0, 1.0, 30.0, 35.0])
    assert np.isfinite(fit_logistic(x, np.array([0, 1, 0, 1, 1, 0]), np.ones((1, 6)))).all()
    assert np.isnan(fit_logistic(x, np.array([0, 0, 0, 1, 1, 1]), np.ones((1, 6)))).all()
    assert np.isnan(fit_logistic(np.ones(4), np.array([0, 1, 0, 1]), np.ones((1, 4)))).all()
    # Those who count are all alike in the first weighting; the second is fitted all the same.
    label, weights = np.array([0, 1, 0, 1, 1, 0]), np.array([[0, 0, 0, 0, 1, 1], [1.0] * 6])
    x = np.array([-4.0, -1.0, 0.0, 1.0, 3.0, 3.0])
    with np.errstate(all="raise"):
        first, second = fit_logistic(x, label, weights)
    assert np.isnan(first).all() and np.isfinite(second).all()
