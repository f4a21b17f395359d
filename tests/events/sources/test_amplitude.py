"""Amplitude's hourly export becomes raw rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from opened import SAMPLES, nothing_is_lost, objects, read, rejects, row, spark_sql, write_parquet

from seqjourney.events.sources import amplitude

EXPORT = SAMPLES / "amplitude"  # a folder of .json.gz, a file per hour
KEYS = ["$insert_id", "uuid", "event_type", "event_time", "client_event_time", "user_id",
        "client_upload_time", "server_received_time", "server_upload_time", "device_id",
        "session_id", "groups", "event_properties", "user_properties"]  # fmt: skip


@pytest.fixture(scope="module")
def said() -> list[dict[str, Any]]:
    rows = read(amplitude, EXPORT)
    return [row(rows, place) for place in range(len(rows))]


def events(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "events.json"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_a_page_view_is_mapped_field_by_field(said):
    assert said[0] == {
        "source_row": 0,
        "event": "[Amplitude] Page Viewed",
        "timestamp": "2024-02-01T10:00:05.123000Z",
        "known_at": "2024-02-01T10:00:12.500000Z",
        "event_id": "ins-1",
        "id_user": "fr-1",
        "id_device": "dev-1",
        "id_external": "900000000001",
        "id_email": "élise@example.fr",
        "group_id": "acme",
        "session_id": "1706781600000",
        "actor": "customer",
        "page_url": "https://app.example/start",
        "referrer": "https://claude.ai/",
        "utm_source": "claude.ai",
        "properties": {
            "[Amplitude] Page URL": "https://app.example/start",
            "referrer": "https://claude.ai/",
            "utm_source": "claude.ai",
        },
    }


def test_without_insert_id_and_event_time_the_uuid_counts_and_the_clock_is_corrected(said):
    # happened 10 s before the upload, by a clock two hours ahead; received at 10:01:00
    assert said[1] == {
        "source_row": 1,
        "event": "app_opened",
        "timestamp": "2024-02-01T10:00:50Z",
        "known_at": "2024-02-01T10:01:01Z",
        "event_id": "u-2",
        "id_device": "dev-2",
        "id_external": "900000000002",
        "actor": "customer",
        "properties": {},
    }


def test_revenue_is_price_times_quantity_and_its_verified_copy_is_no_money(said):
    assert (float(said[2]["money_net"]), said[2]["currency"]) == (13.5, "EUR")
    assert not [key for key in said[3] if key.startswith(("money", "currency"))]
    assert said[3]["actor"] == "system"


def test_negative_revenue_and_revenue_of_type_refund_are_refunds(said, tmp_path):
    assert said[4]["money_refund"] == "13.5"
    assert "money_net" not in said[4]
    properties = {"$revenue": 5, "$revenueType": "Refund"}
    rows = read(amplitude, events(tmp_path, {"event_type": "x", "event_properties": properties}))
    assert (rows.money_refund[0], rows.money_net[0]) == ("5", None)


def test_tax_is_no_revenue(said):
    assert said[5]["money_tax"] == "2.7"
    assert "money_net" not in said[5]


def test_a_price_that_is_no_number_is_left_for_cleaning_to_report(tmp_path):
    record = {"event_type": "x", "event_properties": {"$price": "free", "$quantity": 2}}
    assert read(amplitude, events(tmp_path, record)).money_net[0] == "free"


def test_identify_is_the_systems(said):
    assert (said[6]["event"], said[6]["actor"]) == ("$identify", "system")


def test_wrong_types_become_text_and_unreadable_times_are_shown(said):
    assert said[7] == {
        "source_row": 7,
        "unreadable_timestamp": "02/02/2024",
        "event": '{"a":1}',
        "event_id": '["x"]',
        "id_user": "7",
        "session_id": "s",
        "actor": "customer",
        "properties": "$price",
    }


def test_user_properties_and_addresses_are_not_taken():
    text = read(amplitude, EXPORT).to_json()
    assert "203.0.113.1" not in text
    assert '"plan"' not in text


def test_a_broken_line_of_a_gzipped_file_is_rejected_with_its_place():
    assert [(r.line, r.reason) for r in rejects(amplitude, EXPORT)] == [(9, "malformed JSON")]


def test_a_warehouse_table_reads_like_the_export(tmp_path, said):
    table = pa.table(
        {
            "insert_id": ["ins-1"],
            "event_type": ["[Amplitude] Page Viewed"],
            "event_time": pa.array([1706781605123000], pa.timestamp("us")),
            "server_upload_time": pa.array([1706781612500000], pa.timestamp("us")),
            "amplitude_id": [900000000001],
            "user_id": ["fr-1"],
            "device_id": ["dev-1"],
            "session_id": [1706781600000],
            "event_properties": [json.dumps(said[0]["properties"])],
            "user_properties": ['{"email": "élise@example.fr"}'],
            "groups": ['{"company": ["acme", "globex"]}'],
        }
    )
    assert row(read(amplitude, write_parquet(table, tmp_path)), 0) == said[0]


@given(records=objects(KEYS))
@settings(max_examples=8)
def test_no_line_is_lost_whatever_it_holds(records, tmp_path):
    nothing_is_lost(amplitude, records, tmp_path)


def test_the_mapping_compiles_for_spark():
    assert spark_sql(amplitude, EXPORT).lstrip().startswith(("SELECT", "WITH"))
