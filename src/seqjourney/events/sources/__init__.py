"""One module per kind of raw export; each turns files into rows with our column names.

A source says which columns hold the customer (or its identifiers), the time, the event and the
declared fields; cleaning, quarantine and sorting are the same for all and live outside.
Add a source by writing a module with `open_source` and naming it in `AMONG` and in
`config.data.SourceKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from seqjourney.config import DataConfig, SourceConfig
from seqjourney.events.rejects import Reject

ALONE = {"table": "table", "online_retail": "online_retail"}
"""Sources that are a log by themselves (`data.source`) -> their module."""
AMONG = {
    "table": "declared_table",
    "segment": "segment",
    "rudderstack": "rudderstack",
    "mparticle": "mparticle",
    "snowplow": "snowplow",
    "ga4": "ga4",
    "posthog": "posthog",
    "cloudevents": "cloudevents",
    "amplitude": "amplitude",
}
"""Kinds of one source among several (`data.sources`) -> their module."""


def no_rejects(_: Any) -> Iterable[Reject]:
    """Return nothing: files of rows whose lines the engine reads or refuses whole."""
    return ()


@dataclass(frozen=True)
class Source:
    """Raw rows under our names, before cleaning.

    `rows` is an Ibis table with `customer_id`, `timestamp`, `event`, optionally `known_at`,
    `event_id`, `channel`, `value`, the declared fields, and `source_row` (int64, position in the
    input). `combine` turns several cleaned rows into one event (invoice lines into an invoice).
    `rejected` yields the lines of the files that are no rows at all. `unreadable_timestamp` and
    `unreadable_known_at`, text, hold what a source that reads times itself could not read.
    """

    rows: Any
    files: tuple[Path, ...]
    combine: Callable[[Any], Any] | None = None
    rejected: Callable[[Any], Iterable[Reject]] = no_rejects
    record_of: Callable[[int], int] = int
    """`source_row` -> the place of its record in its file, from 0 on."""


def open_source(backend: Any, config: DataConfig | SourceConfig) -> Source:
    """Open the configured source lazily.

    Raises:
        DataError: no such file, an empty file, or a missing column.
    """
    name = AMONG[config.kind] if isinstance(config, SourceConfig) else ALONE[config.source]
    found: Source = import_module(f"{__name__}.{name}").open_source(backend, config)
    return found
