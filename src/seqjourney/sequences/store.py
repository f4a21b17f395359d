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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqjourney.config import DataConfig
from seqjourney.errors import DataError
from seqjourney.files import read_json, read_parquet, write_json

ORDER = ("customer_id", "known_at", "timestamp", "event_id")
_BATCH_ROWS = 500_000
_HEADER_BYTES = 128  # of an .npy file; an array without values cannot be mapped
_META = {"categorical_fields", "numeric_fields", "dictionaries", "bytes"}
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
    # An empty list of names would make Ibis fold the mask into a constant that it cannot sum.
    names = config.label_only_events or ("",)  # no event has an empty name
    is_token = [part.event.notin(names) for part in parts]
    tokens = [part.filter(mask) for part, mask in zip(parts, is_token, strict=True)]
    dictionaries = {field: _categories(tokens, field) for field in categorical}
    # Customers of label-only events alone have no tokens but may have labels: they get a place.
    customers = pa.concat_tables(
        backend.to_pyarrow(
            part.group_by("customer_id").aggregate(tokens=mask.sum()).order_by("customer_id")
        )
        for part, mask in zip(parts, is_token, strict=True)
    )
    offsets = np.zeros(len(customers) + 1, np.int64)
    np.cumsum(customers["tokens"].to_numpy(), out=offsets[1:])
    events = int(offsets[-1])
    widths = {"categorical": len(categorical), "numeric": len(numeric), "times": 2}
    with ExitStack() as stack:
        # Written, not mapped: a full disk then is an error to explain, not a bus error.
        files = {
            name: stack.enter_context(_begin_array(folder / f"{name}.npy", (events, width)))
            for name, width in widths.items()
        }
        for part in tokens:
            ordered = part.order_by(*ORDER).select("timestamp", "known_at", *categorical, *numeric)
            for batch in backend.to_pyarrow_batches(ordered, chunk_size=_BATCH_ROWS):
                for name, values in _encode(batch, categorical, numeric, dictionaries).items():
                    files[name].write(values.tobytes())
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


def _begin_array(path: Path, shape: tuple[int, int]) -> BinaryIO:
    """Open an .npy file whose rows follow in order."""
    file = path.open("wb")
    kind = np.lib.format.dtype_to_descr(np.dtype(_ARRAYS[path.stem]))
    np.lib.format.write_array_header_1_0(
        file, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return file


def _encode(
    batch: pa.RecordBatch,
    categorical: Sequence[str],
    numeric: Sequence[str],
    dictionaries: dict[str, list[str]],
) -> dict[str, np.ndarray]:
    """Turn one Arrow batch into rows of the store's arrays."""
    widths = {"categorical": len(categorical), "numeric": len(numeric), "times": 2}
    out: dict[str, np.ndarray] = {
        name: np.empty((len(batch), n), _ARRAYS[name]) for name, n in widths.items()
    }
    for position, field in enumerate(categorical):
        codes = pc.index_in(batch[field], value_set=pa.array(dictionaries[field], pa.string()))
        out["categorical"][:, position] = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    for position, field in enumerate(numeric):
        out["numeric"][:, position] = batch[field].to_numpy(zero_copy_only=False)
    for position, field in enumerate(("timestamp", "known_at")):
        out["times"][:, position] = batch[field].cast(pa.int64()).to_numpy(zero_copy_only=False)
    return out


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
    store: SequenceStore, moment_us: int, chunk: int = 4_000_000
) -> Iterable[tuple[slice, np.ndarray]]:
    """Yield `(rows, mask)` over the store: which tokens were known at a moment."""
    for start in range(0, len(store.times), chunk):
        rows = slice(start, min(start + chunk, len(store.times)))
        yield rows, store.times[rows, 1] <= moment_us
