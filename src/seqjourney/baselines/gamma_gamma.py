"""What will a customer spend per purchase? The gamma-gamma model, fitted by maximum likelihood.

Fader & Hardie 2013, "The gamma-gamma model of monetary value" (brucehardie.com/notes/025): a
customer's purchases have values Gamma(p, ν) around a mean of their own, and ν is Gamma(q, gamma)
over customers. A customer's mean says more the more purchases it is of; `expected_value` weighs it
against everybody's. Spend must not depend on how often a customer buys; `purchase_counts.py` says
how often that will be. Every array is (n,), one entry per customer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln

_LARGEST_LOG = 9.0


@dataclass(frozen=True)
class GammaGamma:
    """A fitted model of the value of purchases."""

    p: float
    q: float
    """Above 1: the mean over customers is finite."""
    gamma: float
    """In money."""

    def log_likelihood(self, count: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(n,) log-likelihood of the mean value, above 0, of `count` purchases, at least 1."""
        q, px = self.q, self.p * count
        gammas = gammaln(px + q) - gammaln(px) - gammaln(q)
        powers = q * np.log(self.gamma) + (px - 1) * np.log(mean) + px * np.log(count)
        return gammas + powers - (px + q) * np.log(self.gamma + count * mean)

    def expected_value(self, count: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(n,) expected value of a purchase; `count` may be 0, and `mean` is then not looked at."""
        total = np.where(count > 0, count * mean, 0.0)
        return self.p * (self.gamma + total) / (self.p * count + self.q - 1)

    @classmethod
    def fit(cls, count: np.ndarray, mean: np.ndarray) -> GammaGamma:
        """Maximise the likelihood of customers with a purchase of positive mean value."""
        unit = float(mean.mean())

        def model(logs: np.ndarray, unit: float = 1.0) -> GammaGamma:
            p, above_one, gamma = np.exp(logs).tolist()
            return cls(p, 1 + above_one, gamma * unit)

        found = minimize(
            lambda logs: -float(model(logs).log_likelihood(count, mean / unit).mean()),
            np.zeros(3),
            method="L-BFGS-B",
            bounds=[(-_LARGEST_LOG, _LARGEST_LOG)] * 3,
            options={"ftol": 1e-10, "gtol": 1e-7},
        )
        return model(found.x, unit)
