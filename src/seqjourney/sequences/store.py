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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqjourney.config import DataConfig
from seqjourney.errors import DataError
from seqjourney.files import read_json, write_json

ORDER = ("customer_id", "known_at", "timestamp", "event_id")
_BATCH_ROWS = 500_000
_HEADER_BYTES = 128  # of an .npy file; an array without values cannot be mapped
_ARRAYS = {"categorical": np.int32, "numeric": np.float32, "times": np.int64, "offsets": np.int64}


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


def store_fields(config: DataConfig, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the categorical and the numeric token fields of an event log."""
    categorical = ["event", *(["channel"] if "channel" in columns else []), *config.categorical]
    numeric = [*(["value"] if "value" in columns else []), *config.numeric]
    return categorical, numeric


def write_store(parts: Sequence[Any], config: DataConfig, folder: Path) -> None:
    """Stream an event log into a store; memory stays bounded by one batch and one part's sort.

    Args:
        parts: Ibis tables of the event log, one per bucket; no customer is in two of them.
        config: names the token fields and the `label_only_events`, which become no tokens.
        folder: where the store goes; must not exist.
    """
    folder.mkdir(parents=True)
    backend = parts[0].get_backend()
    categorical, numeric = store_fields(config, parts[0].columns)
    parts = [p.mutate(token=~p.event.isin(config.label_only_events)) for p in parts]
    tokens = [part.filter(part.token) for part in parts]
    dictionaries = {field: _categories(tokens, field) for field in categorical}
    # Customers of label-only events alone have no tokens but may have labels: they get a place.
    customers = pa.concat_tables(
        backend.to_pyarrow(
            part.group_by("customer_id").aggregate(tokens=part.token.sum()).order_by("customer_id")
        )
        for part in parts
    )
    offsets = np.zeros(len(customers) + 1, np.int64)
    np.cumsum(customers["tokens"].to_numpy(), out=offsets[1:])
    events = int(offsets[-1])
    arrays = {
        "categorical": _allocate(folder / "categorical.npy", (events, len(categorical)), np.int32),
        "numeric": _allocate(folder / "numeric.npy", (events, len(numeric)), np.float32),
        "times": _allocate(folder / "times.npy", (events, 2), np.int64),
    }
    row = 0
    for part in tokens:
        ordered = part.order_by(*ORDER).select("timestamp", "known_at", *categorical, *numeric)
        for batch in backend.to_pyarrow_batches(ordered, chunk_size=_BATCH_ROWS):
            out = {name: array[row : row + len(batch)] for name, array in arrays.items()}
            encode_batch(batch, categorical, numeric, dictionaries, out)
            row += len(batch)
    for name, array in arrays.items():
        if isinstance(array, np.memmap):
            array.flush()
        else:
            np.save(folder / f"{name}.npy", array)
    np.save(folder / "offsets.npy", offsets)
    pq.write_table(customers.select(["customer_id"]), folder / "customers.parquet")
    write_json(
        folder / "store.json",
        {
            "customers": len(customers),
            "events": events,
            "categorical_fields": categorical,
            "numeric_fields": numeric,
            "dictionaries": dictionaries,
            "bytes": {name: (folder / f"{name}.npy").stat().st_size for name in _ARRAYS},
        },
    )


def _categories(parts: Sequence[Any], field: str) -> list[str]:
    """Return all categories of a field, sorted, so that codes do not depend on row order."""
    found: set[str] = set()
    for part in parts:
        distinct = part.select(field).distinct().to_pyarrow()
        found.update(distinct[field].drop_null().to_pylist())
    return sorted(found)


def _allocate(path: Path, shape: tuple[int, int], dtype: type) -> np.ndarray:
    if 0 in shape:
        return np.zeros(shape, dtype)  # an empty file cannot be mapped
    return np.lib.format.open_memmap(path, "w+", dtype, shape)


def encode_batch(
    batch: pa.RecordBatch,
    categorical: Sequence[str],
    numeric: Sequence[str],
    dictionaries: dict[str, list[str]],
    out: dict[str, np.ndarray],
) -> None:
    """Write one Arrow batch into slices of the store's arrays."""
    for position, field in enumerate(categorical):
        codes = pc.index_in(batch[field], value_set=pa.array(dictionaries[field], pa.string()))
        out["categorical"][:, position] = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    for position, field in enumerate(numeric):
        out["numeric"][:, position] = batch[field].to_numpy(zero_copy_only=False)
    for position, field in enumerate(("timestamp", "known_at")):
        out["times"][:, position] = batch[field].cast(pa.int64()).to_numpy(zero_copy_only=False)


def open_store(folder: Path) -> SequenceStore:
    """Map a store into memory.

    Raises:
        DataError: a file is missing, truncated or of another store.
    """
    meta = read_json(folder / "store.json")
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
    ids = pd.read_parquet(folder / "customers.parquet")["customer_id"].to_numpy(dtype=object)
    return SequenceStore(
        customer_ids=ids,
        categorical_fields=tuple(meta["categorical_fields"]),
        numeric_fields=tuple(meta["numeric_fields"]),
        dictionaries=meta["dictionaries"],
        **arrays,
    )


def known_before(
    store: SequenceStore, moment_us: int, chunk: int = 4_000_000
) -> Iterable[tuple[slice, np.ndarray]]:
    """Yield `(rows, mask)` over the store: which tokens were known at a moment."""
    for start in range(0, len(store.times), chunk):
        rows = slice(start, min(start + chunk, len(store.times)))
        yield rows, store.times[rows, 1] <= moment_us
