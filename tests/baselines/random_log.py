"""A small random log with everything that goes wrong in time: late news, ties, gaps, cutoffs."""

from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd

from seqjourney.config import TaskConfig, parse
from seqjourney.sequences.task_data import TaskData

START = pd.Timestamp("2020-01-01", tz="UTC")
CUTOFFS = {
    "train": ["2020-06-01", "2020-07-01"],
    "validation": ["2020-09-01"],
    "test": ["2020-11-01"],
}


def random_events(customers: int = 40, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    n = customers * 12
    # Whole days make ties and events exactly at a cutoff common.
    seconds = random.integers(0, 330, n) * 86400 + random.integers(0, 86400, n) * (
        random.random(n) < 0.6
    )
    timestamp = START + pd.to_timedelta(seconds, unit="s")
    late = pd.to_timedelta(random.integers(0, 40, n) * (random.random(n) < 0.2), unit="D")
    number = random.normal(size=n)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{i:03d}" for i in random.integers(0, customers, n)],
            "event_id": [f"e{i:05d}" for i in range(n)],
            "timestamp": timestamp,
            "known_at": timestamp + late,
            "event": random.choice(["visit", "Visit", "purchase", "mail", "odd", "outcome"], n),
            "channel": np.where(random.random(n) < 0.2, None, random.choice(["web", "app"], n)),
            "value": np.where(random.random(n) < 0.5, np.nan, random.normal(10, 5, n)),
            "country": np.where(random.random(n) < 0.3, None, random.choice(["fr", "de", "xx"], n)),
            "lines": np.where(random.random(n) < 0.2, np.nan, number),
        }
    )
    frame["actor"] = np.where(frame["event"] == "mail", "company", "customer")
    for column in ("timestamp", "known_at"):
        frame[column] = frame[column].astype("datetime64[us, UTC]")
    return frame


def as_table(events: pd.DataFrame) -> ibis.Table:
    import pyarrow as pa

    backend = ibis.duckdb.connect(threads=1)
    backend.raw_sql("SET TimeZone = 'America/New_York'")  # the session's zone must not matter
    table = pa.Table.from_pandas(events, preserve_index=False)
    return backend.create_table("events", ibis.memtable(table))


def tokenizer() -> SimpleNamespace:
    return SimpleNamespace(
        vocabulary={
            "event": ["visit", "Visit", "purchase", "mail"],
            "channel": ["web", "app"],
            "country": ["fr", "de"],
        },
        numeric_fields=["value", "lines"],
        label_only_events=("outcome",),
    )


def task(**changes: object) -> TaskConfig:
    values = {
        "name": "buys",
        "kind": "occurrence",
        "target": ["purchase"],
        "horizon": "30d",
        "cutoffs": CUTOFFS,
    }
    return parse(TaskConfig, values | changes, "task")


def make_data(events: pd.DataFrame, task: TaskConfig) -> TaskData:
    assert task.cutoffs is not None
    rows = []
    for split in ("train", "validation", "test"):
        for moment in task.cutoffs.of(split):  # type: ignore[arg-type]
            cutoff = pd.Timestamp(moment)
            window = events[
                (events["timestamp"] > cutoff) & (events["timestamp"] <= cutoff + task.horizon)
            ]
            buyers = set(window.loc[window["event"].isin(task.target), "customer_id"])
            rows += [
                (customer, cutoff, split, int((customer in buyers) == (task.kind == "occurrence")))
                for customer in sorted(events["customer_id"].unique())
            ]
    frame = pd.DataFrame(rows, columns=["customer_id", "cutoff", "split", "label"])
    frame["cutoff"] = frame["cutoff"].astype("datetime64[us, UTC]")
    frame["label"] = frame["label"].astype("int8")
    frame["weight"] = np.random.default_rng(1).uniform(0.5, 1.5, len(frame))
    frame["customer_index"], frame["end"] = pd.factorize(frame["customer_id"])[0], 0
    return TaskData(task, as_table(events), None, tokenizer(), frame)  # type: ignore[arg-type]
