"""Bad input ends in one clear message, and nothing half-written stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_event_log import HEADER, text

from seqjourney.commands.prepare import prepare
from seqjourney.errors import ConfigError, DataError, SeqjourneyError
from seqjourney.events.log import read_manifest
from small_logs import data_config, small_task

GOOD = "a,2023-01-01,visit\n"


def refuse(
    place: Path, path: Path, words: str, error: type = DataError, tasks=(), **changes
) -> str:
    """Prepare must fail with these words and leave no trace."""
    processed = place / "processed"
    with pytest.raises(error, match=words) as caught:
        prepare(data_config(path, **changes), processed, tasks, progress=False)
    assert not processed.exists() or list(processed.iterdir()) == []
    assert list(place.rglob("*.partial")) == []
    return str(caught.value)


def parquet(place: Path, **columns) -> Path:
    table = {"customer": ["a", "b"], "at": ["2023-01-01"] * 2, "event": ["x", "x"], **columns}
    pq.write_table(pa.table(table), place / "e.parquet")
    return place / "e.parquet"


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    path = text(tmp_path, "custmer,at,event\n" + GOOD)
    message = refuse(
        tmp_path, path, r"no column 'customer' \(data\.customer\)\. Did you mean 'custmer'"
    )
    assert str(path) in message


def test_a_missing_declared_field_is_named_with_those_that_exist(tmp_path):
    path = text(tmp_path, HEADER + GOOD)
    refuse(tmp_path, path, "no column 'price'. Known: at, customer, event", numeric=["price"])


def test_no_column_of_our_own_is_named_with_those_of_a_parquet_file(tmp_path):
    path = tmp_path / "raw.parquet"
    pd.DataFrame({"customer": ["a"], "at": ["2023-01-01"], "event": ["x"]}).to_parquet(path)
    refuse(tmp_path, path, r"no column 'price'\. Known: at, customer, event\.", numeric=["price"])


def test_text_in_every_cell_of_a_numeric_column_stops(tmp_path):
    path = text(tmp_path, "customer,at,event,amount\n" + "a,2023-01-01,x,cheap\n" * 5)
    message = refuse(tmp_path, path, r"5 of 5 rows cannot be used.*bad 'value'", value="amount")
    assert "data row 1" in message
    assert "right column" in message


def test_more_bad_rows_than_allowed_stop_and_a_strict_config_stops_at_the_first(tmp_path):
    path = text(tmp_path, HEADER + GOOD * 8 + "a,soon,x\n" * 2)
    refuse(tmp_path, path, r"2 of 10 rows.*max_quarantined_share=0\.1", max_quarantined_share=0.1)
    refuse(tmp_path, path, r"first at data row 9.*on_bad_rows=quarantine", on_bad_rows="stop")


@pytest.mark.parametrize(
    ("column", "cells", "changes", "words"),
    [
        ("customer", [{"a": 1}] * 2, {}, "column 'customer' is struct.*must be text"),
        ("event", [b"x"] * 2, {}, "column 'event' is binary.*must be text"),
        ("at", [{"a": 1}] * 2, {}, "column 'at' is struct.*text, a number or a timestamp"),
        ("at", [True] * 2, {}, "column 'at' is boolean.*text, a number or a timestamp"),
        ("at", [1672531200] * 2, {}, r"column 'at' holds numbers.*data\.timestamp_unit=s"),
        ("n", [{"a": 1}] * 2, {"numeric": ["n"]}, "column 'n' is struct.*not a number"),
        ("paid", [[1.0]] * 2, {"value": "paid"}, "column 'paid' is array.*not a number"),
        ("n", [[1]] * 2, {"categorical": ["n"]}, "column 'n' is array.*must be text"),
    ],
)
def test_a_column_of_the_wrong_type_is_named(tmp_path, column, cells, changes, words):
    refuse(tmp_path, parquet(tmp_path, **{column: cells}), words, **changes)


def test_unparseable_dates_stop_with_the_reason(tmp_path):
    path = text(tmp_path, HEADER + "a,31/12/2023,x\n" * 3)
    words = r"'unreadable timestamp' \('31/12/2023'\) first at data row 1.*must be ISO 8601"
    refuse(tmp_path, path, words)


def test_a_bad_number_is_shown_with_its_row(tmp_path):
    path = text(tmp_path, "customer,at,event,n\n" + "a,2023-01-01,x,3\na,2023-01-01,x,12 EUR\n")
    words = r"'bad 'n'' \('12 EUR'\) first at data row 2"
    refuse(tmp_path, path, words, numeric=["n"], on_bad_rows="stop")


@pytest.mark.parametrize("date", ["1970-01-01", "2262-04-11", "0001-01-01", "9999-12-31"])
def test_absurd_dates_alone_stop_with_the_reason(tmp_path, date):
    path = text(tmp_path, HEADER + f"a,{date},x\n")
    refuse(tmp_path, path, "timestamp (before 1990|in the future)")


@pytest.mark.parametrize("number", ["1e300", "-1e300", "9223372036854775807", "nan"])
def test_numbers_beyond_any_calendar_stop_with_the_reason(tmp_path, number):
    path = text(tmp_path, HEADER + f"a,{number},x\n")
    refuse(tmp_path, path, "timestamp", timestamp_unit="s")


def test_mixed_time_zones_stop_with_the_way_out(tmp_path):
    path = text(tmp_path, HEADER + "a,2023-01-01 10:00,x\na,2023-01-01 10:00:00+01:00,x\n")
    refuse(tmp_path, path, r"mixes time zones: 1 rows have.*data\.timezone=UTC")


@pytest.mark.parametrize(
    ("content", "words"), [("", r"is empty \(0 bytes\)"), (HEADER, "has no rows")]
)
def test_an_empty_file_is_named(tmp_path, content, words):
    path = text(tmp_path, content)
    assert str(path) in refuse(tmp_path, path, words)


def test_a_place_without_data_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("nowhere.csv", "empty", "*.parquet"):
        refuse(tmp_path, tmp_path / place, "no such file, folder or glob")
    refuse(tmp_path, text(tmp_path, "x", "notes.docx"), r"notes.docx: of no known kind \(CSV .csv")


def test_csv_and_parquet_in_one_folder_are_not_mixed(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    text(folder, HEADER + GOOD)
    parquet(folder)
    refuse(tmp_path, folder, "both CSV and Parquet")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("b,2023-01-02\n", "CSV Error on Line: 20002.*Expected Number of Columns: 3 Found: 2"),
        ('b,2023-01-02,"x\n', "CSV Error on Line: 20002.*quote"),
        ("b,2023-01-02,x,y,z\n", "CSV Error on Line: 20002.*Number of Columns: 3"),
    ],
)
def test_a_malformed_csv_row_is_named_by_file_and_line(tmp_path, bad, words):
    path = text(tmp_path, HEADER + GOOD * 20_000 + bad + "c,2023-01-02,x\n")
    assert str(path) in refuse(tmp_path, path, words)


def test_a_small_malformed_csv_is_called_malformed(tmp_path):
    path = text(tmp_path, HEADER + GOOD + "b,2023-01-02,x,extra,more\n")
    refuse(tmp_path, path, "more or fewer fields than the header|Number of Columns: 3")


def test_a_line_too_long_for_csv_is_refused_in_a_short_message(tmp_path):
    path = text(tmp_path, HEADER + "a,2023-01-01," + "x" * 3_000_000 + "\n")
    assert len(refuse(tmp_path, path, "Maximum line size")) < 600


@pytest.mark.parametrize(
    ("encoding", "rows", "words"),
    [
        ("latin-1", 0, r"is not UTF-8 \(line 2\).*iconv -f WINDOWS-1252 -t UTF-8"),
        ("latin-1", 30_000, r"is not UTF-8 \(line 30002\)"),
        ("utf-16", 0, r"is UTF-16; .*iconv -f UTF-16 -t UTF-8"),
    ],
)
def test_text_that_is_not_utf8_is_named_by_file_and_line(tmp_path, encoding, rows, words):
    path = tmp_path / "latin.csv"
    path.write_bytes((HEADER + GOOD * rows + "José,2023-01-01,x\n").encode(encoding))
    assert refuse(tmp_path, path, words).startswith(str(path))


@pytest.mark.parametrize("customer", ["Ann@shop.example", "mailto:ann%40shop.example.org"])
def test_an_address_as_customer_id_is_refused_before_it_reaches_the_log(tmp_path, customer):
    path = text(tmp_path, HEADER + GOOD * 3 + f"{customer},2023-01-01,x\n")
    words = r"'customer' holds e-mail addresses in 1 rows, first at data row 4.*\{email: customer\}"
    assert "nn@" not in refuse(tmp_path, path, words)


def test_an_id_with_an_at_sign_that_is_no_address_is_kept(tmp_path):
    path = text(tmp_path, HEADER + "ann@crm,2023-01-01,x\n")
    prepare(data_config(path), tmp_path / "processed", progress=False)
    log = tmp_path / "processed/small/events"
    kept = pd.concat(pd.read_parquet(f, partitioning=None) for f in log.glob("*/*.parquet"))
    assert kept["customer_id"].tolist() == ["ann@crm"]


def test_a_number_that_float32_cannot_hold_is_set_aside(tmp_path):
    cells = ["3e38", "-3e38", "3.5e38", "-1e39", "inf"]
    path = text(tmp_path, "customer,at,event,n\n" + "".join(f"a,2023-01-01,x,{n}\n" for n in cells))
    config = data_config(path, numeric=["n"], max_quarantined_share=1)
    prepared = prepare(config, tmp_path / "processed", progress=False)
    assert read_manifest(prepared)["rows"]["quarantined"] == {"bad 'n'": 3}
    assert np.isfinite(np.load(prepared / "store/numeric.npy")).all()


def test_wildcards_in_folders_and_names_open_no_other_file(tmp_path):
    place = tmp_path / "a[b]*"
    for folder in (place, tmp_path / "ab"):
        folder.mkdir()
    text(place, HEADER + GOOD * 9, "events2.csv")
    path = text(place, HEADER + GOOD, "events*.csv")
    decoy = prepare(data_config(text(tmp_path / "ab", HEADER + GOOD * 5)), tmp_path / "ab/out",
                    progress=False)  # fmt: skip
    prepared = prepare(data_config(path), place / "out", progress=False)
    assert read_manifest(decoy)["events"] == 5
    assert read_manifest(prepared)["events"] == 1
    parquet(place)
    prepared = prepare(data_config(place / "e.parquet"), place / "out", progress=False)
    assert read_manifest(prepared)["events"] == 2


def test_a_folder_that_the_engine_would_misread_is_refused(tmp_path):
    path = text(tmp_path, HEADER + GOOD)
    with pytest.raises(ConfigError, match=r"path holds '\?'. Choose another place"):
        prepare(data_config(path), tmp_path / "why?", progress=False)


def test_a_csv_that_is_not_gzip_is_called_so(tmp_path):
    refuse(tmp_path, text(tmp_path, HEADER + GOOD, "e.csv.gz"), "not a GZIP stream")


@settings(max_examples=15)
@given(st.data())
def test_a_damaged_parquet_file_is_refused_or_read_but_never_crashes(tmp_path_factory, data):
    place = tmp_path_factory.mktemp("damaged")
    path = parquet(place)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(1, len(whole) - 1))]
    else:
        for _ in range(8):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole))
    try:
        prepare(data_config(path), place / "processed", progress=False)
    except SeqjourneyError as error:
        assert len(str(error)) < 1000
        assert not list((place / "processed").glob("*"))


def test_a_truncated_parquet_file_is_named(tmp_path):
    path = parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path) in refuse(tmp_path, path, "cannot be read")


def small_csv(place: Path) -> Path:
    days = pd.date_range("2023-01-01", periods=120, freq="D")
    rows = [f"c{i % 7},{day:%Y-%m-%d},{'buy' if i % 3 else 'look'}\n" for i, day in enumerate(days)]
    return text(place, HEADER + "".join(rows))


def test_an_unknown_target_event_is_refused_with_the_nearest(tmp_path):
    task = small_task(target=["bui"], cutoffs=None, horizon="5d")
    refuse(tmp_path, small_csv(tmp_path), "task.target names 'bui'.*mean 'buy'", tasks=[task])


def test_unknown_events_in_the_eligibility_are_refused(tmp_path):
    for rule in ({"events": ["loook"]}, {"without": ["loook"]}):
        task = small_task(target=["buy"], cutoffs=None, horizon="5d", eligible=rule)
        words = rf"task\.eligible\.{next(iter(rule))} names 'loook'.*mean 'look'"
        refuse(tmp_path, small_csv(tmp_path), words, tasks=[task])


@pytest.mark.parametrize(
    ("moment", "words"),
    [("2022-12-01", "train cutoff 2022-12-01"), ("2023-04-29", "test cutoff 2023-04-29")],
)
def test_cutoffs_outside_the_data_are_named_with_its_span(tmp_path, moment, words):
    cutoffs = {"train": ["2023-02-01"], "validation": ["2023-03-01"], "test": ["2023-04-01"]}
    cutoffs["train" if moment < "2023" else "test"] = [moment]
    task = small_task(target=["buy"], cutoffs=cutoffs, horizon="5d")
    message = refuse(tmp_path, small_csv(tmp_path), words, tasks=[task])
    assert "outside the data, 2023-01-01 00:00 to 2023-04-30 00:00" in message
    assert "task.cutoffs" in message


def test_data_too_short_for_three_splits_say_so(tmp_path):
    task = small_task(target=["buy"], cutoffs=None, horizon="60d")
    refuse(tmp_path, small_csv(tmp_path), r"too short.*shorter task\.horizon", tasks=[task])


def test_a_split_with_one_class_is_refused(tmp_path):
    task = small_task(target=["buy"], cutoffs=None, horizon="20d")
    words = r"all \d+ train snapshots have label 1.*Change task\.horizon"
    refuse(tmp_path, small_csv(tmp_path), words, tasks=[task])


def test_a_split_with_nobody_eligible_is_refused(tmp_path):
    rule = {"without": ["look", "buy"]}
    task = small_task(target=["buy"], cutoffs=None, horizon="5d", eligible=rule)
    refuse(tmp_path, small_csv(tmp_path), "no customer is eligible at any train", tasks=[task])


def test_an_unknown_config_key_is_refused_before_anything_is_read(tmp_path):
    refuse(
        tmp_path, tmp_path, "'memory_limt'. Did you mean 'memory_limit'", ConfigError, memory_limt=1
    )


def test_a_memory_limit_that_cannot_do_names_the_key(tmp_path):
    path = small_csv(tmp_path)
    refuse(tmp_path, path, r"data\.memory_limit=1MB", memory_limit="1MB")
