"""BG/NBD and Pareto/NBD against published numbers, slow integration and simulated customers."""

import os
from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import hyp2f1
from simulated_buyers import simulate

from seqjourney.baselines.purchase_counts import BGNBD, History, ParetoNBD, _log_series

# Weeks; the published estimates on CDNOW's 1/10 sample.
BGNBD_CDNOW = BGNBD(0.243, 4.414, 0.793, 2.426)
PARETO_CDNOW = ParetoNBD(0.553, 10.578, 0.606, 11.669)
SMOOTH = [BGNBD(1.8, 9.0, 2.1, 3.2), ParetoNBD(1.8, 9.0, 2.1, 30.0), ParetoNBD(1.8, 30.0, 2.1, 9.0)]
CDNOW = [BGNBD_CDNOW, PARETO_CDNOW]
SOME = History(
    frequency=np.array([0.0, 0, 1, 2, 5, 26, 7]),
    recency=np.array([0.0, 0, 3.2, 30.43, 11, 30.86, 38]),
    age=np.array([1.0, 38, 30, 38.86, 38, 31, 38]),
)


def names(model):
    return f"{type(model).__name__}-{model.r:g}-{model.alpha:g}"


class Latent:
    """What is known of one customer with given λ and p (or μ), on a grid of quantiles of both."""

    def __init__(self, model, history, i):
        x, recency, age = (float(v[i]) for v in (history.frequency, history.recency, history.age))
        u, weight = np.polynomial.legendre.leggauss(300)
        u, weight = (u + 1) / 2, weight / 2
        # Nodes crowd at both ends, where quantiles run away.
        grid, weight = u**3 * (10 - 15 * u + 6 * u**2), weight * 30 * (u * (1 - u)) ** 2
        grid = np.minimum(grid, 1 - 1e-12)
        self.weight = weight[:, None] * weight
        self.rate = stats.gamma(model.r, scale=1 / model.alpha).ppf(grid)[:, None]
        if isinstance(model, BGNBD):
            self.leaving = stats.beta(model.a, model.b).ppf(grid)[None]
            self.alive = (1 - self.leaving) ** x * self.rate**x * np.exp(-self.rate * age)
            left = self.leaving * (1 - self.leaving) ** max(x - 1, 0) * self.rate**x
            self.all = self.alive + (x > 0) * left * np.exp(-self.rate * recency)
        else:
            self.leaving = stats.gamma(model.s, scale=1 / model.beta).ppf(grid)[None]
            both = self.rate + self.leaving
            self.alive = self.rate**x * np.exp(-both * age)
            left = np.exp(-both * recency) - np.exp(-both * age)
            self.all = self.alive + self.rate**x * self.leaving / both * left

    def mean(self, values):
        return (self.weight * values).sum()

    def none(self, model, horizon):
        """P(no purchase within the horizon), of those who are there."""
        if isinstance(model, BGNBD):
            return np.exp(-self.rate * horizon)
        both = self.rate + self.leaving
        stays = np.exp(-both * horizon)
        return stays + self.leaving / both * (1 - stays)

    def purchases(self, model, horizon):
        """E(purchases within the horizon), of those who are there."""
        hazard = self.leaving * (self.rate if isinstance(model, BGNBD) else 1)
        return self.rate * -np.expm1(-hazard * horizon) / hazard


@pytest.mark.parametrize("model", [*SMOOTH, *CDNOW], ids=names)
def test_everything_agrees_with_slow_integration_over_what_is_hidden(model):
    horizon = 13.0
    likelihood = model.log_likelihood(SOME)
    alive = model.probability_alive(SOME)
    some = model.probability_of_purchase(SOME, horizon)
    purchases = model.expected_purchases(SOME, horizon)
    for i in range(len(SOME.age)):
        latent = Latent(model, SOME, i)
        total, there = latent.mean(latent.all), latent.mean(latent.alive)
        assert likelihood[i] == pytest.approx(np.log(total), abs=1e-4)
        assert alive[i] == pytest.approx(there / total, abs=1e-4)
        bought = latent.mean(latent.alive * (1 - latent.none(model, horizon))) / total
        assert some[i] == pytest.approx(bought, abs=1e-4)
        expected = latent.mean(latent.alive * latent.purchases(model, horizon)) / total
        assert purchases[i] == pytest.approx(expected, rel=1e-3)


def test_published_examples_on_cdnow():
    """Fader, Hardie & Lee 2005 (a customer, 39 weeks ahead); the vignette of R's BTYD."""
    one = History(np.array([2.0]), np.array([30.43]), np.array([38.86]))
    assert BGNBD_CDNOW.expected_purchases(one, 39)[0] == pytest.approx(1.226, abs=5e-4)
    one = History(np.array([26.0]), np.array([30.86]), np.array([31.0]))
    assert PARETO_CDNOW.expected_purchases(one, 52)[0] == pytest.approx(25.46, abs=5e-3)
    assert PARETO_CDNOW.probability_alive(one)[0] == pytest.approx(0.9979, abs=5e-5)


def test_published_estimates_on_cdnow():
    """The 2,357 customers of cdnow_customers_summary.csv, where SEQJOURNEY_DATA/cdnow has it."""
    file = Path(os.environ.get("SEQJOURNEY_DATA", "/nowhere")) / "cdnow/cdnow_customers_summary.csv"
    if not file.exists():
        pytest.skip("no cdnow under SEQJOURNEY_DATA")
    table = pd.read_csv(file)
    history = History(*(table[name].to_numpy(float) for name in ("frequency", "recency", "T")))
    for published, likelihood in ((BGNBD_CDNOW, -9582.4), (PARETO_CDNOW, -9595.0)):
        found = type(published).fit(history)
        assert found.to_json() == pytest.approx(published.to_json(), abs=1e-3)
        assert found.log_likelihood(history).sum() == pytest.approx(likelihood, abs=0.05)


@pytest.mark.parametrize(
    ("model", "tolerances"),
    [
        (BGNBD(0.8, 6.0, 0.9, 2.5), {"r": 0.1, "alpha": 0.15, "a": 0.25, "b": 0.3}),
        (ParetoNBD(0.8, 6.0, 0.9, 14.0), {"r": 0.1, "alpha": 0.15, "s": 0.25, "beta": 0.35}),
    ],
    ids=["BGNBD", "ParetoNBD"],
)
def test_known_parameters_are_recovered_from_6000_customers(model, tolerances):
    """Within 10 % to 35 %, about three standard errors; and the fit is better than the truth."""
    age = np.random.default_rng(1).uniform(20, 80, 6000)
    history, _, _ = simulate(model, age, horizon=0.0)
    found = type(model).fit(history)
    for name, tolerance in tolerances.items():
        assert found.to_json()[name] == pytest.approx(model.to_json()[name], rel=tolerance), name
    assert found.log_likelihood(history).sum() >= model.log_likelihood(history).sum()


@pytest.mark.parametrize("model", [BGNBD(0.8, 6.0, 0.9, 2.5), ParetoNBD(0.8, 6.0, 0.9, 14.0)])
def test_what_comes_next_is_what_simulated_customers_do(model):
    """By frequency and by recency, within four standard errors."""
    horizon = 10.0
    age = np.random.default_rng(1).uniform(5, 40, 60_000)
    history, later, _ = simulate(model, age, horizon)
    expected = model.expected_purchases(history, horizon)
    some = model.probability_of_purchase(history, horizon)
    quiet = history.age - history.recency
    for frequencies in ((0, 0), (1, 1), (2, 4), (5, 999)):
        for shortest, longest in ((0, 4), (4, 12), (12, 40)):
            here = (history.frequency >= frequencies[0]) & (history.frequency <= frequencies[1])
            here &= (quiet >= shortest) & (quiet < longest)
            if here.sum() < 100:
                continue
            for foreseen, happened in ((expected, later), (some, later > 0)):
                error = happened[here].std() / np.sqrt(here.sum()) + 1e-3
                assert foreseen[here].mean() == pytest.approx(happened[here].mean(), abs=4 * error)


LOGS = st.floats(-3, 3)
MODELS = st.sampled_from([BGNBD, ParetoNBD])


@given(MODELS, st.tuples(LOGS, LOGS, LOGS, LOGS), st.integers(0, 500), st.floats(0, 1))
def test_probabilities_lie_in_0_to_1_and_grow_with_the_horizon(kind, logs, frequency, share):
    model = kind(*np.exp(logs))
    age = 5.0
    recency = age * share if frequency else 0.0
    one = History(np.array([float(frequency)]), np.array([recency]), np.array([age]))
    horizons = [1e-6, 0.1, 1, 3, 10, 100, 1e4]
    some = np.array([model.probability_of_purchase(one, h)[0] for h in horizons])
    purchases = np.array([model.expected_purchases(one, h)[0] for h in horizons])
    alive = model.probability_alive(one)[0]
    assert ((some >= 0) & (some <= 1)).all() and 0 <= alive <= 1
    assert (np.diff(some) >= -1e-6).all() and (np.diff(purchases) >= -1e-6 * purchases[1:]).all()
    assert (some <= alive + 1e-6).all()  # who has left buys no more
    assert (purchases >= some * (1 - 1e-6) - 1e-6).all()  # at least one, or none
    # A purchase in an instant: alive, at the expected rate.
    rate = alive * (model.r + frequency) / (model.alpha + age)
    assert purchases[0] == pytest.approx(rate * 1e-6, rel=1e-3)


def test_who_is_alive_buys_some_day_if_only_a_purchase_makes_one_leave():
    model = BGNBD(1.8, 9.0, 2.1, 3.2)
    forever = model.probability_of_purchase(SOME, 1e12)
    np.testing.assert_allclose(forever, model.probability_alive(SOME), rtol=1e-6)


def test_expected_purchases_equal_the_papers_form_and_pass_its_singularities():
    def paper(model, history, t):
        r, alpha, a, b = model.r, model.alpha, model.a, model.b
        x, age = history.frequency, history.age
        series = hyp2f1(r + x, b + x, a + b + x - 1, t / (alpha + age + t))
        shrinks = ((alpha + age) / (alpha + age + t)) ** (r + x)
        odds = (
            a / (b + np.maximum(x, 1) - 1) * ((alpha + age) / (alpha + history.recency)) ** (r + x)
        )
        return (a + b + x - 1) / (a - 1) * (1 - shrinks * series) / (1 + (x > 0) * odds)

    for model in (BGNBD_CDNOW, BGNBD(1.8, 9.0, 2.1, 3.2)):
        np.testing.assert_allclose(
            model.expected_purchases(SOME, 39), paper(model, SOME, 39), rtol=1e-9
        )
    for model, name in ((BGNBD(1, 5, 1, 2), "a"), (BGNBD(1, 5, 0.4, 0.6), "a"),
                        (ParetoNBD(1, 5, 1, 9), "s")):  # fmt: skip
        beside = replace(model, **{name: getattr(model, name) * (1 + 1e-7)})
        np.testing.assert_allclose(
            model.expected_purchases(SOME, 39), beside.expected_purchases(SOME, 39), rtol=1e-5
        )


@pytest.mark.parametrize("kind", [BGNBD, ParetoNBD])
def test_the_unit_of_time_changes_nothing(kind):
    age = np.random.default_rng(1).uniform(20, 80, 800)
    weeks, _, _ = simulate(kind(0.8, 6.0, 0.9, 2.5), age, horizon=0.0)
    for penalty in (0.0, 0.01):
        in_weeks = kind.fit(weeks, penalty)
        in_days = kind.fit(weeks.in_units_of(1 / 7), penalty)
        assert in_days.alpha == pytest.approx(7 * in_weeks.alpha, rel=1e-2)
        np.testing.assert_allclose(
            in_days.probability_of_purchase(weeks.in_units_of(1 / 7), 70),
            in_weeks.probability_of_purchase(weeks, 10),
            rtol=1e-3,
        )


def test_a_penalty_pulls_towards_the_mean_age():
    history, _, _ = simulate(BGNBD(0.8, 6.0, 0.9, 2.5), np.full(2000, 40.0), horizon=0.0)
    free, held = BGNBD.fit(history), BGNBD.fit(history, penalty=10.0)
    assert abs(np.log(held.alpha / 40)) < 0.2 * abs(np.log(free.alpha / 40))
    assert abs(np.log(held.r)) < 0.1


def test_the_series_is_right_where_scipy_gives_none():
    p = np.array([400.0, 1504.4, 409.9, 0.3, 26.4, 5.0])
    q = np.array([2.9, 5.5, 1.07, 0.5, 0.13, 1.0])
    z = np.array([0.99949, 0.99778, 0.99992, 0.999, 0.9, 0.0])
    with np.errstate(all="ignore"):
        assert np.isnan(hyp2f1(1, p, p + q, z))[:3].all()
    exact = [float(mpmath.log(mpmath.hyp2f1(1, *row))) for row in zip(p, p + q, z, strict=True)]
    np.testing.assert_allclose(_log_series(p, q, z), exact, rtol=1e-7)


def test_log_odds_stay_finite_for_who_left_long_ago():
    """The likelihood of a loyal customer who fell silent underflows outside logarithms."""
    silent = History(np.array([1200.0]), np.array([1000.0]), np.array([1e6]))
    for model in CDNOW:
        assert 0 < model.probability_of_purchase(silent, 10)[0] < 1e-6
        assert np.isfinite(model.log_likelihood(silent)).all()
