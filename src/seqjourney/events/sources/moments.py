"""Moments of raw exports as UTC timestamps, whatever zone the engine's session is in.

Vendors write UTC, with or without saying so. What cannot be read becomes null, never an error.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from seqjourney.events.engine import moment

UTC_MICROSECONDS = dt.Timestamp(timezone="UTC", scale=6)
_OFFSET = r"(?i)([+-]\d{2}(:?\d{2})?|z|utc|gmt)$"
_DAY_ALONE = r"^\d{4}-\d{2}-\d{2}$"
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_MOST_MILLISECONDS = 9_000_000_000_000_000  # beyond this the engine's clock overflows


def utc(column: Any) -> Any:
    """Read a time; text, dates and timestamps without an offset are UTC."""
    kind = column.type()
    if kind.is_timestamp() and kind.timezone is not None:
        return column.cast(UTC_MICROSECONDS)
    if not (kind.is_timestamp() or kind.is_date() or kind.is_string()):
        return ibis.null(UTC_MICROSECONDS)
    text = column.cast("string")
    bare = text.strip()
    marked = ibis.cases(
        (text.endswith("Z"), text),
        (bare.re_search(_DAY_ALONE), bare + "T00:00:00Z"),  # it looks like one with an offset
        (bare.re_search(_OFFSET), bare),
        else_=bare + "Z",
    )
    return moment(marked)


def unreadable(column: Any, moment: Any) -> Any:
    """Return what a time column holds where no moment was read of it, as text, else null.

    A source gives it as `unreadable_timestamp` or `unreadable_known_at`, and the row is set aside.
    """
    kind = column.type()
    if kind.is_floating():  # NaN is how data frames write a missing number
        column = column.isnan().ifelse(ibis.null(kind), column)
    return ibis.cases((moment.isnull(), column.cast("string").strip().nullif("")))


def of_milliseconds(count: Any) -> Any:
    """Read a count of milliseconds since 1970, given as text or number; null where it is none."""
    number = count.try_cast("float64")
    number = (number.abs() < _MOST_MILLISECONDS).ifelse(number, ibis.null("float64"))
    epoch = ibis.literal(datetime(1970, 1, 1, tzinfo=UTC)).cast(UTC_MICROSECONDS)
    return epoch + (number * 1000).round().cast("int64").as_interval("us")


def unskewed(happened: Any, sent: Any, received: Any) -> Any:
    """Correct a device's clock by the server's: received - (sent - happened), all timestamps.

    Without a time of sending or receipt the device's word stands.
    """
    times = (happened, sent, received)
    # Beyond these years the engine's clock overflows; such a time is absurd as it stands.
    sound = ibis.and_(*((time > _EARLIEST) & (time < _LATEST) for time in times))
    before_sending = sent.delta(happened, unit="microsecond")
    corrected = ibis.cases((sound, received - before_sending.as_interval("us")))
    return ibis.coalesce(corrected, happened)
