"""RudderStack's calls become raw rows: Segment's, but for consent and sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened import SAMPLES, nothing_is_lost, objects, read, rejects, row, spark_sql, write_parquet

from seqjourney.events.sources import rudderstack

CALLS = SAMPLES / "rudderstack" / "calls.jsonl"
KEYS = ["messageId", "type", "event", "name", "userId", "channel", "timestamp", "sentAt",
        "originalTimestamp", "receivedAt", "properties", "traits", "context"]  # fmt: skip


@pytest.fixture(scope="module")
def said() -> dict[str, dict[str, Any]]:
    rows = read(rudderstack, CALLS)
    return {rows.event_id[place]: row(rows, place) for place in range(len(rows))}


def consents(folder: Path, *managements: Any) -> list[dict[str, str] | None]:
    path = folder / "calls.jsonl"
    records = [{"type": "track", "context": {"consentManagement": m}} for m in managements]
    path.write_text("\n".join(map(json.dumps, records)))
    rows = read(rudderstack, path)
    return [None if text is None else json.loads(text) for text in rows.consent]


def test_a_page_call_brings_session_consent_and_no_marketing_channel(said):
    assert said["rs-1"] == {
        "source_row": 0,
        "event": "Pricing",
        "timestamp": "2024-05-01T12:00:20Z",
        "known_at": "2024-05-01T12:00:30Z",
        "event_id": "rs-1",
        "id_anonymous": "a-1",
        "session_id": "1714564790",
        "actor": "customer",
        "page_url": "https://app.example/pricing?utm_source=perplexity",
        "utm_source": "perplexity",
        "consent": {"C0001": "granted", "C0002": "denied", "C0003": "denied"},
        "properties": {"url": "https://app.example/pricing?utm_source=perplexity"},
    }


def test_an_identify_call_takes_its_traits_from_the_context(said):
    identify = said["rs-2"]
    assert (identify["id_user"], identify["id_email"], identify["id_phone"]) == (
        "7",
        "li@example.com",
        "0301234567",
    )
    assert (identify["event"], identify["actor"]) == ("identify", "system")
    assert "consent" not in identify  # two empty lists
    assert "properties" not in identify


def test_without_a_time_of_sending_the_device_is_believed(said):
    assert said["rs-3"]["timestamp"] == "2024-05-01T12:02:00Z"


def test_an_order_and_its_cancellation_bring_the_same_net(said):
    order, cancelled = said["rs-3"], said["rs-4"]
    paid = [float(order[f"money_{part}"]) for part in ("total", "tax", "shipping")]
    assert "money_net" not in order
    assert paid[0] - paid[1] - paid[2] == float(cancelled["money_refund"]) == 40
    assert order["order_id"] == cancelled["order_id"] == "x1"


def test_alias_group_and_screen_are_as_in_segment(said):
    assert said["rs-5"]["previous_id"] == "a-0"
    assert (said["rs-6"]["group_id"], said["rs-6"]["properties"]) == ("g-9", {"name": "東京"})
    assert (said["rs-7"]["event"], said["rs-7"]["actor"]) == ("Main", "customer")


def test_a_device_that_does_not_say_true_lends_no_advertising_id(said):
    assert said["rs-4"]["id_device"] == "android-1"


def test_a_line_that_is_no_object_is_rejected():
    assert [(r.line, r.reason) for r in rejects(rudderstack, CALLS)] == [(8, "not a JSON object")]


def test_consent_lists_say_what_is_allowed_and_denied_and_nothing_of_others(tmp_path):
    assert consents(
        tmp_path,
        None,
        {},
        {"allowedConsentIds": [], "deniedConsentIds": []},
        {"allowedConsentIds": ["Ads", "ads"], "deniedConsentIds": ["ads"]},
        {"deniedConsentIds": ["a, b"]},
        {"allowedConsentIds": ["a"], "deniedConsentIds": None},
    ) == [None, None, None, {"Ads": "granted", "ads": "denied"}, {"a, b": "denied"},
          {"a": "granted"}]  # fmt: skip


def test_consent_that_is_no_list_of_names_is_unknown_and_never_granted(tmp_path):
    wrong = ["ads", 1, True, {"ads": True}, [1], ["a", None], [["a"]], ['a"b'], "\\"]
    managements = [{"allowedConsentIds": ids, "deniedConsentIds": ["x"]} for ids in wrong]
    for found in consents(tmp_path, *managements):
        assert found == {"*": "unknown"}


@given(
    choices=st.lists(
        st.tuples(*[st.lists(st.text(max_size=4), max_size=3, unique=True)] * 2),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=8)
def test_consent_is_read_as_it_stands_or_as_unreadable(choices, tmp_path):
    found = consents(
        tmp_path, *({"allowedConsentIds": a, "deniedConsentIds": d} for a, d in choices)
    )
    for (allowed, denied), read_as in zip(choices, found, strict=True):
        exact = dict.fromkeys(allowed, "granted") | dict.fromkeys(denied, "denied")
        assert read_as in (exact or None, {"*": "unknown"})
        if all(name.isalnum() and name.isascii() for name in (*allowed, *denied)):
            assert read_as == (exact or None)


@pytest.mark.parametrize("ids", [['["c1", "c2"]'], pa.array([["c1", "c2"]])])
def test_a_warehouse_table_holds_consent_lists_as_text_or_as_lists(ids, tmp_path):
    table = pa.table(
        {
            "id": ["m"],
            "event": ["sign_up"],
            "event_text": ["Sign Up"],
            "received_at": ["2024-01-01 00:00:01"],
            "timestamp": ["2024-01-01 00:00:00"],
            "uuid_ts": ["2024-01-01 00:05:00"],
            "anonymous_id": ["a"],
            "context_session_id": [17],
            "context_consent_management_allowed_consent_ids": ids,
            "plan": ["pro"],
        }
    )
    assert row(read(rudderstack, write_parquet(table, tmp_path)), 0) == {
        "source_row": 0,
        "event": "Sign Up",
        "timestamp": "2024-01-01T00:00:00Z",
        "known_at": "2024-01-01T00:00:01Z",
        "event_id": "m",
        "id_anonymous": "a",
        "session_id": "17",
        "actor": "customer",
        "consent": {"c1": "granted", "c2": "granted"},
        "properties": {"plan": "pro"},
    }


@given(records=objects(KEYS))
@settings(max_examples=8)
def test_no_line_is_lost_whatever_it_holds(records, tmp_path):
    nothing_is_lost(rudderstack, records, tmp_path)


def test_the_mapping_compiles_for_spark():
    assert spark_sql(rudderstack, CALLS).lstrip().startswith(("SELECT", "WITH"))
