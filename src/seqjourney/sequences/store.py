"""The sequence store: every event as numbers in flat, memory-mapped columns.

A customer's tokens stand together, ordered by `(known_at, timestamp, event_id)`, so that what was
known at a cutoff is a prefix: a snapshot is `(customer index, cutoff, end)` and costs no copy.
The store is task-neutral. Categories are positions in its own dictionaries and numbers are raw;
which categories a model may know, and how it scales numbers, is the tokenizer's to say.

Shapes: N events, C customers, F categorical fields, K numeric fields.
`categorical.npy` (N, F) int32 with -1 for missing, `numeric.npy` (N, K) float32 with NaN for
missing, `times.npy` (N, 2) int64 microseconds UTC as `[timestamp, known_at]`,
`offsets.npy` (C + 1,) int64, `customers.parquet` the ids in store order.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqjourney.config import DataConfig
from seqjourney.errors import DataError
from seqjourney.events.engine import coded
from seqjourney.files import read_json, read_parquet, write_json

_BATCH_ROWS = 500_000
_HEADER_BYTES = 128  # of an .npy file of rows; an array without values cannot be mapped
_META = {"categorical_fields", "numeric_fields", "dictionaries", "bytes"}
_Encoded = tuple[pa.Array, np.ndarray, dict[str, np.ndarray]]
_ARRAYS: dict[str, type] = {
    "categorical": np.int32,
    "numeric": np.float32,
    "times": np.int64,
    "offsets": np.int64,
}


@dataclass(frozen=True)
class SequenceStore:
    """Arrays of all tokens, memory-mapped when opened from disk."""

    customer_ids: np.ndarray  # (C,) str
    offsets: np.ndarray  # (C + 1,) int64
    categorical: np.ndarray  # (N, F) int32
    numeric: np.ndarray  # (N, K) float32
    times: np.ndarray  # (N, 2) int64: timestamp, known_at
    categorical_fields: tuple[str, ...]
    numeric_fields: tuple[str, ...]
    dictionaries: dict[str, list[str]]  # field -> category of each code

    def stretch(self, first: int, last: int) -> SequenceStore:
        """Return the store of customers `first` to `last` (excluded) alone; no array is copied."""
        start, stop = self.offsets[first], self.offsets[last]
        return replace(
            self,
            customer_ids=self.customer_ids[first:last],
            offsets=self.offsets[first : last + 1] - start,
            categorical=self.categorical[start:stop],
            numeric=self.numeric[start:stop],
            times=self.times[start:stop],
        )


def store_fields(config: DataConfig, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the categorical and the numeric token fields of an event log."""
    categorical = ["event", *(["channel"] if "channel" in columns else []), *config.categorical]
    numeric = [*(["value"] if "value" in columns else []), *config.numeric]
    return categorical, numeric


def write_store(files: Sequence[Path], config: DataConfig, folder: Path) -> None:
    """Stream an event log into a store; memory stays bounded by two batches and one customer.

    Args:
        files: the Parquet files of the event log, each sorted by `(customer_id, timestamp,
            event_id)`; no customer is in two of them.
        config: names the token fields and the `label_only_events`, which become no tokens.
        folder: where the store goes; must not exist.
    """
    fields = store_fields(config, pq.read_schema(files[0]).names)
    columns = ["customer_id", "timestamp", "known_at", *itertools.chain(*fields)]
    tables = (table for file in files for table in coded.whole_customers(file, columns))
    with StoreWriter(config, folder) as store, ThreadPoolExecutor(1) as worker:
        doing = None
        for table in tables:  # the next one is read while one is encoded
            if doing is not None:
                doing.result()
            doing = worker.submit(store.add, table)
        if doing is not None:
            doing.result()


class StoreWriter:
    """Writes a store from the tables of a log as they come; it is whole when the block ends."""

    def __init__(self, config: DataConfig, folder: Path) -> None:
        """Take what `write_store` takes."""
        self._config, self._folder = config, folder
        self._words: dict[str, dict[str, int]] = {}
        """Of each categorical field, its categories so far with codes by first appearance."""
        self._numeric: list[str] = []
        self._customers: list[pa.Array] = []
        self._counts: list[np.ndarray] = []
        self._files = ExitStack()
        self._arrays: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._files:
            if kind is None:
                self._finish()

    def add(self, table: pa.Table) -> None:
        """Add customers.

        Args:
            table: all rows of some customers, sorted as the log's, `customer_id` as codes; the
                first table says which columns the log has.
        """
        if not self._arrays:
            self._begin(table.column_names)
        if not len(table):
            return
        label_only = self._config.label_only_events
        ids, tokens, encoded = _encode(table, self._numeric, self._words, label_only)
        self._customers.append(ids)
        self._counts.append(tokens)
        for name, values in encoded.items():
            self._arrays[name].write(values.data)

    def _begin(self, columns: Sequence[str]) -> None:
        categorical, self._numeric = store_fields(self._config, columns)
        self._words = {field: {} for field in categorical}
        # Written, not mapped: a full disk then is an error to explain, not a bus error.
        for name, width in self._widths().items():
            file = self._files.enter_context((self._folder / f"{name}.npy").open("w+b"))
            self._arrays[name] = file
            _write_header(file, name, (0, width))

    def _widths(self) -> dict[str, int]:
        return {"categorical": len(self._words), "numeric": len(self._numeric), "times": 2}

    def _finish(self) -> None:
        folder, words = self._folder, self._words
        offsets = np.zeros(sum(map(len, self._counts)) + 1, np.int64)
        np.cumsum(np.concatenate([*self._counts, np.zeros(0, np.int64)]), out=offsets[1:])
        events = int(offsets[-1])
        _recode(self._arrays["categorical"], [_sorted_codes(known) for known in words.values()])
        for name, width in self._widths().items():
            _write_header(self._arrays[name], name, (events, width))
        self._files.close()
        np.save(folder / "offsets.npy", offsets)
        ids = pa.chunked_array(self._customers, pa.string())
        pq.write_table(pa.table({"customer_id": ids}), folder / "customers.parquet")
        write_json(
            folder / "store.json",
            {
                "customers": len(ids),
                "events": events,
                "categorical_fields": list(words),
                "numeric_fields": self._numeric,
                "dictionaries": {field: sorted(known) for field, known in words.items()},
                "bytes": {name: (folder / f"{name}.npy").stat().st_size for name in _ARRAYS},
            },
        )


def _encode(
    table: pa.Table,
    numeric: Sequence[str],
    words: dict[str, dict[str, int]],
    label_only: Sequence[str],
) -> _Encoded:
    """Turn a sorted table of whole customers into what the store holds of them.

    Args:
        table: rows of the log.
        numeric: fields.
        words: of each categorical field, its categories so far with their codes, which go by first
            appearance; grows.
        label_only: events that become no tokens.

    Returns:
        The customers, how many tokens each has, and their rows of the store's arrays. Customers of
        label-only events alone have no tokens but may have labels: they get a place.
    """
    firsts = np.flatnonzero(coded.new_customers(table))
    ids = table["customer_id"].combine_chunks().take(pa.array(firsts)).cast(pa.string())
    tokens = np.ones(len(table), np.int64)
    if label_only:
        hidden = pc.is_in(table["event"].cast(pa.string()), pa.array(label_only, pa.string()))
        tokens -= hidden.to_numpy().astype(bool)
        table = table.filter(pc.invert(hidden))
    widths = {"categorical": len(words), "numeric": len(numeric), "times": 2}
    out: dict[str, np.ndarray] = {
        name: np.empty((len(table), n), _ARRAYS[name]) for name, n in widths.items()
    }
    for position, (field, known) in enumerate(words.items()):
        column = table[field].combine_chunks()
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        names = column.dictionary.to_pylist()
        codes = np.full(len(names), -1, np.int32)
        for used in column.indices.unique().drop_null().to_pylist():
            if names[used] is not None:
                codes[used] = known.setdefault(names[used], len(known))
        found = pa.array(codes).take(column.indices).fill_null(-1)
        out["categorical"][:, position] = found.to_numpy()
    for position, field in enumerate(numeric):
        out["numeric"][:, position] = table[field].to_numpy()
    for position, field in enumerate(("timestamp", "known_at")):
        out["times"][:, position] = table[field].cast(pa.int64()).to_numpy()
    order = _known_order(coded.new_customers(table), out["times"][:, 1])
    if order is not None:
        out = {name: values[order] for name, values in out.items()}
    return ids, np.add.reduceat(tokens, firsts), out


def _known_order(new: np.ndarray, known_at: np.ndarray) -> np.ndarray | None:
    """Order each customer's rows by when they became known; the log is ordered by happening.

    Returns:
        The rows in order, within equal times as the log has them; None if they are in order.
    """
    if (new[1:] | (known_at[1:] >= known_at[:-1])).all():
        return None  # as it nearly always is
    return np.lexsort((known_at, np.cumsum(new)))


def _sorted_codes(words: dict[str, int]) -> np.ndarray:
    """Return the array that turns codes by appearance into codes in sorted order, -1 into -1."""
    codes = np.full(len(words) + 1, -1, np.int32)
    for code, word in enumerate(sorted(words)):
        codes[words[word]] = code
    return codes


def _write_header(array: BinaryIO, name: str, shape: tuple[int, int]) -> None:
    """Write the header of an .npy file; numpy leaves room in it for a longer shape."""
    dtype = np.lib.format.dtype_to_descr(np.dtype(_ARRAYS[name]))
    array.seek(0)
    np.lib.format.write_array_header_1_0(
        array, {"descr": dtype, "fortran_order": False, "shape": shape}
    )


def _recode(array: BinaryIO, maps: Sequence[np.ndarray]) -> None:
    """Give an .npy file of codes, (N, F), their final codes; one map for each field."""
    rows_at_once = _BATCH_ROWS * len(maps)
    array.seek(_HEADER_BYTES)
    while len(codes := np.frombuffer(bytearray(array.read(4 * rows_at_once)), np.int32)):
        rows = codes.reshape(-1, len(maps))
        for position, final in enumerate(maps):
            rows[:, position] = final[rows[:, position]]
        array.seek(-rows.nbytes, 1)
        array.write(rows.data)


def open_store(folder: Path) -> SequenceStore:
    """Map a store into memory.

    Raises:
        DataError: a file is missing, truncated or of another store.
    """
    meta = read_json(folder / "store.json")
    if not isinstance(meta, dict) or not meta.keys() >= _META:
        raise DataError(f"{folder / 'store.json'} is not a store's; run scripts/prepare.py again.")
    arrays: dict[str, np.ndarray] = {}
    for name, dtype in _ARRAYS.items():
        path = folder / f"{name}.npy"
        size = path.stat().st_size if path.exists() else 0
        if size != meta["bytes"][name]:
            raise DataError(
                f"{path} has {size:,} bytes instead of {meta['bytes'][name]:,}: the store is "
                "truncated or was changed. Run scripts/prepare.py again."
            )
        mapped = np.load(path, mmap_mode="r" if size > _HEADER_BYTES else None)
        if mapped.dtype != dtype:
            raise DataError(f"{path} holds {mapped.dtype}, not {np.dtype(dtype)}; prepare again.")
        arrays[name] = mapped
    ids = read_parquet(folder / "customers.parquet")["customer_id"].to_numpy(dtype=object)
    if len(ids) + 1 != len(arrays["offsets"]):
        raise DataError(f"{folder / 'customers.parquet'} is of another store; prepare again.")
    return SequenceStore(
        customer_ids=ids,
        categorical_fields=tuple(meta["categorical_fields"]),
        numeric_fields=tuple(meta["numeric_fields"]),
        dictionaries=meta["dictionaries"],
        **arrays,
    )


def known_before(
    store: SequenceStore,
    moment_us: int,
    customers: np.ndarray | None = None,
    chunk: int = 4_000_000,
) -> Iterable[tuple[slice, np.ndarray]]:
    """Yield `(rows, mask)` over the store: which tokens were known at a moment.

    `customers`, (C,) bool, says whose tokens count; without it, everybody's do.
    """
    for start in range(0, len(store.times), chunk):
        rows = slice(start, min(start + chunk, len(store.times)))
        known = store.times[rows, 1] <= moment_us
        if customers is not None:
            owners = np.searchsorted(store.offsets, np.arange(rows.start, rows.stop), "right") - 1
            known &= customers[owners]
        yield rows, known
        _let_go(store)


def _let_go(store: SequenceStore) -> None:
    """Hand pages of the mapped files that were read back to the system, which may need them."""
    for array in (store.times, store.categorical, store.numeric):
        mapped: Any = getattr(array, "_mmap", None)  # of numpy's memmap; none in memory
        if hasattr(mapped, "madvise"):  # not on Windows
            mapped.madvise(mmap.MADV_DONTNEED)
