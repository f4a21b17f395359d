"""A connection to DuckDB or Spark, and which of the two it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from seqjourney.errors import ConfigError, DataError
from seqjourney.events.engine.errors import explain, not_utf8

_connected = ContextVar("connected", default="duckdb")
_WILDCARDS = {"duckdb": "?", "spark": "?*[{"}
"""Signs that no path of the engine's own folder may hold: it would look for other files."""


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
        from seqjourney.events.engine import spark

        before = _connected.set("pyspark")
        try:
            with spark.connect(scratch, memory_limit, threads, timezone) as backend:
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
    except duckdb.Error as error:
        unusable = (duckdb.InvalidInputException, duckdb.IOException, duckdb.CatalogException)
        # An error without a kind is one of a library that reads files: Thrift's, for one.
        of_input = isinstance(error, unusable) or type(error) is duckdb.Error
        if not of_input or "No space left on device" in str(error):
            raise
        explanation = not_utf8(error) or f"the engine stopped: {explain(error)}"
        raise DataError(explanation) from error


def is_spark(found: Any) -> bool:
    """Whether a backend is Spark's, or an expression one that Spark will run.

    The items of a list know no table and so no engine: there the one that is connected counts.
    """
    import ibis

    if not isinstance(found, ibis.Expr):
        return bool(found.name == "pyspark")
    names = {backend.name for backend in found._find_backends()[0]}
    return "pyspark" in (names or {_connected.get()})
