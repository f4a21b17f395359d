"""Several horizons at once: scores → probabilities that cannot fall as the horizon grows.

Each horizon has a calibrator of its own, chosen and checked as for any task, so that each is right
by itself. Curves of their own may cross, though, and a baseline has one model per horizon: a
probability below that of a shorter horizon is therefore raised to it (the running maximum). To
calibrate hazards instead would need no mending, but the probability by a horizon would no longer be
a curve over its score, and baselines have no hazards. `run.json` says
how often it was raised, split by split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from seqjourney.evaluation.calibration import Calibrator, read_calibrator
from seqjourney.evaluation.calibrator_choice import choose_calibrator
from seqjourney.sequences.task_data import TaskData


@dataclass(frozen=True)
class HorizonCalibrator:
    """One calibrator per horizon, ascending, by `7d` and so on."""

    curves: Mapping[str, Calibrator]

    @classmethod
    def fit(cls, scores: np.ndarray, data: TaskData) -> tuple[Self, dict[str, Any]]:
        """Choose a curve per horizon on validation snapshots.

        Args:
            scores: (n, K).
            data: of the validation snapshots, (n,).

        Returns:
            The calibrator; and by horizon how the kinds compared, see `choose_calibrator`.
        """
        curves, compared = {}, {}
        for (horizon, asked), score in zip(data.by_horizon().items(), scores.T, strict=True):
            label, weight, customer = (
                asked.snapshots[name].to_numpy() for name in ("label", "weight", "customer_id")
            )
            curves[horizon], compared[horizon] = choose_calibrator(score, label, weight, customer)
        return cls(curves), compared

    @property
    def longest(self) -> Calibrator:
        """The curve of the longest horizon."""
        return list(self.curves.values())[-1]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities by each horizon, (..., K) -> (..., K)."""
        return np.maximum.accumulate(self._each(scores), axis=-1)

    def _each(self, scores: np.ndarray) -> np.ndarray:
        curves = enumerate(self.curves.values())
        return np.stack([curve(scores[..., k]) for k, curve in curves], axis=-1)

    def raised(self, scores: np.ndarray) -> float:
        """Return the share of probabilities that a shorter horizon's raised."""
        each = self._each(scores)
        return float((each < np.maximum.accumulate(each, axis=-1)).mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for run.json."""
        return {horizon: curve.to_dict() for horizon, curve in self.curves.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str | Path) -> Self:
        """Inverse of `to_dict`."""
        return cls({horizon: read_calibrator(v, where) for horizon, v in values.items()})


def rows_by_horizon(
    data: TaskData, columns: Sequence[str], scores: np.ndarray, probabilities: np.ndarray
) -> pd.DataFrame:
    """Return predictions of all horizons, one row per snapshot and horizon.

    Args:
        data: n snapshots.
        columns: of the snapshots, to be kept.
        scores: (n, K).
        probabilities: (n, K).
    """
    parts = [
        asked.snapshots[list(columns)].assign(
            task=asked.task.name, score=scores[:, k], probability=probabilities[:, k]
        )
        for k, asked in enumerate(data.by_horizon().values())
    ]
    return pd.concat(parts, ignore_index=True)
