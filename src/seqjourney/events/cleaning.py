"""Raw rows → typed rows, each with the reason why it cannot be used, or none.

Pure Ibis expressions: nothing is read or written here. `typed` parses and flags; what to do with
flagged rows (quarantine or stop) is decided in `events.log`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from seqjourney.config import DataConfig
from seqjourney.errors import DataError

UTC_MICROSECONDS = dt.Timestamp(timezone="UTC", scale=6)
BUCKETS = "0123456789abcdef"
_OFFSET = r"(?i)(z|utc|gmt|[+-]\d{2}(:?\d{2})?)\s*$"
_NO_SECONDS = r"(?i)([t ]\d{1,2}:\d{2})\s*(z|[+-]\d{2}(?::?\d{2})?)$"
_TIME_OF_DAY = r"\d{1,2}:\d{2}"


def typed(rows: Any, config: DataConfig) -> Any:
    """Parse every column and add `problem`, `bucket` and `actor`.

    Args:
        rows: a source's rows (see `events.sources.Source`).
        config: the data config, for zones, limits and declared fields.

    Returns:
        Ibis table: `source_row`, `customer_id`, `timestamp`, `known_at`, `event`, `actor`,
        `bucket` (first hex digit of the id's MD5, the same on every engine), the declared
        columns, and `problem`: null for a good row, else one short reason.

    Raises:
        DataError: a column's type can hold neither times nor numbers nor names.
    """
    latest = config.latest or datetime.now(tz=UTC) + timedelta(days=1)
    timestamp = _moment(rows, "timestamp", config)
    known_at = _moment(rows, "known_at", config) if "known_at" in rows.columns else None
    customer, event = (_text(rows, field, config) for field in ("customer_id", "event"))
    future = f"after {latest:%Y-%m-%d}" if config.latest else "in the future"
    problems: list[tuple[Any, str]] = [
        (customer.isnull(), "no customer id"),
        (event.isnull(), "no event name"),
        (~_given(rows.timestamp), "no timestamp"),
        (timestamp.isnull(), "unreadable timestamp"),
        (timestamp < ibis.literal(config.earliest), f"timestamp before {config.earliest:%Y-%m-%d}"),
        (timestamp > ibis.literal(latest), f"timestamp {future}"),
    ]
    columns: dict[str, Any] = {
        "source_row": rows.source_row,
        "customer_id": customer,
        "timestamp": timestamp,
        # Nobody can know of an event before it happens: a server clock that runs behind.
        "known_at": timestamp
        if known_at is None
        else ibis.greatest(ibis.coalesce(known_at, timestamp), timestamp),
        "event": event,
    }
    if known_at is not None:
        problems += [
            (_given(rows.known_at) & known_at.isnull(), "unreadable known_at"),
            (known_at > ibis.literal(latest), f"known_at {future}"),
        ]
    if "event_id" in rows.columns:
        columns["event_id"] = _text(rows, "event_id", config)
        problems.append((columns["event_id"].isnull(), "no event id"))
    else:
        columns["event_id"] = rows.source_row
    columns["actor"] = event.isin(config.company_events).ifelse("company", "customer")
    for field in ("channel", *config.categorical):
        if field in rows.columns:
            columns[field] = _text(rows, field, config)
    for field in ("value", *config.numeric):
        if field in rows.columns:
            columns[field] = _number(rows, field, config)
            unreadable = columns[field].isnull() | columns[field].isinf()
            problems.append((_given(rows[field]) & unreadable, f"bad '{field}'"))
    columns["problem"] = ibis.cases(*problems)
    columns["bucket"] = customer.hexdigest("md5").left(1)
    return rows.select(**columns)


def time_offsets(rows: Any) -> Any:
    """Count text times with and without a UTC offset (dates alone count for neither)."""
    columns = [rows[c] for c in ("timestamp", "known_at") if c in rows.columns]
    texts = [column for column in columns if column.type().is_string()]
    if not texts:
        return None
    clocks = [(text.re_search(_TIME_OF_DAY), text.re_search(_OFFSET)) for text in texts]
    return rows.aggregate(
        with_offset=sum((clock & offset).sum().fill_null(0) for clock, offset in clocks),
        without=sum((clock & ~offset).sum().fill_null(0) for clock, offset in clocks),
    )


def _theirs(field: str, config: DataConfig) -> str:
    """Name a column as the user's file does, for messages."""
    key = "customer" if field == "customer_id" else field
    core = key in ("customer", "timestamp", "event", "known_at", "event_id", "channel", "value")
    return (getattr(config, key) if core else None) or field


def _given(column: Any) -> Any:
    """Whether a cell holds anything; NaN is how data frames write a missing number."""
    kind = column.type()
    if kind.is_floating():
        return column.notnull() & ~column.isnan()
    return (column.strip().nullif("") if kind.is_string() else column).notnull()


def _text(rows: Any, field: str, config: DataConfig) -> Any:
    """Names and ids: text without surrounding blanks; an empty one is missing."""
    column, kind = rows[field], rows[field].type()
    if kind.is_nested() or kind.is_binary():
        name = _theirs(field, config)
        raise DataError(f"column '{name}' is {kind}; a name or an id must be text.")
    if kind.is_floating():  # pandas turns a nullable integer id into 12345.0
        whole = column.try_cast("int64")
        text = (whole.cast("float64") == column).ifelse(whole.cast("string"), column.cast("string"))
        column = _given(column).ifelse(text, ibis.null("string"))
    return column.cast("string").strip().nullif("")


def _number(rows: Any, field: str, config: DataConfig) -> Any:
    column, kind = rows[field], rows[field].type()
    if not (kind.is_numeric() or kind.is_string() or kind.is_boolean()):
        name = _theirs(field, config)
        raise DataError(f"column '{name}' is {kind}, not a number; declare it as categorical.")
    number = column.nullif("") if kind.is_string() else column
    number = number.try_cast("float64")
    return number.isnan().ifelse(ibis.null("float64"), number)


def _moment(rows: Any, column: str, config: DataConfig) -> Any:
    """Read a time column as UTC microseconds; what cannot be read becomes null."""
    values, name = rows[column], _theirs(column, config)
    kind = values.type()
    if kind.is_timestamp() or kind.is_date():
        return values.cast(UTC_MICROSECONDS)
    if kind.is_string() and config.timestamp_unit is None:
        text = values.strip()
        # The engine wants seconds before an offset; ISO 8601 (and Java) may leave them out.
        padded = text.re_replace(_NO_SECONDS, r"\1:00\2")
        return ibis.coalesce(*(t.try_cast(UTC_MICROSECONDS) for t in (text, padded)))
    if kind.is_numeric() or (kind.is_string() and config.timestamp_unit is not None):
        if config.timestamp_unit is None:
            raise DataError(
                f"column '{name}' holds numbers ({kind}); say what they count since 1970 with "
                "data.timestamp_unit=s, ms or us."
            )
        scale = {"s": 1e6, "ms": 1e3, "us": 1.0}[config.timestamp_unit]
        number = values.try_cast("float64")
        # Beyond this the engine's clock overflows; such a time is absurd anyway.
        number = (number.abs() * scale < 9e18).ifelse(number, ibis.null("float64"))
        epoch = ibis.literal(datetime(1970, 1, 1, tzinfo=UTC)).cast(UTC_MICROSECONDS)
        return epoch + (number * scale).round().cast("int64").as_interval("us")
    raise DataError(f"column '{name}' is {kind}; a time must be text, a number or a timestamp.")
