"""From score to probability: three curves that never fall, fitted on the validation split.

| Kind | P(y = 1 given the score) | Numbers |
|---|---|---|
| `platt` | sigmoid(slope * score + intercept): a temperature and an intercept (Platt, 1999) | 2 |
| `beta` | sigmoid(a ln p - b ln(1 - p) + c) of Platt's p; a, b >= 0 (Kull et al., 2017) | 3 more |
| `isotonic` | non-decreasing, otherwise free (Zadrozny & Elkan, 2002), shrunk | as the data ask |

`calibrator_choice.py` chooses among them. No curve falls, so the order of customers stays that of
the score; isotonic probabilities have ties, and ranking is by score, never by probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seqjourney.errors import DataError
from seqjourney.evaluation.logistic import fit_logistic, sigmoid

# Per unit of weight; keeps the slope finite when a score separates the classes perfectly and
# moves it by less than a thousandth otherwise.
RIDGE = 1e-5
# What each step of the isotonic curve is mixed with, in snapshots of the base rate: the m-estimate
# (Cestnik, 1990), with the two of Laplace's rule of succession.
PRIOR_SNAPSHOTS = 2.0


@dataclass(frozen=True)
class PlattCalibrator:
    """A fitted calibrator. `note` says when the score could not be used and why, else is empty."""

    kind: ClassVar[str] = "platt"
    slope: float
    intercept: float
    note: str = ""

    @classmethod
    def fit(
        cls, score: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
    ) -> PlattCalibrator:
        """Fit on validation snapshots: score, label, weight (n,).

        A score whose slope is not positive carries no usable order: on validation, higher scores
        went with fewer positives. Flipping it would be fitting noise and clamping it would claim
        a fit, so everyone gets the base rate and `note` says so.
        """
        score, label, weight = _checked(score, label, weight)
        base = float(np.average(label, weights=weight))
        flat = float(np.log(base) - np.log1p(-base))
        centre = float(np.average(score, weights=weight))
        spread = float(np.sqrt(np.average((score - centre) ** 2, weights=weight)))
        if np.ptp(score) == 0:
            return cls(0.0, flat, "all validation scores are equal; everyone gets the base rate")
        line = fit_logistic((score - centre) / spread, label, weight[None], RIDGE)[0]
        if not np.isfinite(line).all() or line[1] <= 0:
            return cls(
                0.0,
                flat,
                "on validation higher scores did not go with more positives; "
                "everyone gets the base rate",
            )
        slope = float(line[1] / spread)
        return cls(slope, float(line[0] - slope * centre))

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Probabilities of the scores, any shape."""
        return sigmoid(self.slope * np.asarray(score, np.float64) + self.intercept)

    @property
    def formula(self) -> str:
        """How to compute the probability without us."""
        return (
            f"`sigmoid(slope * log-odds + intercept)` with slope {self.slope:.6g} and intercept "
            f"{self.intercept:.6g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "kind": self.kind,
            "slope": self.slope,
            "intercept": self.intercept,
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PlattCalibrator:
        """Inverse of `to_dict`; also of those that had no `kind` yet."""
        return cls(float(values["slope"]), float(values["intercept"]), str(values.get("note", "")))


@dataclass(frozen=True)
class BetaCalibrator:
    """Bends Platt's curve differently at its two ends; a = b = 1, c = 0 leaves it as it is.

    The beta family starts from probabilities, and a score may be anything: Platt's curve makes it
    one, so neither the scale of a score nor its kind matters.
    """

    kind: ClassVar[str] = "beta"
    platt: PlattCalibrator
    a: float
    b: float
    c: float

    @classmethod
    def fit(
        cls, score: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
    ) -> BetaCalibrator:
        """Fit on validation snapshots: score, label, weight (n,)."""
        from scipy.optimize import minimize

        score, label, weight = _checked(score, label, weight)
        platt = PlattCalibrator.fit(score, label, weight)
        terms = _log_terms(platt.slope * score + platt.intercept)  # (3, n)
        weight = weight / weight.sum()
        none = np.array([1.0, 1.0, 0.0])

        def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
            eta = beta @ terms
            nll = np.logaddexp(0, eta) - label * eta
            gradient = terms @ (weight * (sigmoid(eta) - label))
            away = beta - none
            return float(weight @ nll + RIDGE / 2 * away @ away), gradient + RIDGE * away

        found = minimize(
            loss,
            none,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None), (0, None), (None, None)],
            options={"ftol": 1e-13, "gtol": 1e-9, "maxiter": 500},
        )
        return cls(platt, *(float(number) for number in found.x))

    @property
    def note(self) -> str:
        """What Platt's curve had to say of the score."""
        return self.platt.note

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Probabilities of the scores, any shape."""
        z = self.platt.slope * np.asarray(score, np.float64) + self.platt.intercept
        return sigmoid(np.einsum("k...,k->...", _log_terms(z), [self.a, self.b, self.c]))

    @property
    def formula(self) -> str:
        """How to compute the probability without us."""
        return (
            f"`sigmoid(a * log(p) - b * log(1 - p) + c)` with a {self.a:.6g}, b {self.b:.6g}, "
            f"c {self.c:.6g} and p = {self.platt.formula}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        own = {"kind": self.kind, "a": self.a, "b": self.b, "c": self.c}
        return {**self.platt.to_dict(), **own}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BetaCalibrator:
        """Inverse of `to_dict`."""
        platt = PlattCalibrator.from_dict(values)
        return cls(platt, float(values["a"]), float(values["b"]), float(values["c"]))


@dataclass(frozen=True)
class IsotonicCalibrator:
    """A non-decreasing curve through `scores` and `probabilities`, straight in between.

    A step of k positives among n says (k + m b) / (n + m), b the base rate and m
    `PRIOR_SNAPSHOTS`, not k / n: the steps at the ends are few customers who happened to be all
    alike, which is no reason to be sure of anybody.
    """

    kind: ClassVar[str] = "isotonic"
    note: ClassVar[str] = ""
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def fit(
        cls, score: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None
    ) -> IsotonicCalibrator:
        """Fit on validation snapshots: score, label, weight (n,); a weight counts as copies."""
        from sklearn.isotonic import isotonic_regression

        score, label, weight = _checked(score, label, weight)
        used = weight > 0
        x, place = np.unique(score[used], return_inverse=True)
        n = np.bincount(place, weight[used])
        k = np.bincount(place, weight[used] * label[used])
        fitted = isotonic_regression(k / n, sample_weight=n)
        first = np.flatnonzero(np.diff(fitted, prepend=-1.0))  # (B,) of each step
        n, k = np.add.reduceat(n, first), np.add.reduceat(k, first)
        base = k.sum() / n.sum()
        shrunk = (k + PRIOR_SNAPSHOTS * base) / (n + PRIOR_SNAPSHOTS)
        # A small step moves further than its larger neighbour and may pass it.
        steps = isotonic_regression(shrunk, sample_weight=n + PRIOR_SNAPSHOTS)
        first = first[(kept := np.flatnonzero(np.diff(steps, prepend=-1.0)))]
        last = np.append(first[1:], len(x)) - 1
        ends = np.stack([x[first], x[last]], axis=1).ravel()
        levels = np.repeat(steps[kept], 2)
        own = np.append(True, np.diff(ends) > 0)  # a step of one score has one end
        return cls(tuple(ends[own].tolist()), tuple(levels[own].tolist()))

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Probabilities of the scores, any shape; beyond the ends those of the ends."""
        return np.interp(np.asarray(score, np.float64), self.scores, self.probabilities)

    @property
    def formula(self) -> str:
        """How to compute the probability without us."""
        return (
            f"read off the curve through the {len(self.scores)} points `scores` (log-odds) and "
            "`probabilities` of the calibrator in `seqjourney.json`: straight lines between them, "
            "level beyond its ends"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "kind": self.kind,
            "scores": list(self.scores),
            "probabilities": list(self.probabilities),
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IsotonicCalibrator:
        """Inverse of `to_dict`."""
        return cls(
            tuple(float(x) for x in values["scores"]),
            tuple(float(p) for p in values["probabilities"]),
        )


Calibrator = PlattCalibrator | BetaCalibrator | IsotonicCalibrator
# Simplest first.
CALIBRATORS: dict[str, type[Calibrator]] = {
    kind.kind: kind for kind in (PlattCalibrator, BetaCalibrator, IsotonicCalibrator)
}


def read_calibrator(values: dict[str, Any], where: str | Path) -> Calibrator:
    """Return the calibrator of a run.json or an exported file, `where` in messages.

    Raises:
        DataError: of a kind that this version does not know.
        KeyError: incomplete.
    """
    kind = values.get("kind", PlattCalibrator.kind)
    if kind not in CALIBRATORS:
        raise DataError(
            f"{where}: its calibrator is of kind {kind!r}; this version knows "
            f"{', '.join(CALIBRATORS)}. Use the version that wrote it, or train again."
        )
    return CALIBRATORS[kind].from_dict(values)


def _log_terms(z: np.ndarray) -> np.ndarray:
    """(ln p, -ln(1 - p), 1) of p = sigmoid(z), any shape -> (3, ...)."""
    return np.stack([-np.logaddexp(0, -z), np.logaddexp(0, z), np.ones_like(z)])


def _checked(
    score: np.ndarray, label: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the three as float64, or refuse what no curve can be fitted on."""
    score, label = np.asarray(score, np.float64), np.asarray(label, np.float64)
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
    if not (np.isfinite(score).all() and np.isfinite(weight).all() and (weight >= 0).all()):
        raise DataError(
            "The calibrator got scores or weights that are not finite numbers of the right sign. "
            "Look for NaN in the model's output on the validation split."
        )
    classes = np.unique(label[weight > 0])
    if len(classes) < 2:
        found = f"only label {int(classes[0])}" if len(classes) else "no snapshot with weight"
        raise DataError(
            f"The validation split has {found}, so no probability can be fitted. "
            "Move or add validation cutoffs, or choose another horizon."
        )
    return score, label, weight
