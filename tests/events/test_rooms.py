"""However much room there is in memory, `prepare` writes the same log, store and accounts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqjourney.commands.prepare import prepare
from seqjourney.config import DataConfig, parse
from seqjourney.events import engine
from seqjourney.events.engine import coded
from small_logs import ALL_COLUMNS, data_config, files_of_both, raw_events

AMPLE = 2**30
ON_DISK = 2**17  # the rows do not fit, those of one bucket do
NONE = 1  # but for buckets without a row


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """One table with everything that prepare sets aside, and ties that only ids part."""
    raw = raw_events(customers=60, per_customer=40)
    raw["at"] = raw["at"].astype(object)
    raw.loc[3:6, "customer"] = None
    raw.loc[10:12, "at"] = "soon"
    raw.loc[raw["customer"] == "c0007", "at"] = pd.Timestamp("2023-04-01", tz="UTC")
    raw = pd.concat([raw, raw.iloc[100:120]])  # ids twice
    file = tmp_path_factory.mktemp("table") / "e.csv"
    raw.to_csv(file, index=False)
    return data_config(file, **ALL_COLUMNS)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Two sources whose rows join others before they are written."""
    place = tmp_path_factory.mktemp("sources")
    sources = []
    for name, seed in (("shop", 1), ("mail", 2)):
        raw = raw_events(customers=60, per_customer=20, seed=seed)
        raw.loc[3:6, "customer"] = None
        raw = pd.concat([raw, raw.iloc[100:110]])
        raw.to_csv(place / f"{name}.csv", index=False)
        columns = {"timestamp": "at", "known_at": "known", "event": "event", "event_id": "id"}
        source = {"kind": "table", "name": name, "path": str(place / f"{name}.csv")}
        sources.append(source | columns | {"identifiers": {"user": "customer"}})
    return parse(DataConfig, {"name": "small", "sources": sources, "threads": 2}, "data")


def prepared(
    config: DataConfig, place: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> tuple[Path, list[str]]:
    """Prepare with so much room; return the folder, and how rows were kept and put in order."""
    ways = []

    def seen(way: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            ways.append(way)
            return function(*args, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setenv("SEQJOURNEY_HASH_KEY", "k" * 32)
        patch.setattr(coded, "room", lambda backend: room)
        patch.setattr(coded, "_BATCH_ROWS", 500)
        patch.setattr(coded, "write_parts", seen("disk", coded.write_parts))
        patch.setattr(coded, "ordered", seen("memory", coded.ordered))
        sort = engine.results._sort_and_write
        patch.setattr(engine.results, "_sort_and_write", seen("engine", sort))
        return prepare(config, place, progress=False), sorted(set(ways))


def assert_same(one: Path, other: Path) -> None:
    for name in files_of_both(one, other):
        if name.endswith(".parquet"):
            left, right = (read(path / name) for path in (one, other))
            if "identity/" in name:
                keys = [(column, "ascending") for column in left.column_names]
                left, right = left.sort_by(keys), right.sort_by(keys)
            assert left.schema.equals(right.schema), name
            assert left.equals(right), name
        elif name != "manifest.json":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    manifests = [json.loads((path / "manifest.json").read_text()) for path in (one, other)]
    assert manifests[0] == manifests[1]


def read(file: Path) -> pa.Table:
    return pq.ParquetFile(file).read().combine_chunks()


@pytest.mark.parametrize("kind", ["table", "sources"])
def test_with_room_for_all_rows_or_a_bucket_or_none_the_log_and_the_store_are_the_same(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = request.getfixturevalue(kind)
    ample, ways = prepared(config, tmp_path / "ample", monkeypatch, AMPLE)
    assert ways == ["memory"]
    manifest = json.loads((ample / "manifest.json").read_text())
    assert manifest["rows"]["duplicates"] == 20
    assert manifest["rows"]["quarantined"]
    for room, expected in ((ON_DISK, {"disk", "memory"}), (NONE, {"disk", "engine"})):
        other, ways = prepared(config, tmp_path / str(room), monkeypatch, room)
        assert set(ways) - ({"memory"} if room == NONE else set()) == expected
        assert_same(ample, other)


def test_rows_that_outgrow_memory_when_they_are_finished_are_left_to_the_engine(
    sources: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ample, _ = prepared(sources, tmp_path / "ample", monkeypatch, AMPLE)
    monkeypatch.setattr(coded, "gather", lambda *_: None)
    other, ways = prepared(sources, tmp_path / "other", monkeypatch, AMPLE)
    assert ways == ["engine"]
    assert_same(ample, other)


def test_the_room_is_an_eighth_of_the_memory_limit_and_at_most_a_gigabyte(tmp_path: Path):
    for limit, room in (("512MiB", 2**26), ("80GiB", 2**30)):
        with engine.connect(tmp_path, memory_limit=limit) as backend:
            assert coded.room(backend) == room


def test_a_file_names_nobody_whose_rows_lie_in_another(
    table: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place, _ = prepared(table, tmp_path, monkeypatch, AMPLE)
    files = sorted((place / "events").rglob("*.parquet"))
    for file in files:
        codes = pq.ParquetFile(file, read_dictionary=["customer_id"]).read()["customer_id"]
        assert set(codes.combine_chunks().dictionary.to_pylist()) == set(codes.to_pylist())
        content = file.read_bytes()
        others = {f"c{i:04d}" for i in range(60)} - set(codes.to_pylist())
        assert not [who for who in others if who.encode() in content]
