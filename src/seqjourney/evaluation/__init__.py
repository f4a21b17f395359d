"""From predictions files to numbers, pictures and a report that a decision can rest on.

`predictions.py` is the door: any model that writes that Parquet file is measured like every
other, on the same snapshots, with intervals from the same resampled customers. Then `ranking.py`
and `probability.py` hold the formulas (`value.py` those of money), `results.py` puts them together
and `report.py` writes them down; `gate.py` certifies who may be acted on. `calibration.py`,
`calibrator_choice.py`, `value_calibration.py` and `leakage.py` are used before that, when a run is
trained.
`next_ranks.py` and `next_metrics.py` are the door and the formulas of `next` tasks, `next_best.py`
finds the likeliest values, and `next_results.py` and `next_report.py` write their report.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "PlattCalibrator": "calibration",
    "TaskPredictions": "predictions",
    "all_metrics": "metrics",
    "join_runs": "predictions",
    "read_predictions": "predictions",
    "write_predictions": "predictions",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
