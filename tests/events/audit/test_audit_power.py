"""The smallest detectable effect: against a simulated test, and against published figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from seqjourney.events.audit.power import ALPHA, POWER, plan, power_of, smallest_change


@pytest.mark.parametrize(
    ("customers", "share", "base", "points", "relative"),
    [
        # The figures by which the requirement of 10,000 monthly customers was judged.
        (10_000, 0.10, 0.05, 0.020, 0.41),
        (10_000, 0.10, 0.02, 0.013, 0.65),
        (10_000, 0.50, 0.05, 0.012, 0.24),
        (10_000, 0.50, 0.02, 0.0078, 0.39),
        (200_000, 0.05, 0.05, 0.0062, 0.125),
        (200_000, 0.05, 0.02, 0.0040, 0.20),
    ],
)
def test_rise_and_fall_enclose_the_published_figures(customers, share, base, points, relative):
    held_out = round(share * customers)
    rise, fall = (
        smallest_change(base, held_out, customers - held_out, direction) for direction in (1, -1)
    )
    # The published figures take the variance of the base rate for both groups; in truth a fall is
    # seen sooner than a rise, and the mean of the two is the published figure.
    assert -fall < points * 1.02 and rise > points * 0.98
    assert (rise - fall) / 2 == pytest.approx(points, rel=0.03)
    assert (rise - fall) / 2 / base == pytest.approx(relative, rel=0.03)


@pytest.mark.parametrize(
    ("base", "held_out", "contacted", "direction"),
    [(0.05, 1000, 9000, 1), (0.05, 1000, 9000, -1), (0.3, 300, 300, 1), (0.5, 150, 2000, -1)],
)
def test_a_simulated_test_finds_the_change_as_often_as_promised(
    base, held_out, contacted, direction
):
    change = smallest_change(base, held_out, contacted, direction)
    found = _share_found(base, base + change, held_out, contacted)
    assert found == pytest.approx(POWER, abs=0.02)
    by_mistake = _share_found(base, base, held_out, contacted)
    assert by_mistake == pytest.approx(ALPHA, abs=0.012)


def _share_found(first: float, second: float, n: int, m: int, tests: int = 20_000) -> float:
    random = np.random.default_rng(1)
    a, b = random.binomial(n, first, tests) / n, random.binomial(m, second, tests) / m
    pooled = (n * a + m * b) / (n + m)
    z = (a - b) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return float((np.abs(z) > norm.ppf(1 - ALPHA / 2)).mean())


@given(
    st.floats(0.01, 0.99), st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from([1, -1])
)
def test_the_change_has_exactly_the_power_and_stays_a_rate(base, held_out, contacted, direction):
    change = smallest_change(base, held_out, contacted, direction)
    if change is None:
        extreme = 1 - base if direction > 0 else -base
        assert power_of(base, extreme, held_out, contacted) < POWER
    else:
        assert change * direction > 0
        assert -1e-9 <= base + change <= 1 + 1e-9
        assert power_of(base, change, held_out, contacted) == pytest.approx(POWER, abs=1e-4)


@given(st.floats(0.05, 0.95), st.integers(200, 5_000), st.integers(2, 5))
def test_more_customers_detect_smaller_effects(base, customers, times):
    small = smallest_change(base, customers, customers)
    large = smallest_change(base, times * customers, times * customers)
    assert large is not None
    assert small is None or large < small


def test_an_effect_that_no_rate_can_show_is_none():
    assert smallest_change(0.05, 20, 180, -1) is None
    assert smallest_change(0.5, 0, 100) is None
    assert plan("churn", 0.02, 30, [0.1], -1)[0].relative is None


def test_a_plan_divides_the_customers():
    ten, half = plan("buys", 0.05, 10_001, [0.1, 0.5], 1)
    assert (ten.held_out, ten.contacted) == (1000, 9001)
    assert half.held_out + half.contacted == 10_001
    assert half.change < ten.change
    assert half.relative == half.change / 0.05
