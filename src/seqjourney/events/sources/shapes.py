"""By which fields each kind of export is known, to say so when a source's `kind` does not fit.

Only asked when a source is about to be refused: it reads the first records of one file.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from seqjourney.events.files import kind_of

_SEGMENT = (
    ("event", "type"),
    ("messageId", "id"),
    ("anonymousId", "anonymous_id", "userId", "user_id"),
    ("receivedAt", "received_at", "sentAt", "sent_at", "originalTimestamp", "original_timestamp"),
)
SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "segment": _SEGMENT,
    "rudderstack": _SEGMENT,
    "mparticle": (("events",), ("mpid",), ("user_identities",)),
    "snowplow": (("event",), ("event_id",), ("collector_tstamp",)),
    "ga4": (("event_name",), ("event_timestamp",), ("user_pseudo_id",)),
    "posthog": (("event",), ("distinct_id",), ("timestamp",), ("properties",)),
    "cloudevents": (("type",), ("source",), ("id",), ("specversion", "time")),
    "amplitude": (("event_type",), ("event_time", "client_event_time"), ("device_id", "user_id")),
}
"""Kind -> its fields; of several names for one, the first is shown."""
_RECORDS, _SHOWN = 100, 12


def wrong_kind(kind: str, files: Sequence[Path]) -> str:
    """Say what a kind's records have and what the first file has, if that is something else.

    Returns:
        One or two sentences, or nothing where the kind fits, is a table or cannot be judged.
    """
    expected = SHAPES.get(kind)
    if expected is None or not files:
        return ""
    found = _fields(files[0])
    alike = [other for other, shape in SHAPES.items() if _shared(shape, found) == len(shape)]
    in_part = 2 * _shared(expected, found) > len(expected)
    if not found or kind in alike or (in_part and not alike):
        return ""
    named = found[:_SHOWN] + (["..."] if len(found) > _SHOWN else [])
    guess = f"It looks like kind: {alike[0]}." if alike else "Does kind name the right vendor?"
    return (
        f"Records of kind {kind} have {', '.join(names[0] for names in expected)}; those of "
        f"{files[0].name} have {', '.join(named)}. {guess}"
    )


def _shared(shape: tuple[tuple[str, ...], ...], found: Sequence[str]) -> int:
    return sum(any(name in found for name in names) for names in shape)


def _fields(file: Path) -> list[str]:
    """Return the top-level fields of a file's first records; none if it cannot be read."""
    try:
        if kind_of(file) == "parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(file).names)
        opened: Any = gzip.open if file.name.lower().endswith(".gz") else open
        with opened(file, "rt", encoding="utf-8-sig", errors="replace") as lines:
            if kind_of(file) == "json":
                return _keys(islice(lines, _RECORDS))
            head = next(lines, "")
        mark = max(",;\t|", key=head.count)
        return next(csv.reader([head], delimiter=mark), [])
    except (OSError, EOFError, ValueError, zlib.error):
        return []


def _keys(lines: Any) -> list[str]:
    keys: dict[str, None] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        keys |= dict.fromkeys(record if isinstance(record, dict) else ())
    return list(keys)
