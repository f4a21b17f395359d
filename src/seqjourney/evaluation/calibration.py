"""From score to probability: Platt scaling, fitted on the validation split.

P(y = 1 | score) = sigmoid(slope * score + intercept)   (Platt, 1999)

Two numbers, so it cannot overfit a few hundred snapshots as isotonic regression does, and the
order of customers stays that of the score.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from seqjourney.errors import DataError
from seqjourney.evaluation.logistic import fit_logistic, sigmoid

# Per unit of weight; keeps the slope finite when a score separates the classes perfectly and
# moves it by less than a thousandth otherwise.
RIDGE = 1e-5


@dataclass(frozen=True)
class PlattCalibrator:
    """A fitted calibrator. `note` says when the score could not be used and why, else is empty."""

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
        score, label = np.asarray(score, np.float64), np.asarray(label, np.float64)
        weight = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
        _refuse(score, label, weight)
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PlattCalibrator:
        """Inverse of `to_dict`."""
        return cls(float(values["slope"]), float(values["intercept"]), str(values.get("note", "")))


def _refuse(score: np.ndarray, label: np.ndarray, weight: np.ndarray) -> None:
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
