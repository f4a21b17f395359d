"""A pandas frame of events → the same task data that training saw, for scoring.

The frame takes the road of `prepare` in a temporary folder: the same cleaning, the same order,
the same tokens. What is different is only that nothing has a label.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.config import DataConfig, TaskConfig, nearest
from seqjourney.errors import DataError
from seqjourney.events.engine import connect
from seqjourney.events.log import event_log_files, read_event_log, write_event_log
from seqjourney.events.sources import Source
from seqjourney.events.sources.table import map_columns
from seqjourney.sequences.store import SequenceStore, open_store, write_store
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer

_CORE = {"customer": "customer_id", "timestamp": "timestamp", "event": "event"}
READING = ("company_events", "timezone", "timestamp_unit")
"""Keys of the data config that scoring must share with training."""
_OPTIONAL = ("known_at", "event_id")


@contextmanager
def task_data_of_frame(
    frame: pd.DataFrame,
    task: TaskConfig,
    tokenizer: Tokenizer,
    reading: dict[str, Any],
    cutoff: datetime | None,
    also: tuple[str, ...] = (),
) -> Iterator[TaskData]:
    """Yield task data with one snapshot per customer of the frame.

    Args:
        frame: events with `customer_id`, `timestamp`, `event`, every field of the tokenizer, and
            optionally `known_at` and `event_id`.
        task: what is asked.
        tokenizer: of the trained model.
        reading: how training read its events (see `READING`).
        cutoff: when it is asked; None means when the last event became known.
        also: further columns of text that the event log is to have.

    Raises:
        DataError: a column is missing, or rows cannot be used.
    """
    config = config_of([str(column) for column in frame.columns], tokenizer, reading, also)
    if frame.empty:
        raise DataError("the frame has no rows.")
    with tempfile.TemporaryDirectory(prefix="seqjourney-") as place:
        folder = Path(place)
        write_event_log(config, folder, partial(_open_frame, frame=frame))
        with connect(folder) as backend:
            write_store(event_log_files(folder), config, folder / "store")
            store = open_store(folder / "store")
            yield TaskData(
                task,
                read_event_log(backend, folder),
                store,
                tokenizer,
                snapshots_at(store, cutoff),
            )


def snapshots_at(store: SequenceStore, cutoff: datetime | None) -> pd.DataFrame:
    """Return one unlabelled snapshot per customer; columns as in `TaskData`."""
    return snapshots_of(store, moment_us(store, cutoff), 0, len(store.customer_ids))


def moment_us(store: SequenceStore, cutoff: datetime | None) -> int:
    """Return a cutoff in microseconds UTC; None means when the last event became known."""
    if cutoff is None:
        return int(store.times[:, 1].max(initial=0))
    stamp = pd.Timestamp(cutoff)
    stamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")
    return round(stamp.timestamp() * 1e6)


def snapshots_of(store: SequenceStore, moment: int, first: int, last: int) -> pd.DataFrame:
    """Return the snapshots of customers `first` to `last` (excluded) at a moment (us, UTC)."""
    offsets = store.offsets[first : last + 1]
    known = store.times[offsets[0] : offsets[-1], 1] <= moment
    counted = np.concatenate([[0], np.cumsum(known)])
    customers = last - first
    return pd.DataFrame(
        {
            "customer_id": store.customer_ids[first:last],
            "customer_index": np.arange(first, last),
            "cutoff": pd.to_datetime(np.full(customers, moment), unit="us", utc=True).as_unit("us"),
            "end": np.diff(counted[offsets - offsets[0]]),
            "split": "score",
            "label": np.zeros(customers, np.int8),
            "weight": np.ones(customers),
        }
    )


def config_of(
    columns: Sequence[str],
    tokenizer: Tokenizer,
    reading: dict[str, Any],
    also: tuple[str, ...] = (),
    place: str | None = None,
) -> DataConfig:
    """Return the data config of events under our names.

    Args:
        columns: of the events.
        tokenizer: of the trained model.
        reading: how training read its events (see `READING`).
        also: further columns of text that the event log is to have.
        place: the files; None for a frame in memory.

    Raises:
        DataError: a column is missing.
    """
    where = place or "the frame"
    fields = [*tokenizer.categorical_fields, *tokenizer.numeric_fields]
    for column in dict.fromkeys([*_CORE.values(), *fields]):
        if column not in columns:
            raise DataError(f"{where} has no column '{column}'.{nearest(column, columns)}")
    given: dict[str, Any] = {name: name for name in _OPTIONAL if name in columns}
    given |= {name: name for name in ("channel", "value") if name in fields}
    return DataConfig(
        name="events" if place else "frame",
        path=where,
        **_CORE,
        **given,
        categorical=(
            *(f for f in tokenizer.categorical_fields if f not in ("event", "channel", *also)),
            *also,
        ),
        numeric=tuple(f for f in tokenizer.numeric_fields if f != "value"),
        **reading,
        label_only_events=tokenizer.label_only_events,
        on_bad_rows="stop",
    )


def _open_frame(backend: Any, config: DataConfig, *, frame: pd.DataFrame) -> Source:  # noqa: ARG001
    import ibis

    return Source(map_columns(ibis.memtable(frame), config, "the frame"), ())
