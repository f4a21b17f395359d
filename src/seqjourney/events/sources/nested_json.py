"""Typed columns → JSON text: the structs and lists of warehouse tables, as deep as they go.

Only expressions that every engine knows. `json_text` writes flat objects; this is for exports that
nest (GA4's records, Snowplow's entities) and for tables of very many columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis

from seqjourney.config import nearest
from seqjourney.errors import DataError
from seqjourney.events.engine import as_text, columns_of, read_table
from seqjourney.events.files import kind_of

_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


def require_columns(
    backend: Any, files: Sequence[Path], needed: Collection[str], what: str
) -> None:
    """Refuse tables of something else; JSON Lines promise no keys, so their rows are judged singly.

    Raises:
        DataError: a needed column is missing; the message names it and the nearest.
    """
    if kind_of(files[0]) == "json":
        return
    columns = columns_of(read_table(backend, files))
    for column in needed:
        if column not in columns:
            hint = nearest(column, columns)
            raise DataError(f"{files[0]} is not {what}: no column '{column}'.{hint}")


def as_json(value: Any) -> Any:
    """Return a column of any type as JSON text, null where the value is.

    Structs leave out what is null; a number that JSON cannot write (NaN, infinity) is null.
    """
    kind = value.type()
    if kind.is_json():
        return value.cast("string")
    if kind.is_floating():
        return (value.isnan() | value.isinf()).ifelse(ibis.null("string"), as_text(value))
    if kind.is_numeric() or kind.is_boolean():
        return value.cast("string")
    if kind.is_struct():
        fields = {name: as_json(value[name]) for name in kind.names}
        return value.notnull().ifelse(json_object(fields), ibis.null("string"))
    if kind.is_array():
        items = value.map(lambda item: ibis.coalesce(as_json(item), "null"))
        inside = (value.length() > 0).ifelse(ibis.literal(",").join(items), "")
        return value.notnull().ifelse(ibis.literal("[") + inside + "]", ibis.null("string"))
    if kind.is_binary() or kind.is_null():
        return ibis.null("string")
    return quoted(as_text(value))


def json_object(fields: Mapping[str, Any]) -> Any:
    """Return JSON texts by name as one object; a null one is left out, so it may be `{}`."""
    if not fields:
        return ibis.literal("{}")
    members = [ibis.literal(f'"{_escape(name)}":') + text for name, text in fields.items()]
    return "{" + ibis.literal(",").join(members) + "}"


def quoted(text: Any) -> Any:
    """Return text as a JSON string; control characters without a short escape become blanks."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for letter, escape in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        escaped = escaped.replace(letter, escape)
    escaped = escaped.re_replace(r"[\x00-\x1f]", " ")
    # Few texts need any of it, and one search costs less than six replacements.
    return ibis.literal('"') + text.re_search(r'["\\\x00-\x1f]').ifelse(escaped, text) + '"'


def number_or_quoted(text: Any) -> Any:
    """Return text that reads as a number as that number in JSON, any other as a string."""
    return text.re_search(_NUMBER).ifelse(text, quoted(text))


def number_text(value: Any) -> Any:
    """Return an amount as text; NaN is how data frames write a missing one."""
    if value.type().is_floating():
        value = value.isnan().ifelse(ibis.null(value.type()), value)
    return as_text(value)


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
