"""The store holds the log's events, each customer's together, what was known first comes first."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqjourney.config import DataConfig
from seqjourney.errors import DataError
from seqjourney.events.engine import connect
from seqjourney.sequences.cutting import load_task_data
from seqjourney.sequences.store import open_store, write_store
from small_logs import as_store, clean_log


@pytest.fixture(scope="module")
def store(small_log):
    return open_store(small_log.prepared / "store")


def decoded(store, customer: str) -> pd.DataFrame:
    """One customer's tokens as a frame of words and numbers."""
    index = list(store.customer_ids).index(customer)
    rows = slice(store.offsets[index], store.offsets[index + 1])
    frame = pd.DataFrame(np.array(store.times[rows]), columns=["timestamp", "known_at"])
    for position, field in enumerate(store.categorical_fields):
        words = [*store.dictionaries[field], None]
        frame[field] = [words[code] for code in store.categorical[rows, position]]
    for position, field in enumerate(store.numeric_fields):
        frame[field] = store.numeric[rows, position]
    return frame


def test_the_store_gives_back_every_token_of_the_log(small_log, store):
    independent = as_store(clean_log(small_log.raw), label_only=("outcome",))
    assert sorted(store.customer_ids) == sorted(independent.customer_ids)
    assert store.categorical_fields == ("event", "channel", "country")
    assert store.numeric_fields == ("value", "items")
    for customer in store.customer_ids:
        pd.testing.assert_frame_equal(decoded(store, customer), decoded(independent, customer))


def test_label_only_events_are_not_in_the_store_but_their_customers_are(small_log, store):
    assert "outcome" not in store.dictionaries["event"]
    assert set(store.customer_ids) == set(small_log.raw["customer"])


def test_what_was_known_at_any_moment_is_a_prefix(store):
    for index in range(len(store.customer_ids)):
        known_at = store.times[store.offsets[index] : store.offsets[index + 1], 1]
        assert (np.diff(known_at) >= 0).all()


def test_arrays_are_mapped_and_not_read(store):
    for name in ("categorical", "numeric", "times", "offsets"):
        array = getattr(store, name)
        assert isinstance(array, np.memmap)
        assert array.mode == "r"


def store_of(log: pd.DataFrame, place: Path, name: str, **keys):
    """Write a small event log and the store of it."""
    file = place / f"{name}.parquet"
    log.to_parquet(file, index=False)
    columns = {"customer": "c", "timestamp": "t", "event": "e"}
    write_store([file], DataConfig(name="x", path="x", **columns, **keys), place / name)
    return open_store(place / name)


@pytest.mark.parametrize(("label_only", "tokens"), [((), 1), (("won",), 0)])
def test_a_store_without_numeric_fields_or_without_any_token_opens(tmp_path, label_only, tokens):
    log = clean_log(
        pd.DataFrame(
            {"customer": ["a"], "id": ["1"], "at": [pd.Timestamp("2023-01-01", tz="UTC")]}
        ).assign(known=pd.Timestamp("2023-01-01", tz="UTC"), event="won")
    )
    store = store_of(log, tmp_path, "store", label_only_events=label_only)
    assert store.customer_ids.tolist() == ["a"]
    assert store.offsets.tolist() == [0, tokens]
    assert store.numeric.shape == (tokens, 0)


def test_a_store_does_not_depend_on_how_many_rows_are_read_at_once(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    n = 400
    at = pd.Timestamp("2023-01-01", tz="UTC") + pd.to_timedelta(random.integers(0, 90, n), unit="D")
    log = pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in random.integers(0, 9, n)],
            "event_id": [f"{i:04}" for i in range(n)],
            "timestamp": at.as_unit("us"),
            "known_at": (at + pd.to_timedelta(random.integers(0, 9, n), unit="D")).as_unit("us"),
            "event": random.choice(["look", "buy", "won"], n),
            "value": random.normal(size=n),
        }
    ).sort_values(["customer_id", "timestamp", "event_id"], ignore_index=True)
    stores = []
    for rows in (1, 7, 64, 500_000):
        monkeypatch.setattr("seqjourney.sequences.store._BATCH_ROWS", rows)
        monkeypatch.setattr("seqjourney.events.engine.coded._READ_ROWS", rows)
        keys = {"value": "value", "label_only_events": ("won",)}
        stores.append(store_of(log, tmp_path, f"store{rows}", **keys))
    tokens = log[log["event"] != "won"]
    by_known = tokens.sort_values(["customer_id", "known_at", "timestamp", "event_id"])
    for store in stores:
        assert store.customer_ids.tolist() == sorted(log["customer_id"].unique())
        assert np.diff(store.offsets).tolist() == tokens.groupby("customer_id").size().tolist()
        names = np.array(store.dictionaries["event"])
        assert names.tolist() == ["buy", "look"]
        assert names[store.categorical[:, 0]].tolist() == by_known["event"].tolist()
        assert (store.times[:, 1] == by_known["known_at"].astype("int64")).all()
        np.testing.assert_array_equal(store.numeric[:, 0], by_known["value"].astype("float32"))


@pytest.fixture
def copied(small_log, tmp_path) -> Path:
    return shutil.copytree(small_log.prepared, tmp_path / "small")


def open_task(prepared: Path, small_log, scratch: Path):
    scratch.mkdir(exist_ok=True)
    with connect(scratch) as backend:
        return load_task_data(backend, prepared, small_log.task)


@pytest.mark.parametrize("name", ["times.npy", "categorical.npy", "numeric.npy", "offsets.npy"])
def test_a_truncated_array_is_named_with_what_to_do(copied, small_log, tmp_path, name):
    path = copied / "store" / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=rf"{name} has .* bytes instead of .*prepare.py again"):
        open_task(copied, small_log, tmp_path / "scratch")


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "store/store.json",
        "store/customers.parquet",
        "tasks/buys/task.json",
        "tasks/buys/tokenizer.json",
        "tasks/buys/snapshots.parquet",
    ],
)
@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null"])
def test_a_damaged_file_is_named_or_made_again_and_never_a_traceback(
    copied, small_log, tmp_path, name, damage
):
    (copied / name).write_bytes(damage)
    try:
        data = open_task(copied, small_log, tmp_path / "scratch")
    except DataError as error:
        assert Path(name).name in str(error) or name == "manifest.json"
        assert str(copied) in str(error)
    else:
        assert name == "tasks/buys/task.json"
        assert len(data.snapshots) > 0


@pytest.mark.parametrize(
    "name", ["events/bucket=3/part-0.parquet", "store/times.npy", "store/customers.parquet"]
)
def test_a_missing_file_is_reported(copied, small_log, tmp_path, name):
    (copied / name).unlink()
    with pytest.raises(DataError, match=r"15 of the 16 files|times.npy has 0 bytes|is missing"):
        open_task(copied, small_log, tmp_path / "scratch")


def test_a_folder_that_is_not_prepared_says_which_command_to_run(small_log, tmp_path):
    with pytest.raises(DataError, match=r"not prepared. Run: python scripts/prepare.py data=shop"):
        open_task(tmp_path / "shop", small_log, tmp_path / "scratch")


def test_a_task_is_cut_once_and_again_when_it_changed(copied, small_log, tmp_path):
    before = (copied / "tasks" / "buys" / "task.json").stat().st_mtime_ns
    open_task(copied, small_log, tmp_path / "scratch")
    assert (copied / "tasks" / "buys" / "task.json").stat().st_mtime_ns == before
    with connect(tmp_path / "scratch") as backend:
        changed = small_log.task.model_copy(update={"kind": "absence"})
        data = load_task_data(backend, copied, changed)
    opposite = open_task(copied, small_log, tmp_path / "scratch")
    assert (data.snapshots["label"] + opposite.snapshots["label"] == 1).all()
