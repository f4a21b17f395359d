"""What no export should hold: cut-off lines, text that is no JSON, and times of another century.

Written as further files of a source, so that everything else stays what it is. Their good lines
are none: each of these rows must end in quarantine, and no other may.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

ABSURD_TIMES = ("1970-01-01T00:00:00.000Z", "2262-04-11T23:47:16.854Z")
NOT_JSON = ('{"messageId": "cut off in the mid', "<html>502 Bad Gateway</html>", '["a list"]')


def write_broken(folder: Path) -> dict[str, dict[str, int]]:
    """Add broken files to the folders of some sources.

    Returns:
        How many lines are no JSON objects and how many rows have absurd times, by source.
    """
    counts = {}
    for source, name, times in (
        ("web", "part-broken.jsonl.gz", ("timestamp", "originalTimestamp")),
        ("app", "part-broken.jsonl", ("event_time", "client_event_time")),
        ("support", "part-broken.jsonl", ("time",)),
    ):
        example = first_record(folder / source)
        lines = list(NOT_JSON)
        for number, moment in enumerate(ABSURD_TIMES):
            row = dict(example)
            for key in ("messageId", "$insert_id", "uuid", "id"):
                if key in row:
                    row[key] = f"absurd-{source}-{number}"
            lines.append(json.dumps(row | {key: moment for key in times if key in row}))
        text = "\n".join(lines) + "\n"
        path = folder / source / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            path.write_text(text, encoding="utf-8")
        counts[source] = {"broken_lines": len(NOT_JSON), "absurd_times": len(ABSURD_TIMES)}
    store = folder / "store" / "part-broken.csv"
    header, first = (sorted((folder / "store").glob("*.csv"))[0]).read_text().splitlines()[:2]
    values = dict(zip(header.split(","), first.split(","), strict=True))
    rows = [header]
    for number, moment in enumerate(("1970-01-01 00:00:00", "2262-04-11 23:47:16", "yesterday")):
        wrong = values | {"receipt_id": f"absurd-store-{number}", "booked_at": moment}
        rows.append(",".join(wrong.values()))
    store.write_text("\n".join(rows) + "\n", encoding="utf-8")
    counts["store"] = {"broken_lines": 0, "absurd_times": 3}
    return counts


def first_record(folder: Path) -> dict[str, object]:
    """The first line of a source's first file."""
    path = sorted(folder.iterdir())[0]
    text = path.read_bytes()
    text = gzip.decompress(text) if path.suffix == ".gz" else text
    record: dict[str, object] = json.loads(text.split(b"\n", 1)[0])
    return record
