"""The columnar engine: DuckDB behind Ibis by default, Spark when the data config says so.

Everything above is written as Ibis expressions, which both engines run with the same result. What
no expression says alike (opening and writing files, paths into JSON, how a moment or a number is
written) stands here for DuckDB, with a memory limit and spilling to disk beyond it, and in
`spark_engine` for Spark: there only, and nowhere above, is known which of the two runs.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from seqjourney.errors import ConfigError, DataError
from seqjourney.events.engine_errors import explain, not_utf8
from seqjourney.events.files import kind_of

POSITION = "__position"
"""Column of tables that know the place of their rows in the input, see `position_of`."""
_ROW, _FILE, _FIRST = "file_row_number", "__file", "__first"  # the first as the engine names it
_connected = ContextVar("connected", default="duckdb")
_WILDCARDS = {"duckdb": "?", "spark": "?*[{"}
"""Signs that no path of the engine's own folder may hold: it would look for other files."""
LONGEST_JSON_LINE = 64 * 2**20  # bytes; a longer one stops with the engine's message


@contextmanager
def connect(
    scratch: Path,
    *,
    memory_limit: str = "4GB",
    threads: int | None = None,
    timezone: str = "UTC",
    engine: str = "duckdb",
) -> Iterator[Any]:
    """Yield an Ibis backend whose tables and spilled data live in `scratch`.

    Args:
        scratch: an existing folder; what the engine writes there is removed at the end.
        memory_limit: such as `4GB`; larger intermediate results spill to `scratch`.
        threads: unset means all cores.
        timezone: zone in which times without an offset are read.
        engine: `duckdb` or `spark`.

    Raises:
        ConfigError: the engine is not installed, or cannot work in this folder.
        DataError: the engine could not read or write something; the message names it.
    """
    forbidden = [sign for sign in _WILDCARDS[engine] if sign in str(scratch)]
    if forbidden:
        raise ConfigError(
            f"{scratch}: the engine cannot work in a folder whose path holds '{forbidden[0]}'. "
            "Choose another place for processed=... and output=..."
        )
    if engine == "spark":
        from seqjourney.events import spark_engine

        before = _connected.set("pyspark")
        try:
            with spark_engine.connect(scratch, memory_limit, threads, timezone) as backend:
                yield backend
        finally:
            _connected.reset(before)
        return
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
        explanation = not_utf8(error) or f"the engine stopped: {explain(error)}"
        raise DataError(explanation) from error


def read_table(backend: Any, files: Sequence[Path]) -> Any:
    """Open CSV or Parquet files as one lazy table; CSV columns all as text.

    Its columns are those of the files and perhaps `POSITION`; `columns_of` leaves that one out.

    Raises:
        DataError: a file cannot be read.
    """
    import duckdb

    names = [str(file) for file in files]
    try:
        if _is_spark(backend):
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
    if _is_spark(backend):
        return _spark().read_parquet(backend, files)
    names = [_literal(file) for file in ([files] if isinstance(files, Path) else files)]
    return backend.read_parquet(names, hive_partitioning=False)


def _read_numbered(backend: Any, names: Sequence[str]) -> Any:
    """Open Parquet files with `POSITION`, from each file's own numbers of rows.

    Rows that have to be counted as they come must come one after the other: with two threads that
    doubles the time of what reads them.
    """
    import ibis
    import pyarrow.parquet as pq

    read = partial(backend.read_parquet, union_by_name=True)
    files = [pq.ParquetFile(name) for name in names]
    if any(_ROW in file.schema_arrow.names for file in files):
        return _with_folders(names, read)  # the engine refuses to number these
    before = itertools.accumulate([0, *(file.metadata.num_rows for file in files[:-1])])
    rows = _with_folders(names, read, file_row_number=True, filename=_FILE)
    first = ibis.memtable({_FILE: list(map(_absolute, names)), _FIRST: list(before)})
    placed = rows.left_join(first, _FILE)
    return placed.select(
        *(column for column in rows.columns if column not in (_ROW, _FILE)),
        **{POSITION: placed[_ROW] + placed[_FIRST]},
    )


def _with_folders(names: Sequence[str], read: Any, **options: Any) -> Any:
    """Read tables with the columns that their folders name (`day=1/`), if the files lack these."""
    literal = [_literal(name) for name in names]
    rows = read(literal, hive_partitioning=False, **options)
    named = {re.sub("=.*", "", part) for name in names for part in Path(name).parts if "=" in part}
    known = {column.lower() for column in rows.columns}
    if not named or any(column.lower() in known for column in named):
        return rows
    return read(literal, **options)


def read_json_lines(backend: Any, files: Sequence[Path], types: Mapping[str, str]) -> Any:
    """Open JSON Lines as one lazy table of the named keys and `file`.

    A line that is not a JSON object becomes a row of nulls, in its place; blank lines are none.

    Args:
        backend: from `connect`.
        files: JSON Lines, gzipped or not.
        types: key -> DuckDB's type (`VARCHAR`, `JSON`, or a struct or list of them). On Spark
            `JSON` is text.
    """
    if _is_spark(backend):
        return _spark().read_json_lines(backend, files, types)
    return backend.read_json(
        [_literal(file) for file in files],
        columns=dict(types),
        format="newline_delimited",
        ignore_errors=True,
        maximum_object_size=LONGEST_JSON_LINE,
        filename="file",
        hive_partitioning=False,  # a folder `event=x` must not rename what lies in it
    )


def json_keys(backend: Any, files: Sequence[Path]) -> Any:
    """Return the distinct top-level keys of JSON Lines as a lazy table of one column, `key`."""
    import ibis
    import ibis.expr.datatypes as dt

    if _is_spark(backend):
        return _spark().json_keys(backend, files)

    @ibis.udf.scalar.builtin(name="json_keys", signature=((dt.json,), dt.Array(dt.string)))
    def keys_of(record: Any) -> Any: ...

    lines = backend.read_json(
        [_literal(file) for file in files],
        columns={"json": "JSON"},
        records="false",
        format="newline_delimited",
        ignore_errors=True,
        maximum_object_size=LONGEST_JSON_LINE,
        hive_partitioning=False,
    )
    return lines.select(key=keys_of(lines.json).unnest()).distinct()


def json_texts(column: Any, paths: Sequence[Sequence[str]]) -> list[Any]:
    """Follow several paths into one JSON column; each gives text, or null where nothing is.

    Args:
        column: JSON, or text that holds JSON.
        paths: keys from the outside in.
    """
    import ibis
    import ibis.expr.datatypes as dt

    if _is_spark(column):
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
    if _is_spark(column):
        return column if column.type().is_array() else _spark().json_items(column)
    items = column if column.type().is_array() else column.try_cast("json").array
    return items.cast("array<json>")


def moment(text: Any) -> Any:
    """Read ISO 8601 text as UTC microseconds; null where it is no moment."""
    from seqjourney.events.cleaning import UTC_MICROSECONDS

    return (_spark().moment_like(text) if _is_spark(text) else text).try_cast(UTC_MICROSECONDS)


def as_text(column: Any) -> Any:
    """Return a column of plain values as text that is the same on every engine."""
    return _spark().as_text(column) if _is_spark(column) else column.cast("string")


def materialise(
    backend: Any, rows: Any, place: Path, *, partition_by: str | None = None
) -> Any | None:
    """Write rows where only the engine reads them again, and open what was written.

    Args:
        backend: from `connect`.
        rows: Ibis table.
        place: does not exist yet.
        partition_by: a text column that filters will name: its rows lie in folders of their own.

    Returns:
        The lazy table; None where `partition_by` is given and there is no row.
    """
    if _is_spark(backend):
        return _spark().materialise(backend, rows, place, partition_by)
    if partition_by is None:
        backend.to_parquet(rows, place, compression="snappy")
        return backend.read_parquet(_literal(place))
    backend.to_parquet(rows, place, partition_by=partition_by, compression="snappy")
    if not any(place.glob("*/*.parquet")):
        return None
    names = [_literal(file) for file in sorted(Path(place).glob("*/*.parquet"))]
    return backend.read_parquet(names, hive_partitioning=True)


def keep(backend: Any, name: str, rows: Any) -> Any:
    """Compute a smaller table once, to be used several times."""
    if _is_spark(backend):
        return _spark().keep(backend, name, rows)
    return backend.create_table(name, rows)


def write_parquet(
    backend: Any, rows: Any, file: Path, *, order: Sequence[str], compression: str = "zstd"
) -> None:
    """Write rows to one Parquet file in a fixed order, nulls last."""
    if _is_spark(backend):
        _spark().write_parquet(backend, rows, file, order, compression)
    else:
        backend.to_parquet(rows.order_by(*order), file, compression=compression)


def write_buckets(
    backend: Any,
    rows_of: Callable[[str | None], Any],
    folder: Path,
    *,
    columns: Sequence[str],
    order: Sequence[str],
) -> None:
    """Write `folder/bucket=<digit>/part-0.parquet`, each sorted.

    Args:
        backend: from `connect`.
        rows_of: returns the rows of one bucket of customers, or of all (None).
        folder: does not exist yet.
        columns: what to write, in order.
        order: columns that put the rows in a total order.
    """
    from seqjourney.events.cleaning import BUCKETS

    if _is_spark(backend):
        _spark().write_buckets(backend, rows_of(None), folder, columns, order)
        return
    for bucket in BUCKETS:
        target = folder / f"bucket={bucket}"
        target.mkdir(parents=True)
        part = rows_of(bucket).select(*columns).order_by(*order)
        backend.to_parquet(part, target / "part-0.parquet", compression="zstd")


def _literal(file: Path | str) -> str:
    """Return the pattern that stands for one file: DuckDB reads `*`, `?` and `[` as wildcards."""
    return glob.escape(_absolute(file))


def _absolute(file: Path | str) -> str:
    """Return the path under which a table names its file; unlike pathlib's it has no `..`."""
    return os.path.abspath(file)  # noqa: PTH100


def fetch_arrow(backend: Any, rows: Any) -> Any:
    """Bring a small table into memory as Arrow, moments as they are whatever the session's zone."""
    return _spark().fetch_arrow(backend, rows) if _is_spark(backend) else backend.to_pyarrow(rows)


def _is_spark(found: Any) -> bool:
    """Whether a backend is Spark's, or an expression one that Spark will run.

    The items of a list know no table and so no engine: there the one that is connected counts.
    """
    import ibis

    if not isinstance(found, ibis.Expr):
        return bool(found.name == "pyspark")
    names = {backend.name for backend in found._find_backends()[0]}
    return "pyspark" in (names or {_connected.get()})


def _spark() -> Any:
    from seqjourney.events import spark_engine

    return spark_engine


def _escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace('"', '\\"')
