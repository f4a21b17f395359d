"""Whatever the shape of the export, the log is clean, sorted, and accounts for every row."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.events.log import write_event_log
from small_logs import ALL_COLUMNS, data_config, raw_events, write_csv

HEADER = "customer,at,event\n"


def write_log(config, place: Path) -> tuple[dict, pd.DataFrame]:
    """Write a log and read it back as one frame, bucket by bucket."""
    place.mkdir(parents=True)
    manifest = write_event_log(config, place)
    parts = sorted((place / "events").glob("bucket=*/part-0.parquet"))
    log = pd.concat(
        [pd.read_parquet(p, partitioning=None).assign(bucket=p.parent.name[-1]) for p in parts],
        ignore_index=True,
    )
    return manifest, log


def text(place: Path, content: str, name: str = "events.csv") -> Path:
    path = place / name
    path.write_text(content, encoding="utf-8")
    return path


def rows_balance(manifest: dict) -> bool:
    rows = manifest["rows"]
    out = rows["events"] + rows["duplicates"] + rows["merged"] + rows["withheld_for_consent"]
    return rows["in"] == out + sum(rows["quarantined"].values())


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    return raw_events(customers=30, per_customer=10)


@pytest.fixture(scope="module")
def from_csv(raw, tmp_path_factory) -> tuple[dict, pd.DataFrame]:
    place = tmp_path_factory.mktemp("csv")
    return write_log(data_config(write_csv(raw, place / "e.csv"), **ALL_COLUMNS), place / "log")


def write_gz(raw: pd.DataFrame, place: Path) -> str:
    return str(write_csv(raw, place / "e.csv.gz"))


def write_tsv(raw: pd.DataFrame, place: Path) -> str:
    raw.to_csv(place / "e.tsv", sep="\t", index=False)
    return str(place / "e.tsv")


def write_parquet(raw: pd.DataFrame, place: Path) -> str:
    raw.to_parquet(place / "e.parquet")
    return str(place / "e.parquet")


def write_folder(raw: pd.DataFrame, place: Path) -> str:
    (place / "deep").mkdir()
    write_csv(raw[:100], place / "a.csv")
    write_csv(raw[100:][raw.columns[::-1]], place / "deep" / "b.csv")  # columns in another order
    (place / "notes.md").write_text("not data")
    return str(place)


def write_glob(raw: pd.DataFrame, place: Path) -> str:
    raw[:100].to_parquet(place / "2023-a.parquet")
    raw[100:].to_parquet(place / "2023-b.parquet")
    raw[:50].to_parquet(place / "2022.parquet")
    return str(place / "2023-*.parquet")


@pytest.mark.parametrize(
    "write",
    [write_gz, write_tsv, write_parquet, write_folder, write_glob],
    ids=lambda f: f.__name__,
)
def test_every_form_of_the_same_export_gives_the_same_log(raw, from_csv, write, tmp_path):
    (tmp_path / "in").mkdir()
    manifest, log = write_log(
        data_config(write(raw, tmp_path / "in"), **ALL_COLUMNS), tmp_path / "log"
    )
    pd.testing.assert_frame_equal(log, from_csv[1])
    assert manifest["rows"] == from_csv[0]["rows"]
    assert manifest["rows"]["events"] == len(raw)


def test_the_log_is_sorted_and_bucketed_by_the_md5_of_the_customer(from_csv):
    _, log = from_csv
    order = log.sort_values(["bucket", "customer_id", "timestamp", "event_id"], ignore_index=True)
    pd.testing.assert_frame_equal(log, order)
    digits = [hashlib.md5(c.encode()).hexdigest()[0] for c in log["customer_id"]]
    assert digits == log["bucket"].tolist()


def test_the_log_holds_what_the_export_says(raw, from_csv):
    _, log = from_csv
    expected = raw.set_index("id").loc[log["event_id"]]
    assert (log["timestamp"].to_numpy() == expected["at"].to_numpy()).all()
    assert (log["known_at"].to_numpy() == expected["known"].to_numpy()).all()
    assert log["event"].tolist() == expected["event"].tolist()
    assert (log["actor"] == np.where(log["event"] == "mail", "company", "customer")).all()
    np.testing.assert_array_equal(log["value"], expected["amount"])
    np.testing.assert_array_equal(log["items"], expected["items"])
    assert log["country"].isna().tolist() == expected["country"].isna().tolist()


def test_the_manifest_records_files_with_their_hashes_schema_and_span(raw, from_csv):
    manifest, log = from_csv
    (file,) = manifest["files"]
    assert file["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest()
    assert manifest["customers"] == raw["customer"].nunique()
    assert pd.Timestamp(manifest["first"]) == raw["at"].min()
    assert pd.Timestamp(manifest["last"]) == raw["at"].max()
    assert pd.Timestamp(manifest["last_known"]) == raw["known"].max()
    assert list(manifest["schema"]) == [c for c in log.columns if c != "bucket"]
    assert "UTC" in manifest["schema"]["timestamp"]


def test_the_fingerprint_knows_content_and_settings_but_not_the_place(raw, from_csv, tmp_path):
    elsewhere = write_csv(raw, tmp_path / "another name.csv")
    moved, _ = write_log(
        data_config(elsewhere, **ALL_COLUMNS, memory_limit="1GB", threads=1), tmp_path / "moved"
    )
    assert moved["fingerprint"] == from_csv[0]["fingerprint"]
    settings_changed, _ = write_log(
        data_config(elsewhere, **{**ALL_COLUMNS, "company_events": []}), tmp_path / "settings"
    )
    changed = write_csv(raw.assign(event=raw["event"].replace("mail", "post")), tmp_path / "c.csv")
    content_changed, _ = write_log(data_config(changed, **ALL_COLUMNS), tmp_path / "content")
    prints = {m["fingerprint"] for m in (from_csv[0], settings_changed, content_changed)}
    assert len(prints) == 3


def test_the_order_of_input_rows_does_not_matter_when_ids_are_declared(raw, from_csv, tmp_path):
    shuffled = raw.sample(frac=1, random_state=1)
    config = data_config(write_csv(shuffled, tmp_path / "e.csv"), **ALL_COLUMNS)
    _, log = write_log(config, tmp_path / "log")
    pd.testing.assert_frame_equal(log, from_csv[1])


def test_of_repeated_event_ids_the_earliest_known_stays_and_the_rest_are_counted(tmp_path):
    rows = [
        ("a", "2023-01-01", "late", "2023-03-01", 1),
        ("a", "2023-01-01", "first", "2023-01-02", 1),
        ("a", "2023-01-01", "other", "2023-01-05", 2),
        ("b", "2023-01-01", "elsewhere", "2023-01-09", 1),
    ]
    frame = pd.DataFrame(rows, columns=["customer", "at", "event", "known", "id"])
    for number, order in enumerate([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]]):
        path = write_csv(frame.iloc[order], tmp_path / f"{number}.csv")
        config = data_config(path, known_at="known", event_id="id")
        manifest, log = write_log(config, tmp_path / str(number))
        assert sorted(log["event"]) == ["first", "other"]
        assert manifest["rows"]["duplicates"] == 2
        assert rows_balance(manifest)


def test_quarantine_keeps_each_raw_row_with_its_first_reason(tmp_path):
    content = "customer,at,event,amount\n" + "\n".join(
        [
            "a,2023-01-01,x,1.5",
            ",2023-01-01,x,1",
            "  ,2023-01-01,x,1",
            "a,,x,1",
            "a,soon,x,1",
            "a,2023-01-01,,1",
            "a,2023-01-01,x,many",
            "a,1970-01-01,x,1",
            "a,2262-04-11,x,1",
            "a,0001-01-01,x,1",
            "a,2023-01-02,x,",
            "a,2023-01-02,x,inf",
        ]
    )
    config = data_config(text(tmp_path, content), value="amount", max_quarantined_share=1)
    manifest, log = write_log(config, tmp_path / "log")
    assert manifest["rows"]["quarantined"] == {
        "no customer id": 2,
        "no timestamp": 1,
        "unreadable timestamp": 1,
        "no event name": 1,
        "bad 'value'": 2,
        "timestamp before 1990-01-01": 2,
        "timestamp in the future": 1,
    }
    assert rows_balance(manifest)
    assert len(log) == 2
    kept = pd.read_parquet(tmp_path / "log" / "quarantine.parquet").set_index("source_row")
    assert len(kept) == 10
    assert kept.loc[4, ["problem", "timestamp"]].tolist() == ["unreadable timestamp", "soon"]
    assert kept.loc[6, ["problem", "value"]].tolist() == ["bad 'value'", "many"]
    assert kept.loc[9, "timestamp"] == "0001-01-01"


def test_the_fingerprint_is_the_same_tomorrow(tmp_path, monkeypatch):
    path = text(tmp_path, HEADER + "a,2023-01-01,x\na,2500-01-01,x\n")
    today, _ = write_log(data_config(path), tmp_path / "today")
    import seqjourney.events.cleaning as cleaning

    class Tomorrow(cleaning.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + cleaning.timedelta(days=1)

    monkeypatch.setattr(cleaning, "datetime", Tomorrow)
    tomorrow, _ = write_log(data_config(path), tmp_path / "tomorrow")
    assert today["rows"]["quarantined"] == {"timestamp in the future": 1}
    assert tomorrow["fingerprint"] == today["fingerprint"]


cells = st.fixed_dictionaries(
    {
        "customer": st.sampled_from(["a", "b", " a ", "", "Zoë", 'q"uote', "new\nline"]),
        "at": st.sampled_from(
            ["2023-01-01", "2023-01-01 12:00:00.000001", "x", "", "1970-01-01", "infinity"]
        ),
        "event": st.sampled_from(["x", "y,z", "", "'; DROP TABLE log; --"]),
        "amount": st.sampled_from(["", "1", "-1e3", "0x1", "1,5", "NaN", "-inf"]),
        "id": st.sampled_from(["1", "2", "3", "4", "5", ""]),
    }
)


@settings(max_examples=4)
@given(st.lists(cells, min_size=1, max_size=60))
def test_every_row_is_accounted_for_whatever_the_cells_hold(tmp_path_factory, rows):
    place = tmp_path_factory.mktemp("rows")
    good = {"customer": "z", "at": "2023-01-01", "event": "x", "amount": "", "id": "good"}
    path = write_csv(pd.DataFrame([*rows, good]), place / "e.csv")
    config = data_config(path, value="amount", event_id="id", max_quarantined_share=1)
    manifest, log = write_log(config, place / "log")
    assert manifest["rows"]["in"] == len(rows) + 1
    assert manifest["rows"]["merged"] == 0
    assert rows_balance(manifest)
    assert len(log) == manifest["rows"]["events"]
    assert log["event_id"].is_unique
    assert log["event_id"].nunique() == len(log)
    quarantine = place / "log" / "quarantine.parquet"
    held_back = len(pd.read_parquet(quarantine)) if quarantine.exists() else 0
    assert held_back == sum(manifest["rows"]["quarantined"].values())


def test_hostile_names_come_through_unchanged(tmp_path):
    names = [
        "'; DROP TABLE log; --",
        'say "hi", then\nleave',
        "naïve 北京 🛒",
        "a\\b\tc",
        "%s {0} ${x}",
        "NULL",
        "nan",
        "<script>",
        "x" * 10_000_000,
    ]
    field = "a \"quoted\" 'field'; --"
    frame = pd.DataFrame({"customer": names, "at": "2023-01-01", "event": names, field: names})
    frame.to_parquet(tmp_path / "it's [1] *.parquet")
    config = data_config(tmp_path / "it's [1] *.parquet", categorical=[field])
    _, log = write_log(config, tmp_path / "log")
    for column in ("customer_id", "event", field):
        assert sorted(log[column]) == sorted(names)


def test_hostile_names_come_through_a_csv_unchanged(tmp_path):
    names = [
        "'; DROP TABLE log; --",
        'say "hi", then\nleave',
        "naïve 北京 🛒",
        "a\\b\tc",
        "#",
        "NULL",
    ]
    frame = pd.DataFrame({"customer": names, "at": "2023-01-01", "event": names})
    _, log = write_log(data_config(write_csv(frame, tmp_path / "e.csv")), tmp_path / "log")
    assert sorted(log["event"]) == sorted(names)


def test_a_quote_that_first_appears_after_30000_rows_is_still_a_quote(tmp_path):
    plain = "".join(f"c{i % 50},2023-01-01,visit\n" for i in range(30_000))
    path = text(tmp_path, HEADER + plain + 'c1,2023-01-01,"visit"\nc1,2023-01-01,"buy, now"\n')
    _, log = write_log(data_config(path), tmp_path / "log")
    assert set(log["event"]) == {"visit", "buy, now"}


def test_rows_that_look_like_titles_or_comments_are_rows(tmp_path):
    path = text(tmp_path, HEADER + "#1,2023-01-01,# x\n" * 3 + "a,2023-01-01,x\n")
    manifest, log = write_log(data_config(path), tmp_path / "log")
    assert manifest["rows"]["in"] == 4
    assert sorted(log["customer_id"]) == ["#1", "#1", "#1", "a"]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_every_usual_delimiter_is_recognised(tmp_path, mark):
    path = text(tmp_path, (HEADER + "a,2023-01-01,x\nb,2023-01-02 10:00:00,y\n").replace(",", mark))
    _, log = write_log(data_config(path), tmp_path / "log")
    assert sorted(log["event"]) == ["x", "y"]


def test_a_field_may_be_called_like_anything_the_engine_uses_inside(tmp_path):
    fields = ["token", "rank", "counts", "end", "hit", "rows", "order", "select", "split", "cutoff"]
    row = ",".join(f"v{i}" for i in range(len(fields)))
    path = text(tmp_path, f"customer,at,event,{','.join(fields)}\na,2023-01-01,x,{row}\n")
    config = data_config(path, categorical=fields)
    _, log = write_log(config, tmp_path / "log")
    assert log[fields].iloc[0].tolist() == [f"v{i}" for i in range(len(fields))]


def test_numeric_ids_read_alike_from_csv_and_from_a_frame_with_missing_ones(tmp_path):
    frame = pd.DataFrame({"customer": [12345.0, np.nan, 7.0], "at": "2023-01-01", "event": "x"})
    frame.to_parquet(tmp_path / "e.parquet")
    manifest, log = write_log(data_config(tmp_path / "e.parquet"), tmp_path / "log")
    assert sorted(log["customer_id"]) == ["12345", "7"]
    assert manifest["rows"]["quarantined"] == {"no customer id": 1}


def test_nan_is_a_missing_number_and_infinity_a_bad_one(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"customer": ["a"] * 4, "at": ["2023-01-01"] * 4, "event": ["x"] * 4}
    amounts = pa.array([1.0, float("nan"), None, float("inf")])  # as polars and numpy write them
    pq.write_table(pa.table({**columns, "amount": amounts}), tmp_path / "e.parquet")
    config = data_config(tmp_path / "e.parquet", value="amount")
    manifest, log = write_log(config, tmp_path / "log")
    assert manifest["rows"]["quarantined"] == {"bad 'value'": 1}
    assert log["value"].isna().sum() == 2


def test_a_log_larger_than_the_memory_limit_still_becomes_a_log(tmp_path):
    random = np.random.default_rng(0)
    n = 550_000
    long = "a note of such a length that few of them fit into memory at once, and number "
    at = pd.Timestamp("2023-01-01") + pd.to_timedelta(random.integers(0, 3e7, n), unit="s")
    frame = pd.DataFrame(
        {
            "customer": random.integers(0, 30_000, n).astype(str),
            "at": at,
            "event": random.choice(["visit", "click", "buy"], n),
            "note": np.char.add(long, random.integers(0, 99, n).astype(str)),
        }
    )
    frame.to_parquet(tmp_path / "e.parquet")
    size = frame.memory_usage(deep=True).sum()
    config = data_config(
        tmp_path / "e.parquet", categorical=["note"], memory_limit="60MB", threads=1
    )
    assert size > 60e6
    (tmp_path / "log").mkdir()
    manifest = write_event_log(config, tmp_path / "log")
    assert manifest["rows"]["events"] == n
    left = [p.name for p in (tmp_path / "log").iterdir()]
    assert sorted(left) == ["events", "manifest.json"]
    assert json.loads((tmp_path / "log" / "manifest.json").read_text())["customers"] > 29_000
