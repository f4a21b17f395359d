"""The rule that every value model must beat: customers go on as they did so far.

Net value of the earlier target events, over the time since the first of them, times the horizon.
Who is known for less than a horizon is taken to have been known for one: a first order of yesterday
is no daily order. Nothing is learned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from ibis import Table, memtable

from seqjourney.baselines.saved import read_model, write_model
from seqjourney.baselines.training_table import average_precision, both_classes
from seqjourney.config import PastValueConfig, TrainerConfig
from seqjourney.errors import DataError
from seqjourney.sequences.task_data import TaskData


def earlier_value(
    events: Table, snapshots: pd.DataFrame, target: tuple[str, ...], column: str
) -> pd.DataFrame:
    """Return what was known at each cutoff of the money that target events had brought in.

    Args:
        events: the event log.
        snapshots: has `customer_id` and `cutoff` (UTC), (n,).
        target: the events that count.
        column: of the event log, with the money.

    Returns:
        (n,) rows: `total`, less refunds, and `age_us` since the first such event; NaN without any.
    """
    rows = np.arange(len(snapshots))
    cutoffs = memtable(snapshots[["customer_id", "cutoff"]].assign(row=rows))
    counting = events.filter(events.event.isin(target)).select(
        "customer_id",
        "known_at",
        "timestamp",
        # Exact, as the labels are: see `snapshots`.
        money=events[column].cast("decimal(38, 6)"),
    )
    pairs = counting.join(
        cutoffs,
        [counting.customer_id == cutoffs.customer_id, counting.known_at <= cutoffs.cutoff],
    ).select(
        cutoffs.row,
        counting.money,
        age_us=cutoffs.cutoff.delta(counting.timestamp, unit="microsecond"),
    )
    found = pairs.group_by("row").aggregate(
        total=pairs.money.sum().cast("float64"), age_us=pairs.age_us.max()
    )
    answer = found.to_pandas().set_index("row").reindex(rows).astype(np.float64)
    # Events without an amount are worth nothing, but they were there.
    answer["total"] = answer["total"].where(answer["age_us"].isna(), answer["total"].fillna(0.0))
    return answer


def earlier_targets(data: TaskData, kind: str) -> tuple[str, ...]:
    """Return the target events that a model of earlier ones may see.

    Raises:
        DataError: all of them serve labels only.
    """
    task, hidden = data.task, data.tokenizer.label_only_events
    target = tuple(name for name in task.target if name not in hidden)
    if not target:
        raise DataError(
            f"task '{task.name}': {kind} learns from earlier target events, and "
            f"{' and '.join(task.target)} serve labels only. Choose another model."
        )
    return target


class PastValue:
    """Past spend rate times horizon; scores are its logarithm, so that they can be calibrated."""

    per_buyer = False

    def __init__(self, config: PastValueConfig) -> None:
        self.config = config
        self.chosen_: dict[str, Any] = {}
        self.validation_score_ = float("nan")

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Remember what counts; nothing is learned."""
        both_classes(data, "train")
        self.chosen_ = {
            "target": list(earlier_targets(data, self.config.kind)),
            "value": data.task.value,
            "horizon_us": data.task.horizon.total_seconds() * 1e6,
        }
        validation = both_classes(data, "validation")
        self.validation_score_ = average_precision(
            validation["label"].to_numpy(),
            self.score(data.of("validation")),
            validation["weight"].to_numpy(),
        )

    def score(self, data: TaskData) -> np.ndarray:
        """Return the logarithm of one plus the expected amount."""
        return self.score_and_amount(data)[0]

    def score_and_amount(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores and the expected amounts; see `ValuePredictor`."""
        target, horizon = tuple(self.chosen_["target"]), self.chosen_["horizon_us"]
        past = earlier_value(data.events, data.snapshots, target, self.chosen_["value"])
        share = horizon / np.maximum(past["age_us"].to_numpy(), horizon)
        amount = np.nan_to_num(np.maximum(past["total"].to_numpy(), 0.0) * share)
        return np.log1p(amount), amount

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        write_model(folder, self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return read_model(folder, cls)[0]
