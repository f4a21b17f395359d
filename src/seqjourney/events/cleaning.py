"""Raw rows → typed rows, each with the reason why it cannot be used, or none.

Pure Ibis expressions: nothing is read or written here. `typed` parses and flags; what to do with
flagged rows (quarantine or stop) is decided in `events.log`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from seqjourney.config import DataConfig
from seqjourney.config.data import TableColumns
from seqjourney.errors import DataError
from seqjourney.events.engine import as_text, moment

UTC_MICROSECONDS = dt.Timestamp(timezone="UTC", scale=6)
BUCKETS = "0123456789abcdef"
CORE = ("customer_id", "event_id", "timestamp", "known_at", "event", "actor")
OFFSET, NO_OFFSET = 1, 2  # bits of `clock`
LARGEST_FLOAT32 = 3.4028234e38  # the store's numbers are of this kind
LARGEST_AMOUNT = 1e30  # of money: nothing real comes near
_OFFSET = r"(?i)(z|utc|gmt|[+-]\d{2}(:?\d{2})?)\s*$"
_NO_SECONDS = r"(?i)([t ]\d{1,2}:\d{2})\s*(z|[+-]\d{2}(?::?\d{2})?)$"
_TIME_OF_DAY = r"\d{1,2}:\d{2}"


def typed(
    rows: Any,
    config: DataConfig,
    columns: TableColumns | None = None,
    *,
    texts: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> Any:
    """Parse every column and say which rows cannot be used.

    Args:
        rows: a source's rows (see `events.sources.Source`).
        config: the data config, for limits and declared fields.
        columns: how the source names its columns and writes its times; unset means `config` itself.
        texts: further columns of names and ids.
        numbers: further columns of numbers.

    Returns:
        Ibis table: `source_row`, `customer_id` (where the source knows it), `timestamp`,
        `known_at`, `event`, `event_id`, the declared and further columns, `problem` (null for a
        good row, else one short reason) and `clock` (how its times are written, see `_clock`).

    Raises:
        DataError: a column's type can hold neither times nor numbers nor names.
    """
    reading = columns or config
    values: dict[str, Any] = {"source_row": rows.source_row}
    unreadable: dict[str, Any] = {}  # by column: holds something that cannot be read
    for field in ("timestamp", "known_at"):
        if field in rows.columns:
            values[field] = _moment(rows, field, reading)
            if f"unreadable_{field}" in rows.columns:  # the source has read it already
                unreadable[field] = rows[f"unreadable_{field}"].notnull()
            elif not rows[field].type().is_timestamp():
                unreadable[field] = _given(rows[field]) & values[field].isnull()
    for field in ("customer_id", "event", "event_id", "channel", *config.categorical, *texts):
        if field in rows.columns:
            values[field] = _text(rows, field, reading)
    for field in ("value", *config.numeric, *numbers):
        if field in rows.columns:
            values[field] = number = _number(rows, field, reading)
            given = _given(rows[field]) & number.isnull()
            money = field == "value" or field in numbers
            absurd = number.abs() > (LARGEST_AMOUNT if money else LARGEST_FLOAT32)
            unreadable[field] = absurd.fill_null(False) | given
            if rows[field].type().is_floating():
                unreadable[field] = absurd
    flags = {f"unreadable_{field}": flag for field, flag in unreadable.items()}
    clock = _clock(rows) if reading.timezone is None else ibis.literal(0, "int8")
    # In two steps, so that the second reads what the first has parsed and parses nothing again.
    parsed = rows.select(**values, **flags, clock=clock)
    known_at = parsed.timestamp
    if "known_at" in parsed.columns:
        # Nobody can know of an event before it happens: a server clock that runs behind.
        known_at = ibis.greatest(parsed.known_at.fill_null(parsed.timestamp), parsed.timestamp)
    return parsed.mutate(
        known_at=known_at,
        event_id=parsed.event_id if "event_id" in parsed.columns else parsed.source_row,
        problem=_problem(parsed, config),
    ).drop(*flags)


def bucket_of(customer_id: Any) -> Any:
    """Return the bucket of a customer: the first hex digit of the id's MD5, on every engine."""
    return customer_id.hexdigest("md5").left(1)


def actor_of(event: Any, config: DataConfig) -> Any:
    """Say who did it, by the event's name."""
    return event.isin(config.company_events).ifelse("company", "customer")


def _problem(parsed: Any, config: DataConfig) -> Any:
    """Say why a row cannot be used, or null; the first reason counts."""
    latest = config.latest or datetime.now(tz=UTC) + timedelta(days=1)
    late = f"after {latest:%Y-%m-%d}" if config.latest else "in the future"
    problems: list[tuple[Any, str]] = [(parsed.event.isnull(), "no event name")]
    if "customer_id" in parsed.columns:
        problems.insert(0, (parsed.customer_id.isnull(), "no customer id"))
    unreadable = {
        name.removeprefix("unreadable_"): parsed[name]
        for name in parsed.columns
        if name.startswith("unreadable_")
    }
    if "timestamp" in unreadable:
        problems.append((unreadable.pop("timestamp"), "unreadable timestamp"))
    problems += [
        (parsed.timestamp.isnull(), "no timestamp"),
        (
            parsed.timestamp < ibis.literal(config.earliest),
            f"timestamp before {config.earliest:%Y-%m-%d}",
        ),
        (parsed.timestamp > ibis.literal(latest), f"timestamp {late}"),
    ]
    if "known_at" in unreadable:
        problems.append((unreadable.pop("known_at"), "unreadable known_at"))
    if "known_at" in parsed.columns:
        problems.append((parsed.known_at > ibis.literal(latest), f"known_at {late}"))
    if "event_id" in parsed.columns:
        problems.append((parsed.event_id.isnull(), "no event id"))
    problems += [(flag, f"bad '{field}'") for field, flag in unreadable.items()]
    # One test clears a good row of all; only of the others is asked what it is.
    bad = ibis.or_(*(flag.fill_null(False) for flag, _ in problems))
    return bad.ifelse(ibis.cases(*problems), ibis.null("string"))


def _clock(rows: Any) -> Any:
    """Mark how a row writes its times: bits `OFFSET` and `NO_OFFSET` (a date alone is neither)."""
    columns = [rows[c] for c in ("timestamp", "known_at") if c in rows.columns]
    texts = [column for column in columns if column.type().is_string()]
    if not texts:
        return ibis.literal(0, "int8")
    clocks = [(text.re_search(_TIME_OF_DAY), text.re_search(_OFFSET)) for text in texts]
    with_offset = ibis.or_(*((clock & offset).fill_null(False) for clock, offset in clocks))
    without = ibis.or_(*((clock & ~offset).fill_null(False) for clock, offset in clocks))
    return (with_offset.ifelse(OFFSET, 0) + without.ifelse(NO_OFFSET, 0)).cast("int8")


def _theirs(field: str, config: TableColumns) -> str:
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


def _text(rows: Any, field: str, config: TableColumns) -> Any:
    """Names and ids: text without surrounding blanks; an empty one is missing."""
    column, kind = rows[field], rows[field].type()
    if kind.is_nested() or kind.is_binary():
        name = _theirs(field, config)
        raise DataError(f"column '{name}' is {kind}; a name or an id must be text.")
    if kind.is_floating():  # pandas turns a nullable integer id into 12345.0
        whole = column.try_cast("int64")
        text = (whole.cast("float64") == column).ifelse(whole.cast("string"), as_text(column))
        column = _given(column).ifelse(text, ibis.null("string"))
    return trimmed(as_text(column))


def sensible(number: Any) -> Any:
    """Keep a number that float32 holds too; infinity, NaN and beyond are null."""
    return (number.abs() < LARGEST_AMOUNT).ifelse(number, ibis.null("float64"))


def trimmed(text: Any) -> Any:
    """Cut blanks off both ends; nothing but blanks is null.

    Asking for a blank at either end first (they all sort before `!`) is five times as fast as
    cutting where there is none.
    """
    blank = (text < "!") | (text.right(1) < "!")
    return blank.ifelse(text.strip().nullif(""), text)


def _number(rows: Any, field: str, config: TableColumns) -> Any:
    column, kind = rows[field], rows[field].type()
    if not (kind.is_numeric() or kind.is_string() or kind.is_boolean()):
        name = _theirs(field, config)
        raise DataError(f"column '{name}' is {kind}, not a number; declare it as categorical.")
    number = column.nullif("") if kind.is_string() else column
    number = number.try_cast("float64")
    return number.isnan().ifelse(ibis.null("float64"), number)


def _moment(rows: Any, column: str, config: TableColumns) -> Any:
    """Read a time column as UTC microseconds; what cannot be read becomes null."""
    values, name = rows[column], _theirs(column, config)
    kind = values.type()
    if kind.is_timestamp() or kind.is_date():
        return values.cast(UTC_MICROSECONDS)
    if kind.is_string() and config.timestamp_unit is None:
        text = values.strip()
        # The engine wants seconds before an offset; ISO 8601 (and Java) may leave them out.
        short = text.re_search(_NO_SECONDS)
        offset = text.re_extract(_NO_SECONDS, 2)
        padded = text.substr(0, text.length() - offset.length()).strip() + ":00" + offset
        padded = short.ifelse(padded, ibis.null("string"))
        return ibis.coalesce(moment(text), moment(padded))
    if kind.is_numeric() or (kind.is_string() and config.timestamp_unit is not None):
        if config.timestamp_unit is None:
            raise DataError(
                f"column '{name}' holds numbers ({kind}); say what they count since 1970 with "
                "data.timestamp_unit=s, ms or us."
            )
        order = config.timestamp_unit == "order"
        scale = {"s": 1e6, "ms": 1e3, "us": 1.0, "order": 3.6e9}[config.timestamp_unit]
        number = values.try_cast("float64")
        # Beyond this the engine's clock overflows; such a time is absurd anyway.
        number = (number.abs() * scale < 9e18).ifelse(number, ibis.null("float64"))
        first = datetime(2000 if order else 1970, 1, 1, tzinfo=UTC)
        epoch = ibis.literal(first).cast(UTC_MICROSECONDS)
        return epoch + (number * scale).round().cast("int64").as_interval("us")
    raise DataError(f"column '{name}' is {kind}; a time must be text, a number or a timestamp.")
