"""Rows in memory, as Arrow tables whose repeated texts are codes, and what becomes of them.

Most texts of a log repeat a few names. As codes they take a third of the memory, and to sort rows,
to write them and to make tokens of them costs a fraction of what it costs with text. Codes are in
the order of their texts, and a file holds no name that its rows do not: it depends on nothing but
them, and what one customer said stands nowhere but with that customer. Read in order: `chunks`
brings rows into memory, never more at a time than there is `room` for; `by_bucket` and `ordered`
put them in order; `write_file` writes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqjourney.events.engine.errors import of_stream

PART = "__part"
"""Column of rows on disk: `b` and the digit of their bucket, or `none`."""
_SHARE = 8  # of the memory limit is for rows in memory
_MOST = 2**30  # bytes; one Arrow array of text holds 2 GiB
_BATCH_ROWS = 100_000
_READ_ROWS = 500_000
_GROUP_ROWS = 122_880  # as the engine writes, so that its threads find work


def room(backend: Any) -> int:
    """Return how many bytes of rows may be in memory at a time, by the engine's memory limit."""
    query = "SELECT current_setting('memory_limit')"
    number, unit = backend.con.execute(query).fetchone()[0].split()  # such as 3.7 GiB
    limit = float(number) * 1024 ** "bKMGT".index(unit[0])
    return min(_MOST, int(limit) // _SHARE)


def in_memory(rows: Any) -> pa.Table | None:
    """Return the Arrow table that an Ibis table stands for, if it is one and nothing else."""
    import ibis.expr.operations as ops

    found = rows.op()
    data = found.data.obj if isinstance(found, ops.InMemoryTable) else None
    return data if isinstance(data, pa.Table) else None


def chunks(backend: Any, rows: Any, most: int) -> Generator[tuple[pa.Table, bool]]:
    """Run a query and bring its rows into memory in parts, `customer_id` and repeated texts coded.

    Args:
        backend: from `connect`, on DuckDB.
        rows: Ibis table.
        most: bytes of rows, as they come, beyond which a part ends.

    Yields:
        A table, each column in one piece, and whether it is the last; the last may have no rows.

    Raises:
        duckdb.Error: what the engine says of the query.
    """
    schema = rows.schema().to_pyarrow()
    coded: list[str] | None = None
    pieces: dict[str, list[pa.Array]] = {name: [] for name in schema.names}
    size = 0
    nothing = pa.RecordBatch.from_pylist([], schema=schema)  # last: no rows have columns too
    for batch in itertools.chain(_batches(backend, rows), [nothing]):
        if size > most:
            yield _one_piece(pieces), False
            size = 0
        if coded is None:
            coded = [name for name in schema.names if _repeats(batch, name)]
        for field, column in zip(schema, batch.columns, strict=True):
            plain = column if column.type == field.type else column.cast(field.type)
            piece = plain.dictionary_encode() if field.name in coded else plain
            pieces[field.name].append(piece)
            size += piece.nbytes
    yield _one_piece(pieces), True


def _batches(backend: Any, rows: Any) -> Iterator[pa.RecordBatch]:
    try:
        yield from backend.to_pyarrow_batches(rows, chunk_size=_BATCH_ROWS)
    except OSError as error:
        raise of_stream(error) from error


def gather(backend: Any, rows: Any, columns: Sequence[str], most: int) -> pa.Table | None:
    """Bring some columns into memory as `chunks` does; None if they take more than `most` bytes."""
    held = in_memory(rows)
    if held is not None:
        return held.select(list(columns))
    with closing(chunks(backend, rows.select(*columns), most)) as parts:
        table, whole = next(parts)
    return table if whole else None


def by_bucket(backend: Any, table: pa.Table) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Find the rows of each bucket.

    Returns:
        The rank of each row's customer among those of the bucket, (N,) uint16 or uint32, and by
        bucket (`""`: rows without a customer) the positions of its rows, as they come.
    """
    from seqjourney.events.cleaning import BUCKETS

    customers = table["customer_id"].combine_chunks()
    ids = customers.dictionary  # in order
    nobody = len(ids)
    codes = customers.indices.cast(pa.int32()).fill_null(nobody).to_numpy()
    bucket = np.append(_buckets(backend, ids), np.uint8(len(BUCKETS)))
    sizes = np.bincount(bucket, minlength=len(BUCKETS) + 1)
    kind = np.uint16 if sizes.max() <= 2**16 else np.uint32  # the former sort much faster
    ranks = np.empty(nobody + 1, kind)
    ranks[np.argsort(bucket, kind="stable")] = np.concatenate(
        [np.arange(size, dtype=kind) for size in sizes]
    )
    place = bucket[codes]
    rows = np.argsort(place, kind="stable")
    parts = np.split(rows, np.cumsum(np.bincount(place, minlength=len(sizes)))[:-1])
    return ranks[codes], dict(zip([*BUCKETS, ""], parts, strict=True))


def ordered(table: pa.Table, ranks: np.ndarray, rows: np.ndarray, order: Sequence[str]) -> pa.Table:
    """Take some rows of a table in order.

    Args:
        table: each column in one piece.
        ranks: of the rows' customers, see `by_bucket`.
        rows: positions, of one bucket.
        order: `customer_id`, `timestamp`, and columns that part the rows which both leave equal.
    """
    customer_id, timestamp, *rest = order
    times = table[timestamp].combine_chunks().cast(pa.int64()).to_numpy()
    rows = rows[np.lexsort((times[rows], ranks[rows]))]
    same = (ranks[rows[1:]] == ranks[rows[:-1]]) & (times[rows[1:]] == times[rows[:-1]])
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    if len(tied):
        doubtful = pa.array(rows[tied])
        keys = {
            customer_id: pa.array(ranks[rows[tied]]),
            timestamp: pa.array(times[rows[tied]]),
        }
        keys |= {name: _sortable(table[name].combine_chunks().take(doubtful)) for name in rest}
        ascending = [(name, "ascending") for name in order]
        found = pc.sort_indices(pa.RecordBatch.from_pydict(keys), sort_keys=ascending)
        rows[tied] = rows[tied][found.to_numpy()]
    return _taken(table, pa.array(rows))


def write_file(table: pa.Table, file: Path) -> None:
    """Write one Parquet file; codes are its dictionaries, and moments the gaps between them."""
    fields = list(table.schema)
    pq.write_table(
        table,
        file,
        compression="zstd",
        row_group_size=_GROUP_ROWS,
        use_dictionary=[f.name for f in fields if pa.types.is_dictionary(f.type)],
        column_encoding={
            f.name: "DELTA_BINARY_PACKED" for f in fields if pa.types.is_timestamp(f.type)
        },
        store_schema=False,  # codes are how we hold texts, not what they are
    )


def write_parts(backend: Any, table: pa.Table, folder: Path, number: int) -> None:
    """Write the rows of each bucket to `__part=b<digit>/`, those of nobody to `__part=none/`."""
    _, parts = by_bucket(backend, table)
    for bucket, rows in parts.items():
        if len(rows):
            place = folder / f"{PART}={f'b{bucket}' if bucket else 'none'}"
            place.mkdir(parents=True, exist_ok=True)
            file = place / f"{number}.parquet"
            mine = _taken(table, pa.array(rows))
            pq.write_table(mine, file, compression="snappy", store_schema=False)


def whole_customers(file: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read a sorted file in parts that end where a customer ends, each column in one piece."""
    schema = pq.read_schema(file)
    texts = [name for name in columns if _is_text(schema.field(name).type)]
    parquet = pq.ParquetFile(file, read_dictionary=texts)
    rest: pa.Table | None = None
    for batch in parquet.iter_batches(_READ_ROWS, columns=list(columns)):
        table = pa.Table.from_batches([batch])
        if rest is not None:
            table = pa.concat_tables([rest, table]).unify_dictionaries()
        table = table.combine_chunks()
        # Sorted, so the last customer's rows stand at the end; more of them may follow.
        others = np.flatnonzero(new_customers(table)[1:])
        begins = int(others[-1]) + 1 if len(others) else 0
        if begins:
            yield table.slice(0, begins)
        rest = table.slice(begins)
    if rest is not None and len(rest):
        yield rest


def new_customers(table: pa.Table) -> np.ndarray:
    """Mark the first row of every customer of a sorted table, (N,) bool."""
    codes = table["customer_id"].combine_chunks().indices.to_numpy()
    new = np.ones(len(codes), bool)
    new[1:] = codes[1:] != codes[:-1]
    return new


def _repeats(batch: pa.RecordBatch, name: str) -> bool:
    column = batch.column(name)
    if name == "customer_id" or not _is_text(column.type):
        return name == "customer_id"
    return len(pc.unique(column)) <= len(column) // 2


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _one_piece(pieces: dict[str, list[pa.Array]]) -> pa.Table:
    """Make a table of the pieces of its columns, and let the pieces go one column after another."""
    columns = {}
    for name in pieces:
        found, pieces[name] = pa.chunked_array(pieces[name]), []
        columns[name] = _in_order(found.unify_dictionaries().combine_chunks())
    return pa.table(columns)


def _in_order(column: pa.Array) -> pa.Array:
    """Let codes be in the order of their texts, in single bytes where they are few."""
    if not pa.types.is_dictionary(column.type):
        return column
    order = pc.sort_indices(column.dictionary)
    codes = np.empty(len(order), np.int32)
    codes[order.to_numpy()] = np.arange(len(order))
    return _recoded(column, codes, column.dictionary.take(order))


def _recoded(column: pa.Array, codes: np.ndarray, names: pa.Array) -> pa.Array:
    """Replace each code c by codes[c]; rows are as large as their columns together."""
    kind = np.int8 if len(names) < 2**7 else np.int16 if len(names) < 2**15 else np.int32
    new = pa.array(codes.astype(kind)).take(column.indices)
    return pa.DictionaryArray.from_arrays(new, names)


def _buckets(backend: Any, ids: pa.Array) -> np.ndarray:
    """Return the position of each id's bucket among all; `bucket_of` says which it is."""
    import ibis

    from seqjourney.events.cleaning import BUCKETS, bucket_of

    names = ibis.table({"id": "string"}, name="ids")
    query = backend.compile(names.select(bucket=bucket_of(names.id)))
    with backend.con.cursor() as connection:  # `backend` itself may be in the midst of a query
        connection.register("ids", pa.table({"id": ids}))
        found = connection.sql(query).to_arrow_table()["bucket"]
    positions = pc.index_in(found, value_set=pa.array(list(BUCKETS)))
    return np.asarray(positions.combine_chunks().to_numpy(), np.uint8)


def _sortable(column: pa.Array) -> pa.Array:
    return column.indices if pa.types.is_dictionary(column.type) else column


def _taken(table: pa.Table, rows: pa.Array) -> pa.Table:
    part = table.take(rows)
    return pa.table({name: _compact(part[name].combine_chunks()) for name in part.column_names})


def _compact(column: pa.Array) -> pa.Array:
    """Leave out names that no row has."""
    if not pa.types.is_dictionary(column.type):
        return column
    used = np.zeros(len(column.dictionary), bool)
    used[column.indices.drop_null().to_numpy()] = True
    if used.all():
        return column
    return _recoded(column, np.cumsum(used) - 1, column.dictionary.filter(pa.array(used)))
