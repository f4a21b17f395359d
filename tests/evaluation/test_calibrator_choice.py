"""Three curves and the choice among them, on labels drawn from known ones."""

import json

import numpy as np
import pytest

from seqjourney.errors import DataError
from seqjourney.evaluation.calibration import (
    CALIBRATORS,
    BetaCalibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    read_calibrator,
)
from seqjourney.evaluation.calibrator_choice import MIN_OUTCOMES, choose_calibrator
from seqjourney.evaluation.logistic import sigmoid


def labels(probability: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return (draw.random(len(probability)) < probability).astype(int)


def wave(score: np.ndarray) -> np.ndarray:
    """A staircase, which neither of the short curves can follow."""
    return np.select([score < -1, score < 0, score < 1], [0.02, 0.3, 0.35], 0.9)


def each_once(n: int) -> np.ndarray:
    return np.array([f"c{i}" for i in range(n)])


def choose(score: np.ndarray, label: np.ndarray) -> tuple:
    return choose_calibrator(score, label, np.ones(len(score)), each_once(len(score)))


def test_beta_recovers_the_bend_behind_the_labels_whatever_the_scale_of_the_score():
    draw = np.random.default_rng(0)
    z = draw.normal(0, 2, 50_000)
    p = sigmoid(z)
    truth = sigmoid(0.5 * np.log(p) - 1.3 * np.log1p(-p) - 0.1)
    label = labels(truth, draw)
    fitted = BetaCalibrator.fit(z, label)
    assert np.abs(fitted(z) - truth).mean() < 0.01 < np.abs(fitted.platt(z) - truth).mean()
    other = BetaCalibrator.fit(30 * z - 700, label)
    np.testing.assert_allclose(other(30 * z - 700), fitted(z), atol=1e-4)


def test_beta_finds_the_optimum_that_a_logistic_regression_finds():
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(1)
    z = draw.normal(-1, 2, 2000)
    label = labels(sigmoid(z) ** 0.7, draw)
    fitted = BetaCalibrator.fit(z, label)
    p = fitted.platt(z)
    terms = np.column_stack([np.log(p), -np.log1p(-p)])
    oracle = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(terms, label)
    found = [fitted.a, fitted.b, fitted.c]
    assert found == pytest.approx([*oracle.coef_[0], oracle.intercept_[0]], abs=0.01)


def test_isotonic_is_scikit_learns_where_steps_are_large():
    from sklearn.isotonic import IsotonicRegression

    draw = np.random.default_rng(2)
    score = draw.normal(size=30_000).round(1)
    label = labels(sigmoid(3 * score), draw)
    fitted = IsotonicCalibrator.fit(score, label)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(score, label)
    asked = np.linspace(-2, 2, 41)
    np.testing.assert_allclose(fitted(asked), oracle.predict(asked), atol=0.005)


def test_isotonic_promises_no_more_than_the_customers_of_a_step_bear():
    """By hand: three right at the top of a list whose base rate is a half are (3 + 1) / (3 + 2)."""
    score = np.repeat([0.0, 1.0, 2.0], [40, 40, 3])
    label = np.concatenate([np.tile([0, 0, 1, 0], 10), np.tile([1, 1, 0, 1], 10), [1, 1, 1]])
    fitted = IsotonicCalibrator.fit(score, label)
    base = label.mean()
    expected = [(10 + 2 * base) / 42, (30 + 2 * base) / 42, (3 + 2 * base) / 5]
    np.testing.assert_allclose(fitted(np.array([0.0, 1.0, 2.0])), expected)


def test_a_step_that_shrinks_below_its_neighbour_is_joined_with_it():
    score = np.repeat([0.0, 1.0, 2.0], [50, 100, 1])
    label = np.concatenate([np.zeros(50), np.ones(95), np.zeros(5), [1]])
    fitted = IsotonicCalibrator.fit(score, label)
    middle, top = fitted(np.array([1.0, 2.0]))
    assert middle == top < 0.95


def test_few_customers_at_the_ends_are_no_certainty():
    """Of noise alone isotonic ends are 0 and 1; shrunk they stay near what holds there."""
    draw = np.random.default_rng(9)
    score = draw.normal(size=2000)
    fitted = IsotonicCalibrator.fit(score, labels(np.full(2000, 0.3), draw))
    assert 0.05 < fitted(np.array([-9.0]))[0] < 0.3 < fitted(np.array([9.0]))[0] < 0.75


@pytest.mark.parametrize("kind", CALIBRATORS.values())
def test_no_curve_ever_falls_and_each_survives_a_checkpoint(kind):
    draw = np.random.default_rng(3)
    score = draw.normal(size=400)
    # Against its will: a bend that a, b >= 0 must refuse.
    label = labels(np.where(score > 1.5, 0.2, sigmoid(score)), draw)
    fitted = kind.fit(score, label, draw.integers(0, 3, 400))
    asked = np.linspace(-40, 40, 2001)
    assert (np.diff(fitted(asked)) >= 0).all()
    assert (fitted(asked) >= 0).all() and (fitted(asked) <= 1).all()
    assert fitted(asked.reshape(3, 667)).shape == (3, 667)
    again = read_calibrator(json.loads(json.dumps(fitted.to_dict())), "run.json")
    assert again == fitted
    np.testing.assert_array_equal(again(asked), fitted(asked))


@pytest.mark.parametrize("kind", CALIBRATORS.values())
def test_weights_count_as_repeated_rows_for_every_kind(kind):
    draw = np.random.default_rng(4)
    score = draw.normal(size=300)
    label = labels(sigmoid(score), draw)
    weight = draw.integers(1, 4, 300)
    copied = kind.fit(np.repeat(score, weight), np.repeat(label, weight))
    np.testing.assert_allclose(kind.fit(score, label, weight)(score), copied(score), atol=0.01)


@pytest.mark.parametrize("kind", CALIBRATORS.values())
def test_perfect_separation_stays_finite_for_every_kind(kind):
    fitted = kind.fit(np.arange(40.0), np.arange(40) >= 20)
    assert np.isfinite(fitted(np.linspace(-1e6, 1e6, 11))).all()
    assert fitted(np.array([0.0]))[0] < 0.1 < 0.9 < fitted(np.array([39.0]))[0]


@pytest.mark.parametrize(
    "curve, expected",
    [
        (lambda z: sigmoid(0.5 * z - 1), "platt"),
        (lambda z: sigmoid(-0.2 * np.logaddexp(0, -z) + 2 * np.logaddexp(0, z) - 1.5), "beta"),
        (wave, "isotonic"),
    ],
)
def test_the_curve_behind_the_labels_is_chosen(curve, expected):
    draw = np.random.default_rng(5)
    score = draw.normal(0, 1.5, 20_000)
    fitted, compared = choose(score, labels(curve(score), draw))
    assert fitted.kind == expected
    assert list(compared) == list(CALIBRATORS)
    assert compared[expected]["log_loss"] <= compared["platt"]["log_loss"]


def test_the_simpler_curve_is_kept_unless_clearly_worse():
    """Where Platt is right, freedom only costs: among 40 samples another is rarely chosen."""
    chosen = []
    for seed in range(40):
        draw = np.random.default_rng(seed)
        score = draw.normal(size=800)
        chosen.append(choose(score, labels(sigmoid(score - 1), draw))[0].kind)
    assert chosen.count("platt") >= 32


def test_no_curve_is_judged_on_customers_that_it_was_fitted_on(monkeypatch):
    draw = np.random.default_rng(6)
    rows_each = 4
    own_score = draw.normal(size=300)
    score, customer = np.repeat(own_score, rows_each), np.repeat(each_once(300), rows_each)
    label = labels(sigmoid(score), draw)
    seen = []
    fit = IsotonicCalibrator.fit

    def spy(score, label, weight):
        seen.append(np.unique(score, return_counts=True))
        return fit(score, label, weight)

    monkeypatch.setattr(IsotonicCalibrator, "fit", spy)
    choose_calibrator(score, label, np.ones(len(score)), customer)
    folds = seen[:5]
    assert all((counts == rows_each).all() for _, counts in folds)
    held_out = [set(own_score) - set(used) for used, _ in folds]
    assert sum(len(part) for part in held_out) == len(set.union(*held_out)) == 300


def test_the_order_of_rows_changes_nothing():
    draw = np.random.default_rng(7)
    score = draw.normal(size=1000)
    label, customer = labels(wave(score), draw), each_once(1000)
    mixed = draw.permutation(1000)
    a = choose_calibrator(score, label, np.ones(1000), customer)
    b = choose_calibrator(score[mixed], label[mixed], np.ones(1000), customer[mixed])
    assert a[0].kind == b[0].kind
    for kind in CALIBRATORS:
        assert a[1][kind] == pytest.approx(b[1][kind])


def test_few_outcomes_and_scores_without_order_get_platt_uncompared():
    draw = np.random.default_rng(8)
    score = draw.normal(size=1000)
    rare = np.zeros(1000, int)
    rare[: MIN_OUTCOMES - 1] = 1
    assert choose(score + rare, rare)[1] == {}
    fitted, compared = choose(score, labels(sigmoid(-3 * score), draw))
    assert fitted.kind == "platt" and fitted.note and compared == {}


def test_a_calibrator_of_old_is_read_and_of_the_future_refused():
    old = {"slope": 0.5, "intercept": -1.0, "note": ""}
    assert read_calibrator(old, "run.json") == PlattCalibrator(0.5, -1.0)
    with pytest.raises(DataError, match=r"x/run\.json: .*'spline'.*platt, beta, isotonic"):
        read_calibrator({**old, "kind": "spline"}, "x/run.json")
