"""What a service counts, in Prometheus' format; over all workers where there are several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where workers leave their counts for each other; prometheus_client reads it when imported."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The counts of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self._registry, "namespace": "seqjourney"}
        self.requests = Counter("requests", "Requests answered", ["endpoint", "status"], **made)
        self.seconds = Histogram(
            "request_seconds", "Time to answer", ["endpoint"], buckets=_SECONDS, **made
        )
        self.events = Counter("events", "Events answered with a score or withheld", **made)
        self.refused = Counter("refused", "Requests refused", ["reason"], **made)
        self.conflicts = Counter(
            "conflicts", "Updates begun again because another worker was faster", **made
        )
        self.forgotten = Counter(
            "forgotten_customers", "Customers in memory who went because of most_customers", **made
        )
        self.waiting = Gauge(
            "waiting_requests", "Requests in the queue", multiprocess_mode="livesum", **made
        )
        _forget_dead_workers()

    def exposition(self) -> bytes:
        """Return all counts as text."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)
        return generate_latest(together)


def _forget_dead_workers() -> None:
    """Drop the queue of a worker that was killed: the one that takes its place comes here."""
    folder = os.environ.get(FOLDER_VARIABLE)
    for file in Path(folder).glob("gauge_live*_*.db") if folder else ():
        pid = int(file.stem.rsplit("_", 1)[1])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid, folder)
        except PermissionError:
            pass
