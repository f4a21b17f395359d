"""The generic way in: CSV or Parquet with a customer, a time and an event column."""

from __future__ import annotations

from typing import Any

import ibis

from seqjourney.config import DataConfig, nearest
from seqjourney.errors import DataError
from seqjourney.events.engine import columns_of, position_of, read_table
from seqjourney.events.files import find_files
from seqjourney.events.sources import Source


def open_source(backend: Any, config: DataConfig) -> Source:
    """Map the declared columns of a file, folder or glob to our names."""
    assert config.path is not None  # the config sees to it
    files = find_files(config.path)
    rows = read_table(backend, files)
    return Source(map_columns(rows, config, where=config.path), files)


def map_columns(rows: Any, config: DataConfig, where: str) -> Any:
    """Give the declared columns our names; refuse a missing one.

    Raises:
        DataError: a declared column does not exist; the message lists those that do.
    """
    core = {
        "customer_id": config.customer,
        "timestamp": config.timestamp,
        "event": config.event,
        "known_at": config.known_at,
        "event_id": config.event_id,
        "channel": config.channel,
        "value": config.value,
    }
    wanted = {ours: theirs for ours, theirs in core.items() if theirs is not None}
    wanted |= {field: field for field in (*config.categorical, *config.numeric)}
    for ours, column in wanted.items():
        if column not in rows.columns:
            hint = nearest(column, columns_of(rows))
            key = "customer" if ours == "customer_id" else ours
            told = f" (data.{key})" if ours in core else ""
            raise DataError(f"{where} has no column '{column}'{told}.{hint}")
    columns: dict[str, Any] = {ours: rows[theirs] for ours, theirs in wanted.items()}
    if config.event_name is not None:
        columns["event"] = ibis.literal(config.event_name)
    return rows.select(source_row=position_of(rows), **columns)
