"""GA4's BigQuery export becomes raw rows, from Parquet records and from JSON Lines alike."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from opened import SAMPLES, nothing_is_lost, objects, opened, read, rejects, row, spark_sql
from opened import write_parquet as write

from seqjourney.config import DataConfig, parse
from seqjourney.errors import DataError
from seqjourney.events.engine import connect
from seqjourney.events.sources import ga4, table

EVENTS = SAMPLES / "ga4" / "events.jsonl"
VALUE = pa.struct(
    [
        ("string_value", pa.string()),
        ("int_value", pa.int64()),
        ("float_value", pa.float64()),
        ("double_value", pa.float64()),
    ]
)
PAIRS = pa.list_(pa.struct([("key", pa.string()), ("value", VALUE)]))
ITEM = [("item_id", pa.string()), ("item_name", pa.string()), ("price", pa.float64())]
TEXT = ("source", "medium", "name")
MANUAL = ("manual_source", "manual_medium", "manual_campaign_name", "manual_term", "manual_content")
AMOUNTS = ("purchase_revenue", "purchase_revenue_in_usd", "refund_value", "tax_value")
SCHEMA = pa.schema(
    [
        ("event_date", pa.string()),
        ("event_timestamp", pa.int64()),
        ("event_name", pa.string()),
        ("event_params", PAIRS),
        ("event_value_in_usd", pa.float64()),
        ("event_bundle_sequence_id", pa.int64()),
        ("event_server_timestamp_offset", pa.int64()),
        ("user_id", pa.string()),
        ("user_pseudo_id", pa.string()),
        (
            "privacy_info",
            pa.struct([("analytics_storage", pa.string()), ("ads_storage", pa.string())]),
        ),
        ("user_properties", PAIRS),
        (
            "device",
            pa.struct(
                [
                    ("category", pa.string()),
                    ("vendor_id", pa.string()),
                    ("advertising_id", pa.string()),
                    ("is_limited_ad_tracking", pa.string()),
                    ("web_info", pa.struct([("browser", pa.string())])),
                ]
            ),
        ),
        ("geo", pa.struct([("country", pa.string())])),
        ("app_info", pa.struct([("id", pa.string())])),
        ("traffic_source", pa.struct([(name, pa.string()) for name in TEXT])),
        ("stream_id", pa.string()),
        ("platform", pa.string()),
        (
            "ecommerce",
            pa.struct(
                [
                    ("transaction_id", pa.string()),
                    ("unique_items", pa.int64()),
                    *((name, pa.float64()) for name in AMOUNTS),
                    ("tax_value_in_usd", pa.float64()),
                    ("shipping_value", pa.float64()),
                ]
            ),
        ),
        ("items", pa.list_(pa.struct([*ITEM, ("quantity", pa.int64())]))),
        (
            "collected_traffic_source",
            pa.struct([(name, pa.string()) for name in (*MANUAL, "gclid")]),
        ),
        ("is_active_user", pa.bool_()),
        ("batch_event_index", pa.int64()),
        ("batch_page_id", pa.int64()),
        ("batch_ordering_id", pa.int64()),
    ]
)


@pytest.fixture(scope="module")
def rows():
    return read(ga4, EVENTS)


def typed(value, kind: pa.DataType):
    """Give a value of the JSON dump its type in the table: whole numbers are written as text."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: typed(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind):
        return [typed(item, kind.value_type) for item in value]
    return int(value) if pa.types.is_integer(kind) else value


def as_table() -> pa.Table:
    """The sample's well-formed events as BigQuery writes them to Parquet."""
    records = [json.loads(line) for line in EVENTS.read_text(encoding="utf-8").splitlines()[:9]]
    columns = [
        pa.array([typed(r.get(field.name), field.type) for r in records], field.type)
        for field in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)


def read_table(file: Path, scratch: Path, **columns: str):
    """Raw rows of the generic table."""
    config = parse(DataConfig, {"name": "any", "path": str(file), **columns}, "test")
    with connect(scratch, threads=1) as backend:
        rows = backend.execute(table.open_source(backend, config).rows)
    return rows.sort_values("source_row", ignore_index=True)


def test_a_page_view_gives_every_field(rows):
    said = row(rows, 0)
    assert said.pop("event_id")
    assert said == {
        "source_row": 0,
        "event": "page_view",
        "timestamp": "2024-03-01T10:00:00Z",
        "known_at": "2024-03-01T10:00:01.500000Z",
        "id_anonymous": "11.22",
        "id_device": "ad-1",
        "session_id": "11.22.1709287190",
        "actor": "customer",
        "page_url": "https://shop.example/?utm_source=news&gclid=abc",
        "referrer": "https://www.google.com/",
        "utm_source": "news",
        "utm_medium": "email",
        "utm_campaign": "spring",
        "utm_term": "shoes",
        "utm_content": "v1",
        "click_id": "gclid",
        "consent": {"analytics_storage": "granted", "ads_storage": "denied"},
        "properties": {
            "ga_session_id": 1709287190,
            "page_location": "https://shop.example/?utm_source=news&gclid=abc",
            "page_referrer": "https://www.google.com/",
            "page_title": 'Schöne "Dinge" \\ 日本',
            "device": {
                "category": "mobile",
                "advertising_id": "ad-1",
                "is_limited_ad_tracking": "No",
                "web_info": {"browser": "Chrome"},
            },
            "geo": {"country": "Netherlands"},
            "traffic_source": {"source": "first", "medium": "cpc", "name": "first campaign"},
            "is_active_user": True,
            "platform": "WEB",
            "stream_id": "1",
            "user_properties": {"tier": "gold"},
        },
    }


def test_an_event_of_two_tables_has_one_key_whatever_attribution_adds(rows):
    assert rows["event_id"][0] == rows["event_id"][1]
    assert rows["event_id"].nunique() == len(rows) - 1


def test_events_of_one_old_upload_differ_by_their_parameters(rows):
    first, second = row(rows, 7), row(rows, 8)
    assert first["timestamp"] == second["timestamp"] == "2021-01-31T05:05:10.766593Z"
    assert first["event_id"] != second["event_id"]


def test_before_collected_traffic_source_the_parameters_are_the_evidence(rows):
    assert (row(rows, 7)["utm_source"], row(rows, 7)["utm_medium"]) == ("google", "organic")
    assert "utm_source" not in row(rows, 1)  # never the user's first source


def test_a_purchase_is_net_in_its_own_currency(rows):
    said = row(rows, 2)
    amounts = {key: said[key] for key in said if key.startswith("money_")}
    assert amounts == {"money_net": "100.5", "money_tax": "20.1", "money_shipping": "4.5"}
    assert (said["currency"], said["order_id"], said["id_user"]) == ("EUR", "o-1", "u-1")
    assert said["properties"]["items"] == [
        {"item_id": "sku-1", "item_name": "Lamp", "price": 50.25, "quantity": "2"}
    ]


def test_a_refund_is_positive_and_the_companys(rows):
    said = row(rows, 3)
    assert (said["money_refund"], said["currency"], said["actor"]) == ("50.25", "EUR", "company")
    assert "money_net" not in said


def test_without_a_currency_the_converted_amounts_count(rows):
    said = row(rows, 4)
    assert (said["money_net"], said["money_tax"], said["currency"]) == ("60.0", "10.0", "USD")


def test_a_purchase_in_an_app_is_what_was_paid_in_dollars(rows):
    said = row(rows, 5)
    assert (said["money_total"], said["currency"]) == ("4.99", "USD")


def test_a_visitor_who_refused_is_nobody_and_says_so(rows):
    said = row(rows, 6)
    assert [key for key in said if key.startswith("id_")] == []
    assert "session_id" not in said
    assert said["consent"] == {"analytics_storage": "denied", "ads_storage": "unknown"}


def test_where_consent_mode_is_not_used_nothing_is_said(rows):
    assert "consent" not in row(rows, 2)


def test_a_referrer_that_google_was_told_to_ignore_is_none(rows):
    assert "referrer" not in row(rows, 6)


def test_an_advertising_id_counts_only_where_tracking_is_not_limited(rows):
    assert row(rows, 0)["id_device"] == "ad-1"
    assert row(rows, 2)["id_device"] == "idfv-1"


def test_wrong_types_and_times_are_no_error(rows):
    said = row(rows, 9)
    assert "timestamp" not in said
    assert (said["id_anonymous"], said["actor"]) == ("5", "company")


def test_a_line_that_is_no_record_is_returned(rows):
    assert len(rows) == 10
    assert [(r.line, r.reason) for r in rejects(ga4, EVENTS)] == [(11, "not a JSON object")]


def test_what_google_writes_with_later_knowledge_is_left_out(rows):
    assert "user_ltv" not in " ".join(rows["properties"])


def test_parquet_records_give_the_same_rows_and_keys(tmp_path, rows):
    parquet = read(ga4, write(as_table(), tmp_path))
    assert len(parquet) == 9
    for place in range(9):
        expected = row(rows, place)
        bought = expected["properties"].get("items", [])
        for record in (*bought, expected["properties"].get("ecommerce", {})):
            for key in record.keys() & {"quantity", "unique_items"}:
                record[key] = int(record[key])  # the dump writes whole numbers as text
        assert row(parquet, place) == expected


def test_lists_that_a_writer_wrapped_are_unwrapped(tmp_path, rows):
    event = {"event_name": "page_view", "event_timestamp": 1, "user_pseudo_id": "1.2"}
    pair = {"key": "page_location", "value": {"string_value": "https://a.example/"}}
    event["event_params"] = {"list": [{"element": pair}]}
    parquet = read(ga4, write(pa.Table.from_pylist([event]), tmp_path))
    assert row(parquet, 0)["page_url"] == "https://a.example/"


def test_a_copy_without_parameters_and_with_real_times_is_read(tmp_path):
    event = {"event_name": "x", "user_pseudo_id": "1.2", "event_timestamp": None}
    copy = pa.Table.from_pylist([event, event])
    times = pa.array([1_700_000_000_000_000, None], pa.timestamp("us"))
    copy = copy.set_column(2, "event_timestamp", times)
    rows = read(ga4, write(copy, tmp_path))
    assert row(rows, 0)["timestamp"] == "2023-11-14T22:13:20Z"
    assert "timestamp" not in row(rows, 1)
    assert rows["properties"].isna().all()


@pytest.mark.parametrize("time", [2**63 - 1, -(2**63), 9 * 10**18 + 1])
def test_times_beyond_any_calendar_are_null(tmp_path, time):
    event = {"event_name": "x", "user_pseudo_id": "1.2", "event_timestamp": time}
    event["event_server_timestamp_offset"] = time
    rows = read(ga4, write(pa.Table.from_pylist([event]), tmp_path))
    assert "timestamp" not in row(rows, 0)
    assert "known_at" not in row(rows, 0)


def test_the_mapping_compiles_for_spark(tmp_path):
    assert "MD5(" in spark_sql(ga4, EVENTS)
    assert "MD5(" in spark_sql(ga4, write(as_table(), tmp_path))


KEYS = ["event_name", "event_timestamp", "event_params", "user_pseudo_id", "device", "ecommerce"]


@settings(max_examples=5)
@given(objects([*KEYS, "privacy_info", "items", "user_properties", "key", "value"]))
def test_no_line_is_lost_whatever_it_holds(tmp_path, records):
    rows = nothing_is_lost(ga4, records, tmp_path)
    assert rows["event_id"].notna().all()


def test_the_older_google_analytics_is_refused_by_name_and_read_as_a_table(real_data, tmp_path):
    # GA360's hits have no event names and these ids are rounded: a table, and no GA4 export.
    file = real_data / "google_store_sessions" / "all_sessions.parquet"
    if not file.exists():
        pytest.skip("no google_store_sessions under SEQJOURNEY_DATA")
    with (
        pytest.raises(DataError, match="not a GA4 export: no column 'event_name'"),
        opened(ga4, file),
    ):
        pass
    found = read_table(
        file,
        tmp_path,
        customer="fullVisitorId",
        timestamp="hit_timestamp",
        event="type",
        channel="channelGrouping",
    )
    assert len(found) == 15_134
    assert found["customer_id"].nunique() == 14_147
    assert found["channel"].value_counts()["Organic Search"] == 8_653


def test_real_app_events_are_one_table_and_one_export(real_data, tmp_path):
    file = real_data / "app_onboarding" / "onboarding_events.parquet"
    if not file.exists():
        pytest.skip("no app_onboarding under SEQJOURNEY_DATA")
    as_rows = read_table(
        file, tmp_path, customer="user_pseudo_id", timestamp="event_timestamp", event="event_name"
    )
    as_export = read(ga4, file)
    assert len(as_rows) == len(as_export) == pq.read_metadata(file).num_rows == 30_943
    assert as_export["id_anonymous"].tolist() == as_rows["customer_id"].tolist()
    assert as_export["event"].tolist() == as_rows["event"].tolist()
    assert as_export["timestamp"].tolist() == as_rows["timestamp"].tolist()
    assert as_export["id_anonymous"].nunique() == 4_139
