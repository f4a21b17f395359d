"""Lines of JSON Lines files that are no records: which they are, what they say, and why.

Read only where the engine found rows of nothing, in Python, line by line: rare and bounded.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reject:
    """One line that cannot be a record."""

    file: Path
    line: int
    """Counted from 1, as an editor shows it."""
    text: str
    reason: str


def rejected_lines(file: Path, positions: Collection[int], keys: Sequence[str]) -> Iterator[Reject]:
    """Yield the lines at some positions among a file's lines that are not blank.

    Args:
        file: JSON Lines, gzipped or not.
        positions: counted from 0, blank lines left out: as the engine counts rows.
        keys: of which a record must have one.
    """
    wanted = set(positions)
    with gzip.open(file, "rb") if file.name.lower().endswith(".gz") else file.open("rb") as lines:
        position = 0
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if position in wanted:
                text = line.decode("utf-8", errors="replace").rstrip("\r\n")
                yield Reject(file, number, text, _reason(text, keys))
            position += 1


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
        return "none of the source's keys"
    return "unreadable JSON"
