"""The columnar engine: DuckDB behind Ibis, with a memory limit, spilling to disk beyond it.

Everything above is written as Ibis expressions, so that another engine can run the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqjourney.errors import DataError


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


def explain(error: BaseException) -> str:
    """Return what a person needs of an engine's message: the file, not its hints about SQL."""
    file = re.search(r"^\s*file = (.+)$", str(error), re.MULTILINE)
    text = re.split(r"\n\s*(?:Possible|File|file =|LINE)", str(error))[0]
    text = re.sub(r"(Original Line: .{60}).*", r"\1 ...", text)
    return (f"{file[1]}: " if file else "") + " ".join(text.split())
