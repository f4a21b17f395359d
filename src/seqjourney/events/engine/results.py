"""What the engine computes: kept for itself, written as Parquet in order, or fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqjourney.events.engine.connection import is_spark
from seqjourney.events.engine.files import literal_path

_MOST_AT_ONCE = 4
"""Buckets that are written at the same time: each is sorted in memory that all of them share."""


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
    if is_spark(backend):
        return _spark().materialise(backend, rows, place, partition_by)
    if partition_by is None:
        backend.to_parquet(rows, place, compression="snappy")
        return backend.read_parquet(literal_path(place))
    backend.to_parquet(rows, place, partition_by=partition_by, compression="snappy")
    files = sorted(place.glob("*/*.parquet"))
    return _lasting_view(backend, files) if files else None


def _lasting_view(backend: Any, files: Sequence[Path]) -> Any:
    """Open files of a partitioned table so that `write_buckets` sees it from every connection."""
    import ibis

    name = ibis.util.gen_name("materialised")
    names = ", ".join(f"'{literal_path(file).replace(chr(39), chr(39) * 2)}'" for file in files)
    backend.raw_sql(
        f'CREATE VIEW "{name}" AS SELECT * FROM read_parquet([{names}], hive_partitioning = true)'
    )
    return backend.table(name)


def keep(backend: Any, name: str, rows: Any) -> Any:
    """Compute a smaller table once, to be used several times."""
    if is_spark(backend):
        return _spark().keep(backend, name, rows)
    return backend.create_table(name, rows)


@contextmanager
def keeping(backend: Any, rows: Any) -> Iterator[Any]:
    """Compute a table for as long as the block lasts; it is in memory, or spilled.

    On Spark it is a file in the scratch folder and stays until the connection ends.
    """
    import ibis

    name = ibis.util.gen_name("kept")
    if is_spark(backend):
        yield _spark().keep(backend, name, rows)
        return
    try:
        yield backend.create_table(name, rows, temp=True)
    finally:
        backend.raw_sql(f'DROP TABLE IF EXISTS "{name}"')


def write_parquet(
    backend: Any, rows: Any, file: Path, *, order: Sequence[str], compression: str = "zstd"
) -> None:
    """Write rows to one Parquet file in a fixed order, nulls last."""
    if is_spark(backend):
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
        rows_of: returns the rows of one bucket of customers, or of all (None); made of nothing but
            what `materialise` has partitioned and `keep` has kept.
        folder: does not exist yet.
        columns: what to write, in order.
        order: columns that put the rows in a total order.
    """
    from seqjourney.events.cleaning import BUCKETS

    if is_spark(backend):
        _spark().write_buckets(backend, rows_of(None), folder, columns, order)
        return
    zone, threads = backend.con.execute(
        "SELECT current_setting('TimeZone'), current_setting('threads')"
    ).fetchone()

    def write(query: str, place: Path) -> None:
        place.mkdir(parents=True)
        file = str(place / "part-0.parquet").replace("'", "''")
        with backend.con.cursor() as connection:
            connection.execute(f"SET TimeZone = '{zone}'")
            connection.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")

    # A bucket is often but one group of rows, which the engine gives to one thread.
    with ThreadPoolExecutor(min(threads, _MOST_AT_ONCE)) as workers:
        written = []
        try:
            for bucket in BUCKETS:
                part = rows_of(bucket).select(*columns).order_by(*order)
                place = folder / f"bucket={bucket}"
                written.append(workers.submit(write, backend.compile(part), place))
            for one in written:
                one.result()
        except BaseException:
            workers.shutdown(cancel_futures=True)
            raise


def fetch_arrow(backend: Any, rows: Any) -> Any:
    """Bring a small table into memory as Arrow, moments as they are whatever the session's zone."""
    return _spark().fetch_arrow(backend, rows) if is_spark(backend) else backend.to_pyarrow(rows)


def _spark() -> Any:
    from seqjourney.events.engine import spark_results

    return spark_results
