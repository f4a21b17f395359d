"""Where events come from, and how raw exports become one event log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, model_validator

from seqjourney.config.types import Moment, Strict, Zone


class DataConfig(Strict):
    """Where events come from and how their columns are named."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Names the prepared folder, `data/processed/<name>`."""
    source: Literal["table", "online_retail"] = "table"
    """`table`: any CSV or Parquet, one row per event. `online_retail`: UCI's invoice lines."""
    path: str
    """A file, a folder or a glob of CSV (also gzipped) or Parquet."""
    customer: str | None = None
    """Column with the customer's id."""
    timestamp: str | None = None
    """Column with the time at which the event happened."""
    timestamp_unit: Literal["s", "ms", "us"] | None = None
    """Unit of numeric times since 1970-01-01 UTC; required when the column is numeric."""
    timezone: Zone | None = None
    """Zone of times that carry no offset. Unset means UTC, and mixing both kinds is an error."""
    event: str | None = None
    """Column with the event's name; leave out when `event_name` names all of them."""
    event_name: str | None = None
    """The one name of all events, for tables without an event column."""
    known_at: str | None = None
    """Column with the time at which the company could know of the event; else `timestamp`."""
    event_id: str | None = None
    """Column with a unique id; repeated ids are dropped and counted. Else the row's position."""
    channel: str | None = None
    """Column with the channel."""
    value: str | None = None
    """Column with money: one currency, net of tax, refunds negative."""
    categorical: tuple[str, ...] = ()
    """Further columns that become categorical token fields."""
    numeric: tuple[str, ...] = ()
    """Further columns that become numeric token fields."""
    company_events: tuple[str, ...] = ()
    """Events that the company initiates (an e-mail sent); they make nobody active."""
    label_only_events: tuple[str, ...] = ()
    """Events that serve labels only and never become tokens."""
    earliest: Moment = datetime(1990, 1, 1, tzinfo=UTC)
    """Events before this are quarantined as absurd."""
    latest: Moment | None = None
    """Events after this are quarantined as absurd; unset means one day from now."""
    on_bad_rows: Literal["quarantine", "stop"] = "quarantine"
    """What happens to rows that cannot be used."""
    max_quarantined_share: float = Field(0.5, ge=0, le=1)
    """More than this share of bad rows stops `prepare`: the columns are probably wrong."""
    memory_limit: str = Field("4GB", pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B$")
    """Memory for the engine; larger data spills to disk."""
    threads: int | None = Field(None, ge=1)
    """Threads of the engine; unset means all cores."""
    tasks: tuple[str, ...] = ()
    """Task configs whose snapshots `prepare` cuts; `train` cuts any other on first use."""

    @model_validator(mode="after")
    def _check_columns(self) -> DataConfig:
        if self.source == "table":
            missing = [key for key in ("customer", "timestamp") if getattr(self, key) is None]
            if missing:
                raise ValueError(f"data.{missing[0]} must name a column (source: table)")
            if (self.event is None) == (self.event_name is None):
                raise ValueError("set exactly one of data.event (a column) and data.event_name")
        fields = (*self.categorical, *self.numeric)
        taken = {"customer_id", "timestamp", "known_at", "event", "event_id", "actor", "bucket"}
        taken |= {"channel", "value", "source_row", "problem"}
        lower = [field.lower() for field in fields]  # the engine's columns know no case
        for field in fields:
            if field.lower() in taken:
                raise ValueError(f"field '{field}' has the name of a core column; use its own key")
            if lower.count(field.lower()) > 1:
                raise ValueError(f"field '{field}' is declared twice")
        return self
