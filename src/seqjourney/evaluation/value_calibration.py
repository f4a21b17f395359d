"""From a model's amount to an expected value whose total is that of validation.

expected value = scale * probability * amount of a buyer   (or scale * amount, see `per_buyer`)

`scale` is one number: what validation customers brought in over what they were expected to. A
log-normal's mean hangs on its spread, and refunds below zero are in no model's amount; what is
left of both on validation, and nothing from later, is taken out here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from seqjourney.errors import DataError


@dataclass(frozen=True)
class ValueCalibrator:
    """A fitted calibrator. `note` says when the amounts could not be scaled and why."""

    scale: float
    per_buyer: bool
    note: str = ""

    @classmethod
    def fit(
        cls,
        amount: np.ndarray,
        probability: np.ndarray,
        value: np.ndarray,
        weight: np.ndarray,
        *,
        per_buyer: bool,
    ) -> ValueCalibrator:
        """Fit on validation snapshots, all (n,).

        Args:
            amount: of money, as the model gives it.
            probability: calibrated.
            value: what came in, less refunds.
            weight: of the snapshots.
            per_buyer: the amounts are of buyers, so that the probability is still to come.

        Raises:
            DataError: the model's amounts are no numbers, or below zero.
        """
        if not (np.isfinite(amount).all() and (amount >= 0).all()):
            raise DataError(
                "the model gave an amount that is no number of 0 or more. Look for NaN in its "
                "output on the validation split."
            )
        raw = cls(1.0, per_buyer)
        expected, came = float(weight @ raw(amount, probability)), float(weight @ value)
        if expected <= 0 or came <= 0:
            why = "expected nothing of anybody" if expected <= 0 else "saw more refunds than sales"
            return cls(1.0, per_buyer, f"amounts are not scaled: validation {why}")
        return cls(came / expected, per_buyer)

    def __call__(self, amount: np.ndarray, probability: np.ndarray) -> np.ndarray:
        """Return expected values, any shape."""
        chance = probability if self.per_buyer else 1.0
        return np.asarray(self.scale * chance * np.asarray(amount, np.float64))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ValueCalibrator:
        """Inverse of `to_dict`."""
        return cls(float(values["scale"]), bool(values["per_buyer"]), str(values.get("note", "")))
