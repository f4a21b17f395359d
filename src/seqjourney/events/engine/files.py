"""Opening files as lazy tables, and the place of each row in them."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seqjourney.errors import DataError
from seqjourney.events.engine.connection import is_spark
from seqjourney.events.engine.errors import explain, not_utf8
from seqjourney.events.files import kind_of

POSITION = "__position"
"""Column of tables that know the place of their rows in the input, see `position_of`."""
_ROW, _FILE, _FIRST = "file_row_number", "__file", "__first"  # the first as the engine names it
_LONGEST_JSON_LINE = 64 * 2**20  # bytes; a longer one stops with the engine's message


def read_table(backend: Any, files: Sequence[Path]) -> Any:
    """Open CSV or Parquet files as one lazy table; CSV columns all as text.

    Its columns are those of the files and perhaps `POSITION`; `columns_of` leaves that one out.

    Raises:
        DataError: a file cannot be read.
    """
    import duckdb

    names = [str(file) for file in files]
    try:
        if is_spark(backend):
            rows = _spark().read_table(backend, files)
        elif kind_of(files[0]) == "csv":
            # Only the delimiter is guessed from a sample. Types follow from what a column is
            # declared to be, the first quoted name may stand in the last row, and rows that do
            # not look like the others must not be skipped as titles or comments.
            dialect = {"header": True, "skip": 0, "comment": "", "quote": '"', "escape": '"'}
            rows = _with_folders(
                names, backend.read_csv, all_varchar=True, union_by_name=True, **dialect
            )
        else:
            rows = _read_numbered(backend, names)
    except (duckdb.OutOfMemoryException, DataError):
        raise  # not the file's fault (`connect` explains it), or explained already
    except Exception as error:  # the engine raises several kinds; each means an unreadable file
        many = len(files) > 1
        shown = f"one of {len(files)} files from {files[0]} on" if many else str(files[0])
        explanation = not_utf8(error) or f"{shown} cannot be read: {explain(error)}"
        raise DataError(explanation) from error
    columns = columns_of(rows)
    if len(columns) == 1 and any(mark in columns[0] for mark in ",;\t|"):
        raise DataError(
            f"{files[0]} cannot be split into columns: some rows have more or fewer fields than "
            f"the header '{columns[0]}'. Mend them and try again."
        )
    return rows


def columns_of(rows: Any) -> list[str]:
    """Return the columns that a table's files have."""
    return [column for column in rows.columns if column != POSITION]


def position_of(rows: Any) -> Any:
    """Return the place of each row in the input, from 0 on (int64).

    DuckDB counts the rows as they come, which is the order of the files. Spark's come in any
    order: its tables carry the place, and lines that are no records keep theirs.
    """
    import ibis

    return rows[POSITION] if POSITION in rows.columns else ibis.row_number().cast("int64")


def read_parquet(backend: Any, files: Path | Sequence[Path]) -> Any:
    """Open Parquet files that we have written as one lazy table of their columns."""
    if is_spark(backend):
        return _spark().read_parquet(backend, files)
    names = [literal_path(file) for file in ([files] if isinstance(files, Path) else files)]
    return backend.read_parquet(names, hive_partitioning=False)


def read_json_lines(backend: Any, files: Sequence[Path], types: Mapping[str, str]) -> Any:
    """Open JSON Lines as one lazy table of the named keys and `file`.

    A line that is not a JSON object becomes a row of nulls, in its place; blank lines are none.

    Args:
        backend: from `connect`.
        files: JSON Lines, gzipped or not.
        types: key -> DuckDB's type (`VARCHAR`, `JSON`, or a struct or list of them). On Spark
            `JSON` is text.
    """
    if is_spark(backend):
        return _spark().read_json_lines(backend, files, types)
    return backend.read_json(
        [literal_path(file) for file in files],
        columns=dict(types),
        format="newline_delimited",
        ignore_errors=True,
        maximum_object_size=_LONGEST_JSON_LINE,
        filename="file",
        hive_partitioning=False,  # a folder `event=x` must not rename what lies in it
    )


def json_keys(backend: Any, files: Sequence[Path]) -> Any:
    """Return the distinct top-level keys of JSON Lines as a lazy table of one column, `key`."""
    import ibis
    import ibis.expr.datatypes as dt

    if is_spark(backend):
        return _spark().json_keys(backend, files)

    @ibis.udf.scalar.builtin(name="json_keys", signature=((dt.json,), dt.Array(dt.string)))
    def keys_of(record: Any) -> Any: ...

    lines = backend.read_json(
        [literal_path(file) for file in files],
        columns={"json": "JSON"},
        records="false",
        format="newline_delimited",
        ignore_errors=True,
        maximum_object_size=_LONGEST_JSON_LINE,
        hive_partitioning=False,
    )
    return lines.select(key=keys_of(lines.json).unnest()).distinct()


def _read_numbered(backend: Any, names: Sequence[str]) -> Any:
    """Open Parquet files with `POSITION`, from each file's own numbers of rows.

    Rows that have to be counted as they come must come one after the other: with two threads that
    doubles the time of what reads them.
    """
    import ibis
    import pyarrow.parquet as pq

    read = partial(backend.read_parquet, union_by_name=True)
    files = [pq.read_metadata(name) for name in names]
    if any(_ROW in file.schema.to_arrow_schema().names for file in files):
        return _with_folders(names, read)  # the engine refuses to number these
    if len(names) == 1:
        rows = _with_folders(names, read, file_row_number=True)
        return rows.rename({POSITION: _ROW})
    before = itertools.accumulate([0, *(file.num_rows for file in files[:-1])])
    rows = _with_folders(names, read, file_row_number=True, filename=_FILE)
    first = ibis.memtable({_FILE: list(map(_absolute, names)), _FIRST: list(before)})
    placed = rows.left_join(first, _FILE)
    return placed.select(
        *(column for column in rows.columns if column not in (_ROW, _FILE)),
        **{POSITION: placed[_ROW] + placed[_FIRST]},
    )


def _with_folders(names: Sequence[str], read: Any, **options: Any) -> Any:
    """Read tables with the columns that their folders name (`day=1/`), if the files lack these."""
    literal = [literal_path(name) for name in names]
    rows = read(literal, hive_partitioning=False, **options)
    named = {re.sub("=.*", "", part) for name in names for part in Path(name).parts if "=" in part}
    known = {column.lower() for column in rows.columns}
    if not named or any(column.lower() in known for column in named):
        return rows
    return read(literal, **options)


def literal_path(file: Path | str) -> str:
    """Return the pattern that stands for one file: DuckDB reads `*`, `?` and `[` as wildcards."""
    return glob.escape(_absolute(file))


def _absolute(file: Path | str) -> str:
    """Return the path under which a table names its file; unlike pathlib's it has no `..`."""
    return os.path.abspath(file)  # noqa: PTH100


def _spark() -> Any:
    from seqjourney.events.engine import spark_files

    return spark_files
