"""What the engine computes: kept for itself, written as Parquet in order, or fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from seqjourney.events.engine.connection import is_spark
from seqjourney.events.engine.files import literal_path

_MOST_AT_ONCE = 4
"""Buckets that are put in order at the same time; memory holds all of them."""


def materialise(backend: Any, rows: Any, place: Path) -> Any:
    """Write rows where only the engine reads them again, and open what was written.

    Args:
        backend: from `connect`.
        rows: Ibis table.
        place: does not exist yet.
    """
    if is_spark(backend):
        return _spark().materialise(backend, rows, place)
    backend.to_parquet(rows, place, compression="snappy")
    return backend.read_parquet(literal_path(place))


def stage(backend: Any, rows: Any, place: Path) -> Any | None:
    """Compute rows of customers once, for `write_buckets` and what must be known before it.

    They stay in memory where that has room for them. Otherwise they lie on disk, those of each
    bucket in a folder of their own, and a further column says which.

    Args:
        backend: from `connect`.
        rows: Ibis table with `customer_id`, which may be null.
        place: does not exist yet.

    Returns:
        The lazy table; None if there is no row.
    """
    import ibis

    if is_spark(backend):
        return _spark().stage(backend, rows, place)
    from seqjourney.events.engine import coded

    most = coded.room(backend)
    number = 0
    for chunk, last in coded.chunks(backend, rows, most):
        if last and number == 0:
            return ibis.memtable(chunk) if len(chunk) else None
        coded.write_parts(backend, chunk, place, number)
        number += 1  # noqa: SIM113 - `enumerate` would hold on to the chunk
        del chunk  # before the next one comes
    return _lasting_view(backend, sorted(place.glob("*/*.parquet")))


def all_differ(backend: Any, rows: Any, column: str) -> bool:
    """Whether no two rows surely have the same value in a column: their hashes all differ.

    It asks rows in memory alone; of others it is not sure.
    """
    import numpy as np

    from seqjourney.events.engine import coded

    if is_spark(backend) or coded.in_memory(rows) is None:
        return False
    hashes = fetch_arrow(backend, rows.select(hash=rows[column].hash()))["hash"]
    hashes = np.sort(hashes.to_numpy())
    return bool((hashes[1:] != hashes[:-1]).all())


def _lasting_view(backend: Any, files: Sequence[Path]) -> Any:
    """Open files as a table with the columns that their folders name."""
    import ibis

    name = ibis.util.gen_name("staged")
    names = ", ".join(f"'{literal_path(file).replace(chr(39), chr(39) * 2)}'" for file in files)
    backend.raw_sql(
        f'CREATE VIEW "{name}" AS SELECT * FROM read_parquet([{names}], hive_partitioning = true)'
    )
    return backend.table(name)


def where_null(rows: Any, column: str) -> Any:
    """Return the rows without a value in a column; from memory they stay in memory."""
    import ibis
    import pyarrow.compute as pc

    from seqjourney.events.engine import coded

    held = coded.in_memory(rows)
    if held is None:
        return rows.filter(rows[column].isnull())
    if held[column].null_count == len(held):
        return rows
    return ibis.memtable(held.filter(pc.is_null(held[column])).combine_chunks())


def without(backend: Any, rows: Any, others: Any, column: str) -> Any:
    """Return the rows whose value in a column `others` do not have; from memory they stay there."""
    import ibis
    import pyarrow.compute as pc

    from seqjourney.events.engine import coded

    held = coded.in_memory(rows)
    if held is None:
        return rows.anti_join(others, column)
    values = fetch_arrow(backend, others.select(column))[column].combine_chunks()
    known = pc.is_in(held[column], value_set=values)
    return ibis.memtable(held.filter(pc.invert(known)).combine_chunks())


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
    staged: Any,
    finish: Callable[[Any], Any],
    folder: Path,
    *,
    columns: Sequence[str],
    order: Sequence[str],
    also: Callable[[Any], None] | None = None,
) -> None:
    """Write `folder/bucket=<digit>/part-0.parquet`, each sorted.

    Args:
        backend: from `connect`.
        staged: from `stage`.
        finish: makes what is written of `staged` or, bucket by bucket, of some of its rows.
        folder: does not exist yet.
        columns: what to write, in order.
        order: columns that put the rows in a total order, `customer_id` first.
        also: is given all that was written, in order, as Arrow tables of whole customers whose
            repeated texts are codes.
    """
    from seqjourney.events.cleaning import BUCKETS
    from seqjourney.events.engine import coded

    def file_of(bucket: str) -> Path:
        return folder / f"bucket={bucket}" / "part-0.parquet"

    def pass_on(bucket: str) -> None:
        if also is not None:
            for table in coded.whole_customers(file_of(bucket), columns):
                also(table)

    if is_spark(backend):
        _spark().write_buckets(backend, finish(staged), folder, columns, order)
        for bucket in BUCKETS:
            pass_on(bucket)
        return
    for bucket in BUCKETS:
        file_of(bucket).parent.mkdir(parents=True)
    threads = backend.con.execute("SELECT current_setting('threads')").fetchone()[0]
    at_once = min(threads, _MOST_AT_ONCE)
    held = coded.in_memory(staged) is not None
    most = coded.room(backend) // (1 if held else at_once)
    with _in_turn(at_once, also) as do:
        for buckets in [BUCKETS] if held else BUCKETS:
            part = staged if held else staged.filter(staged[coded.PART] == f"b{buckets}")
            rows = finish(part)
            table = coded.gather(backend, rows, columns, most)
            if table is None:
                do(None)
                for bucket in buckets:
                    _sort_and_write(backend, rows, bucket, file_of(bucket), columns, order)
                    pass_on(bucket)
                continue
            ranks, parts = coded.by_bucket(backend, table)
            for bucket in buckets:
                mine = parts[bucket]
                do(partial(_order_and_write, table, ranks, mine, order, file_of(bucket)))
            del table


def _order_and_write(table: Any, ranks: Any, rows: Any, order: Sequence[str], file: Path) -> Any:
    from seqjourney.events.engine import coded

    part = coded.ordered(table, ranks, rows, order)
    coded.write_file(part, file)
    return part


def _sort_and_write(
    backend: Any, rows: Any, bucket: str, file: Path, columns: Sequence[str], order: Sequence[str]
) -> None:
    """Leave a bucket that is larger than memory has room for to the engine."""
    from seqjourney.events.cleaning import bucket_of

    mine = rows.filter(bucket_of(rows.customer_id) == bucket).select(*columns).order_by(*order)
    backend.to_parquet(mine, file, compression="zstd")


@contextmanager
def _in_turn(
    workers: int, take: Callable[[Any], None] | None
) -> Iterator[Callable[[Callable[[], Any] | None], None]]:
    """Yield a function that has jobs done by threads, and their results taken in their order.

    Few are done ahead of the one that is taken. None, for a job, waits for all.
    """
    doing: deque[Future[Any]] = deque()

    def take_until(left: int) -> None:
        while len(doing) > left:
            result = doing.popleft().result()
            if take is not None:
                take(result)

    with ThreadPoolExecutor(workers) as pool:

        def do(job: Callable[[], Any] | None) -> None:
            if job is None:
                take_until(0)
            else:
                doing.append(pool.submit(job))
                take_until(workers)

        try:
            yield do
            take_until(0)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def fetch_arrow(backend: Any, rows: Any) -> Any:
    """Bring a small table into memory as Arrow, moments as they are whatever the session's zone."""
    return _spark().fetch_arrow(backend, rows) if is_spark(backend) else backend.to_pyarrow(rows)


def _spark() -> Any:
    from seqjourney.events.engine import spark_results

    return spark_results
