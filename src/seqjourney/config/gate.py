"""How sure a model must be of its flagged customers before anybody acts on them."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from seqjourney.config.types import Duration, Strict


class GateConfig(Strict):
    """What the precision gate asks of every model, see `evaluation.gate`."""

    precision: float = Field(0.8, gt=0, lt=1)
    """Of the customers that are flagged, the share that must have the outcome."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """How sure that must be: at 0.95 at most one certificate in twenty promises too much."""
    valid_for: Duration = timedelta(days=90)
    """How long a certificate is good, from the moment when its labels were known."""
