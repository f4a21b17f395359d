"""Files appear whole or not at all: write under a temporary name, then rename.

A `.partial` left behind by a killed process is removed by the next one that writes the same name.
A full disk becomes one clear message, and nothing half-written stays.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqjourney.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` that takes its place when the block succeeds."""
    partial, old = (folder.with_name(folder.name + end) for end in (".partial", ".old"))
    if old.exists() and not folder.exists():
        old.rename(folder)  # killed in the instant between the two renames of `swap_folder`
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with explaining_full_disk(folder):
            yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    swap_folder(partial, folder)


def swap_folder(partial: Path, folder: Path) -> None:
    """Put `partial` in the place of `folder`; the old folder goes only when the new one stands."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with explaining_full_disk(path):
            yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def explaining_full_disk(path: Path) -> Iterator[None]:
    """Turn the many ways in which libraries report a full disk into one message."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) == errno.ENOSPC
        if full or "No space left on device" in str(error):
            raise DataError(
                f"the disk is full: writing {path} failed and was undone. Free some space "
                "(larger-than-memory data also spills there), then run the same command again."
            ) from error
        raise


def describe_file(file: Path) -> dict[str, Any]:
    """Return a file's path, size and SHA-256, for a manifest."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"path": str(file), "bytes": file.stat().st_size, "sha256": digest}


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON in one step; dates and paths become strings."""
    with replacing_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON that we wrote.

    Raises:
        DataError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except ValueError as error:  # not JSON, or not even text
        raise DataError(f"{path} is not valid JSON ({error}); write it again.") from None


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a small Parquet table that we wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    return read_arrow(path).to_pandas()


def read_arrow(path: Path) -> pa.Table:
    """Read a small Parquet table as Arrow; raises as `read_parquet`."""
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except (ValueError, OSError) as error:  # Arrow's errors are kinds of these
        raise DataError(f"{path} is damaged ({error}); write it again.") from None
