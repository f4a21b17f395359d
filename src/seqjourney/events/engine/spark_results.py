"""`engine.results` on Spark."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqjourney.events.engine.spark import SCRATCH, frame, session_of, table


def materialise(backend: Any, rows: Any, place: Path) -> Any:
    """See `engine.materialise`."""
    frame(backend, rows).write.option("compression", "snappy").parquet(str(place))
    return table(backend, session_of(backend).read.parquet(str(place)))


def stage(backend: Any, rows: Any, place: Path) -> Any | None:
    """See `engine.stage`; it is one table, never in memory: `write_buckets` parts it itself."""
    found = materialise(backend, rows, place)
    return found if int(backend.execute(found.count())) else None


def keep(backend: Any, name: str, rows: Any) -> Any:
    """See `engine.keep`."""
    place = Path(session_of(backend).conf.get(SCRATCH)) / f"{name}.parquet"
    shutil.rmtree(place, ignore_errors=True)
    return materialise(backend, rows, place)


def write_parquet(
    backend: Any, rows: Any, file: Path, order: Sequence[str], compression: str
) -> None:
    """See `engine.write_parquet`; one worker sorts and writes."""
    partial = file.with_name(file.name + ".spark")
    ordered = frame(backend, rows).repartition(1).sortWithinPartitions(*_ascending(order))
    ordered.write.option("compression", compression).parquet(str(partial))
    _only_file(partial).rename(file)
    shutil.rmtree(partial)


def write_buckets(
    backend: Any, rows: Any, folder: Path, columns: Sequence[str], order: Sequence[str]
) -> None:
    """See `engine.write_buckets`; all buckets at once, each sorted and written by one worker."""
    import pyarrow.parquet as pq

    from seqjourney.events.cleaning import BUCKETS, bucket_of

    partial = folder.with_name(folder.name + ".spark")
    marked = frame(backend, rows.select(*columns, __bucket=bucket_of(rows.customer_id)))
    ordered = marked.repartition(len(BUCKETS), "__bucket")
    ordered = ordered.sortWithinPartitions("__bucket", *_ascending(order))
    writer = ordered.write.partitionBy("__bucket").option("compression", "zstd")
    writer.parquet(str(partial))
    written = {place.name[-1]: _only_file(place) for place in partial.glob("__bucket=*")}
    schema = pq.read_schema(next(iter(written.values()))) if written else None
    for bucket in BUCKETS:
        target = folder / f"bucket={bucket}"
        target.mkdir(parents=True)
        if bucket in written:
            written[bucket].rename(target / "part-0.parquet")
        elif schema is not None:
            pq.write_table(schema.empty_table(), target / "part-0.parquet", compression="zstd")
    shutil.rmtree(partial)


def _ascending(order: Sequence[str]) -> list[Any]:
    from pyspark.sql import functions as F

    return [F.col(f"`{name}`").asc_nulls_last() for name in order]


def _only_file(folder: Path) -> Path:
    (file,) = folder.glob("*.parquet")
    return file


def fetch_arrow(backend: Any, rows: Any) -> Any:
    """See `engine.fetch_arrow`."""
    return frame(backend, rows).toArrow().cast(rows.schema().to_pyarrow())
