"""Segment's calls and warehouse tables become raw rows."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened import SAMPLES, nothing_is_lost, objects, opened, read, rejects, row, spark_sql

from seqjourney.errors import DataError
from seqjourney.events.engine import connect
from seqjourney.events.sources import segment
from seqjourney.events.sources.commerce import AMOUNTS, money, refund_whole_orders

CALLS = SAMPLES / "segment" / "calls.jsonl"
KEYS = ["messageId", "type", "event", "name", "userId", "previousId", "timestamp", "sentAt",
        "originalTimestamp", "receivedAt", "properties", "traits", "context"]  # fmt: skip


@pytest.fixture(scope="module")
def said() -> dict[str, dict[str, Any]]:
    """What each call of the sample says, by its (first) message id."""
    rows = read(segment, CALLS)
    found: dict[str, dict[str, Any]] = {}
    for place in range(len(rows)):
        found.setdefault(rows.event_id[place], row(rows, place))
    return found


def calls(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "calls.jsonl"
    lines = [json.dumps({"messageId": str(i), **r}) for i, r in enumerate(records)]
    path.write_text("\n".join(lines))
    return path


def consents(folder: Path, *contexts: Any) -> list[dict[str, str] | None]:
    rows = read(segment, calls(folder, *({"type": "track", "context": c} for c in contexts)))
    return [None if text is None else json.loads(text) for text in rows.consent]


def test_a_page_call_keeps_its_name_and_brings_all_channel_evidence(said):
    assert said["ajs-1"] == {
        "source_row": 0,
        "event": "Home",
        "timestamp": "2024-03-01T10:00:05Z",
        "known_at": "2024-03-01T10:00:06Z",
        "event_id": "ajs-1",
        "id_anonymous": "anon-1",
        "actor": "customer",
        "page_url": "https://shop.example/?gclid=abc",
        "referrer": "https://www.google.com/",
        "utm_source": "google",
        "utm_medium": "cpc",
        "utm_campaign": "spring",
        "utm_term": "shoes",
        "utm_content": "a",
        "user_agent": "Mozilla/5.0",
        "properties": {
            "title": "Willkommen – Übersicht",
            "url": "https://shop.example/?gclid=abc",
            "path": "/",
        },
    }


def test_an_identify_call_is_the_systems_and_its_traits_go_nowhere_but_to_identifiers(said):
    assert said["ajs-2"] == {
        "source_row": 1,
        "event": "identify",
        "timestamp": "2024-03-01T10:00:59Z",
        "known_at": "2024-03-01T10:01:00Z",
        "event_id": "ajs-2",
        "id_user": "u-1",
        "id_anonymous": "anon-1",
        "id_external": "ga-77",
        "id_email": "Zoë@Example.com",
        "id_phone": "+49 30 1234567",
        "actor": "system",
        "consent": {"Advertising": "denied", "Analytics": "granted", "Functional": "unknown"},
    }


def test_an_order_brings_its_net_and_what_was_paid(said):
    order = said["py-3"]
    assert {key: order[key] for key in order if key.startswith(("money", "currency", "order"))} == {
        "money_net": "22.5",
        "money_total": "27.5",
        "money_discount": "2.5",
        "money_tax": "2",
        "money_shipping": "3",
        "currency": "USD",
        "order_id": "o-1",
    }
    assert order["properties"]["products"][1] == {"product_id": "p2", "price": 3, "quantity": 2}
    assert "consent" not in order


def test_a_repeated_message_is_two_rows_of_one_id():
    rows = read(segment, CALLS)
    assert rows[rows.event_id == "py-3"].source_row.tolist() == [2, 3]


def test_a_refund_is_positive_and_net_of_tax_or_names_its_order_alone(said):
    assert said["py-5"]["money_refund"] == "10.0"
    assert said["py-4"]["order_id"] == "o-1"
    assert "money_refund" not in said["py-4"]
    assert said["py-4"]["actor"] == "company"


def test_a_started_checkout_is_no_money_and_custom_revenue_is(said):
    assert not [key for key in said["ajs-6"] if key.startswith(("money", "currency"))]
    renewed = said["srv-7"]
    assert (renewed["money_net"], renewed["currency"]) == ("9.99", "EUR")
    assert "money_total" not in renewed  # "42 seats" is no money


def test_a_missing_timestamp_is_computed_from_the_skewed_clock(said):
    # sent 5 s after it happened by a clock that is an hour behind; received at 00:00:10
    assert said["srv-7"]["timestamp"] == "2024-03-05T00:00:05Z"


def test_alias_and_group_calls_link_and_make_nobody_active(said):
    alias, group = said["api-8"], said["api-9"]
    assert (alias["event"], alias["id_user"], alias["previous_id"], alias["actor"]) == (
        "alias",
        "u-1",
        "anon-9",
        "system",
    )
    assert (group["event"], group["group_id"], group["actor"]) == ("group", "acme", "system")
    assert group["properties"] == {"name": "Acme", "plan": "enterprise"}


def test_an_unnamed_screen_has_the_calls_name(said):
    assert (said["ios-10"]["event"], said["ios-10"]["group_id"]) == ("screen", "globex")


def test_an_advertising_id_counts_only_where_the_device_allows_it(said):
    assert said["ios-10"]["id_device"] == "idfv-2"
    assert "id_device" not in said["ios-11"]
    assert said["ios-12"]["id_device"] == "idfa-3"


def test_mails_and_pushes_are_the_companys_until_the_customer_acts(said):
    facts = {
        key: (said[key]["actor"], said[key]["channel"], said[key].get("message_id"))
        for key in ("mail-13", "mail-14", "ios-11", "ios-12")
    }
    assert facts == {
        "mail-13": ("company", "email", "m-1"),
        "mail-14": ("customer", "email", "m-1"),
        "ios-11": ("company", "mobile_push", None),
        "ios-12": ("customer", "mobile_push", None),
    }
    assert said["mail-14"]["user_agent"] == "GoogleImageProxy"
    assert said["mail-13"]["id_email"] == "zoe@example.com"


def test_missing_consent_says_nothing_and_empty_consent_refuses_everything(tmp_path):
    preferences = {"categoryPreferences": {"Ads": True}}
    assert consents(
        tmp_path,
        {},
        {"consent": {}},
        {"consent": {"categoryPreferences": None}},
        {"consent": {"categoryPreferences": {}}},
        {"consent": preferences},
    ) == [None, None, None, {"*": "denied"}, {"Ads": "granted"}]


def test_consent_that_is_no_object_of_booleans_is_unknown_and_never_granted(tmp_path):
    wrong = ["yes", True, 1, [], ["Ads"], {"a": {"b": True}}, {'q"': True}, {":true": False}]
    for found in consents(tmp_path, *({"consent": {"categoryPreferences": w}} for w in wrong)):
        assert found == {"*": "unknown"}
    mixed = {"a": "true", "b": None, "c": 1.5e3, "d": False, "e , ": True}
    assert consents(tmp_path, {"consent": {"categoryPreferences": mixed}}) == [
        {"a": "unknown", "b": "unknown", "c": "unknown", "d": "denied", "e , ": "granted"}
    ]


@given(
    choices=st.lists(
        st.dictionaries(st.text(max_size=6), st.sampled_from([True, False, None]), max_size=4),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=8)
def test_consent_is_read_as_it_stands_or_as_unreadable(choices, tmp_path):
    states = {True: "granted", False: "denied", None: "unknown"}
    found = consents(tmp_path, *({"consent": {"categoryPreferences": c}} for c in choices))
    for chosen, read_as in zip(choices, found, strict=True):
        exact = {name: states[value] for name, value in chosen.items()} or {"*": "denied"}
        assert read_as in (exact, {"*": "unknown"})
        if all(name.isalnum() and name.isascii() for name in chosen):
            assert read_as == exact


def test_wrong_types_become_text_and_unreadable_times_are_shown(said):
    assert said["16"] == {
        "source_row": 16,
        "unreadable_timestamp": "1709287200",
        "unreadable_known_at": "soon",
        "event": '["not","a","name"]',
        "event_id": "16",
        "id_user": '{"id":1}',
        "actor": "customer",
        "properties": "none",
    }


def test_a_line_that_is_no_json_is_rejected_with_its_place():
    (reject,) = rejects(segment, CALLS)
    assert (reject.line, reject.text, reject.reason) == (19, "not json", "malformed JSON")


def test_an_offset_counts_and_a_page_reached_from_an_assistant_keeps_its_referrer(said):
    page = said["ajs-17"]
    assert page["timestamp"] == "2024-03-06T00:00:00Z"
    assert (page["event"], page["referrer"]) == ("page", "https://chatgpt.com/")


def test_no_address_of_a_machine_is_taken():
    assert "203.0.113.7" not in read(segment, CALLS).to_json()


@given(records=objects(KEYS))
@settings(max_examples=8)
def test_no_line_is_lost_whatever_it_holds(records, tmp_path):
    nothing_is_lost(segment, records, tmp_path)


def test_the_mapping_compiles_for_spark():
    assert spark_sql(segment, CALLS).lstrip().startswith(("SELECT", "WITH"))


# --- warehouse


def warehouse(folder: Path, **tables: dict[str, list[Any]]) -> Path:
    common = {
        "received_at": [datetime(2024, 3, 1, 10, 0, 2)],
        "timestamp": [datetime(2024, 3, 1, 10, 0, 1)],
        "user_id": ["u"],
        "anonymous_id": ["a"],
    }
    for name, columns in tables.items():
        pq.write_table(pa.table({**common, **columns}), folder / f"{name}.parquet")
    return folder


ORDER = {
    "id": ["m1"],
    "event": ["order_completed"],
    "event_text": ["Order Completed"],
    "total": [12.5],
    "tax": [2.0],
    "gift": [True],
    "note": ['a "b"\n'],
    "products": ['[{"sku":1}]'],
    "nothing": pa.array([None], pa.string()),
    "context_page_url": ["https://x/"],
    "context_ip": ["203.0.113.7"],
    "context_consent_category_preferences_c0001": [True],
    "context_consent_category_preferences_c0002": [False],
}


def test_an_events_own_table_is_read_like_the_call(tmp_path):
    rows = read(segment, warehouse(tmp_path, order_completed=ORDER))
    assert row(rows, 0) == {
        "source_row": 0,
        "event": "Order Completed",
        "timestamp": "2024-03-01T10:00:01Z",
        "known_at": "2024-03-01T10:00:02Z",
        "event_id": "m1",
        "id_user": "u",
        "id_anonymous": "a",
        "actor": "customer",
        "page_url": "https://x/",
        "money_total": "12.5",
        "money_tax": "2.0",
        "consent": {"c0001": "granted", "c0002": "denied"},
        "properties": {
            "total": 12.5,
            "tax": 2.0,
            "gift": True,
            "note": 'a "b"\n',
            "products": '[{"sku":1}]',
        },
    }


def test_each_table_is_its_call_and_tracks_comes_after_the_events_own_table(tmp_path):
    place = warehouse(
        tmp_path,
        aliases={"id": ["m5"], "previous_id": ["p"]},
        groups_0001={"id": ["m4"], "group_id": ["g"], "name": ["Acme"]},
        identifies={"id": ["m2"], "email": ["me@example.com"], "plan": ["pro"]},
        order_completed=ORDER,
        pages={"id": ["m3"], "name": ["Home"], "url": ["https://x/h"]},
        tracks={key: ORDER[key] for key in ("id", "event", "event_text")},
        users={"id": ["u"], "email": ["me@example.com"]},
    )
    rows = read(segment, place)
    assert rows.event.tolist()[-1] == "Order Completed"
    assert rows.properties.tolist()[-1] is None
    assert sorted(rows.event) == [
        "Home", "Order Completed", "Order Completed", "alias", "group", "identify"
    ]  # fmt: skip
    of = {r["event_id"]: r for r in (row(rows, i) for i in reversed(range(len(rows))))}
    assert (of["m2"]["id_email"], of["m2"]["actor"]) == ("me@example.com", "system")
    assert "properties" not in of["m2"]
    assert of["m3"]["page_url"] == "https://x/h"
    assert of["m4"]["group_id"] == "g"
    assert of["m5"]["previous_id"] == "p"
    assert "id_email" not in of["m1"]
    assert rows.source_row.is_unique
    with opened(segment, place) as (_, source):
        assert [file.name for file in source.files if file.name == "users.parquet"] == []


def test_a_warehouse_without_events_is_refused(tmp_path):
    place = warehouse(tmp_path, users={"id": ["u"]})
    with pytest.raises(DataError, match=r"users.*no events"):
        read(segment, place)


# --- money


def test_a_refund_of_a_whole_order_takes_what_the_order_brought(tmp_path):
    amounts = [
        ("Order Completed", {"order_id": "1", "total": "27.5", "tax": "2", "shipping": "3"}),
        ("Order Completed", {"order_id": "2", "subtotal": "8"}),
        ("Order Refunded", {"order_id": "1"}),
        ("Order Refunded", {"order_id": "2", "total": "3"}),
        ("Order Refunded", {"order_id": "9"}),
        ("Order Viewed", {"order_id": "2"}),
    ]
    columns = {key: [given.get(key) for _, given in amounts] for key in AMOUNTS}
    columns |= {"place": list(range(len(amounts))), "event": [event for event, _ in amounts]}
    types = {name: pa.int64() if name == "place" else pa.string() for name in columns}
    table = ibis.memtable(pa.table(columns, schema=pa.schema(list(types.items()))))
    rows = table.select("place", **money(table.event, {key: table[key] for key in AMOUNTS}))
    with connect(tmp_path) as backend:
        found = backend.execute(refund_whole_orders(rows).order_by("place")).money_refund
    values = [None if text is None or text != text else float(text) for text in found]
    assert values == [None, None, 22.5, 3.0, None, None]


@pytest.mark.parametrize(
    ("given_amounts", "net"),
    [
        ({"subtotal": "22.5", "revenue": "25", "total": "27.5", "tax": "2"}, "22.5"),
        ({"revenue": "25"}, "25"),
        ({"revenue": "25", "total": "30"}, "25"),  # tax and shipping unknown
        ({"revenue": "25", "total": "27.5", "tax": "2"}, None),  # the total says more
        ({"subtotal": "", "revenue": " 25 "}, "25"),
        ({"subtotal": "cheap"}, "cheap"),  # for cleaning to report
    ],
)
def test_the_net_of_an_order_comes_from_the_surest_amount(given_amounts, net, tmp_path):
    path = calls(
        tmp_path, {"type": "track", "event": "Order Completed", "properties": given_amounts}
    )
    assert read(segment, path).money_net[0] == net
