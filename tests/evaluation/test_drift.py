"""Drift of scores: found where it is there and matters, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from seqjourney.evaluation.drift import P_VALUE, Reference


def scores(seed: int, n: int = 2000, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, size=n)


def test_equal_populations_are_told_apart_as_seldom_as_the_test_says():
    reference = Reference.of(scores(0, 4000), 1.0)
    found = [reference.compare(scores(seed)).p_value < P_VALUE for seed in range(1, 401)]
    # The bins come from one sample of calibration, so the level is about, not exactly, nominal.
    assert binomtest(sum(found), 400, 3 * P_VALUE, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize(
    ("n", "shift", "found"),
    [(2000, 0.0, False), (2000, 0.7, True), (200_000, 0.05, False), (40, 0.2, False)],
)
def test_a_drift_is_no_chance_and_not_small(n: int, shift: float, found: bool):
    assert Reference.of(scores(0), 1.0).compare(scores(1, n, shift)).found is found


def test_a_small_difference_of_very_many_is_no_chance_but_no_drift():
    drift = Reference.of(scores(0, 200_000), 1.0).compare(scores(1, 200_000, 0.05))
    assert drift.p_value < 1e-6
    assert drift.psi < 0.01
    assert not drift.found


def test_the_share_above_the_threshold_is_one_of_the_things_compared():
    reference = Reference.of(scores(0), 2.0)
    assert 2.0 in reference.edges
    assert reference.counts[-1] == (scores(0) >= 2.0).sum()
    assert sum(reference.counts) == 2000


def test_a_constant_score_and_no_score_at_all_compare_without_complaint():
    reference = Reference.of(np.zeros(100), 0.0)
    assert not reference.compare(np.zeros(50)).found
    assert not reference.compare(np.array([])).found
    assert reference.compare(np.ones(500)).p_value == 1.0  # all at or above the only edge
    assert reference.compare(np.full(500, -1.0)).found
