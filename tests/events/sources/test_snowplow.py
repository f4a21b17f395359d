"""Snowplow's enriched events become raw rows, from JSON Lines, CSV and Parquet alike."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from opened import SAMPLES, nothing_is_lost, objects, opened, read, rejects, row, spark_sql
from opened import write_parquet as write

from seqjourney.errors import ConfigError, DataError
from seqjourney.events.sources import snowplow

EVENTS = SAMPLES / "snowplow" / "enriched.jsonl"
OWN = "com.snowplowanalytics.snowplow"
PREFERENCES = "unstruct_event_com_snowplowanalytics_snowplow_consent_preferences_1"
TRANSACTION = "contexts_com_snowplowanalytics_snowplow_ecommerce_transaction_1"
NUMBERS = (
    "domain_sessionidx", "pp_xoffset_min", "pp_xoffset_max", "pp_yoffset_min", "pp_yoffset_max",
    "doc_height", "ti_quantity",
)  # fmt: skip
AMOUNTS = ("se_value", "tr_total", "tr_tax", "tr_shipping", "ti_price")


@pytest.fixture(scope="module")
def rows():
    return read(snowplow, EVENTS)


def records() -> list[dict]:
    """The sample's events whose values have the types of the warehouse."""
    return [json.loads(line) for line in EVENTS.read_text(encoding="utf-8").splitlines()[:14]]


def columns() -> list[str]:
    return list(dict.fromkeys(key for record in records() for key in record))


def as_csv(folder: Path) -> Path:
    """The sample as a table export: objects and lists as JSON text, missing values empty."""
    path = folder / "atomic.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns())
        for record in records():
            cells = [record.get(name) for name in columns()]
            writer.writerow(json.dumps(c) if isinstance(c, dict | list) else c for c in cells)
    return path


def as_parquet(folder: Path) -> Path:
    """The sample as BigQuery or Databricks keep it: typed, with structs and lists of structs."""
    found = {name: [record.get(name) for record in records()] for name in columns()}
    for name in found:
        if name.endswith("_tstamp"):
            times = [t and t.removesuffix("Z").replace("T", " ") for t in found[name]]
            found[name] = pa.array(times, pa.string()).cast(pa.timestamp("us"))
        elif name in NUMBERS or name in AMOUNTS:
            found[name] = pa.array(found[name], pa.float64() if name in AMOUNTS else pa.int64())
    return write(pa.table(found), folder)


def test_a_page_view_gives_every_field(rows):
    assert row(rows, 0) == {
        "source_row": 0,
        "event": "page_view",
        "timestamp": "2024-02-01T10:00:00.500000Z",
        "known_at": "2024-02-01T10:20:00Z",
        "event_id": "e-1",
        "id_anonymous": "d-1",
        "id_device": "n-1",
        "session_id": "s-1",
        "actor": "customer",
        "page_url": "https://shop.example/?gclid=x",
        "referrer": "https://www.google.com/",
        "utm_source": "google",
        "utm_medium": "cpc",
        "utm_campaign": "spring",
        "utm_term": "shoes",
        "utm_content": "v1",
        "click_id": "gclid",
        "user_agent": "Mozilla/5.0",
        "properties": {
            "app_id": "shop",
            "platform": "web",
            "domain_sessionidx": 1,
            "page_title": 'Schöne "Dinge" \\ 日本',
            "refr_medium": "search",
            "refr_source": "Google",
            "mkt_clickid": "x",
            "mkt_network": "Google",
            "contexts_com_snowplowanalytics_snowplow_web_page_1": [{"id": "w-1"}],
        },
    }


def test_names_of_described_and_structured_events(rows):
    assert rows["event"].tolist()[:6] == [
        "page_view",
        "page_ping",
        "basket/add",
        "com.acme/checkout_started/1-0-2",
        "transaction",
        "transaction_item",
    ]


def test_scroll_depth_stays_in_the_properties_as_numbers(rows):
    said = row(rows, 1)["properties"]
    assert {key: said[key] for key in said if key.startswith(("pp_", "doc_"))} == {
        "pp_xoffset_min": 0,
        "pp_xoffset_max": 0,
        "pp_yoffset_min": 0,
        "pp_yoffset_max": 1250,
        "doc_height": 4000,
    }


def test_a_structured_event_keeps_its_label_and_value(rows):
    said = row(rows, 2)["properties"]
    assert (said["se_label"], said["se_value"]) == ("sku-1", 19.5)


def test_addresses_are_not_taken(rows):
    assert "203.0.113.9" not in rows.to_csv()


def test_without_a_derived_time_the_devices_delay_is_taken_off_the_collectors(rows):
    # Created ten seconds before it was sent, by a clock two hours fast; collected at 10:01:00.
    assert row(rows, 2)["timestamp"] == "2024-02-01T10:00:50Z"


def test_a_true_time_comes_before_a_computed_one(rows):
    assert row(rows, 3)["timestamp"] == "2024-02-01T10:01:55Z"


def test_a_device_that_does_not_say_how_late_it_sent_counts_from_the_collector(tmp_path):
    clocks = [(None, "2024-01-01 12:00:00"), ("2024-01-01 12:00:00", None)]
    clocks += [("2024-01-02", "2024-01-01"), ("noon", "2024-01-01")]
    event = {"event_id": "1", "event": "page_view", "collector_tstamp": "2024-01-03 00:00:00"}
    events = [event | {"dvce_created_tstamp": c, "dvce_sent_tstamp": s} for c, s in clocks]
    rows = read(snowplow, write(pa.Table.from_pylist(events), tmp_path))
    assert [row(rows, i)["timestamp"] for i in range(4)] == ["2024-01-03T00:00:00Z"] * 4


def test_an_unreadable_time_is_null_and_not_replaced(rows):
    assert "timestamp" not in row(rows, 14)
    assert row(rows, 14)["known_at"] == "2024-02-01T10:05:00Z"


def test_of_copies_the_earliest_collected_is_the_earliest_known(rows):
    first, copy = row(rows, 0), row(rows, 13)
    assert first["event_id"] == copy["event_id"]
    assert first["known_at"] < copy["known_at"]
    by_collector = read(snowplow, EVENTS, known_at="collector")
    assert row(by_collector, 0)["known_at"] == "2024-02-01T10:00:03Z"
    assert row(by_collector, 13)["known_at"] == "2024-02-01T10:05:00Z"


def test_a_transaction_is_what_was_paid_and_its_items_are_not_counted_again(rows):
    said = row(rows, 4)
    amounts = {key: float(said[key]) for key in said if key.startswith("money_")}
    assert amounts == {"money_total": 125.0, "money_tax": 20.0, "money_shipping": 5.0}
    assert (said["currency"], said["order_id"]) == ("EUR", "o-1")
    assert [key for key in row(rows, 5) if key.startswith("money_")] == []


def test_ecommerce_entities_give_money_of_payments_and_refunds_alone(rows):
    paid, failed, back = (row(rows, place) for place in (6, 7, 8))
    amounts = {key: float(paid[key]) for key in paid if key.startswith("money_")}
    assert amounts == {"money_total": 60.5, "money_tax": 10.5, "money_discount": 5.0}
    assert (paid["currency"], paid["order_id"]) == ("EUR", "o-2")
    assert [key for key in failed if key.startswith("money_")] == []
    assert (float(back["money_refund"]), back["actor"]) == (60.5, "company")


def test_consent_names_every_scope_that_the_site_asks_for(rows):
    assert [row(rows, place)["consent"] for place in (9, 10, 11)] == [
        {"necessary": "granted", "analytics": "granted", "ads": "denied"},
        {"necessary": "granted", "analytics": "granted", "ads": "granted"},
        {"necessary": "denied", "analytics": "denied", "ads": "denied"},
    ]
    assert rows["consent"].notna().sum() == 3
    assert row(rows, 9)["actor"] == "system"


def test_other_kinds_of_consent_deny_all_or_leave_all_open(tmp_path):
    cases = [
        ("allow_all", ["ads"], "granted"),
        ("withdrawn", [], "denied"),
        ("expired", ["ads"], "denied"),
        ("pending", [], "unknown"),
        ("implicit_consent", ["ads"], "unknown"),
        ("allow_selected", "ads", "unknown"),
        ("something_new", ["ads"], "unknown"),
        (None, None, "unknown"),
    ]
    lines = [
        {"event_name": "consent_preferences", PREFERENCES: {"eventType": k, "consentScopes": s}}
        for k, s, _ in cases
    ]
    file = tmp_path / "e.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = [json.loads(text) for text in read(snowplow, file)["consent"]]
    assert said == [{"ads": state} for _, _, state in cases]


def test_keys_that_snowplow_could_not_have_written_are_left_out_and_too_many_refused(tmp_path):
    file = tmp_path / "e.jsonl"
    line = {"event_id": "1", "": 1, 'a"b': 1, "a.b": 1, "Event_ID": 2, "Geo_City": "x"}
    file.write_text(json.dumps(line | {"contexts_a_1": [1]}) + "\n")
    assert row(read(snowplow, file), 0)["properties"] == {"contexts_a_1": [1]}
    file.write_text(json.dumps({f"k{i}": i for i in range(3_000)}) + "\n")
    with pytest.raises(DataError, match="more than 2,000 keys"), opened(snowplow, file):
        pass


def test_where_no_scope_is_ever_named_the_answer_is_for_all(tmp_path):
    file = tmp_path / "e.jsonl"
    line = {"event_name": "consent_preferences", PREFERENCES: {"eventType": "deny_all"}}
    file.write_text(json.dumps(line) + "\n")
    assert row(read(snowplow, file), 0)["consent"] == {"*": "denied"}


def test_an_app_is_known_by_its_session_entity_and_its_device(rows):
    said = row(rows, 12)
    assert (said["id_anonymous"], said["session_id"]) == ("install-1", "ms-1")
    assert said["id_device"] == "idfv-1"
    assert said["timestamp"] == "2024-02-01T11:00:00Z"  # without an offset it is UTC


def test_wrong_types_and_broken_lines_are_no_error(rows):
    assert len(rows) == 15
    assert row(rows, 14)["id_anonymous"] == "7"
    assert [(r.line, r.reason) for r in rejects(snowplow, EVENTS)] == [(16, "malformed JSON")]


@pytest.mark.parametrize("form", [as_csv, as_parquet])
def test_every_form_of_the_table_gives_the_same_rows(tmp_path, rows, form):
    table = read(snowplow, form(tmp_path))
    assert len(table) == 14
    for place in range(14):
        assert comparable(row(table, place)) == comparable(row(rows, place))


def comparable(said: dict) -> dict:
    """Numbers as numbers, and without the nulls inside objects, which structs do not keep."""
    said = {k: float(v) if k.startswith("money_") else v for k, v in said.items()}
    return said | {"properties": without_nulls(said["properties"])}


def without_nulls(value):
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, str) and value.replace(".", "").isdigit():
        return float(value)  # CSV knows no types
    return float(value) if isinstance(value, int) else value


def test_a_cell_that_should_be_json_and_is_not_becomes_a_string(tmp_path):
    event = {"event_id": "1", "event": "page_view", "collector_tstamp": "2024-01-03 00:00:00"}
    event |= {"contexts_com_acme_thing_1": '[{"a": 1'}
    rows = read(snowplow, write(pa.Table.from_pylist([event]), tmp_path))
    assert row(rows, 0)["properties"]["contexts_com_acme_thing_1"] == '[{"a": 1'


def test_a_table_of_something_else_is_named_with_the_missing_column(tmp_path):
    (tmp_path / "e.csv").write_text("event_id,event,collector_time\n1,page_view,2024-01-01\n")
    with (
        pytest.raises(DataError, match=r"no column 'collector_tstamp'.*mean 'collector_time'"),
        opened(snowplow, tmp_path / "e.csv"),
    ):
        pass


def test_a_wrong_option_is_named():
    with pytest.raises(ConfigError, match="known_at"), opened(snowplow, EVENTS, known_at="etl"):
        pass


def test_the_mapping_compiles_for_spark(tmp_path):
    for path in (EVENTS, as_parquet(tmp_path)):
        assert "page_referrer" in spark_sql(snowplow, path)


KEYS = ["event_id", "event", "event_name", "collector_tstamp", "derived_tstamp", "page_url"]


@settings(max_examples=4)
@given(objects([*KEYS, PREFERENCES, TRANSACTION, "contexts_a_1", "se_value", "se_action"]))
def test_no_line_is_lost_whatever_it_holds(tmp_path, records):
    nothing_is_lost(snowplow, records, tmp_path)


@pytest.fixture(scope="module")
def real(real_data) -> Path:
    folder = real_data / "snowplow_web_sample"
    if not folder.is_dir():
        pytest.skip("no snowplow_web_sample under SEQJOURNEY_DATA")
    return folder


def test_the_publishers_events_are_named_and_counted(real):
    rows = read(snowplow, real / "snowplow_web_events.parquet")
    assert rows["event"].value_counts().to_dict() == {
        "page_view": 49,
        "com.snowplowanalytics.snowplow-website/snplow_cookies/1-0-0": 16,
        f"{OWN}/link_click/1-0-1": 10,
        "page_ping": 6,
        "authentication/login": 6,
        "com.snowplowanalytics.console/data_structures_workflow/1-0-2": 4,
        "com.snowplowanalytics.console/object_click/1-0-0": 1,
    }
    assert rows["id_anonymous"].nunique() == 16
    assert set(rows["click_id"].dropna()) == {"gclid"}


def test_of_the_publishers_copies_the_earliest_collected_is_the_earliest_known(real):
    rows = read(snowplow, real / "snowplow_web_events.parquet")
    assert len(rows) - rows["event_id"].nunique() == 3
    copies = rows[rows["event_id"] == "9e983d4a-e07c-4858-8e97-bdb7feb31241"]
    assert [str(time)[:23] for time in sorted(copies["known_at"])] == [
        "2021-03-03 21:27:32.696",
        "2021-03-03 21:27:35.176",
    ]


def test_the_publishers_csv_and_parquet_give_the_same_rows(real):
    parquet = read(snowplow, real / "snowplow_web_events.parquet")
    table = read(snowplow, real / "snowplow_web_events.csv")
    assert len(table) == len(parquet) == 92
    lost = 0
    for place in range(92):
        expected, said = comparable(row(parquet, place)), comparable(row(table, place))
        if "timestamp" not in expected:  # the copy's maker lost times that are written with a T
            lost += said.pop("timestamp") is not None and said.pop("known_at") is not None
        assert said == expected
    assert lost == 12
