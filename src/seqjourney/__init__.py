"""seqjourney: deep learning on customer journeys, from event logs to honest reports.

>>> import seqjourney
>>> model = seqjourney.load("outputs/demo/gru")
>>> model.score(events)  # a pandas frame: customer_id, timestamp, event, and the model's fields
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqjourney.events.ledger import Overdue
    from seqjourney.serving.scorer import Scorer

__version__ = version("seqjourney")
__all__ = ["load"]


def load(path: str | Path, overdue: Overdue = "refuse") -> Scorer:
    """Load a run directory or an exported file; see `serving.scorer.load`."""
    from seqjourney.serving.scorer import load as load_scorer

    return load_scorer(path, overdue)
