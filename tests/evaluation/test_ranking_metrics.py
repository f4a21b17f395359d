import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from seqjourney.evaluation.metrics import METRICS, all_metrics
from seqjourney.evaluation.ranking import (
    accumulate,
    average_precision,
    found_at,
    gini,
    lift_at,
    precision_at,
    precision_at_recall,
    rank,
    ranking_metrics,
    recall_at,
    roc_auc,
    tie_mass,
    tiebreak,
)


@st.composite
def ranked_rows(draw, max_size=60):
    """Labels of both classes, scores from few values so that many tie, weights with zeros."""
    n = draw(st.integers(4, max_size))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    label = random.integers(0, 2, n)
    label[:2] = (0, 1)
    score = random.integers(0, draw(st.integers(1, 30)), n) / 7.0
    weight = random.integers(0, 4, n).astype(float)
    weight[:2] = 1.0
    return label, score, weight


@settings(max_examples=80, deadline=None)
@given(ranked_rows())
def test_auc_and_average_precision_equal_scikit_learn_with_ties_and_weights(rows):
    label, score, weight = rows
    curve = accumulate(rank(label, score), np.stack([weight, np.ones(len(label))]))
    for row, w in enumerate((weight, None)):
        expected = roc_auc_score(label, score, sample_weight=w)
        assert roc_auc(curve)[row] == pytest.approx(expected, abs=1e-12)
        expected = average_precision_score(label, score, sample_weight=w)
        assert average_precision(curve)[row] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(gini(curve), 2 * roc_auc(curve) - 1)


@settings(max_examples=40, deadline=None)
@given(ranked_rows())
def test_a_monotone_transform_of_the_score_changes_no_ranking_metric(rows):
    label, score, weight = rows
    plain = ranking_metrics(accumulate(rank(label, score), weight))
    bent = ranking_metrics(accumulate(rank(label, np.exp(2 * score) - 5), weight))
    for name, value in plain.items():
        np.testing.assert_allclose(bent[name], value, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(ranked_rows())
def test_integer_weights_equal_repeated_rows(rows):
    label, score, weight = rows
    ties = np.arange(len(label))
    copies = weight.astype(int)
    repeated = [np.repeat(a, copies) for a in (label, score, ties)]
    weighted = ranking_metrics(accumulate(rank(label, score, ties), weight))
    copied = ranking_metrics(
        accumulate(rank(repeated[0], repeated[1], repeated[2]), np.ones(copies.sum()))
    )
    for name, value in weighted.items():
        np.testing.assert_allclose(copied[name], value, atol=1e-12, err_msg=name)


def test_the_top_of_the_list_by_hand():
    # Ten rows, four positives at ranks 1, 2, 4 and 9.
    label = np.array([1, 1, 0, 1, 0, 0, 0, 0, 1, 0])
    curve = accumulate(rank(label, -np.arange(10.0)), np.ones(10))
    assert precision_at(curve, 0.2) == 1.0
    assert recall_at(curve, 0.2) == pytest.approx(2 / 4)
    assert lift_at(curve, 0.2) == pytest.approx(1 / 0.4)
    assert precision_at(curve, 0.5) == pytest.approx(3 / 5)
    # The boundary row counts with the half that fits: 2 + 0 + 0.5 * 1 of 3.5 rows.
    assert precision_at(curve, 0.35) == pytest.approx(2.5 / 3.5)
    assert found_at(curve, [0.2, 1.0]).tolist() == [[2.0, 4.0]]


def test_precision_at_recall_by_hand_and_against_scikit_learn():
    label = np.array([1, 1, 0, 1, 0, 0, 0, 0, 1, 0])
    score = -np.arange(10.0)
    curve = accumulate(rank(label, score), np.ones(10))
    assert precision_at_recall(curve, 0.50) == 1.0
    assert precision_at_recall(curve, 0.75) == pytest.approx(3 / 4)
    assert precision_at_recall(curve, 0.80) == pytest.approx(4 / 9)
    precision, recall, _ = precision_recall_curve(label, score)
    first_deep_enough = np.flatnonzero(recall >= 0.80)[-1]
    assert precision_at_recall(curve, 0.80) == pytest.approx(precision[first_deep_enough])


def test_a_constant_score_is_worth_a_coin_and_the_base_rate():
    label = np.repeat([0, 1], [70, 30])
    values = all_metrics(label, np.zeros(100), np.full(100, 0.3))
    assert values["roc_auc"] == 0.5
    assert values["average_precision"] == pytest.approx(0.3)
    assert values["average_precision_over_base"] == pytest.approx(1.0)
    assert values["precision_at_recall_50"] == pytest.approx(0.3)
    assert values["ece"] == pytest.approx(0, abs=1e-12)
    assert list(values) == list(METRICS)


def test_ties_are_broken_by_the_hash_and_not_by_the_order_of_the_file():
    draw = np.random.default_rng(0)
    label = np.repeat([1, 0], [500, 500])  # sorted by the label, as an export might be
    customers = np.array([f"C{i}" for i in range(1000)], dtype=object)
    ties = tiebreak(customers, np.zeros(1000, dtype=np.int64))
    curve = accumulate(rank(label, np.zeros(1000), ties), np.ones(1000))
    assert 0.35 < precision_at(curve, 0.1)[0] < 0.65
    shuffled = draw.permutation(1000)
    again = accumulate(rank(label[shuffled], np.zeros(1000), ties[shuffled]), np.ones(1000))
    assert precision_at(again, 0.1) == precision_at(curve, 0.1)


def test_the_hash_is_the_same_on_every_machine():
    assert tiebreak(["a"], np.array([1]))[0] == np.uint64(12602675965466545175)


def test_tie_mass_is_the_share_that_shares_the_boundary_score():
    score = np.repeat([3.0, 2.0, 1.0], [5, 15, 80])
    label = np.resize([0, 1], 100)
    ranking = rank(label, score)
    assert tie_mass(ranking, np.ones(100), 0.10) == pytest.approx(0.15)
    assert tie_mass(ranking, np.ones(100), 0.05) == pytest.approx(0.05)
    assert tie_mass(rank(label, np.arange(100.0)), np.ones(100), 0.10) == 0.0


def test_one_class_gives_nan_and_not_a_number_that_looks_fine():
    curve = accumulate(rank(np.zeros(5), np.arange(5.0)), np.ones(5))
    assert np.isnan(roc_auc(curve)[0])
    assert np.isnan(average_precision(curve)[0])
