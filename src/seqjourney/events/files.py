"""Which files a path, a folder or a glob stands for, and what kind they are."""

from __future__ import annotations

import glob
from pathlib import Path

from seqjourney.errors import DataError

ENDINGS = {
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz"),
    "json": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz"),
    "parquet": (".parquet", ".pq"),
}
_NAMES = {"csv": "CSV", "json": "JSON Lines", "parquet": "Parquet"}


def kind_of(file: Path) -> str | None:
    """Return csv, json or parquet, by the file's ending; None for any other."""
    name = file.name.lower()
    return next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), None)


def find_files(path: str) -> tuple[Path, ...]:
    """Return the CSV, JSON Lines or Parquet files that a path stands for, sorted by name.

    Raises:
        DataError: nothing is there, a file is empty, of no known kind, or kinds are mixed.
    """
    place = Path(path).expanduser()
    found = [place] if place.is_file() else []
    if place.is_dir():
        found = [f for f in sorted(place.rglob("*")) if f.is_file() and kind_of(f)]
    elif not found:
        found = [Path(f) for f in sorted(glob.glob(str(place), recursive=True))]  # noqa: PTH207
    if not found:
        raise DataError(
            f"{path}: no such file, folder or glob of CSV, JSON Lines or Parquet files."
        )
    for file in found:
        if kind_of(file) is None:
            known = "; ".join(f"{_NAMES[kind]} {', '.join(e)}" for kind, e in ENDINGS.items())
            raise DataError(f"{file}: of no known kind ({known}).")
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty (0 bytes).")
    kinds = sorted({_NAMES[kind] for file in found if (kind := kind_of(file))})
    if len(kinds) > 1:
        raise DataError(f"{path} holds both {' and '.join(kinds)}; point it at one kind.")
    return tuple(found)
