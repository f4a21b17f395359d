"""What a training shows meanwhile: a bar where somebody watches, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from seqjourney.cli import alone, say

_QUIET_SECONDS = 60.0


def progress(wanted: bool) -> list[pl.Callback]:
    """Return the bar, or lines in a pipe or a file, where a bar would be noise."""
    if not wanted:
        return []
    return [Bar(leave=False)] if sys.stdout.isatty() and alone() else [Lines()]


class Bar(RichProgressBar):
    """Lightning's bar without the speed (the time left is there), and with a short metric.

    It fits a terminal of 60 characters.
    """

    def configure_columns(self, trainer: Any) -> list[Any]:
        """Leave out the last column, the speed."""
        return super().configure_columns(trainer)[:-1]

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """Show what training goes by, once it is known."""
        score = trainer.progress_bar_metrics.get(pl_module.monitor.name)
        return {} if score is None else {pl_module.monitor.short: score}


class Lines(pl.Callback):
    """A line after an epoch, unless the last one is less than a minute ago."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Say how far training is and how good, by what it goes by."""
        now = time.monotonic()
        if trainer.is_global_zero and now - self._since >= _QUIET_SECONDS:
            self._since = now
            score = float(trainer.callback_metrics[pl_module.monitor.name])
            say(
                f"epoch {trainer.current_epoch + 1} of at most {trainer.max_epochs}: "
                f"{pl_module.monitor.name.replace('_', ' ')} {score:.4f}"
            )
