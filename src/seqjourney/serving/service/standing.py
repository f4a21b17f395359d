"""Whether a model may still be used: the date to retrain it by may pass while it is served."""

from __future__ import annotations

import time

from seqjourney.errors import DataError
from seqjourney.events.ledger import require_current
from seqjourney.serving.service.requests import Refused
from seqjourney.serving.service.settings import ServeConfig

_SECONDS = 60.0  # between two looks at the run's list of erasures


class Standing:
    """Looks at the run once in a while."""

    def __init__(self, config: ServeConfig):
        self._folder = config.folder
        self._allowed = config.overdue == "allow"
        self._next, self._why = 0.0, ""

    def require(self) -> None:
        """Refuse to go on with a model that should have been retrained.

        Raises:
            Refused: its date has passed.
        """
        if self._allowed:
            return
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS
            try:
                require_current(self._folder)
                self._why = ""
            except DataError as error:
                self._why = str(error).partition("; to load it")[0]
        if self._why:
            raise Refused(503, f"{self._why.rstrip('.')}.", "overdue")
