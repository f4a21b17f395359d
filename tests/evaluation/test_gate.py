"""The precision gate: its guarantee by simulation, its edges, and MAPIE as oracle."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from seqjourney.errors import DataError
from seqjourney.evaluation import gate
from seqjourney.evaluation.drift import Reference
from seqjourney.evaluation.gate import (
    Certificate,
    Finding,
    calibration_rows,
    correct_needed,
    fewest_flagged,
    flagged_needed,
    learn_then_test,
    learns,
    lower_bound,
)

ASKED = {"target": 0.8, "confidence": 0.95}
GRID = np.linspace(-7, 7, 20_001)
DENSITY = np.exp(-(GRID**2) / 2)


def chance(score: np.ndarray, slope: float = 1.8) -> np.ndarray:
    return 1 / (1 + np.exp(1.0 - slope * score))


def true_precision(threshold: float, slope: float = 1.8) -> float:
    """Of standard normal scores whose outcome has the odds exp(slope * score - 1)."""
    above = DENSITY * (threshold <= GRID)
    return float((above * chance(GRID, slope)).sum() / above.sum())


def drawn(draw: np.random.Generator, n: int, slope: float = 1.8) -> tuple[np.ndarray, ...]:
    score = draw.normal(size=n)
    return score, draw.random(n) < chance(score, slope), draw.random(n) < gate.LEARNING_SHARE


@pytest.mark.parametrize(("n", "slope"), [(600, 2.5), (3000, 1.8)])
def test_certificates_fail_no_more_often_than_promised(n: int, slope: float):
    draw = np.random.default_rng(n)
    tested = [learn_then_test(*drawn(draw, n, slope), **ASKED) for _ in range(500)]
    passed = [t for t in tested if t.passed]
    broken = sum(true_precision(t.threshold, slope) < 0.8 for t in passed)
    assert len(passed) > 250
    assert binomtest(broken, len(tested), 0.05, alternative="greater").pvalue > 0.01


def test_a_precision_just_below_the_target_passes_as_often_as_promised_and_no_more():
    draw = np.random.default_rng(2)
    passed = 0
    for _ in range(800):
        score, _, learning = drawn(draw, 2000)
        label = draw.random(2000) < 0.7999
        passed += learn_then_test(score, label, learning, **ASKED).passed
    assert binomtest(passed, 800, 0.05, alternative="greater").pvalue > 0.01
    assert passed > 10  # the bound is exact, not a wide one


def test_a_model_without_any_order_is_never_certified_above_its_base_rate():
    draw = np.random.default_rng(3)
    for _ in range(50):
        score, _, learning = drawn(draw, 3000)
        assert not learn_then_test(score, draw.random(3000) < 0.3, learning, **ASKED).passed


def test_ties_pass_or_fail_together():
    draw = np.random.default_rng(4)
    score, label, learning = drawn(draw, 5000, 2.5)
    rounded = np.round(score)
    tested = learn_then_test(rounded, label, learning, **ASKED)
    assert tested.passed and tested.threshold in set(rounded)
    flagged = ~learning & (rounded >= tested.threshold)
    assert (tested.flagged, tested.correct) == (flagged.sum(), label[flagged].sum())
    everybody = learn_then_test(np.zeros(5000), label, learning, **ASKED)
    assert not everybody.passed
    assert (everybody.flagged, everybody.customers) == ((~learning).sum(), (~learning).sum())


def test_where_nobody_has_the_outcome_there_is_nothing_to_certify():
    score, label, learning = drawn(np.random.default_rng(5), 1000)
    tested = learn_then_test(score, np.zeros_like(label), learning, **ASKED)
    assert not tested.passed
    assert (tested.correct, tested.lower_bound) == (0, 0.0)


def test_where_everybody_has_the_outcome_everybody_may_be_flagged():
    score, label, learning = drawn(np.random.default_rng(6), 1000)
    tested = learn_then_test(score, np.ones_like(label), learning, **ASKED)
    assert tested.passed
    assert tested.threshold == score[learning].min()
    assert tested.correct == tested.flagged > 800


@pytest.mark.parametrize("n", [0, 1, 2, 5, 13, 14])
def test_a_handful_of_customers_is_refused(n: int):
    learning = np.arange(n) < n // 3
    tested = learn_then_test(np.arange(n, dtype=float), np.ones(n), learning, **ASKED)
    assert not tested.passed
    assert tested.threshold is None


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 400), slope=st.floats(0, 4))
def test_what_passes_is_what_the_testing_customers_show(seed: int, n: int, slope: float):
    score, label, learning = drawn(np.random.default_rng(seed), n, slope)
    tested = learn_then_test(score, label, learning, **ASKED)
    assert tested.customers == (~learning).sum()
    if tested.threshold is not None:
        flagged = ~learning & (score >= tested.threshold)
        assert (tested.flagged, tested.correct) == (flagged.sum(), label[flagged].sum())
    if tested.passed:
        assert tested.lower_bound >= 0.8  # the bound and the p-value are two sides of one
        assert tested.flagged >= fewest_flagged(**ASKED)


def test_another_scale_of_scores_flags_the_same_customers():
    score, label, learning = drawn(np.random.default_rng(7), 4000)
    plain = learn_then_test(score, label, learning, **ASKED)
    other = learn_then_test(np.exp(3 * score) - 5, label, learning, **ASKED)
    assert plain.passed
    assert (plain.flagged, plain.correct) == (other.flagged, other.correct)


def test_labels_of_the_learning_customers_choose_no_threshold_that_the_others_do_not_bear_out():
    score, _, learning = drawn(np.random.default_rng(8), 3000)
    label = learning.copy()  # all who learn have the outcome, none of those who test
    assert not learn_then_test(score, label, learning, **ASKED).passed


def test_p_values_and_the_walk_are_those_of_mapie():
    risk_control = pytest.importorskip("mapie.risk_control")
    fwer = pytest.importorskip("mapie.risk_control.fwer_control")
    draw = np.random.default_rng(9)
    counted = []
    for n, slope in ((800, 2.5), (3000, 1.8), (3000, 0.5)):
        score, label, learning = drawn(draw, n, slope)
        ours = learn_then_test(score, label, learning, **ASKED)
        # MAPIE is given our learned order; from there on its public calibration decides.
        grid = gate._thresholds(score[learning])
        flagged, _ = gate._counts(score[learning], label[learning], grid)
        grid = grid[flagged >= gate.FEWEST_LEARNING]
        flagged, _ = gate._counts(score[learning], label[learning], grid)
        start = gate._most_promising(score[learning], label[learning], flagged, 0.8)
        controller = risk_control.BinaryClassificationController(
            lambda s: np.column_stack([-s, s]), "precision", 0.8, 0.95,
            list_predict_params=grid, fwer_method="split_fixed_sequence",
        )  # fmt: skip
        controller._learned_fixed_sequence = grid[start:]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that no threshold qualifies
            controller.calibrate(score[~learning], label[~learning].astype(int))
        counts = gate._counts(score[~learning], label[~learning], grid[start:])
        p_values = gate._p_values(*counts, 0.8)
        theirs = controller.p_values[:, 0]
        # Where n * (k / n) rounds above k, MAPIE counts one right customer too few.
        one_less = gate._p_values(counts[0], counts[1] - 1, 0.8)
        assert (theirs >= p_values * (1 - 1e-9)).all() and (theirs <= one_less + 1e-9).all()
        assert np.isclose(theirs, p_values).mean() > 0.5
        if controller.best_predict_param is not None:
            assert controller.best_predict_param >= ours.threshold
        passed = fwer.control_fwer(p_values, 0.05, "split_fixed_sequence")
        assert ours.passed == bool(len(passed))
        assert ours.threshold == grid[start:][passed[-1] if len(passed) else 0]
        counted.append(ours.passed)
    assert counted == [True, True, False]


def test_a_hash_of_the_customer_says_who_learns():
    ids = np.array([f"c{i}" for i in range(20_000)], dtype=object)
    learning = learns(ids)
    assert abs(learning.mean() - gate.LEARNING_SHARE) < 0.01
    assert (learns(ids[::-1])[::-1] == learning).all()


def snapshots(**columns: list) -> pd.DataFrame:
    frame = pd.DataFrame({"weight": 1.0, "split": "validation"} | columns)
    return frame.assign(cutoff=pd.to_datetime(frame["cutoff"], utc=True))


def test_one_customer_with_many_snapshots_counts_once():
    days = pd.date_range("2024-01-01", periods=500).astype(str).tolist()
    many = snapshots(customer_id=["a"] * 500 + ["b"], cutoff=[*days, days[-1]])
    assert calibration_rows(many).tolist() == [499, 500]
    frame = many.assign(split=["validation"] * 500 + ["test"])
    assert calibration_rows(frame).tolist() == [499]


def test_customers_who_are_gone_by_the_last_cutoff_do_not_calibrate():
    # The last snapshot of who converts is the one before: those would be nearly all right.
    frame = snapshots(
        customer_id=["gone", "stays", "stays"], cutoff=["2024-01-01", "2024-01-01", "2024-02-01"]
    )
    assert calibration_rows(frame).tolist() == [2]


def test_customers_with_a_cutoff_of_their_own_all_calibrate():
    frame = snapshots(
        customer_id=["a", "b", "c"], cutoff=["2024-01-01", "2024-01-02", "2024-03-01"]
    )
    assert calibration_rows(frame).tolist() == [0, 1, 2]
    assert calibration_rows(frame.assign(weight=[1.0, 0.0, 1.0])).tolist() == [0, 2]


def test_the_bound_is_the_exact_one_of_scipy():
    for flagged, correct in ((14, 14), (50, 45), (193, 164), (10, 0)):
        exact = binomtest(correct, flagged, alternative="greater").proportion_ci(0.95, "exact")
        assert lower_bound(flagged, correct, 0.95) == pytest.approx(exact.low)


def test_what_would_be_needed_is_needed():
    assert fewest_flagged(**ASKED) == 14
    right = correct_needed(100, **ASKED)
    assert binom.sf(right - 1, 100, 0.8) <= 0.05 < binom.sf(right - 2, 100, 0.8)
    seen = Finding(False, 1.0, 500, 40, 36, 0.78)  # 90 %
    enough = flagged_needed(seen, **ASKED)
    assert enough and 40 < enough < 70
    assert binom.sf(np.floor(0.9 * enough) - 1, enough, 0.8) <= 0.05
    assert flagged_needed(Finding(False, 1.0, 500, 40, 32, 0.6), **ASKED) is None
    assert flagged_needed(Finding(False, None, 5, 0, 0, 0.0), **ASKED) is None


def certificate() -> Certificate:
    score = np.random.default_rng(0).normal(size=1000)
    return Certificate(
        "churn", "gru", "demo/gru", "f" * 16, 0.8, 0.95, 1.25, 850, 90, 80, 0.82,
        ("2024-01-01T00:00:00+00:00",) * 2, "2024-04-30T00:00:00+00:00", Reference.of(score, 1.25),
    )  # fmt: skip


def test_a_certificate_survives_json():
    assert Certificate.from_dict(json.loads(json.dumps(certificate().to_dict()))) == certificate()


@pytest.mark.parametrize("key", ["format", "threshold", "reference", "expires"])
def test_what_is_no_certificate_is_refused(key: str):
    broken = certificate().to_dict()
    del broken[key]
    with pytest.raises(DataError, match=r"scripts/evaluate\.py"):
        Certificate.from_dict(broken)
    with pytest.raises(DataError, match=r"scripts/evaluate\.py"):
        Certificate.from_dict(certificate().to_dict() | {key: [7]})
