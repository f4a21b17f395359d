"""What the engine computes: kept for itself, written as Parquet in order, or fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seqjourney.events.engine.connection import is_spark
from seqjourney.events.engine.files import literal_path


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
    if not any(place.glob("*/*.parquet")):
        return None
    names = [literal_path(file) for file in sorted(Path(place).glob("*/*.parquet"))]
    return backend.read_parquet(names, hive_partitioning=True)


def keep(backend: Any, name: str, rows: Any) -> Any:
    """Compute a smaller table once, to be used several times."""
    if is_spark(backend):
        return _spark().keep(backend, name, rows)
    return backend.create_table(name, rows)


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
        rows_of: returns the rows of one bucket of customers, or of all (None).
        folder: does not exist yet.
        columns: what to write, in order.
        order: columns that put the rows in a total order.
    """
    from seqjourney.events.cleaning import BUCKETS

    if is_spark(backend):
        _spark().write_buckets(backend, rows_of(None), folder, columns, order)
        return
    for bucket in BUCKETS:
        target = folder / f"bucket={bucket}"
        target.mkdir(parents=True)
        part = rows_of(bucket).select(*columns).order_by(*order)
        backend.to_parquet(part, target / "part-0.parquet", compression="zstd")


def fetch_arrow(backend: Any, rows: Any) -> Any:
    """Bring a small table into memory as Arrow, moments as they are whatever the session's zone."""
    return _spark().fetch_arrow(backend, rows) if is_spark(backend) else backend.to_pyarrow(rows)


def _spark() -> Any:
    from seqjourney.events.engine import spark_results

    return spark_results
