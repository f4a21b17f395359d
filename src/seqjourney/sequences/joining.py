"""Several tasks on one data set → one table of training snapshots, and each task's answers to it.

The table is the union on (customer, cutoff). Where a task does not ask a customer at a cutoff, the
snapshot weighs nothing for it. What is known at a cutoff is no matter of the task, so a row's
history is the same for all.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from seqjourney.sequences.batching import targets_of
from seqjourney.sequences.task_data import TaskData

_KEYS = ["customer_index", "cutoff"]
_UNASKED = {"label": 0, "weight": 0.0, "value": 0.0, "interval": 0}


def join_training(data: TaskData) -> tuple[TaskData, list[tuple[np.ndarray, ...]]]:
    """Join the training snapshots of a task and of those beside it.

    Returns:
        The task with all of these training snapshots and its own validation; and for each task
        beside it the labels, weights and values of the training rows, (n,) float32 each.
    """
    main, *others = (one.of("train").snapshots for one in (data, *(o.data for o in data.also)))
    places = pd.concat([table[["customer_id", "end", *_KEYS]] for table in (main, *others)])
    places = places.drop_duplicates(_KEYS).sort_values(_KEYS, ignore_index=True)
    snapshots = pd.concat([_spread(main, places), data.of("validation").snapshots])
    joined = replace(data, snapshots=snapshots.reset_index(drop=True), also=())
    return joined, [targets_of(_spread(table, places)) for table in others]


def _spread(table: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    """Lay a task's training snapshots out over all places."""
    own = [name for name in (*_KEYS, *_UNASKED) if name in table]
    spread = places.merge(table[own], how="left", on=_KEYS, validate="one_to_one")
    return spread.fillna({name: _UNASKED[name] for name in own[2:]}).assign(split="train")
