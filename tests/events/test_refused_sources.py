"""A source that is refused says what was expected, what was found and where; none stops late."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seqjourney.commands.prepare import prepare
from seqjourney.config import DataConfig, parse
from seqjourney.errors import DataError
from seqjourney.events import arriving
from seqjourney.events.engine import connect
from seqjourney.events.log import read_manifest
from seqjourney.events.rejects import Reject
from seqjourney.events.sources import open_source

NOON = "2024-01-02T12:00:00Z"
MILLISECONDS = 1_704_196_800_000
SEGMENT = {"type": "track", "event": "x", "userId": "u", "messageId": "m", "timestamp": NOON,
           "receivedAt": NOON}  # fmt: skip
POSTHOG = {"uuid": "m", "event": "x", "distinct_id": "u", "timestamp": NOON, "created_at": NOON,
           "properties": {}}  # fmt: skip
AMPLITUDE = {"event_type": "x", "event_time": NOON, "user_id": "u", "uuid": "m",
             "server_upload_time": NOON}  # fmt: skip
SNOWPLOW = {"event": "page_view", "event_id": "m", "user_id": "u", "derived_tstamp": NOON,
            "collector_tstamp": NOON, "load_tstamp": NOON}  # fmt: skip
GA4 = {"event_name": "x", "event_timestamp": str(MILLISECONDS * 1000), "user_pseudo_id": "u",
       "event_server_timestamp_offset": "5"}  # fmt: skip
CLOUDEVENTS = {"specversion": "1.0", "id": "m", "source": "s", "type": "x", "subject": "u",
               "time": NOON, "recordedtime": NOON}  # fmt: skip
MPARTICLE = {"mpid": "u", "user_identities": {"customer_id": "u"},
             "timestamp_unixtime_ms": MILLISECONDS,
             "events": [{"event_type": "custom_event",
                         "data": {"event_name": "x", "timestamp_unixtime_ms": MILLISECONDS}}],
             }  # fmt: skip


def write(place: Path, records: Iterable[dict[str, Any] | str], name: str = "raw.jsonl") -> Path:
    path = place / name
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def configured(kind: str, path: Path, **changes: Any) -> DataConfig:
    values = {"name": "one", "threads": 1, "sources": [{"kind": kind, "path": str(path)}]}
    return parse(DataConfig, values | changes, "data")


def run(place: Path, kind: str, path: Path, **changes: Any) -> Path:
    return prepare(configured(kind, path, **changes), place / "processed", progress=False)


@pytest.mark.parametrize(
    ("kind", "record", "expected"),
    [
        ("segment", AMPLITUDE, "kind segment have event, messageId, .*looks like kind: amplitude"),
        ("segment", POSTHOG, "kind segment have event, messageId, .*looks like kind: posthog"),
        ("posthog", SEGMENT, "kind posthog have event, distinct_id, .*looks like kind: segment"),
        ("ga4", CLOUDEVENTS, "kind ga4 have event_name, .*looks like kind: cloudevents"),
        (
            "amplitude",
            {"a": 1, "b": 2},
            "have a, b, id. Does kind name the right vendor",
        ),
    ],
)
def test_a_kind_that_does_not_fit_is_told_by_its_fields(tmp_path, kind, record, expected):
    path = write(tmp_path, [{**record, "id": str(n)} for n in range(5)])
    with pytest.raises(DataError, match=expected) as caught:
        run(tmp_path, kind, path)
    assert "right column" not in str(caught.value)
    assert "on_malformed" not in str(caught.value)


def test_a_kind_that_does_not_fit_a_csv_is_told_by_its_columns(tmp_path):
    path = write(tmp_path, ["a;b", "1;2"], "raw.csv")
    with pytest.raises(DataError, match=r"kind segment have .*those of raw.csv have a, b"):
        run(tmp_path, "segment", path)


def test_a_source_of_another_kind_whose_rows_name_nobody_is_refused(tmp_path):
    rows = [{**POSTHOG, "id": str(n)} for n in range(5)]
    path = write(tmp_path, rows)
    with pytest.raises(
        DataError, match=r"no row of .* says whose it is. .*looks like kind: posthog"
    ):
        run(tmp_path, "segment", path)


@pytest.mark.parametrize(
    ("kind", "record", "key"),
    [
        ("segment", SEGMENT, "receivedAt"),
        ("rudderstack", SEGMENT, "receivedAt"),
        ("posthog", POSTHOG, "created_at"),
        ("amplitude", AMPLITUDE, "server_upload_time"),
        ("snowplow", SNOWPLOW, "load_tstamp"),
        ("ga4", GA4, "event_server_timestamp_offset"),
        ("cloudevents", CLOUDEVENTS, "recordedtime"),
        ("mparticle", MPARTICLE, "timestamp_unixtime_ms"),
    ],
)
def test_a_time_of_receipt_that_cannot_be_read_sets_the_row_aside(tmp_path, kind, record, key):
    """To take the event's time for it would let a model know of the event too early."""
    ids = [name for mark in "mu" for name, value in record.items() if value == mark]
    rows = [{**record, ids[0]: f"n{n}"} for n in range(4)]
    rows[2][key] = "soon"
    rows[3].pop(key)  # says nothing, which is no fault
    config = configured(kind, write(tmp_path, rows))
    with connect(tmp_path, threads=1) as backend:
        arrived = arriving.arrive(
            backend, config.sources[0], config, "a key", None, tmp_path / "arrived.parquet"
        )
        found = arrived.rows.order_by("source_row").select("problem").to_pandas()["problem"]
    assert [reason if isinstance(reason, str) else None for reason in found] == [
        None, None, "unreadable known_at", None,
    ]  # fmt: skip


def test_the_time_of_receipt_that_could_not_be_read_stands_in_the_quarantine(tmp_path):
    rows = [{**SEGMENT, "messageId": f"m{n}"} for n in range(4)]
    rows[2]["receivedAt"] = "soon"
    prepared = run(tmp_path, "segment", write(tmp_path, rows))
    account = read_manifest(prepared)["rows"]
    assert account["quarantined"] == {"unreadable known_at": 1}
    assert account["in"] == 4 == account["events"] + 1
    aside = pd.read_parquet(prepared / "quarantine.parquet")
    assert aside["unreadable_known_at"].tolist() == ["soon"]


@pytest.mark.parametrize(
    ("kind", "record", "changes"),
    [
        ("segment", SEGMENT, {"timestamp": "31/12/2024"}),
        ("posthog", POSTHOG, {"timestamp": "31/12/2024"}),
        ("amplitude", AMPLITUDE, {"event_time": "31/12/2024"}),
        ("snowplow", SNOWPLOW, {"derived_tstamp": "31/12/2024"}),
        ("ga4", GA4, {"event_timestamp": "31/12/2024"}),
        ("cloudevents", CLOUDEVENTS, {"time": "31/12/2024"}),
    ],
)
def test_a_time_that_cannot_be_read_is_shown_with_its_row(tmp_path, kind, record, changes):
    path = write(tmp_path, [record, {**record, **changes}])
    words = r"'unreadable timestamp' \('31/12/2024'\) first at data row 2 of"
    with pytest.raises(DataError, match=words):
        run(tmp_path, kind, path, on_bad_rows="stop")


def test_the_row_of_a_batch_is_the_place_of_the_batch(tmp_path):
    bad = {"event_type": "custom_event", "data": {"event_name": "x", "timestamp_unixtime_ms": "?"}}
    path = write(tmp_path, [MPARTICLE, {**MPARTICLE, "events": [*MPARTICLE["events"], bad]}])
    with pytest.raises(DataError, match=r"\('\?'\) first at data row 2 of"):
        run(tmp_path, "mparticle", path, on_bad_rows="stop")


def test_a_file_of_broken_lines_stops_at_the_first_and_holds_no_more(tmp_path, monkeypatch):
    given: list[Reject] = []

    def counting(backend: Any, config: Any) -> Any:
        source = open_source(backend, config)

        def rejected(backend: Any) -> Iterator[Reject]:
            for reject in source.rejected(backend):
                given.append(reject)
                yield reject

        return replace(source, rejected=rejected)

    monkeypatch.setattr(arriving, "open_source", counting)
    path = write(tmp_path, [SEGMENT, *["oops"] * 500])
    with pytest.raises(DataError, match=r"line 2: malformed JSON.*on_malformed=quarantine"):
        run(tmp_path, "segment", path)
    assert len(given) == 1
