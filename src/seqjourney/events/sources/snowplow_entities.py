"""What Snowplow's events carry beside their atomic columns: properties, events and entities.

Each becomes JSON text, whatever form the table has: JSON Lines, JSON text in cells, or structs. A
few facts are read out of that text with patterns, so that all forms are read alike, the names in
camel case of the trackers and in snake case of some warehouses too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis

from seqjourney.errors import DataError
from seqjourney.events.engine import json_keys, json_texts
from seqjourney.events.sources.nested_json import as_json, number_or_quoted, quoted

ALSO_PROPERTIES = ("se_category", "se_action", "mkt_network", "mkt_clickid", "tr_orderid")
PROPERTY = "property:"  # before the name of a column that becomes one
_SELF_DESCRIBING = re.compile(r"(contexts|unstruct_event)(_.+)?|derived_contexts")
_NUMBERS = re.compile(
    r"pp_.*|doc_(width|height)|br_colordepth|br_.*view.*|.*screen(width|height)|.*idx|se_value"
)
_BOOLEANS = re.compile(r"br_cookies|dvce_ismobile")
_MOST_KEYS = 2_000


def keys_of_lines(backend: Any, files: Sequence[Path]) -> list[str]:
    """Return the keys of JSON Lines: which events and entities there are only the lines say.

    What Snowplow could not have named so is left out.

    Raises:
        DataError: there are too many for any export of Snowplow's.
    """
    keys = json_keys(backend, files)
    keys = keys.filter(keys.key.re_search("^[a-z][a-z0-9_]*$")).limit(_MOST_KEYS + 1)
    found = sorted(backend.execute(keys)["key"])
    if len(found) > _MOST_KEYS:
        raise DataError(
            f"{files[0]}: more than {_MOST_KEYS:,} keys, so this is no export of Snowplow's."
        )
    return found


class Entities:
    """The columns that become properties, as JSON text, and what entities among them say."""

    def __init__(self, rows: Any, names: Sequence[str], written: bool) -> None:
        self.rows = rows
        self.texts = {
            name: _json_text(name, rows[PROPERTY + name], written and name not in ALSO_PROPERTIES)
            for name in names
        }

    def first(self, which: re.Pattern[str], *keys: str) -> Any:
        """Return the first text or number under any of some keys of the matching columns."""
        key = "|".join(keys)
        return self._found(which, rf'"(?:{key})"\s*:\s*"?([^"\\,\]}}\s]+)')

    def list_of(self, which: re.Pattern[str], *keys: str) -> Any:
        """Return the first list under any of some keys, as JSON text."""
        key = "|".join(keys)
        return self._found(which, rf'"(?:{key})"\s*:\s*(\[[^\]]*\])')

    def _found(self, which: re.Pattern[str], pattern: str) -> Any:
        texts = [text for name, text in self.texts.items() if which.fullmatch(name)]
        found = [text.re_extract(pattern, 1).nullif("").nullif("null") for text in texts]
        return ibis.coalesce(*found, ibis.null("string"))


def _json_text(name: str, column: Any, written: bool) -> Any:
    """Return a column as JSON text; `written` says that it is such already."""
    if written or not column.type().is_string():
        return column if written else as_json(column)
    if _SELF_DESCRIBING.fullmatch(name):
        looks = column.re_search(r"^\s*[\[{]")
        return ibis.cases((looks, ibis.coalesce(json_texts(column, [[]])[0], quoted(column))),
                          else_=quoted(column))  # fmt: skip
    if _NUMBERS.fullmatch(name):
        return number_or_quoted(column)
    if _BOOLEANS.fullmatch(name):
        return column.isin(["true", "false"]).ifelse(column, quoted(column))
    return quoted(column)
