"""PostHog's events become raw rows, and its persons export becomes links known in time."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from opened import SAMPLES, nothing_is_lost, objects, opened, read, rejects, row, spark_sql
from opened import write_parquet as write

from seqjourney.errors import ConfigError, DataError
from seqjourney.events.sources import posthog

EVENTS = SAMPLES / "posthog" / "events.jsonl"
PERSONS = SAMPLES / "posthog" / "persons.jsonl"


@pytest.fixture(scope="module")
def rows():
    return read(posthog, EVENTS)


@pytest.fixture(scope="module")
def with_persons():
    return read(posthog, EVENTS, persons=str(PERSONS))


def as_parquet(folder: Path) -> Path:
    """The sample as PostHog writes Parquet: typed times, properties as JSON text."""
    lines = EVENTS.read_text(encoding="utf-8").splitlines()
    records = [r for r in map(json.loads, lines[:8]) if "uuid" in r]
    text = ("uuid", "event", "distinct_id", "person_id")
    columns = {key: pa.array([r.get(key) for r in records], pa.string()) for key in text}
    for key in ("properties", "person_properties"):
        columns[key] = pa.array(
            [json.dumps(r[key], separators=(", ", " : ")) if key in r else None for r in records]
        )
    for key in ("timestamp", "created_at"):
        times = pd.to_datetime([r[key] for r in records], utc=True, format="ISO8601")
        columns[key] = pa.array(times.as_unit("us"), pa.timestamp("us", "UTC"))
    return write(pa.table(columns), folder)


def test_a_page_view_gives_every_field(rows):
    assert row(rows, 0) == {
        "source_row": 0,
        "event": "$pageview",
        "timestamp": "2024-05-01T09:00:00.123456Z",
        "known_at": "2024-05-01T09:00:02Z",
        "event_id": "0190-1",
        "id_anonymous": "cookie-1",
        "id_device": "cookie-1",
        "id_external": "p-anon",
        "session_id": "s-1",
        "actor": "customer",
        "page_url": "https://shop.example/?utm_source=news&gclid=abc",
        "referrer": "https://www.google.com/",
        "utm_source": "news",
        "utm_medium": "email",
        "utm_campaign": "spring",
        "click_id": "gclid",
        "user_agent": "Mozilla/5.0",
        "properties": {
            "$current_url": "https://shop.example/?utm_source=news&gclid=abc",
            "$referrer": "https://www.google.com/",
            "$session_id": "s-1",
            "$device_id": "cookie-1",
            "$raw_user_agent": "Mozilla/5.0",
            "utm_source": "news",
            "utm_medium": "email",
            "utm_campaign": "spring",
            "gclid": "abc",
            "$lib": "web",
        },
    }


def test_copies_of_an_event_share_its_uuid(rows):
    assert rows["event_id"].tolist()[:3] == ["0190-1", "0190-1", "0190-2"]


def test_an_identify_call_names_the_user_and_the_former_id_and_is_the_systems(rows):
    call = row(rows, 2)
    assert (call["id_user"], call["previous_id"]) == ("u-1", "cookie-1")
    assert (call["id_email"], call["actor"]) == ("ana@example.com", "system")


def test_an_alias_call_links_the_alias_to_the_user(rows):
    call = row(rows, 5)
    assert (call["id_user"], call["previous_id"], call["actor"]) == ("u-1", "app-77", "system")


def test_the_user_is_known_from_user_id_or_from_being_identified(rows):
    assert row(rows, 3)["id_user"] == "u-1"  # $user_id
    assert row(rows, 4)["id_user"] == "u-1"  # $is_identified
    assert "id_user" not in row(rows, 6)


def test_groups_come_from_events_and_from_group_calls(rows):
    assert row(rows, 3)["group_id"] == row(rows, 6)["group_id"] == "acme"
    assert row(rows, 6)["actor"] == "system"


def test_person_properties_give_address_and_number(rows):
    assert row(rows, 3)["id_email"] == "ana@example.com"
    assert row(rows, 3)["id_phone"] == "+31 6 1234"


def test_orders_and_refunds_give_money_by_the_ecommerce_specification(rows):
    order, refund = row(rows, 3), row(rows, 4)
    assert (order["money_total"], order["money_tax"], order["money_shipping"]) == (
        "123.5",
        "19",
        "4.5",
    )
    assert (order["currency"], order["order_id"]) == ("EUR", "o-1")
    assert float(refund["money_refund"]) == 20.0  # 23.5 with 3.5 of tax
    assert refund["actor"] == "company"


def test_own_events_give_money_where_the_options_say():
    rows = read(
        posthog, EVENTS, money={"net": "properties.revenue", "currency": "properties.currency"}
    )
    assert (row(rows, 3)["money_net"], row(rows, 3)["currency"]) == ("100.0", "eur")
    assert "money_total" not in row(rows, 3)
    assert "money_net" not in row(rows, 4)


def test_a_direct_visit_has_no_referrer(rows):
    assert "referrer" not in row(rows, 4)


def test_the_sentinel_of_visitors_without_cookie_identifies_nobody(rows):
    visit = row(rows, 7)
    assert [key for key in visit if key.startswith("id_")] == []
    assert visit["timestamp"] == "2024-05-04T09:12:00Z"  # without an offset it is UTC


def test_opting_in_is_consent_to_capturing_and_other_rows_say_nothing(rows):
    assert row(rows, 8)["consent"] == {"capturing": "granted"}
    assert rows["consent"].notna().sum() == 1


def test_an_unreadable_time_is_null_and_wrong_types_are_no_error(rows):
    assert "timestamp" not in row(rows, 8)
    assert row(rows, 9)["id_anonymous"] == "42"
    assert row(rows, 9)["properties"] == "not an object"


def test_addresses_of_machines_and_persons_are_cut_out_and_mentions_of_them_are_not(rows):
    texts = " ".join(rows["properties"].dropna())
    assert "203.0.113.9" not in texts
    assert "ana@example.com" not in texts
    assert row(rows, 8)["properties"] == {"note": 'said "$ip": no, \\ 日本'}


def test_a_line_without_any_key_of_an_event_is_returned(rows):
    assert len(rows) == 10
    assert [(r.line, r.reason) for r in rejects(posthog, EVENTS)] == [
        (11, "none of the source's keys")
    ]


def test_parquet_with_json_text_gives_the_same_rows(tmp_path, rows):
    parquet = read(posthog, as_parquet(tmp_path))
    assert len(parquet) == 8
    for place in range(8):
        assert row(parquet, place) == row(rows, place)


def test_the_persons_export_becomes_links_known_when_they_were_written(with_persons, rows):
    assert len(with_persons) == len(rows) + 3
    assert row(with_persons, 10) == {
        "source_row": posthog.PERSONS_FROM,
        "event": "$person",
        "timestamp": "2024-05-01T09:06:00Z",
        "known_at": "2024-05-01T09:06:00Z",
        "event_id": "$person cookie-1 p-1",
        "id_anonymous": "cookie-1",
        "id_external": "p-1",
        "id_email": "ana@example.com",
        "actor": "system",
    }


def test_a_mapping_without_a_time_counts_from_the_last_event_on(with_persons, rows):
    latest = max(time for time in rows["known_at"] if time is not None)
    assert with_persons["known_at"][11] == latest


def test_a_deleted_person_links_nothing(with_persons):
    gone = row(with_persons, 12)
    assert [key for key in gone if key.startswith("id_")] == ["id_anonymous"]


def test_files_of_something_else_are_named_with_the_missing_column(tmp_path):
    file = write(pa.table({"event": ["a"], "distinct": ["b"], "timestamp": ["c"]}), tmp_path)
    words = r"not a PostHog export: no column 'distinct_id'\. Did you mean 'distinct'"
    with pytest.raises(DataError, match=words), opened(posthog, file):
        pass
    words = "not a PostHog persons export: no column 'distinct_id'"
    with pytest.raises(DataError, match=words), opened(posthog, EVENTS, persons=str(file)):
        pass


def test_a_wrong_option_is_named():
    with (
        pytest.raises(ConfigError, match=r"'person'.*'persons'"),
        opened(posthog, EVENTS, person="x"),
    ):
        pass


def test_the_mapping_compiles_for_spark():
    sql = spark_sql(posthog, EVENTS, persons=str(PERSONS))
    assert "UNION ALL" in sql


KEYS = ["uuid", "event", "distinct_id", "person_id", "timestamp", "created_at", "properties"]


@settings(max_examples=6)
@given(objects([*KEYS, "$ip", "$set", "alias"]))
def test_no_line_is_lost_whatever_it_holds(tmp_path, records):
    nothing_is_lost(posthog, records, tmp_path)
