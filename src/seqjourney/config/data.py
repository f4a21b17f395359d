"""Where events come from, and how raw exports become one event log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from seqjourney.config.types import Moment, Name, NameOrNothing, Strict, Zone, shaped
from seqjourney.events.consent.policy import ConsentPolicy
from seqjourney.events.identity.rules import IdentityRules

MoneyPart = Literal["net", "total", "discount", "tax", "shipping", "refund", "currency"]
Evidence = Literal[
    "page_url",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_term",
    "utm_content",
    "click_id",
    "user_agent",
]


class TableColumns(Strict):
    """How a table of events names its columns, and how its times are written."""

    customer: str | None = None
    """Column with the customer's id."""
    timestamp: str | None = None
    """Column with the time at which the event happened."""
    timestamp_unit: Literal["s", "ms", "us", "order"] | None = None
    """Unit of numeric times since 1970-01-01 UTC; required when the column is numeric. `order`: the
    numbers are positions in each history, and there is no time; they become hours since
    2000-01-01. Only `next` tasks with `even_spacing` make sense of them."""
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

    def _check_table(self, key: str) -> None:
        """Refuse a table without the columns that every event needs."""
        if self.customer is None:
            raise ValueError(f"{key}.customer must name a column (source: table)")
        self._check_event(key)

    def _check_event(self, key: str) -> None:
        if self.timestamp is None:
            raise ValueError(f"{key}.timestamp must name a column (source: table)")
        if (self.event is None) == (self.event_name is None):
            raise ValueError(f"set exactly one of {key}.event (a column) and {key}.event_name")


SourceKind = Literal[
    "table",
    "segment",
    "rudderstack",
    "mparticle",
    "snowplow",
    "ga4",
    "posthog",
    "cloudevents",
    "amplitude",
]

_OF_SOURCES = (
    "identity",
    "probable_links",
    "consent",
    "taxonomy",
    "taxonomy_review",
    "currency",
    "rates",
    "on_malformed",
)
WITH_OPTIONS = ("snowplow", "posthog", "cloudevents")


class SourceConfig(TableColumns):
    """One of several sources of events."""

    kind: SourceKind
    """Whose export it is; `table` is any table, with the columns of `TableColumns`."""
    name: NameOrNothing = ""
    """Names the source in the log and in counts; unset means its kind."""
    path: str
    """A file, a folder or a glob of CSV, JSON Lines (also gzipped) or Parquet."""
    identifiers: dict[str, str] = Field(default_factory=dict)
    """Of a table: identifier type (user, anonymous, device, email, phone, ...) -> its column;
    `customer` is short for `user`."""
    money: dict[MoneyPart, str] = Field(default_factory=dict)
    """Of a table, beside `value`: part -> its column."""
    evidence: dict[Evidence, str] = Field(default_factory=dict)
    """Of a table: what tells the channel -> its column."""
    consent: dict[str, str] = Field(default_factory=dict)
    """Of a table: purpose -> column that says granted, denied or unknown (or true, false)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What only this kind can be told; see its module in `events/sources/`."""

    @model_validator(mode="after")
    def _check_kind(self) -> SourceConfig:
        where = f"data.sources.{self.label}"
        if self.kind == "table":
            if self.customer is None and not self.identifiers:
                raise ValueError(f"{where} needs a customer column, or identifiers")
            self._check_event(where)
        if self.options and self.kind not in WITH_OPTIONS:
            raise ValueError(f"{where}.options: {self.kind} knows none")
        if self.kind == "table":
            return self
        for key in sorted(self.model_fields_set - {"kind", "name", "path", "options"}):
            if getattr(self, key):
                raise ValueError(
                    f"{where}.{key} is for tables; {self.kind} exports say it themselves"
                )
        return self

    @property
    def label(self) -> str:
        """Return the source's name."""
        return self.name or self.kind


class DataConfig(TableColumns):
    """Where events come from and how their columns are named."""

    name: Name
    """Names the prepared folder, `data/processed/<name>`."""
    source: Literal["table", "online_retail"] = "table"
    """`table`: any CSV or Parquet, one row per event. `online_retail`: UCI's invoice lines."""
    path: str | None = None
    """A file, a folder or a glob of CSV (also gzipped) or Parquet."""
    sources: tuple[SourceConfig, ...] = ()
    """Several sources that become one log, instead of one table."""
    identity: IdentityRules = IdentityRules()
    """How the identifiers of several sources become customers."""
    probable_links: str | None = None
    """Parquet of further links between identifiers, as `events.identity.linking` makes them."""
    consent: ConsentPolicy = ConsentPolicy()
    """Which consent the events of several sources need."""
    taxonomy: str = "builtin:ecommerce"
    """Tracking plan of several sources: a YAML file, or the built-in one."""
    taxonomy_review: str | None = None
    """A review file, as `prepare` writes it, in which you have accepted names."""
    currency: Annotated[str, shaped("[A-Z]{3}", "three capital letters, such as EUR")] | None = None
    """Currency of the log; needed where sources bring several."""
    rates: str | None = None
    """CSV of `currency,rate` (one unit in the log's currency), optionally with `since`, a date."""
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
    on_malformed: Literal["stop", "quarantine"] = "stop"
    """What happens to lines of a file that cannot be read at all."""
    max_quarantined_share: float = Field(0.5, ge=0, le=1)
    """More than this share of bad rows stops `prepare`: the columns are probably wrong."""
    engine: Literal["duckdb", "spark"] = "duckdb"
    """What runs `prepare`: DuckDB in this process, or Spark (extra `spark`, Java 17): the session
    that SPARK_REMOTE or spark-defaults.conf configure, else a local one. The log is the same."""
    memory_limit: Annotated[
        str, shaped(r"\d+(\.\d+)?\s*[KMGT]i?B", "a size with a unit, such as 4GB")
    ] = "4GB"
    """Memory for the engine; larger data spills to disk. `prepare` holds sorted rows beside it."""
    threads: int | None = Field(None, ge=1)
    """Threads of the engine; unset means all cores."""
    tasks: tuple[str, ...] = ()
    """Task configs whose snapshots `prepare` cuts; `train` cuts any other on first use."""

    @model_validator(mode="after")
    def _check_columns(self) -> DataConfig:
        if self.sources:
            self._check_sources()
        else:
            self._check_alone()
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

    def _check_alone(self) -> None:
        if self.path is None:
            raise ValueError("data.path must say where the events are (or give data.sources)")
        if self.source == "table":
            self._check_table("data")
        for key in _OF_SOURCES:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"data.{key} is for data.sources; one table of known customers has no use for "
                    "it. Give the table as a source (kind: table) instead."
                )

    def _check_sources(self) -> None:
        labels = [source.label for source in self.sources]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two of data.sources are called '{label}'; give each a name")
        alone = {*TableColumns.model_fields, "path"} - {"timezone"}
        for key in sorted(alone):
            if getattr(self, key) is not None:
                raise ValueError(f"data.{key} is for one table; with data.sources leave it out")
