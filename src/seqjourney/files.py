"""Files appear whole or not at all: write under a temporary name, then rename.

A `.partial` left behind by a killed process is removed by the next one that writes the same name.
A full disk becomes one clear message, and nothing half-written stays. Two processes that write the
same folder would remove one another's `.partial`: what takes long is done inside `locked`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqjourney.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@contextmanager
def in_parents(place: Path) -> Iterator[None]:
    """Make the folders above a file or folder; at the end those that were made in vain go."""
    made = [folder for folder in place.parents if not folder.exists()]  # the innermost first
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in made:
            with suppress(OSError):  # something is in it
                folder.rmdir()


@contextmanager
def locked(place: Path, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Keep a file or folder, there or not yet, to this process; a second one is told who has it.

    The lock is on a hidden file beside it, which goes on exit. The lock of a killed process goes
    with the process, and the file that it leaves is taken over.

    Args:
        place: what is going to be written.
        doing: what is done to it, in one word, for whoever comes second.
        wait: for a process that has it, rather than raise; for what is soon done.

    Raises:
        DataError: another process has it.
    """
    try:
        import fcntl  # noqa: F401
    except ImportError:  # Windows
        yield
        return
    path = place.with_name(f".{place.name}.lock")  # no data set's name begins with a dot
    with in_parents(path):
        descriptor = _lock(place, path, wait)
        try:
            with explaining_full_disk(place):
                since = datetime.now(tz=UTC).isoformat(sep=" ", timespec="seconds")
                holder = f"{doing} (process {os.getpid()} on {platform.node()}, since {since})"
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode(), 0)
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is still ours
            os.close(descriptor)


def _lock(place: Path, path: Path, wait: bool) -> int:
    """Return the descriptor of a file that is locked; raises as `locked`."""
    import fcntl

    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # whoever made its folder has removed it again
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise DataError(
                f"{place} is being written by {holder}. Wait until that has ended, or stop it; "
                "then run the same command again."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_file_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # its holder removed it on leaving while we opened it


def _is_file_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def replacing_folder(folder: Path, *, keep_old: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `folder` that takes its place when the block succeeds.

    With `keep_old` the old folder stays as `.old` until `remove_leftovers`.
    """
    partial = folder.with_name(folder.name + ".partial")
    recover_folder(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with explaining_full_disk(folder):
            yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    swap_folder(partial, folder, keep_old=keep_old)


def recover_folder(folder: Path) -> None:
    """Put the old folder back if a process was killed between the renames of `swap_folder`."""
    old = old_folder(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)


def old_folder(folder: Path) -> Path:
    """Return where the old folder stands while a new one takes its place."""
    return folder.with_name(folder.name + ".old")


def remove_leftovers(folder: Path) -> None:
    """Remove what a swap or a killed process left beside a folder.

    Raises:
        DataError: some of it stays.
    """
    for left in (folder.with_name(folder.name + ".partial"), old_folder(folder)):
        try:
            if left.exists():
                shutil.rmtree(left)
        except OSError as error:
            raise DataError(
                f"{left} holds old data and cannot be removed ({error}). Delete it, then run the "
                "same command again."
            ) from error


def swap_folder(partial: Path, folder: Path, *, keep_old: bool = False) -> None:
    """Put `partial` in the place of `folder`; the old folder goes only when the new one stands.

    Raises:
        DataError: somebody took `partial` away; the old folder stands as it was.
    """
    if not partial.is_dir():
        raise DataError(
            f"{partial} is gone: another process removed it while it was written. {folder} was "
            "not changed; run the same command again."
        )
    old = old_folder(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    if not keep_old:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with explaining_full_disk(path):
            yield partial
        try:
            partial.replace(path)
        except FileNotFoundError:
            raise DataError(
                f"{partial} is gone: another process removed it while it was written. Run the "
                "same command again."
            ) from None
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
