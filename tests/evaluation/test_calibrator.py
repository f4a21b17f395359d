import json

import numpy as np
import pytest

from seqjourney.errors import DataError
from seqjourney.evaluation.calibration import PlattCalibrator
from seqjourney.evaluation.logistic import sigmoid


def test_it_recovers_the_line_behind_the_labels():
    draw = np.random.default_rng(0)
    score = draw.normal(5, 3, 50_000)
    label = draw.random(50_000) < sigmoid(0.7 * score - 4)
    fitted = PlattCalibrator.fit(score, label)
    assert fitted.slope == pytest.approx(0.7, abs=0.02)
    assert fitted.intercept == pytest.approx(-4, abs=0.1)
    assert fitted.note == ""
    assert fitted(score).mean() == pytest.approx(label.mean(), abs=1e-3)


def test_a_score_that_points_the_wrong_way_gets_the_base_rate_and_a_note():
    draw = np.random.default_rng(1)
    score = draw.normal(size=2000)
    label = draw.random(2000) < sigmoid(-2 * score - 1)
    fitted = PlattCalibrator.fit(score, label)
    assert fitted.slope == 0
    assert fitted(score) == pytest.approx(np.full(2000, label.mean()))
    assert "base rate" in fitted.note


def test_equal_scores_get_the_base_rate_and_a_note():
    fitted = PlattCalibrator.fit(np.full(10, 3.0), np.array([1] * 3 + [0] * 7))
    assert fitted(np.array([3.0]))[0] == pytest.approx(0.3)
    assert "equal" in fitted.note


def test_perfect_separation_stays_finite_and_ordered():
    fitted = PlattCalibrator.fit(np.arange(20.0), np.arange(20) >= 10)
    assert np.isfinite(fitted.slope)
    assert fitted(np.array([0.0]))[0] < 0.05 < 0.95 < fitted(np.array([19.0]))[0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_scale_of_the_score_does_not_matter(scale):
    draw = np.random.default_rng(2)
    score = draw.normal(size=500)
    label = draw.random(500) < sigmoid(score)
    plain, scaled = PlattCalibrator.fit(score, label), PlattCalibrator.fit(score * scale, label)
    np.testing.assert_allclose(scaled(score * scale), plain(score), rtol=1e-6)


def test_weights_count_as_repeated_rows():
    draw = np.random.default_rng(3)
    score, label = draw.normal(size=200), draw.integers(0, 2, 200)
    score = score + label
    weight = draw.integers(1, 4, 200)
    weighted = PlattCalibrator.fit(score, label, weight)
    copied = PlattCalibrator.fit(np.repeat(score, weight), np.repeat(label, weight))
    assert weighted.slope == pytest.approx(copied.slope)
    assert weighted.intercept == pytest.approx(copied.intercept)


def test_it_survives_a_checkpoint_as_plain_data():
    fitted = PlattCalibrator(1.5, -0.25, "why")
    assert PlattCalibrator.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_one_class_and_nan_are_refused_with_a_way_out():
    with pytest.raises(DataError, match="only label 0"):
        PlattCalibrator.fit(np.arange(5.0), np.zeros(5))
    with pytest.raises(DataError, match="NaN"):
        PlattCalibrator.fit(np.array([np.nan, 1.0]), np.array([0, 1]))
