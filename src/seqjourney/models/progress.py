"""The bar that a training shows, short enough for a terminal of 60 characters."""

from __future__ import annotations

import sys
from typing import Any

from pytorch_lightning.callbacks import RichProgressBar

from seqjourney.models.training import MONITOR


def progress_bars(wanted: bool) -> list[Any]:
    """Return the bar where somebody watches, else none: in a pipe or a file it would be noise."""
    return [Bar(leave=False)] if wanted and sys.stdout.isatty() else []


class Bar(RichProgressBar):
    """Lightning's bar without the speed (the time left is there), and with a short metric."""

    def configure_columns(self, trainer: Any) -> list[Any]:
        """Leave out the last column, the speed."""
        return super().configure_columns(trainer)[:-1]

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """Show validation average precision, once it is known."""
        score = trainer.progress_bar_metrics.get(MONITOR)
        return {} if score is None else {"AP": score}
