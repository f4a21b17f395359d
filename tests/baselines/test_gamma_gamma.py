"""The gamma-gamma model against published numbers, slow integration and simulated spending."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from seqjourney.baselines.gamma_gamma import GammaGamma

# The published estimates on the 946 repeat customers of CDNOW's 1/10 sample, in dollars.
CDNOW = GammaGamma(6.25, 3.74, 15.44)


def spending(model: GammaGamma, customers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the number of purchases, their mean value and each customer's true mean."""
    random = np.random.default_rng(0)
    rate = random.gamma(model.q, 1 / model.gamma, customers)
    count = random.integers(1, 12, customers).astype(float)
    return count, random.gamma(model.p * count) / (count * rate), model.p / rate


@pytest.mark.parametrize(("count", "mean"), [(1, 20.0), (3, 35.0), (12, 8.0)])
def test_likelihood_and_expected_value_agree_with_slow_integration(count, mean):
    prior = stats.gamma(CDNOW.q, scale=1 / CDNOW.gamma)

    def likelihood(rate):
        # The mean of n Gamma(p, ν) draws is Gamma(pn, νn).
        of_mean = stats.gamma(CDNOW.p * count, scale=1 / (rate * count))
        return of_mean.pdf(mean) * prior.pdf(rate)

    total = integrate.quad(likelihood, 0, 10, epsabs=1e-14)[0]
    weighted = integrate.quad(lambda rate: likelihood(rate) * CDNOW.p / rate, 0, 10, epsabs=1e-14)
    n, m = np.array([float(count)]), np.array([mean])
    assert CDNOW.log_likelihood(n, m)[0] == pytest.approx(np.log(total), abs=1e-6)
    assert CDNOW.expected_value(n, m)[0] == pytest.approx(weighted[0] / total, rel=1e-6)


def test_published_example_on_cdnow():
    """Everybody's mean is 6.25 x 15.44 / 2.74 = 35.2 dollars, whoever has not bought yet."""
    nobody = CDNOW.expected_value(np.zeros(1), np.full(1, np.nan))
    assert nobody[0] == pytest.approx(35.22, abs=0.01)


def test_published_estimates_on_cdnow():
    """cdnow_customers_summary_with_transactions.csv, where SEQJOURNEY_DATA/cdnow has it."""
    name = "cdnow/cdnow_customers_summary_with_transactions.csv"
    file = Path(os.environ.get("SEQJOURNEY_DATA", "/nowhere")) / name
    if not file.exists():
        pytest.skip("no cdnow under SEQJOURNEY_DATA")
    table = pd.read_csv(file).query("x > 0 and zbar > 0")
    assert len(table) == 946
    found = GammaGamma.fit(table["x"].to_numpy(float), table["zbar"].to_numpy(float))
    assert (found.p, found.q, found.gamma) == pytest.approx((6.25, 3.74, 15.44), abs=0.01)


def test_known_parameters_are_recovered_from_6000_customers():
    """About three standard errors. p and gamma make up for each other; what they say does not."""
    count, mean, _ = spending(CDNOW, 6000)
    found = GammaGamma.fit(count, mean)
    assert found.p == pytest.approx(CDNOW.p, rel=0.4)
    assert found.gamma == pytest.approx(CDNOW.gamma, rel=0.4)
    assert found.q == pytest.approx(CDNOW.q, rel=0.1)
    everybody = [model.expected_value(np.zeros(1), np.zeros(1))[0] for model in (found, CDNOW)]
    assert everybody[0] == pytest.approx(everybody[1], rel=0.03)
    assert found.log_likelihood(count, mean).sum() >= CDNOW.log_likelihood(count, mean).sum()


def test_the_expected_value_is_right_on_average_at_every_level():
    count, mean, truth = spending(CDNOW, 40_000)
    expected = CDNOW.expected_value(count, mean)
    for quarter in np.array_split(np.argsort(expected), 4):
        error = truth[quarter].std() / 100
        assert expected[quarter].mean() == pytest.approx(truth[quarter].mean(), abs=4 * error)


def test_more_purchases_weigh_a_customers_own_mean_more():
    count = np.array([0.0, 1, 3, 10, 1000])
    expected = CDNOW.expected_value(count, np.full(5, 100.0))
    assert (np.diff(expected) > 0).all()
    assert expected[-1] == pytest.approx(100, rel=1e-2)


def test_the_currency_changes_nothing():
    count, mean, _ = spending(CDNOW, 2000)
    euros, cents = GammaGamma.fit(count, mean), GammaGamma.fit(count, mean * 100)
    assert cents.gamma == pytest.approx(100 * euros.gamma, rel=1e-3)
    assert (cents.p, cents.q) == pytest.approx((euros.p, euros.q), rel=1e-3)
