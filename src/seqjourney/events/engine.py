"""The columnar engine: DuckDB behind Ibis, with a memory limit, spilling to disk beyond it.

Everything above is written as Ibis expressions, so that another engine can run the same ones.
What no expression says alike for all engines (opening files, paths into JSON) stands here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqjourney.errors import DataError
from seqjourney.events.files import kind_of

_LONGEST_JSON_LINE = 64 * 2**20  # bytes; a longer one stops with the engine's message


@contextmanager
def connect(
    scratch: Path, *, memory_limit: str = "4GB", threads: int | None = None, timezone: str = "UTC"
) -> Iterator[Any]:
    """Yield an Ibis DuckDB backend whose tables and spilled data live in `scratch`.

    Args:
        scratch: an existing folder; what the engine writes there is removed at the end.
        memory_limit: such as `4GB`; larger intermediate results spill to `scratch`.
        threads: unset means all cores.
        timezone: zone in which times without an offset are read.

    Raises:
        DataError: the engine could not read or write something; the message names it.
    """
    import duckdb
    import ibis

    options: dict[str, Any] = {
        "memory_limit": memory_limit,
        "temp_directory": str(scratch / "spill"),
    }
    if threads is not None:
        options["threads"] = threads
    # Ibis would merge neighbouring selects by copying expressions into one another, which both
    # it and the engine then work through as many times as they are used.
    ibis.options.sql.fuse_selects = False
    database = scratch / "engine.duckdb"
    try:
        backend = ibis.duckdb.connect(str(database), **options)
        try:
            backend.raw_sql(f"SET TimeZone = '{timezone.replace(chr(39), '')}'")
            yield backend
        finally:
            backend.disconnect()
            for leftover in (database, database.with_name(database.name + ".wal")):
                leftover.unlink(missing_ok=True)
    except duckdb.OutOfMemoryException as error:
        raise DataError(
            f"the engine needs more than data.memory_limit={memory_limit} or the disk under "
            f"{scratch} is full; raise the limit or free disk space. ({explain(error)})"
        ) from error
    except (duckdb.InvalidInputException, duckdb.IOException, duckdb.CatalogException) as error:
        if "No space left on device" in str(error):
            raise
        raise DataError(f"the engine stopped: {explain(error)}") from error


def read_table(backend: Any, files: Sequence[Path]) -> Any:
    """Open CSV or Parquet files as one lazy table; CSV columns all as text.

    Raises:
        DataError: a file cannot be read.
    """
    import duckdb

    names = [str(file) for file in files]
    try:
        if kind_of(files[0]) == "csv":
            # Only the delimiter is guessed from a sample. Types follow from what a column is
            # declared to be, the first quoted name may stand in the last row, and rows that do
            # not look like the others must not be skipped as titles or comments.
            dialect = {"header": True, "skip": 0, "comment": "", "quote": '"', "escape": '"'}
            rows = backend.read_csv(names, all_varchar=True, union_by_name=True, **dialect)
        else:
            rows = backend.read_parquet(names, union_by_name=True)
    except duckdb.OutOfMemoryException:
        raise  # not the file's fault; `connect` explains it
    except Exception as error:  # the engine raises several kinds; each means an unreadable file
        shown = names[0] if len(names) == 1 else f"one of {len(names)} files from {names[0]} on"
        raise DataError(f"{shown} cannot be read: {explain(error)}") from error
    if len(rows.columns) == 1 and any(mark in rows.columns[0] for mark in ",;\t|"):
        raise DataError(
            f"{names[0]} cannot be split into columns: some rows have more or fewer fields than "
            f"the header '{rows.columns[0]}'. Mend them and try again."
        )
    return rows


def read_json_lines(backend: Any, files: Sequence[Path], types: Mapping[str, str]) -> Any:
    """Open JSON Lines as one lazy table of the named keys and `file`.

    A line that is not a JSON object becomes a row of nulls, in its place; blank lines are none.

    Args:
        backend: from `connect`.
        files: JSON Lines, gzipped or not.
        types: key -> the engine's type (`VARCHAR`, `JSON`, or a struct or list).
    """
    return backend.read_json(
        [str(file) for file in files],
        columns=dict(types),
        format="newline_delimited",
        ignore_errors=True,
        maximum_object_size=_LONGEST_JSON_LINE,
        filename="file",
    )


def json_texts(column: Any, paths: Sequence[Sequence[str]]) -> list[Any]:
    """Follow several paths into one JSON column; each gives text, or null where nothing is.

    Args:
        column: JSON, or text that holds JSON.
        paths: keys from the outside in.
    """
    import ibis
    import ibis.expr.datatypes as dt

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


def _escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace('"', '\\"')


def explain(error: BaseException) -> str:
    """Return what a person needs of an engine's message: the file, not its hints about SQL."""
    file = re.search(r"^\s*file = (.+)$", str(error), re.MULTILINE)
    text = re.split(r"\n\s*(?:Possible|File|file =|LINE)", str(error))[0]
    text = re.sub(r"(Original Line: .{60}).*", r"\1 ...", text)
    return (f"{file[1]}: " if file else "") + " ".join(text.split())
