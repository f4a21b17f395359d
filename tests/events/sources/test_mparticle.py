"""mParticle's batches become one raw row per event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened import SAMPLES, objects, opened, read, rejects, row, spark_sql, write_parquet

from seqjourney.config import DataConfig, parse
from seqjourney.errors import DataError
from seqjourney.events.log import write_event_log
from seqjourney.events.sources import mparticle

BATCHES = SAMPLES / "mparticle" / "batches.jsonl"
KEYS = ["events", "mpid", "user_identities", "device_info", "consent_state", "mp_deviceid",
        "timestamp_unixtime_ms"]  # fmt: skip
ALL = {"ads": "denied", "analytics": "granted", "data_sale_opt_out": "denied", "lists": "unknown"}


@pytest.fixture(scope="module")
def said() -> list[dict[str, Any]]:
    rows = read(mparticle, BATCHES)
    return [row(rows, place) for place in range(len(rows))]


def batches(folder: Path, *records: Any) -> Path:
    path = folder / "batches.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def consents(folder: Path, *states: Any) -> list[dict[str, str] | None]:
    rows = read(mparticle, batches(folder, *({"mpid": 1, "consent_state": s} for s in states)))
    return [None if text is None else json.loads(text) for text in rows.consent]


def test_a_custom_event_carries_the_identities_and_consent_of_its_batch(said):
    assert said[1] == {
        "source_row": 1,
        "event": "button clicked",
        "timestamp": "2022-07-16T01:16:01.500000Z",
        "known_at": "2022-07-16T01:16:05.102000Z",
        "event_id": "m-2",
        "id_user": "c-1",
        "id_email": "ana@example.com",
        "id_phone": "+351 912 345 678",
        "id_device": "99999999-9999-4999-9f99-99ed99000999",
        "id_external": "-88488484884842442",
        "session_id": "s-1",
        "actor": "customer",
        "user_agent": "Shop/5",
        "consent": ALL,
        "properties": {"button_name": "início", "other": "x"},
    }


def test_every_event_of_a_batch_is_a_row_in_its_order(said):
    places = [divmod(r["source_row"], mparticle.MOST_EVENTS) for r in said]  # batch, place in it
    assert places == sorted(set(places)) and len(places) == 16
    assert [place for _, place in places][:5] == [0, 1, 2, 0, 1]
    assert [r.get("event") for r in said] == [
        "session_start",
        "button clicked",
        "commerce_event.purchase",
        "commerce_event.refund",
        "Cart",
        "Cart",
        "push_message.received",
        "application_state_transition.application_foreground",
        "opt_out",
        "opt_out",
        None,  # "not an event"
        None,  # null
        "batch",
        "commerce_event.promotion_view",
        "commerce_event.impression",
        "profile.login",
    ]


def test_a_purchase_brings_what_was_paid_and_a_refund_is_positive_and_net_of_tax(said):
    purchase, refund = said[2], said[3]
    assert {key: purchase[key] for key in purchase if key.startswith(("money", "curr"))} == {
        "money_total": "121.0",
        "money_tax": "20",
        "money_shipping": "1",
        "currency": "EUR",
    }
    assert purchase["properties"]["transaction_id"] == "t-1"
    assert purchase["properties"]["gift"] == "yes"
    assert (refund["money_refund"], refund["actor"]) == ("50.5", "company")


def test_the_senders_message_id_is_the_key_else_mparticles_else_a_hash(said):
    assert [said[i]["event_id"] for i in (0, 1, 2)] == ["m-1", "m-2", "7"]
    assert said[4]["event_id"] == said[5]["event_id"]
    assert len({r["event_id"] for r in said}) == len(said) - 1


def test_a_retried_batch_without_ids_repeats_its_events_ids(tmp_path):
    event = {"event_type": "custom_event", "data": {"event_name": "x", "timestamp_unixtime_ms": 5}}
    path = batches(
        tmp_path,
        {"mpid": 1, "timestamp_unixtime_ms": 10, "events": [event]},
        {"mpid": 1, "timestamp_unixtime_ms": 99, "events": [event]},
        {"mpid": 2, "timestamp_unixtime_ms": 10, "events": [event]},
    )
    ids = read(mparticle, path).event_id.tolist()
    assert ids[0] == ids[1] != ids[2]


def test_an_advertising_id_counts_only_where_the_device_allows_it(said, tmp_path):
    assert "id_device" not in said[3]  # limit_ad_tracking
    assert said[12]["id_device"] == "gaid-3"
    path = batches(
        tmp_path,
        {"device_info": {"ios_advertising_id": "i"}},
        {"device_info": {"ios_advertising_id": "i", "att_authorization_status": "denied"}},
        {"device_info": {"ios_advertising_id": "i", "att_authorization_status": "authorized"}},
    )
    assert read(mparticle, path).id_device.tolist() == [None, None, "i"]


def test_a_batch_without_events_is_a_row_that_keeps_identity_and_consent(said):
    assert said[12] == {
        "source_row": 2 * mparticle.MOST_EVENTS,
        "event": "batch",
        "timestamp": "2022-07-16T01:18:20Z",
        "known_at": "2022-07-16T01:18:20Z",
        "event_id": said[12]["event_id"],
        "id_email": "only@example.com",
        "id_device": "gaid-3",
        "id_external": "13",
        "actor": "system",
        "consent": {"ads": "granted"},
    }


def test_opting_out_denies_everything_and_opting_in_leaves_it_open(said):
    assert said[8]["consent"] == {"*": "denied"}
    assert said[9]["consent"] == {"*": "unknown"}


def test_times_that_are_none_or_beyond_the_clock_are_missing(said):
    assert "timestamp" not in said[13]
    assert "known_at" not in said[13]
    assert said[14]["timestamp"] == "2022-07-16T01:18:21Z"


def test_to_have_opted_out_of_sale_is_denied_and_not_to_have_is_granted(tmp_path):
    def ccpa(consented: Any) -> dict[str, Any]:
        return {"ccpa": {"data_sale_opt_out": {"consented": consented}}}

    assert consents(tmp_path, ccpa(True), ccpa(False), ccpa(None)) == [
        {"data_sale_opt_out": "denied"},
        {"data_sale_opt_out": "granted"},
        {"data_sale_opt_out": "unknown"},
    ]


def test_no_consent_state_says_nothing_and_an_unreadable_one_is_unknown(tmp_path):
    assert consents(tmp_path, None, {}, {"gdpr": None}, {"gdpr": {}, "ccpa": {}}) == [None] * 4
    wrong = ["all", 1, [True], {"ads": True}, {"ads": "yes"}, {"ads": {"consented": "yes"}}]
    for found in consents(tmp_path, *({"gdpr": w} for w in wrong)):
        assert found == {"*": "unknown"}


@given(
    choices=st.lists(
        st.dictionaries(
            st.text(max_size=5),
            st.fixed_dictionaries(
                {"consented": st.sampled_from([True, False, None])},
                optional={
                    "document": st.text(max_size=8) | st.just('"consented":true}'),
                    "timestamp_unixtime_ms": st.integers(0, 10**13),
                    "location": st.none() | st.text(max_size=4),
                },
            ),
            max_size=3,
        ),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=8)
def test_consent_is_read_as_it_stands_or_as_unreadable(choices, tmp_path):
    states = {True: "granted", False: "denied", None: "unknown"}
    found = consents(tmp_path, *({"gdpr": purposes} for purposes in choices))
    for purposes, read_as in zip(choices, found, strict=True):
        exact = {name: states[told["consented"]] for name, told in purposes.items()} or None
        assert read_as in (exact, {"*": "unknown"})
        if all(name.isalnum() and name.isascii() for name in purposes):
            assert read_as == exact


def test_a_line_that_is_no_batch_is_rejected():
    assert [(r.line, r.reason) for r in rejects(mparticle, BATCHES)] == [(5, "not a JSON object")]


def test_events_that_are_no_list_are_refused_in_a_typed_file_and_a_batch_in_json(tmp_path):
    place = write_parquet(pa.table({"mpid": [1], "events": [5]}), tmp_path)
    with pytest.raises(DataError, match="'events' is int64"):
        read(mparticle, place)
    path = batches(tmp_path, {"mpid": 1, "events": {"event_type": "x"}}, {"mpid": 2, "events": []})
    assert read(mparticle, path).event.tolist() == ["batch", "batch"]


def test_batches_as_json_text_in_a_table_are_read_alike(tmp_path):
    records = [json.loads(line) for line in BATCHES.read_text().splitlines()[:3]]
    keys = sorted({key for record in records for key in record})
    columns = {key: [_written(record.get(key)) for record in records] for key in keys}
    typed = read(mparticle, write_parquet(pa.table(columns), tmp_path))
    plain = read(mparticle, BATCHES).iloc[: len(typed)]
    hashed = typed.event_id.str.len() == 32  # of the event as written, which blanks change
    assert typed.drop(columns="event_id").equals(plain.drop(columns="event_id"))
    assert typed.event_id[~hashed].tolist() == plain.event_id[~hashed].tolist()


def _written(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def test_a_line_that_is_no_record_is_named_by_its_own_number(tmp_path: Path) -> None:
    file = tmp_path / "batches.jsonl"
    about = {"event_name": "x", "event_id": "1", "timestamp_unixtime_ms": 1657934161500}
    event = {"event_type": "custom_event", "data": about}
    good = json.dumps({"events": [event] * 3, "mpid": "7"})
    file.write_text("\n".join([good] * 4 + ["{broken"] * 6) + "\n")
    (tmp_path / "log").mkdir()
    config = parse(
        DataConfig,
        {"name": "x", "sources": [{"name": "mp", "kind": "mparticle", "path": str(file)}],
         "on_malformed": "quarantine", "max_quarantined_share": 0.01},
        "data",
    )  # fmt: skip
    with pytest.raises(DataError, match=r"first at line 5 of .*batches\.jsonl"):
        write_event_log(config, tmp_path / "log", processed=tmp_path)


@given(records=objects(KEYS))
@settings(max_examples=8)
def test_every_line_is_a_reject_or_as_many_rows_as_it_has_events(records, tmp_path):
    path = tmp_path / "batches.jsonl"
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    with opened(mparticle, path) as (backend, source):
        rows, rejected = backend.execute(source.rows), list(source.rejected(backend))
    refused = {reject.line for reject in rejected}
    expected = 0
    for number, record in enumerate(records, start=1):
        if number not in refused:
            events = record.get("events")
            expected += (len(events) or 1) if isinstance(events, list) else 1
    assert len(rows) == expected
    assert len(rows) == expected
    assert rows.source_row.is_unique
    for text in [*rows.properties.dropna(), *rows.consent.dropna()]:
        json.loads(text)


def test_the_mapping_compiles_for_spark():
    assert spark_sql(mparticle, BATCHES).lstrip().startswith(("SELECT", "WITH"))
