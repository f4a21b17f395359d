"""Raw rows as a connector gives them, and throwing hostile lines at one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import ibis
import pandas as pd
import pyarrow.parquet as pq
from hypothesis import strategies as st
from ibis.config import Config

from seqjourney.config.data import SourceConfig
from seqjourney.events.engine import connect
from seqjourney.events.rejects import Reject
from seqjourney.events.sources import Source

SAMPLES = Path(__file__).parent / "samples"


@contextmanager
def opened(connector: ModuleType, path: Path, **options: Any) -> Iterator[tuple[Any, Source]]:
    """Open a file or folder with a connector; yields the engine and the source."""
    kind = connector.__name__.rpartition(".")[2]
    config = SourceConfig.model_validate({"kind": kind, "path": str(path), "options": options})
    with tempfile.TemporaryDirectory() as scratch, connect(Path(scratch), threads=1) as backend:
        yield backend, connector.open_source(backend, config)


def read(connector: ModuleType, path: Path, **options: Any) -> pd.DataFrame:
    """Return a source's raw rows, in the order of the input, missing values as None."""
    with opened(connector, path, **options) as (backend, source):
        rows = backend.execute(source.rows).sort_values("source_row", ignore_index=True)
    return rows.astype(object).where(rows.notna(), None)


def rejects(connector: ModuleType, path: Path, **options: Any) -> list[Reject]:
    with opened(connector, path, **options) as (backend, source):
        return list(source.rejected(backend))


def row(rows: pd.DataFrame, place: int) -> dict[str, Any]:
    """Return what a row says, without what it does not; properties and consent as objects."""
    said = {key: value for key, value in rows.iloc[place].items() if value is not None}
    for key in ("properties", "consent"):
        if key in said:
            said[key] = json.loads(said[key])
    for key in ("timestamp", "known_at"):
        if isinstance(said.get(key), pd.Timestamp):
            said[key] = said[key].isoformat().replace("+00:00", "Z")
    return said


class _SparkOptions(Config):
    treat_nan_as_null: bool = True


def spark_sql(connector: ModuleType, path: Path, **options: Any) -> str:
    if ibis.options.pyspark is None:  # set by importing pyspark, which need not be installed
        ibis.options.pyspark = _SparkOptions()
    with opened(connector, path, **options) as (_, source):
        return str(ibis.to_sql(source.rows, dialect="pyspark"))


def write_parquet(table: Any, folder: Path) -> Path:
    pq.write_table(table, folder / "events.parquet")
    return folder / "events.parquet"


def objects(keys: list[str]) -> Any:
    """Lists of JSON objects with some of these keys, and anything at all under them."""
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    inner = st.sampled_from([*keys, "data", "0"]) | st.text(max_size=3)
    anything = st.recursive(
        plain,
        lambda deep: st.lists(deep, max_size=3) | st.dictionaries(inner, deep, max_size=3),
        max_leaves=6,
    )
    record = st.dictionaries(st.sampled_from(keys), anything, max_size=8)
    return st.lists(record | anything, min_size=1, max_size=20)


def nothing_is_lost(
    connector: ModuleType, records: list[Any], folder: Path, **options: Any
) -> pd.DataFrame:
    """Every line is a row or a reject, no error, and what should be JSON is."""
    file = folder / "events.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in records) + "\n", encoding="utf-8")
    with opened(connector, file, **options) as (backend, source):
        rows = backend.execute(source.rows)
        rejected = list(source.rejected(backend))
    assert len(rows) + len(rejected) == len(records)
    assert rows["source_row"].is_unique
    for column in ("properties", "consent"):
        for text in rows[column].dropna() if column in rows else ():
            json.loads(text)
    return rows
