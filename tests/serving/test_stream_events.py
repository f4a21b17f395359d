"""A live event is read as a row of a frame is: the same tokens, the same refusals."""

import itertools
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from seqjourney.config import DataConfig, TaskConfig, parse
from seqjourney.errors import DataError
from seqjourney.events.cleaning import typed
from seqjourney.events.engine import connect
from seqjourney.sequences.batching import Collator, build_windows
from seqjourney.sequences.tokenizer import NumericScale, Tokenizer
from seqjourney.serving.stream_events import EventReader, Token, microseconds_at, moment_of
from seqjourney.serving.tokens import task_data_of_frame

SCALE = NumericScale(1.0, 1.0, (0.0, 1.0))
TOKENIZER = Tokenizer(
    fitted_until="2023-06-01T00:00:00+00:00",
    fitted_tokens=100,
    vocabulary={"event": ["visit", "buy"], "channel": ["web", "7", "true"], "country": ["fr"]},
    scales={"value": SCALE, "items": SCALE},
    label_only_events=("outcome",),
    event_cycles=(),
    snapshot_cycles=(),
)
TASK = parse(
    TaskConfig,
    {"name": "t", "kind": "occurrence", "target": ["buy"], "horizon": "30d"}
    | {"cutoffs": {"train": ["2023-04-01"], "validation": ["2023-06-01"], "test": ["2023-08-01"]}},
    "task",
)
EVENT: dict[str, Any] = {
    "timestamp": "2023-03-05T12:30:00",
    "event": "visit",
    "channel": "web",
    "country": "fr",
    "value": 3.5,
    "items": 2,
}


def reader(consent: bool = False, **reading: Any) -> EventReader:
    return EventReader(TOKENIZER, reading, needs_consent=consent)


def read(**changes: Any) -> Token:
    return reader().read(EVENT | changes)


@pytest.mark.parametrize("as_text", [False, True])
def test_the_tokens_are_those_of_a_frame(as_text: bool):
    random = np.random.default_rng(0)
    n = 300
    rows = pd.DataFrame(
        {
            "customer_id": "c",
            "event_id": [f"e{i:03d}" for i in range(n)],
            "timestamp": pd.Timestamp("2023-01-01", tz="UTC")
            + pd.to_timedelta(np.sort(random.integers(0, 10**13, n)), unit="us"),
            "event": random.choice(["visit", " buy ", "teleport", "Visit"], n),
            "channel": random.choice(["web", " web", "\u00a0web", "", "7", "true", "nan"], n),
            "country": random.choice(np.array(["fr", "de", None], object), n),
            "value": np.where(random.random(n) < 0.3, np.nan, random.normal(0, 1e4, n)),
            "items": random.choice([0, 1, 2, 1e35], n),
        }
    )
    if as_text:
        rows["timestamp"] = [moment.isoformat() for moment in rows["timestamp"]]
        rows["value"] = ["" if np.isnan(v) else f" {v}" for v in rows["value"]]
    found = [reader().read(row) for row in rows.to_dict("records")]
    with task_data_of_frame(rows, TASK, TOKENIZER, {}, None) as data:
        batch = Collator(data, build_windows(data, 512))([0])
        known = data.store.times[:, 1]
    assert [token.categories for token in found] == batch.categorical[0].tolist()
    np.testing.assert_allclose(
        np.array([token.numbers for token in found], np.float32), batch.numeric[0].numpy()
    )
    assert [token.time for token in found] == batch.times[0].tolist()
    assert [token.known for token in found] == known.tolist()


def both_read(
    field: str, written: Sequence[str], folder: Path, zone: str | None = None
) -> dict[str, tuple[Any, Any]]:
    """Return what a frame and what live events make of texts; "refused" of some."""
    named = {"customer": "customer_id", "timestamp": "timestamp", "event": "event"}
    named |= {"value": "value", "numeric": ["items"], "timezone": zone}
    config = parse(DataConfig, {"name": "rows", "path": "rows", **named}, "data")
    rows = pd.DataFrame({"source_row": range(len(written)), field: written}).astype(str)
    rows = rows.assign(**{"timestamp": "2023-01-01", "event": "e", field: written})
    with connect(folder, timezone=zone or "UTC") as backend:
        found = typed(ibis.memtable(rows.assign(customer_id="c")), config)
        read = backend.to_pyarrow(found.select("source_row", "problem", field)).to_pylist()
    by_row = {int(row["source_row"]): row for row in read}
    answers: dict[str, tuple[Any, Any]] = {}
    for position, text in enumerate(written):
        batch = "refused" if by_row[position]["problem"] else by_row[position][field]
        try:
            token = reader(**({"timezone": zone} if zone else {})).read(EVENT | {field: text})
        except DataError:
            live: Any = "refused"
        else:
            live = {"timestamp": moment_of(token.time), "value": token.numbers[0]}.get(
                field, token.numbers[1]
            )
        answers[text] = batch, None if live != live else live
    return answers


def test_every_spelling_of_a_time_is_read_or_refused_as_in_a_frame(tmp_path: Path):
    dates = ["2023-03-05", "2023/03/05", "2023-3-5", "2023-03/05", "20230305", "2023-W10-7"]
    dates += ["2023-064", "2023-02-30", "2023-12-31"]
    clocks = ["", "T12", "T12:30", " 1:2", "T12:30:00", " 12:30:00.5", "T12:30:59.1234567"]
    clocks += ["T12:30:00.", "T12:30:00,5", "T123000", "T12:30:60", "t12:30", "_12:30"]
    clocks += ["T24:00", "T24:00:00", "T24:00:01", "T24:01"]
    offsets = ["", "Z", "z", " Z", "+02", "+0200", "-02:30", " +02:00", "+2", "+02:00:30"]
    offsets += [" UTC", " gmt", "UTC"]
    written = ["".join(parts) for parts in itertools.product(dates, clocks, offsets)]
    found = both_read("timestamp", [*written, "\t2023-03-05 ", "\u00a02023-03-05"], tmp_path)
    assert {text: pair for text, pair in found.items() if pair[0] != pair[1]} == {}
    refused = sum(batch == "refused" for batch, _ in found.values())
    assert 100 < refused < len(found) - 100


def test_an_hour_that_the_clock_repeats_or_skips_is_read_as_in_a_frame(tmp_path: Path):
    written = [f"{day}T{hour}:30" for day in ("2023-03-26", "2023-10-29") for hour in range(5)]
    for batch, live in both_read("timestamp", written, tmp_path, "Europe/Paris").values():
        assert batch == live


@pytest.mark.parametrize("field", ["value", "items"])
def test_every_spelling_of_a_number_is_read_or_refused_as_in_a_frame(field: str, tmp_path: Path):
    written = ["", " ", "\t", " 7 ", "\u00a07", "٣", "1e30", "1.1e30", "1e35", "-1e35", "3.4e38"]
    written += ["3.5e38", "1e400", "1e-400", "nan", "inf", "1,5", "1_000", "0x10", ".5", "true"]
    found = both_read(field, written, tmp_path)
    assert {text: pair for text, pair in found.items() if pair[0] != pair[1]} == {}
    assert found["1e35"][0] == ("refused" if field == "value" else 1e35)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2023-03-05", "2023-03-05T00:00:00+00:00"),
        ("2023-03-05 12:30", "2023-03-05T12:30:00+00:00"),
        (" 2023-03-05T12:30:00Z ", "2023-03-05T12:30:00+00:00"),
        ("2023-03-05T12:30:00.123456+02:00", "2023-03-05T10:30:00.123456+00:00"),
        (datetime(2023, 3, 5, 12), "2023-03-05T12:00:00+00:00"),
        (pd.Timestamp("2023-03-05 12:00"), "2023-03-05T12:00:00+00:00"),
        (datetime(2023, 3, 5, 12, tzinfo=timezone(timedelta(hours=2))), "2023-03-05T10:00+00:00"),
        (pd.Timestamp("2023-03-05 12:00:00.000001", tz="UTC"), "2023-03-05T12:00:00.000001+00:00"),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(written: Any, expected: str):
    assert moment_of(read(timestamp=written).time) == datetime.fromisoformat(expected)


def test_times_are_read_as_training_read_them():
    at = reader(timezone="Europe/Paris").read(EVENT).time
    assert moment_of(at) == datetime(2023, 3, 5, 11, 30, tzinfo=UTC)
    for unit, count in (("s", 1_678_000_000.5), ("ms", "1678000000500"), ("us", 1678000000500000)):
        at = reader(timestamp_unit=unit).read(EVENT | {"timestamp": count}).time
        assert at == 1_678_000_000_500_000
    assert microseconds_at("at", "2023-03-05T12:30") == read().time


def test_nobody_knows_of_an_event_before_it_happens():
    assert read(known_at="2023-01-01").known == read().time
    assert read(known_at=None).known == read(known_at=float("nan")).known == read().time
    assert moment_of(read(known_at="2023-04-01").known) == datetime(2023, 4, 1, tzinfo=UTC)


def test_a_clock_that_runs_a_little_fast_makes_nothing_known_before_now():
    for unit, ahead in ((None, 4), (None, -1), ("ms", 4)):
        moment: Any = datetime.now(UTC) + timedelta(minutes=ahead)
        written = moment.timestamp() * 1e3 if unit else moment.isoformat()
        token = reader(timestamp_unit=unit).read(
            EVENT | {"timestamp": written, "known_at": written}
        )
        assert token.time <= token.known <= datetime.now(UTC).timestamp() * 1e6
        assert moment_of(token.time) > datetime.now(UTC) - timedelta(minutes=2)
    with pytest.raises(DataError, match="in the future"):
        read(timestamp=(datetime.now(UTC) + timedelta(minutes=6)).isoformat())


def test_unseen_categories_are_unknown_and_empty_ones_missing():
    assert read(event="teleport", channel="fax", country=None).categories == [1, 1, 2]
    for empty in ("", "  ", float("nan"), pd.NA, pd.NaT):
        assert read(country=empty).categories[2] == 2
    assert read(channel=7).categories[1] == read(channel=7.0).categories[1] == 4
    assert read(channel=True).categories[1] == 5


def test_numbers_may_be_text_or_missing():
    assert read(value=" 1e3", items=np.int64(4)).numbers == [1000.0, 4.0]
    assert read(value=Decimal("2.5"), items=True).numbers == [2.5, 1.0]
    for empty in (None, "", float("nan"), pd.NA):
        assert np.isnan(read(value=empty).numbers[0])


def test_label_only_events_do_not_count():
    assert read().counts and not read(event="outcome").counts


@pytest.mark.parametrize("key", list(EVENT))
def test_a_missing_key_is_named(key: str):
    with pytest.raises(DataError, match=f"no '{key}'"):
        reader().read({k: v for k, v in EVENT.items() if k != key})


def test_a_misspelt_key_is_guessed():
    with pytest.raises(DataError, match="Did you mean 'contry'"):
        reader().read({k: v for k, v in EVENT.items() if k != "country"} | {"contry": "fr"})


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        *(("timestamp", bad) for bad in ("last Tuesday", "", None, 5, pd.NaT, date(2023, 1, 1))),
        *(("timestamp", bad) for bad in ("1970-01-01", "2999-01-01", "0001-01-01T00:00+14:00")),
        *(("known_at", bad) for bad in ("soon", "2999-01-01")),
        *(("event", bad) for bad in (None, " ", ["visit"])),
        *(("country", bad) for bad in (["fr"], {"a": 1}, b"fr")),
        *(("value", bad) for bad in ("much", "inf", float("inf"), 1e31, [], 1j, 10**400)),
        *(("items", bad) for bad in ("two", {})),
        *(("event_id", bad) for bad in (None, "", [])),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_key(key: str, bad: Any):
    with pytest.raises(DataError, match=f"'{key}' is"):
        read(**{key: bad})


def test_consent_is_read_where_the_model_needs_it():
    assert reader(consent=True).read(EVENT | {"consent": "denied"}).said == 2
    assert reader(consent=True).read(EVENT | {"consent": None}).said is None
    assert reader(consent=True).read(EVENT).said is None
    assert read(consent="whatever").said is None
    for bad in ("Denied", "no", True, []):
        with pytest.raises(DataError, match=r"'consent' is .*; write unknown, granted, denied"):
            reader(consent=True).read(EVENT | {"consent": bad})
