"""Values of a JSON object in a text column, by regular expressions that every engine shares.

Engines disagree about JSON (one keeps a string's quotes, another drops them, a third stops at a
malformed row), so values are read from the text itself: `with_literals` adds top-level values as
they are written, quotes included, which also tells their type; `text` takes the quotes off. Keys
match when their letters and digits agree: `order_id`, `orderId` and `Order ID` are one key. Text
that is no JSON object gives nulls or odd values, never an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import ibis

from seqjourney.events.taxonomy.names import fold

NESTED = "~"  # stands for a list or an object
_LONGEST = 100_000  # characters of an object; a longer one is not read
_DEPTH = 4  # of lists and objects within the object; keys deeper than that may be seen
_INNERMOST = r"\[[^\[\]{}]*\]|\{[^\[\]{}]*\}"
# A string that is not empty, or a number, a boolean, a mark: all that does not begin like null.
_VALUE = r'("(?:[^"\\]|\\.)[^"\\]*(?:\\.[^"\\]*)*"|[^,}\s"n][^,}\s"]*)'
_SEPARATOR = r"[ _.$:\-]*"


def with_literals(
    rows: Any, wanted: Mapping[str, tuple[tuple[str, ...], Any]], kept: tuple[str, ...]
) -> Any:
    """Read values out of `properties`.

    Args:
        rows: Ibis table with `properties`, text of a JSON object.
        wanted: new column → (raw keys, Ibis condition of the rows in which to look, or None).
            Of several keys, the first in the text counts whose value is neither null nor empty.
        kept: columns of `rows` to keep.

    Returns:
        Ibis table of the kept and the new columns: `"text"` with its quotes, `12.5`, `true`; `~`
        for a list or an object; empty text where there is no value.
    """
    # In steps, each a subquery of its own: engines evaluate what is written twice twice.
    conditions = {f"taxonomy_if_{c}": when for c, (_, when) in wanted.items() if when is not None}
    flat = rows.select(*kept, taxonomy_flat=_flat(rows.properties.cast("string")), **conditions)
    columns = {}
    for column, (keys, when) in wanted.items():
        value = flat.taxonomy_flat.re_extract(_pair(keys), 1).fill_null("")
        columns[column] = value if when is None else flat[f"taxonomy_if_{column}"].ifelse(value, "")
    return flat.select(*kept, **columns)


def text(value: Any) -> Any:
    """Return what a literal holds: a string's content, a number or a boolean as it is written.

    Args:
        value: a column that `with_literals` made.

    Returns:
        Ibis text column; null where there is no value, a list or an object. `\\uXXXX` and control
        escapes stay as they are written.
    """
    inner = value.substr(1, value.length() - 2)
    plain = inner.replace('\\"', '"').replace("\\/", "/").replace("\\\\", "\\")
    return ibis.cases(
        (value.isin(["", NESTED]), ibis.null("string")),
        (value.startswith('"') & value.contains("\\"), plain),
        (value.startswith('"'), inner),
        else_=value,
    )


def _flat(properties: Any) -> Any:
    """Put a mark in the place of every nested list and object, so that their keys do not count.

    Patterns stay simple and replacements constant: Java's regular expressions overflow the stack
    on repeated groups, and engines write back-references differently. The price: in a row that
    has nesting, brackets within a string are taken for structure too.
    """
    inner = (properties.length() <= _LONGEST).ifelse(properties, ibis.null("string")).substr(1)
    flat = inner
    for _ in range(_DEPTH):
        flat = flat.re_replace(_INNERMOST, NESTED)
    bracket = inner.contains("{") | inner.contains("[")
    nesting = bracket.ifelse(inner.re_search(r":\s*[\[{]"), False)
    return nesting.ifelse(flat, inner)


def _pair(keys: tuple[str, ...]) -> str:
    """Return a regular expression for a key, in any case and with any separators, and its value."""
    forms = set()
    for key in keys:
        words = fold(key).split("_")
        escaped = [json.dumps(word)[1:-1] for word in words]  # as ASCII-only writers put it
        forms |= {_SEPARATOR.join(map(_any_case, form)) for form in (words, escaped)}
    return rf'"{_SEPARATOR}(?:{"|".join(sorted(forms))}){_SEPARATOR}"\s*:\s*{_VALUE}'


def _any_case(word: str) -> str:
    return "".join(
        f"[{c.upper()}{c}]" if c.isascii() and c.isalpha() else re.escape(c) for c in word
    )
