"""Times and numbers are read as they are meant, whatever writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_event_log import HEADER, text, write_log

from seqjourney.config import DataConfig
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.cleaning import typed
from seqjourney.events.engine import connect
from seqjourney.events.sources import open_source
from small_logs import data_config

MOMENT = datetime(2023, 7, 1, 10, 30, 15, 123456, tzinfo=UTC)


def read(config: DataConfig, place: Path) -> pd.DataFrame:
    """Type the rows of an export as `prepare` does, without writing a log."""
    place.mkdir(parents=True, exist_ok=True)
    with connect(place, threads=1, timezone=config.timezone or "UTC") as backend:
        rows = backend.execute(typed(open_source(backend, config).rows, config))
    assert rows["problem"].isna().all()
    return rows


def times(log: pd.DataFrame) -> list[pd.Timestamp]:
    return sorted(log["timestamp"])


def test_a_time_in_a_named_zone_does_not_move_the_rows_after_it(tmp_path):
    written = ["10:00:00 America/New_York", "11:00:00", "12:00:00 UTC", "13:00:00", "14:00:00 gmt"]
    path = text(tmp_path, HEADER + "".join(f"a,2023-07-01 {at},x\n" for at in written))
    with connect(tmp_path, threads=1, timezone="Europe/Lisbon") as backend:
        config = data_config(path, timezone="Europe/Lisbon")
        rows = backend.execute(typed(open_source(backend, config).rows, config))
    rows = rows.sort_values("source_row")
    assert rows["problem"].iloc[0] == "unreadable timestamp"
    assert rows["problem"].iloc[1:].isna().all()
    hours = rows["timestamp"].iloc[1:].dt.tz_convert("UTC").dt.hour
    assert hours.tolist() == [10, 12, 12, 14]  # Lisbon is an hour ahead in July


@pytest.mark.parametrize(
    ("unit", "number"),
    [("s", "1688207415.123456"), ("ms", "1688207415123.456"), ("us", "1688207415123456")],
)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_numbers_since_1970_are_read_in_their_unit_to_the_microsecond(tmp_path, unit, number, form):
    if form == "csv":
        path = text(tmp_path, HEADER + f"a,{number},x\n")
    else:
        path = tmp_path / "e.parquet"
        cell = int(number) if unit == "us" else float(number)
        pd.DataFrame({"customer": ["a"], "at": [cell], "event": ["x"]}).to_parquet(path)
    log = read(data_config(path, timestamp_unit=unit), tmp_path / "log")
    assert times(log) == [MOMENT]


@pytest.mark.parametrize(
    ("written", "zone", "meant"),
    [
        ("2023-07-01 10:00", None, "2023-07-01 10:00"),
        ("2023-07-01T10:00:00Z", None, "2023-07-01 10:00"),
        ("2023-07-01 10:00:00 UTC", None, "2023-07-01 10:00"),
        ("2023-07-01T12:00:00+02:00", None, "2023-07-01 10:00"),
        ("2023-07-01 10:00:00-05", None, "2023-07-01 15:00"),
        ("2023-07-01 10:00", "Europe/London", "2023-07-01 09:00"),
        ("2023-01-01 10:00", "Europe/London", "2023-01-01 10:00"),
        ("2023-07-01", "America/New_York", "2023-07-01 04:00"),
        ("2023-07-01T10:00Z", None, "2023-07-01 10:00"),
        ("2023-07-01 12:00+02:00", "Asia/Tokyo", "2023-07-01 10:00"),
    ],
)
def test_text_times_are_read_in_their_zone(tmp_path, written, zone, meant):
    path = text(tmp_path, HEADER + f"a,{written},x\n")
    log = read(data_config(path, timezone=zone), tmp_path / "log")
    assert times(log) == [pd.Timestamp(meant, tz="UTC")]


def test_parquet_times_with_and_without_a_zone_are_read_alike(tmp_path):
    naive = pa.array([datetime(2023, 7, 1, 10)], pa.timestamp("ns"))
    zoned = naive.cast(pa.timestamp("us", "UTC"))
    for name, column, zone, meant in [
        ("naive", naive, "Europe/London", "2023-07-01 09:00"),
        ("naive", naive, None, "2023-07-01 10:00"),
        ("zoned", zoned, "Europe/London", "2023-07-01 10:00"),
    ]:
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"customer": ["a"], "at": column, "event": ["x"]}), path)
        log = read(data_config(path, timezone=zone), tmp_path / "log")
        assert times(log) == [pd.Timestamp(meant, tz="UTC")]


@pytest.mark.parametrize(
    "rows",
    [
        "a,2023-07-01 10:00,x,\na,2023-07-01T10:00:00Z,x,\n",
        "a,2023-07-01 10:00,x,2023-07-01 12:00+00\n",
        "a,2023-07-01 10:00:00 UTC,x,2023-07-02 10:00\n",
    ],
)
def test_mixed_zones_are_refused_until_the_user_says_how_to_read_them(tmp_path, rows):
    path = text(tmp_path, "customer,at,event,known\n" + rows)
    with pytest.raises(DataError, match=r"mixes time zones.*data\.timezone"):
        write_log(data_config(path, known_at="known"), tmp_path / "log")
    told = data_config(path, known_at="known", timezone="UTC")
    manifest, _ = write_log(told, tmp_path / "told")
    assert manifest["rows"]["events"] == rows.count("\n")


def test_dates_alone_go_with_either_kind_of_time(tmp_path):
    path = text(tmp_path, HEADER + "a,2023-07-01,x\na,2023-07-01T10:00:00Z,x\n")
    manifest, _ = write_log(data_config(path), tmp_path / "log")
    assert manifest["rows"]["events"] == 2


def test_an_unknown_zone_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"no such time zone.*Europe/London"):
        data_config(tmp_path, timezone="Europe/Lodon")


moments = st.datetimes(datetime(1991, 1, 1), datetime(2024, 1, 1))
offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@settings(max_examples=8)
@given(st.lists(st.tuples(moments, offsets), min_size=1, max_size=30))
def test_any_iso_time_with_an_offset_is_read_exactly(tmp_path_factory, written):
    place = tmp_path_factory.mktemp("iso")
    exact = [moment.replace(tzinfo=offset) for moment, offset in written]
    path = text(place, HEADER + "".join(f"a,{m.isoformat()},x\n" for m in exact))
    log = read(data_config(path), place / "log")
    assert times(log) == sorted(pd.Timestamp(m).tz_convert("UTC") for m in exact)


@settings(max_examples=8)
@given(st.lists(st.tuples(moments, st.none() | moments), min_size=1, max_size=30))
def test_nothing_is_known_before_it_happens(tmp_path_factory, written):
    place = tmp_path_factory.mktemp("known")
    lines = [f"a,{at},x,{'' if known is None else known}\n" for at, known in written]
    path = text(place, "customer,at,event,known\n" + "".join(lines))
    log = read(data_config(path, known_at="known"), place / "log")
    expected = sorted((at, max(at, known or at)) for at, known in written)
    found = sorted(zip(log["timestamp"], log["known_at"], strict=True))
    assert [(a.tz_localize(None), k.tz_localize(None)) for a, k in found] == expected


@settings(max_examples=8)
@given(
    st.lists(
        st.floats(-3.4e38, 3.4e38) | st.integers(-(10**15), 10**15),
        min_size=1,
        max_size=40,
    )
)
def test_any_number_that_the_store_can_hold_is_read_exactly(tmp_path_factory, numbers):
    place = tmp_path_factory.mktemp("numbers")
    path = text(
        place, "customer,at,event,n\n" + "".join(f"a,2023-01-01,x,{n!r}\n" for n in numbers)
    )
    log = read(data_config(path, numeric=["n"]), place / "log")
    assert sorted(log["n"]) == sorted(float(n) for n in numbers)


def test_booleans_and_decimals_are_numbers(tmp_path):
    from decimal import Decimal

    columns = {"customer": ["a"], "at": ["2023-01-01"], "event": ["x"]}
    columns |= {"yes": [True], "price": [Decimal("12.50")]}
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    log = read(data_config(tmp_path / "e.parquet", numeric=["yes", "price"]), tmp_path / "log")
    assert log[["yes", "price"]].iloc[0].tolist() == [1.0, 12.5]
