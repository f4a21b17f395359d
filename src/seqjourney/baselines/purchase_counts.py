"""How often will a customer buy again? BG/NBD and Pareto/NBD, fitted by maximum likelihood.

Both say: a customer buys at random moments, at a rate λ of their own, until they leave for good,
which nobody sees. λ is Gamma(r, alpha) over customers. They leave

- in BG/NBD after a repeat purchase, with a probability p of their own that is Beta(a, b)
  (Fader, Hardie & Lee 2005, "Counting your customers" the easy way, Marketing Science 24:275);
- in Pareto/NBD at any moment, at a rate μ of their own that is Gamma(s, beta) (Schmittlein,
  Morrison & Colombo 1987, Management Science 33:1; Fader & Hardie 2005, brucehardie.com/notes/009).

`History` is all that they look at, `fit` finds the parameters, and the methods of a fitted model
say what comes next. Every array is (n,), one entry per customer; times are in one unit of the
caller's choice, and so are `alpha` and `beta`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields, replace
from typing import ClassVar, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, boxcox, gammaln, hyp2f1

# Logarithms of parameters lie between plus and minus this, in units of the mean age. Where hardly
# anybody leaves, the likelihood rises to the edge: fewer than one in 10,000 in a mean age.
_LARGEST_LOG = 5.0
# Probabilities of a purchase are kept this far from 0, so that log-odds are finite.
_LEAST = 1e-12


@dataclass(frozen=True)
class History:
    """What these models know of customers: the first purchase counts for age, not frequency."""

    frequency: np.ndarray
    """(n,) x: purchases after the first."""
    recency: np.ndarray
    """(n,) t_x: from the first purchase to the last, 0 when there is one only."""
    age: np.ndarray
    """(n,) T: from the first purchase until now; at least `recency`."""

    def of(self, chosen: np.ndarray) -> History:
        """Keep some customers: (n,) bool."""
        return History(self.frequency[chosen], self.recency[chosen], self.age[chosen])

    def in_units_of(self, unit: float) -> History:
        """Measure time in another unit."""
        return History(self.frequency, self.recency / unit, self.age / unit)

    def without_purchase_for(self, horizon: float) -> History:
        """The same customers `horizon` later, had none of them bought in between."""
        return replace(self, age=self.age + horizon)


@dataclass(frozen=True)
class PurchaseModel(ABC):
    """A fitted model of purchases and of leaving."""

    r: float
    alpha: float

    times: ClassVar[tuple[str, ...]]
    """Parameters that are times; the others have no unit."""

    @abstractmethod
    def log_likelihood(self, history: History) -> np.ndarray:
        """(n,) log-likelihood of each history, without the terms that no parameter enters."""

    @abstractmethod
    def probability_alive(self, history: History) -> np.ndarray:
        """(n,) P(has not left yet)."""

    @abstractmethod
    def expected_purchases(self, history: History, horizon: float) -> np.ndarray:
        """(n,) E(number of purchases in (T, T + horizon])."""

    def log_probability_of_none(self, history: History, horizon: float) -> np.ndarray:
        """(n,) log P(no purchase in (T, T + horizon]), exact.

        That and the history together are the history as it would look at T + horizon, so the
        probability is a ratio of two likelihoods, whatever the model.
        """
        later = self.log_likelihood(history.without_purchase_for(horizon))
        return np.minimum(later - self.log_likelihood(history), np.log1p(-_LEAST))

    def probability_of_purchase(self, history: History, horizon: float) -> np.ndarray:
        """(n,) P(at least one purchase in (T, T + horizon])."""
        return -np.expm1(self.log_probability_of_none(history, horizon))

    @classmethod
    def fit(cls, history: History, penalty: float = 0.0) -> Self:
        """Maximise the mean log-likelihood less `penalty` times the squared log parameters.

        The logarithms are of parameters in units of the mean age, so a penalty pulls towards 1
        and means the same in days and in weeks.
        """
        unit = float(history.age.mean()) or 1.0
        scaled = history.in_units_of(unit)
        names = [field.name for field in fields(cls)]

        def loss(logs: np.ndarray) -> float:
            fit = cls(*np.exp(logs)).log_likelihood(scaled).mean()
            return float(penalty * (logs**2).sum() - fit)

        found = minimize(
            loss,
            np.zeros(len(names)),
            method="L-BFGS-B",
            bounds=[(-_LARGEST_LOG, _LARGEST_LOG)] * len(names),
            options={"ftol": 1e-10, "gtol": 1e-7},
        )
        values = dict(zip(names, np.exp(found.x).tolist(), strict=True))
        return cls(**{name: v * unit if name in cls.times else v for name, v in values.items()})

    def to_json(self) -> dict[str, float]:
        """Return the parameters by name."""
        return asdict(self)


@dataclass(frozen=True)
class BGNBD(PurchaseModel):
    """Beta-geometric/NBD: customers leave after a purchase or not at all."""

    a: float
    b: float

    times = ("alpha",)

    def log_likelihood(self, history: History) -> np.ndarray:
        """See `PurchaseModel`; equation 6 of the paper."""
        x = history.frequency
        both = gammaln(self.r + x) - gammaln(self.r) + self.r * np.log(self.alpha)
        return both - betaln(self.a, self.b) + np.logaddexp(*self._alive_and_left(history))

    def _alive_and_left(self, history: History) -> tuple[np.ndarray, np.ndarray]:
        """Log-likelihoods of not having left, and of having left with the last purchase.

        Without what they share. Who has bought once only cannot have left.
        """
        x, power = history.frequency, self.r + history.frequency
        alive = betaln(self.a, self.b + x) - power * np.log(self.alpha + history.age)
        left = betaln(self.a + 1, self.b + np.maximum(x, 1) - 1)
        left = left - power * np.log(self.alpha + history.recency)
        return alive, np.where(x > 0, left, -np.inf)

    def probability_alive(self, history: History) -> np.ndarray:
        """See `PurchaseModel`."""
        alive, left = self._alive_and_left(history)
        return np.exp(alive - np.logaddexp(alive, left))

    def expected_purchases(self, history: History, horizon: float) -> np.ndarray:
        """See `PurchaseModel`.

        Who is alive has λ ~ Gamma(r + x, alpha + T) and p ~ Beta(a, b + x), and leaves at rate λp:
        the integral over u of E(λ exp(-λpu)), by Gauss-Legendre in v = log(1 + u / (alpha + T)).
        It equals equation 10 of the paper, which divides zero by zero at a = 1 and a + b = 1.
        """
        length = np.log1p(horizon / (self.alpha + history.age))
        both = self.a + self.b
        total = np.zeros(len(length))
        for node, weight in zip(*np.polynomial.legendre.leggauss(32), strict=True):
            v = length * (node + 1) / 2
            series = hyp2f1(self.a, both - 1 - self.r, both + history.frequency, -np.expm1(-v))
            total += weight / 2 * length * np.exp((1 - self.a) * v) * series
        return self.probability_alive(history) * (self.r + history.frequency) * total


@dataclass(frozen=True)
class ParetoNBD(PurchaseModel):
    """Pareto/NBD: customers leave at any moment."""

    s: float
    beta: float

    times = ("alpha", "beta")

    def log_likelihood(self, history: History) -> np.ndarray:
        """See `PurchaseModel`.

        λ^x e^(-(λ+μ)T) + ∫ λ^x μ e^(-(λ+μ)y) dy over (t_x, T) is the same as
        ∫ λ^x μ e^(-(λ+μ)y) dy over (t_x, ∞) + ∫ λ^(x+1) e^(-(λ+μ)y) dy over (T, ∞): a sum of
        two positive integrals, where the published form takes a difference of large numbers.
        """
        x = history.frequency
        left_some_day = np.log(self.s) + _log_tail_integral(
            self.r + x, self.s + 1, self.alpha + history.recency, self.beta + history.recency
        )
        buys_some_day = np.log(self.r + x) + _log_tail_integral(
            self.r + x + 1, self.s, self.alpha + history.age, self.beta + history.age
        )
        return self._shared(x) + np.logaddexp(left_some_day, buys_some_day)

    def _shared(self, x: np.ndarray) -> np.ndarray:
        gammas = gammaln(self.r + x) - gammaln(self.r)
        return gammas + self.r * np.log(self.alpha) + self.s * np.log(self.beta)

    def probability_alive(self, history: History) -> np.ndarray:
        """See `PurchaseModel`."""
        alive = self._shared(history.frequency) - (
            (self.r + history.frequency) * np.log(self.alpha + history.age)
            + self.s * np.log(self.beta + history.age)
        )
        return np.exp(np.minimum(alive - self.log_likelihood(history), 0.0))

    def expected_purchases(self, history: History, horizon: float) -> np.ndarray:
        """See `PurchaseModel`; equation 22 of 1987.

        Who is alive has λ ~ Gamma(r + x, alpha + T) and μ ~ Gamma(s, beta + T).
        """
        rate = (self.r + history.frequency) / (self.alpha + history.age)
        end = self.beta + history.age
        # (1 - q^(s-1)) / (s - 1), which is -log q at s = 1.
        stays = -boxcox(end / (end + horizon), self.s - 1) * end
        return self.probability_alive(history) * rate * stays


def _log_tail_integral(
    p: np.ndarray, q: np.ndarray | float, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """(n,) log of the integral of (a + u)^-p (b + u)^-q over u from 0 to infinity; p + q > 1.

    A Gauss hypergeometric function, written so that its series has positive terms and its argument
    z lies in [0, 1).
    """
    p, q, a, b = np.broadcast_arrays(p, q, a, b)
    p, q = np.where(a >= b, p, q), np.where(a >= b, q, p)
    a, b = np.maximum(a, b), np.minimum(a, b)
    outside = -p * np.log(a) + (1 - q) * np.log(b) - np.log(p + q - 1)
    return outside + _log_series(p, q, (a - b) / a)


# Exp-sinh quadrature over (0, infinity): nodes w, and the logarithms of their weights.
_TAU = np.linspace(-4, 4, 257)
_W = np.exp(np.pi / 2 * np.sinh(_TAU))
_LOG_DW = np.pi / 2 * np.sinh(_TAU) + np.log(np.pi / 2 * np.cosh(_TAU) * (_TAU[1] - _TAU[0]))


def _log_series(p: np.ndarray, q: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(n,) log 2F1(1, p; p + q; z) for z in [0, 1).

    scipy gives none for p in the hundreds and z near 1; there Euler's integral over
    exp(-(p+q-1) w) (1 - z + z exp(-w))^-p is right to seven digits.
    """
    with np.errstate(all="ignore"):
        found = np.log(hyp2f1(1.0, p, p + q, z))
    lost = ~np.isfinite(found)
    if lost.any():
        p, q, z = p[lost, None], q[lost, None], z[lost, None]
        inside = -(p + q - 1) * _W - p * np.log1p(z * np.expm1(-_W)) + _LOG_DW  # (lost, 257)
        found[lost] = np.logaddexp.reduce(inside, axis=1) + np.log(p + q - 1)[:, 0]
    return found
