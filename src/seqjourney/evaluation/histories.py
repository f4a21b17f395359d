"""The known pasts of some snapshots as arrays of their own, to be changed and asked about again.

`ablation` makes them poorer as a whole, `occlusion` one event at a time. Only models that read the
store alone can answer: networks, trained or exported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from seqjourney.sequences.batching import window_start
from seqjourney.sequences.task_data import TaskData


@dataclass(frozen=True)
class Histories:
    """The tokens in sight of some snapshots, each with tokens of its own.

    `owner` (N,) says which snapshot a token belongs to, `cutoff_us` (S,) when that one is asked.
    """

    times: np.ndarray  # (N, 2) int64 microseconds: timestamp, known_at
    categorical: np.ndarray  # (N, F) int32
    numeric: np.ndarray  # (N, K) float32
    owner: np.ndarray  # (N,) int64, ascending
    cutoff_us: np.ndarray  # (S,) int64

    def keep(self, kept: np.ndarray) -> Histories:
        """Leave out tokens: (N,) bool."""
        return replace(
            self,
            times=self.times[kept],
            categorical=self.categorical[kept],
            numeric=self.numeric[kept],
            owner=self.owner[kept],
        )


def histories_of(data: TaskData, rows: pd.DataFrame, context: int) -> Histories:
    """Copy what a network of this context sees of each snapshot's past.

    Older tokens are left behind: with fewer tokens a window begins elsewhere, and what changes
    would be that older ones come into sight.
    """
    store = data.store
    end = rows["end"].to_numpy(np.int64)
    start = window_start(end, context)
    owner = np.repeat(np.arange(len(rows)), end - start)
    first = store.offsets[rows["customer_index"].to_numpy(np.int64)] + start
    before = np.cumsum(end - start) - (end - start)
    tokens = first[owner] + np.arange(len(owner)) - before[owner]
    return Histories(
        times=np.array(store.times[tokens]),
        categorical=np.array(store.categorical[tokens]),
        numeric=np.array(store.numeric[tokens]),
        owner=owner,
        cutoff_us=rows["cutoff"].dt.tz_convert(None).to_numpy("datetime64[us]").astype(np.int64),
    )


def as_data(data: TaskData, rows: pd.DataFrame, histories: Histories) -> TaskData:
    """Return the snapshots as customers of a store of their own."""
    counts = np.bincount(histories.owner, minlength=len(rows))
    store = replace(
        data.store,
        customer_ids=rows["customer_id"].to_numpy(object),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        categorical=histories.categorical,
        numeric=histories.numeric,
        times=histories.times,
    )
    asked = rows.assign(customer_index=np.arange(len(rows)), end=counts)
    return replace(data, store=store, events=None, snapshots=asked)
