"""Boosted trees for a `sum` task: whether, by one set of trees, and how much, by another.

The second learns from buyers the logarithm of what they brought in. The mean of an amount is not
the exponential of its logarithm's mean: Duan 1983, "Smearing estimate", JASA 78:605, multiplies by
the mean exponential of the residuals, here those of validation buyers, whom no tree has seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.baselines.training_table import TrainingTable


@dataclass(frozen=True)
class AmountTrees:
    """Trees of log amounts, as text of the library's own."""

    trees: str
    smearing: float
    chosen: dict[str, Any]

    def amounts(self, logs: np.ndarray) -> np.ndarray:
        """Turn what the trees answer into expected amounts of buyers, (n,)."""
        return self.smearing * np.exp(logs)

    def to_json(self) -> dict[str, Any]:
        """Return all but the trees, which have a file of their own."""
        return {key: value for key, value in asdict(self).items() if key != "trees"}


def buyers(table: TrainingTable, snapshots: pd.DataFrame) -> TrainingTable:
    """Keep those of a split who brought in something; labels are the logarithms of how much."""
    value = snapshots["value"].to_numpy()
    some = value > 0
    return TrainingTable(table.features[some], np.log(value[some]), table.weights[some])


def smearing(logs: np.ndarray, table: TrainingTable) -> float:
    """Return the mean exponential of the residuals of buyers."""
    return float(np.average(np.exp(table.labels - logs), weights=table.weights))


def log_error(labels: np.ndarray, logs: np.ndarray, weights: np.ndarray) -> float:
    """Return the root mean squared error of log amounts."""
    return float(np.sqrt(np.average((labels - logs) ** 2, weights=weights)))
