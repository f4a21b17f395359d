"""Lines of JSON Lines files that are no records: which they are, what they say, and why.

Read only where the engine found rows of nothing, in Python, line by line: rare and bounded.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqjourney.errors import DataError

UNREADABLE = "unreadable JSON"
OF_OTHERS = "none of the source's keys"


@dataclass(frozen=True)
class Reject:
    """One line that cannot be a record."""

    file: Path
    line: int
    """Counted from 1, as an editor shows it."""
    text: str
    reason: str

    @property
    def sound(self) -> bool:
        """Whether the line itself is a record, so that only the reading of it can have failed."""
        return self.reason == UNREADABLE and "\ufffd" not in self.text


def rejected_lines(file: Path, positions: Collection[int], keys: Sequence[str]) -> Iterator[Reject]:
    """Yield the lines at some positions among a file's lines that are not blank.

    Args:
        file: JSON Lines, gzipped or not.
        positions: counted from 0, blank lines left out: as the engine counts rows.
        keys: of which a record must have one.

    Raises:
        DataError: the file ends too early or is damaged, so that nobody knows what is missing.
    """
    try:
        yield from _lines_at(file, set(positions), keys)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{file} is damaged or was cut off ({error}), and rows behind that are lost. Get the "
            "file again, whole."
        ) from None


def _lines_at(file: Path, wanted: set[int], keys: Sequence[str]) -> Iterator[Reject]:
    left = len(wanted)
    with gzip.open(file, "rb") if file.name.lower().endswith(".gz") else file.open("rb") as lines:
        position = 0
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if position in wanted:
                text = line.decode("utf-8", errors="replace").rstrip("\r\n")
                yield Reject(file, number, text, _reason(text, keys))
                left -= 1
            position += 1
    if left:
        raise EOFError("fewer lines than were read before")


def _reason(text: str, keys: Sequence[str]) -> str:
    try:
        record = json.loads(text)
    except RecursionError:
        return "JSON nested too deeply"
    except ValueError:
        return "malformed JSON"
    if not isinstance(record, dict):
        return "not a JSON object"
    if not any(record.get(key) is not None for key in keys):
        return OF_OTHERS
    return UNREADABLE
