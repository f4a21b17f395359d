"""CloudEvents become raw rows; the options say what subject and data mean."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from opened import SAMPLES, nothing_is_lost, objects, opened, read, rejects, row, spark_sql

from seqjourney.errors import ConfigError, DataError
from seqjourney.events.sources import cloudevents

TICKETS = SAMPLES / "cloudevents" / "tickets.jsonl"
OPTIONS = {
    "identifiers": {"email": "data.customer.email"},
    "money": {
        "total": "data.amount",
        "tax": "data.vat",
        "refund": "data.given_back",
        "currency": "data.currency",
    },
    "consent": "data.choices",
}


@pytest.fixture(scope="module")
def tickets():
    return read(cloudevents, TICKETS, **OPTIONS)


def test_an_event_gives_its_type_time_subject_key_and_data(tickets):
    assert row(tickets, 0) == {
        "source_row": 0,
        "event": "com.example.helpdesk.ticket.created",
        "timestamp": "2024-03-01T10:00:00Z",
        "known_at": "2024-03-01T10:00:05.250000Z",
        "event_id": "https://help.example.com/tickets t-1",
        "id_user": "u-1",
        "id_email": "Ana@Example.com",
        "properties": {"ticket": 7, "customer": {"email": ""}, "topic": "Größe passt nicht"},
    }


def test_source_and_id_together_are_the_key(tickets):
    keys = tickets["event_id"].tolist()
    assert keys[0] == keys[1] == "https://help.example.com/tickets t-1"
    assert keys[2] == "/billing t-1"  # the same id of another source is another event


def test_money_stands_where_the_options_say_and_a_refund_is_positive(tickets):
    paid, back = row(tickets, 2), row(tickets, 3)
    assert paid["timestamp"] == "2024-03-01T10:00:00Z"
    assert (paid["money_total"], paid["money_tax"], paid["currency"]) == ("121.5", "21.0", "EUR")
    assert (back["money_refund"], back["currency"]) == ("21.5", "EUR")
    assert "money_total" not in back


def test_consent_is_read_from_flags_and_from_states(tickets, tmp_path):
    assert row(tickets, 4)["consent"] == {"analytics": "granted", "ads": "denied"}
    assert tickets["consent"].notna().sum() == 1
    file = tmp_path / "e.jsonl"
    choices = [{"ads": "denied"}, {"ads": True}, {"ads": "perhaps"}, {"ads": {"a": 1}}, "no", None]
    file.write_text(
        "".join(json.dumps({"id": "1", "data": {"choices": c}}) + "\n" for c in choices)
    )
    rows = read(cloudevents, file, consent="data.choices")
    unreadable = {"*": "unknown"}
    said = [json.loads(text) if text else None for text in rows["consent"]]
    assert said == [
        {"ads": "denied"},
        {"ads": "granted"},
        {"ads": "unknown"},
        unreadable,
        unreadable,
        None,
    ]


def test_an_event_without_a_time_takes_that_of_its_recording_but_a_wrong_one_is_wrong(tickets):
    assert row(tickets, 5)["timestamp"] == row(tickets, 5)["known_at"] == "2024-03-04T08:00:00Z"
    assert "timestamp" not in row(tickets, 6)


def test_data_that_is_no_object_is_kept_under_its_name(tickets):
    assert row(tickets, 5)["properties"] == {"data_base64": "aGVsbG8="}
    assert row(tickets, 6)["properties"] == {"data": 'said "maybe"'}


def test_lines_that_are_no_events_are_returned_with_their_place(tickets):
    assert len(tickets) == 7
    assert [(r.line, r.reason) for r in rejects(cloudevents, TICKETS)] == [
        (9, "not a JSON object"),
        (10, "malformed JSON"),
    ]


def test_without_options_subject_is_a_user_and_data_stays_as_it_is():
    rows = read(cloudevents, TICKETS)
    assert row(rows, 0)["properties"]["customer"] == {"email": "Ana@Example.com"}
    assert not [c for c in rows if c.startswith("money_") or c in ("consent", "id_email")]


@pytest.mark.parametrize(
    ("subject", "column"), [("device", "id_device"), ("email", "id_email"), ("group", "group_id")]
)
def test_subject_is_an_identifier_of_the_configured_type(subject, column):
    rows = read(cloudevents, TICKETS, subject=subject)
    assert rows[column].tolist()[:3] == ["u-1", "u-1", "u-2"]
    assert "id_user" not in rows


def test_addresses_and_numbers_that_the_options_name_stay_in_no_property(tmp_path):
    people = [
        {"email": "a@b.example", "phone": "+31 6 12", "note": "mail a@b.example or +31 6 12"},
        {"email": 'odd"@b.example', "phone": 31612, "other": 316120},
        {"email": None, "phone": ""},
    ]
    file = tmp_path / "e.jsonl"
    file.write_text("".join(json.dumps({"id": "1", "data": p}) + "\n" for p in people))
    rows = read(cloudevents, file, identifiers={"email": "data.email", "phone": "data.phone"})
    assert rows["id_email"].tolist() == ["a@b.example", 'odd"@b.example', None]
    assert rows["id_phone"].tolist() == ["+31 6 12", "31612", ""]
    assert [json.loads(text) for text in rows["properties"]] == [
        {"email": "", "phone": "", "note": "mail  or +31 6 12"},
        {"email": "", "phone": "", "other": 316120},
        {"email": None, "phone": ""},
    ]


def test_gzipped_files_of_a_folder_are_read_in_order(tmp_path):
    for day in (1, 2):
        line = json.dumps({"id": str(day), "source": "s", "type": "t"}).encode()
        (tmp_path / f"day-{day}.jsonl.gz").write_bytes(gzip.compress(line + b"\n"))
    assert read(cloudevents, tmp_path)["event_id"].tolist() == ["s 1", "s 2"]


def test_what_is_no_json_lines_is_refused(tmp_path):
    (tmp_path / "e.csv").write_text("id,source\n1,2\n")
    with (
        pytest.raises(DataError, match=r"e\.csv: CloudEvents are read from JSON Lines"),
        opened(cloudevents, tmp_path / "e.csv"),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subjekt": "user"}, r"data.sources.cloudevents.options:\n.*'subjekt'.*mean 'subject'"),
        ({"subject": "User Id"}, "subject"),
        ({"identifiers": {"Loyalty Card": "data.card"}}, "'Loyalty Card' is no identifier type"),
        ({"identifiers": {"user": "data.user"}}, "both subject and identifiers hold the type"),
        ({"money": {"gross": "data.amount"}}, "gross"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ConfigError, match=words), opened(cloudevents, TICKETS, **options):
        pass


def test_the_mapping_compiles_for_spark():
    assert spark_sql(cloudevents, TICKETS, **OPTIONS).lstrip().startswith(("SELECT", "WITH"))


@settings(max_examples=6)
@given(objects(["id", "source", "type", "subject", "time", "data", "data_base64", "recordedtime"]))
def test_no_line_is_lost_whatever_it_holds(tmp_path, records):
    options = OPTIONS | {"identifiers": {"email": "data.data", "phone": "data.id"}}
    nothing_is_lost(cloudevents, records, tmp_path, **options)
