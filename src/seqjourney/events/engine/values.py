"""Values that no expression reads or writes alike on both engines: paths in JSON, moments, text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqjourney.events.engine.connection import is_spark


def json_texts(column: Any, paths: Sequence[Sequence[str]]) -> list[Any]:
    """Follow several paths into one JSON column; each gives text, or null where nothing is.

    Args:
        column: JSON, or text that holds JSON.
        paths: keys from the outside in.
    """
    import ibis
    import ibis.expr.datatypes as dt

    if is_spark(column):
        return _spark().json_texts(column, paths)

    # One call with all paths parses each text once: three times as fast as a call per path.
    @ibis.udf.scalar.builtin(
        name="json_extract_string",
        signature=((dt.string, dt.Array(dt.string)), dt.Array(dt.string)),
    )
    def json_extract_string(text: Any, paths: Any) -> Any: ...

    ways = ["$" + "".join(f'."{_escaped(key)}"' for key in path) for path in paths]
    # Text that is no JSON must give nulls; the engine would stop at it.
    valid = column if column.type().is_json() else column.try_cast("json")
    texts = json_extract_string(valid.cast("string"), ways)
    return [texts[position] for position in range(len(ways))]


def json_items(column: Any) -> Any:
    """Return a JSON list as a list of JSON (on Spark of text); null where there is no list.

    Args:
        column: text that holds JSON, or a list of JSON or of text that holds it.
    """
    if is_spark(column):
        return column if column.type().is_array() else _spark().json_items(column)
    items = column if column.type().is_array() else column.try_cast("json").array
    return items.cast("array<json>")


def moment(text: Any) -> Any:
    """Read ISO 8601 text as UTC microseconds; null where it is no moment."""
    from seqjourney.events.cleaning import UTC_MICROSECONDS

    text = _without_zone_names(text)
    return (_spark().moment_like(text) if is_spark(text) else text).try_cast(UTC_MICROSECONDS)


def _without_zone_names(text: Any) -> Any:
    """Write UTC and GMT as an offset; times in any other named zone become null.

    DuckDB would read the rows after such a one in its zone, too.
    """
    import ibis

    utc = r"(?i) (utc|gmt) *$"
    offset = text.re_search(utc).ifelse(text.re_replace(utc, "+00"), ibis.null("string"))
    return text.re_search("[A-Za-z]{2}").ifelse(offset, text)


def as_text(column: Any) -> Any:
    """Return a column of plain values as text that is the same on every engine."""
    return _spark().as_text(column) if is_spark(column) else column.cast("string")


def _escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace('"', '\\"')


def _spark() -> Any:
    from seqjourney.events.engine import spark_values

    return spark_values
