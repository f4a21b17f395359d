"""seqjourney: deep learning on customer journeys, from event logs to honest reports.

>>> import seqjourney
>>> model = seqjourney.load("outputs/demo/gru")
>>> model.score(events)  # a pandas frame: customer_id, timestamp, event, and the model's fields
>>> stream = seqjourney.Stream("outputs/demo/gru")
>>> stream.update("customer 1", event)  # a dictionary; returns the score after it
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqjourney.events.ledger import Overdue
    from seqjourney.serving.next_scorer import NextScorer
    from seqjourney.serving.scorer import Scorer
    from seqjourney.serving.stream import Stream

__version__ = version("seqjourney")
__all__ = ["Stream", "load"]


def load(path: str | Path, overdue: Overdue = "refuse") -> Scorer | NextScorer:
    """Load a run directory or an exported file; see `serving.loading.load`."""
    from seqjourney.serving.loading import load as load_scorer

    return load_scorer(path, overdue)


def __getattr__(name: str) -> Any:
    """Import `Stream` when it is first asked for: it brings torch."""
    if name == "Stream":
        from seqjourney.serving.stream import Stream

        return Stream
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
