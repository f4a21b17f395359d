"""Small event logs with everything that goes wrong in time: late news, ties, gaps, quiet customers.

`raw_events` draws rows as a company would export them; `write_csv` and `data_config` make them a
data set; `small_task` asks whether a purchase follows; `as_table` skips the files and gives a
clean log to the columnar engine directly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from seqjourney.config import DataConfig, TaskConfig, parse
from seqjourney.sequences.store import SequenceStore

START = pd.Timestamp("2023-01-01", tz="UTC")
DAYS = 360
CUTOFFS = {
    "train": ["2023-04-01", "2023-05-01", "2023-06-01"],
    "validation": ["2023-08-01"],
    "test": ["2023-10-01"],
}
COLUMNS = {"customer": "customer", "timestamp": "at", "event": "event"}
ALL_COLUMNS = COLUMNS | {
    "known_at": "known",
    "event_id": "id",
    "channel": "channel",
    "value": "amount",
    "categorical": ["country"],
    "numeric": ["items"],
    "company_events": ["mail"],
    "label_only_events": ["outcome"],
}


def raw_events(customers: int = 120, per_customer: int = 15, seed: int = 0) -> pd.DataFrame:
    """Draw events whose times often tie, fall on a cutoff, or become known late."""
    random = np.random.default_rng(seed)
    n = customers * per_customer
    days = random.integers(0, DAYS, n)
    at = START + pd.to_timedelta(
        days * 86400 + random.integers(0, 86400, n) * (random.random(n) < 0.6), unit="s"
    )
    late = pd.to_timedelta(random.integers(0, 40, n) * (random.random(n) < 0.2), unit="D")
    return pd.DataFrame(
        {
            "customer": [f"c{i:04d}" for i in random.integers(0, customers, n)],
            "id": [f"e{i:06d}" for i in random.permutation(n)],
            "at": at,
            "known": at + late,
            "event": random.choice(["visit", "click", "purchase", "mail", "outcome"], n),
            "channel": np.where(random.random(n) < 0.2, None, random.choice(["web", "app"], n)),
            "amount": np.where(random.random(n) < 0.5, np.nan, random.normal(10, 5, n).round(2)),
            "country": np.where(random.random(n) < 0.3, None, random.choice(["fr", "de"], n)),
            "items": np.where(random.random(n) < 0.2, np.nan, random.integers(1, 9, n)),
        }
    )


def write_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a raw export; the name decides about compression."""
    frame.to_csv(path, index=False)
    return path


def data_config(path: Path | str, **changes: Any) -> DataConfig:
    """Return the config of a table with only a customer, a time and an event column."""
    values = {"name": "small", "path": str(path), "threads": 2, **COLUMNS}
    return parse(DataConfig, values | changes, "data")


def small_task(**changes: Any) -> TaskConfig:
    """Return the question whether a purchase follows within 30 days."""
    values = {
        "name": "buys",
        "kind": "occurrence",
        "target": ["purchase"],
        "horizon": "30d",
        "cutoffs": CUTOFFS,
    }
    return parse(TaskConfig, values | changes, "task")


def clean_log(raw: pd.DataFrame, company: tuple[str, ...] = ("mail",)) -> pd.DataFrame:
    """Return raw events under the names and types of the event log."""
    names = {"customer": "customer_id", "id": "event_id", "at": "timestamp", "known": "known_at"}
    log = raw.rename(columns={**names, "amount": "value"})
    log["actor"] = np.where(log["event"].isin(company), "company", "customer")
    for column in ("timestamp", "known_at"):
        log[column] = log[column].astype("datetime64[us, UTC]")
    return log.sort_values(["customer_id", "timestamp", "event_id"], ignore_index=True)


def as_table(log: pd.DataFrame) -> ibis.Table:
    """Give a clean log to an in-memory engine whose own time zone must not matter."""
    backend = ibis.duckdb.connect(threads=1)
    backend.raw_sql("SET TimeZone = 'America/New_York'")
    rows = ibis.memtable(pa.Table.from_pandas(log, preserve_index=False))
    return backend.create_table("log", rows)


def as_store(log: pd.DataFrame, label_only: tuple[str, ...] = ()) -> SequenceStore:
    """Build a store in memory with pandas: an independent way to what `write_store` does."""
    customers = np.array(sorted(log["customer_id"].unique()), dtype=object)
    tokens = log[~log["event"].isin(label_only)].sort_values(
        ["customer_id", "known_at", "timestamp", "event_id"]
    )
    per_customer = tokens.groupby("customer_id").size().reindex(customers, fill_value=0)
    categorical = [c for c in ("event", "channel", "country") if c in log]
    numeric = [c for c in ("value", "items") if c in log]
    words = {c: sorted(tokens[c].dropna().unique()) for c in categorical}
    codes = [pd.Categorical(tokens[c], words[c]).codes.astype(np.int32) for c in categorical]
    times = [tokens[c].dt.tz_convert(None).to_numpy("M8[us]") for c in ("timestamp", "known_at")]
    return SequenceStore(
        customer_ids=customers,
        offsets=np.concatenate([[0], per_customer.cumsum()]).astype(np.int64),
        categorical=np.stack(codes, axis=1),
        numeric=tokens[numeric].to_numpy(np.float32),
        times=np.stack(times, axis=1).astype(np.int64),
        categorical_fields=tuple(categorical),
        numeric_fields=tuple(numeric),
        dictionaries=words,
    )


def files_of_both(one: Path, other: Path) -> list[str]:
    """Return the files of two folders, relative to them, which have to be the same ones."""
    names = [
        sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())
        for place in (one, other)
    ]
    assert names[0] == names[1]
    return names[0]
