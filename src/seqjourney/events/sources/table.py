"""The generic way in: CSV or Parquet with a customer, a time and an event column."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import ibis

from seqjourney.config import DataConfig, nearest
from seqjourney.errors import DataError
from seqjourney.events.engine import explain
from seqjourney.events.sources import Source

CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt")
PARQUET = (".parquet", ".pq")


def open_source(backend: Any, config: DataConfig) -> Source:
    """Map the declared columns of a file, folder or glob to our names."""
    files = find_files(config.path)
    rows = read_files(backend, files)
    return Source(map_columns(rows, config, where=config.path), files)


def find_files(path: str) -> tuple[Path, ...]:
    """Return the CSV or Parquet files that a path, folder or glob stands for, sorted by name.

    Raises:
        DataError: nothing is there, a file is empty, or CSV and Parquet are mixed.
    """
    place = Path(path).expanduser()
    found = [place] if place.is_file() else []
    if place.is_dir():
        found = [f for f in sorted(place.rglob("*")) if f.is_file() and _kind(f)]
    elif not found:
        found = [Path(f) for f in sorted(glob.glob(str(place), recursive=True))]  # noqa: PTH207
    if not found:
        raise DataError(f"{path}: no such file, folder or glob of CSV or Parquet files.")
    for file in found:
        if _kind(file) is None:
            raise DataError(
                f"{file}: not CSV ({', '.join(CSV)}) or Parquet ({', '.join(PARQUET)})."
            )
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty (0 bytes).")
    if len({_kind(file) for file in found}) > 1:
        raise DataError(f"{path} holds both CSV and Parquet; point data.path at one kind.")
    return tuple(found)


def _kind(file: Path) -> str | None:
    name = file.name.lower()
    return "csv" if name.endswith(CSV) else "parquet" if name.endswith(PARQUET) else None


def read_files(backend: Any, files: tuple[Path, ...]) -> Any:
    """Open files of one kind as one lazy Ibis table; CSV columns all as text."""
    import duckdb

    names = [str(file) for file in files]
    try:
        if _kind(files[0]) == "csv":
            # Only the delimiter is guessed from a sample. Types follow from what a column is
            # declared to be, the first quoted name may stand in the last row, and rows that do
            # not look like the others must not be skipped as titles or comments.
            dialect = {"header": True, "skip": 0, "comment": "", "quote": '"', "escape": '"'}
            rows = backend.read_csv(names, all_varchar=True, union_by_name=True, **dialect)
        else:
            rows = backend.read_parquet(names, union_by_name=True)
    except duckdb.OutOfMemoryException:
        raise  # not the file's fault; `engine.connect` explains it
    except Exception as error:  # the engine raises several kinds; each means an unreadable file
        shown = names[0] if len(names) == 1 else f"one of {len(names)} files from {names[0]} on"
        raise DataError(f"{shown} cannot be read: {explain(error)}") from error
    if len(rows.columns) == 1 and any(mark in rows.columns[0] for mark in ",;\t|"):
        raise DataError(
            f"{names[0]} cannot be split into columns: some rows have more or fewer fields than "
            f"the header '{rows.columns[0]}'. Mend them and try again."
        )
    return rows


def map_columns(rows: Any, config: DataConfig, where: str) -> Any:
    """Give the declared columns our names; refuse a missing one.

    Raises:
        DataError: a declared column does not exist; the message lists those that do.
    """
    core = {
        "customer_id": config.customer,
        "timestamp": config.timestamp,
        "event": config.event,
        "known_at": config.known_at,
        "event_id": config.event_id,
        "channel": config.channel,
        "value": config.value,
    }
    wanted = {ours: theirs for ours, theirs in core.items() if theirs is not None}
    wanted |= {field: field for field in (*config.categorical, *config.numeric)}
    for column in wanted.values():
        if column not in rows.columns:
            hint = nearest(column, rows.columns)
            raise DataError(f"{where} has no column '{column}'.{hint}")
    columns: dict[str, Any] = {ours: rows[theirs] for ours, theirs in wanted.items()}
    if config.event_name is not None:
        columns["event"] = ibis.literal(config.event_name)
    return rows.select(source_row=ibis.row_number().cast("int64"), **columns)
