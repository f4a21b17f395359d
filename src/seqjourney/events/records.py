"""Raw records under dotted paths: the same words open JSON Lines, Parquet and CSV.

A connector names the top-level keys of its records and the paths that it wants; it gets one lazy
table of those, and writes the rest as ordinary expressions. Each path leads to text: a number as
written, an object or a list as JSON. Where a file holds typed columns (Parquet), a path of one key
keeps its type, and deeper ones walk through structs, or through JSON in a text column.

A line that is not a JSON object is no row of that table: `Records.rejected` yields such lines
whole, with file, line number and reason, so that none is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis

from seqjourney.events.engine import (
    POSITION,
    json_texts,
    position_of,
    read_json_lines,
    read_table,
)
from seqjourney.events.files import kind_of
from seqjourney.events.rejects import Reject, rejected_lines

Paths = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Records:
    """Records of some files, not yet read.

    `rows` has the wanted names, text unless a typed file says otherwise, and `source_row` (int64,
    position in the input).
    """

    files: tuple[Path, ...]
    rows: Any
    keys: tuple[str, ...]
    """Top-level keys that the wanted paths begin with."""
    lines: Any | None = None
    """JSON Lines alone: every line, with its `file` and whether it is `empty` of those keys."""

    def rejected(self, backend: Any) -> Iterator[Reject]:
        """Yield the lines that are no records, one at a time; none is in `rows`."""
        if self.lines is None:
            return
        numbered = self.lines.mutate(number=position_of(self.lines))
        starts = numbered.group_by("file").aggregate(start=numbered.number.min())
        empty = numbered.filter(numbered.empty).inner_join(starts, "file")
        found = backend.execute(empty.select("file", position=empty.number - empty.start))
        for file, positions in sorted(found.groupby("file")["position"]):
            yield from rejected_lines(Path(file), positions.tolist(), self.keys)


def open_records(
    backend: Any,
    files: Sequence[Path],
    paths: Paths,
    *,
    typed: Mapping[str, str] | None = None,
) -> Records:
    """Open files of one kind and take the wanted paths of every record.

    Args:
        backend: from `events.engine.connect`.
        files: of one kind, as `events.files.find_files` gives them.
        paths: our name -> a dotted path (`context.page.url`), or several of which the first that
            holds anything counts. A key with dots or odd characters of its own is quoted:
            `properties."$current_url"`.
        typed: top-level keys of JSON Lines that are to be read with a type (a struct or list as
            DuckDB writes it), for records with lists of structs; others are read as text.

    Raises:
        DataError: a file cannot be read.
    """
    wanted = {name: [way] if isinstance(way, str) else list(way) for name, way in paths.items()}
    steps = {name: [split_path(way) for way in ways] for name, ways in wanted.items()}
    keys = tuple(dict.fromkeys(way[0] for ways in steps.values() for way in ways))
    lines = None
    if kind_of(files[0]) == "json":
        nested = {way[0] for ways in steps.values() for way in ways if len(way) > 1}
        types = {key: "JSON" if key in nested else "VARCHAR" for key in keys}
        table = read_json_lines(backend, files, types | dict(typed or {}))
        empty = ibis.and_(*(table[key].isnull() for key in keys))
        lines = table.select("file", *(c for c in (POSITION,) if c in table.columns), empty=empty)
        table = table.filter(~empty)
    else:
        table = read_table(backend, files)
    rows = table.select(source_row=position_of(table), **_values(table, steps))
    return Records(tuple(files), rows, keys, lines)


def split_path(path: str) -> list[str]:
    """Split `a."b.c".d` into its keys."""
    keys, word, quoted = [], "", False
    for letter in path:
        if letter == '"':
            quoted = not quoted
        elif letter == "." and not quoted:
            keys.append(word)
            word = ""
        else:
            word += letter
    return [*keys, word]


def _values(table: Any, steps: Mapping[str, list[list[str]]]) -> dict[str, Any]:
    """Take all paths; those into one JSON column together, so that it is parsed once."""
    deep: dict[str, list[list[str]]] = {}
    for ways in steps.values():
        for way in ways:
            if len(way) > 1 and way[0] in table.columns and _is_json(table[way[0]]):
                deep.setdefault(way[0], []).append(way[1:])
    texts = {
        (column, *rest): text
        for column, rests in deep.items()
        for rest, text in zip(map(tuple, rests), json_texts(table[column], rests), strict=True)
    }
    values: dict[str, Any] = {}
    for name, ways in steps.items():
        found = [value for way in ways if (value := _follow(table, way, texts)) is not None]
        if not found:
            values[name] = ibis.null("string")
        elif len(found) == 1:
            values[name] = found[0]
        else:
            values[name] = ibis.coalesce(*(value.cast("string") for value in found))
    return values


def _is_json(column: Any) -> bool:
    return bool(column.type().is_string() or column.type().is_json())


def _follow(table: Any, way: Sequence[str], texts: Mapping[tuple[str, ...], Any]) -> Any | None:
    """Return the value at a path; None where the files' schema has no such place."""
    if tuple(way) in texts:
        return texts[tuple(way)]
    if way[0] not in table.columns:
        return None
    value = table[way[0]]
    for position, key in enumerate(way[1:], start=1):
        if value.type().is_struct():
            if key not in value.type().fields:
                return None
            value = value[key]
        elif _is_json(value):
            return json_texts(value, [list(way[position:])])[0]
        else:
            return None
    return value.cast("string") if value.type().is_json() else value
