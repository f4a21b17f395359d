"""The two rules that every model must beat: everyone alike, and the most recent first."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from ibis import memtable

from seqjourney.baselines.saved import read_model, write_model
from seqjourney.baselines.training_table import average_precision, both_classes
from seqjourney.config import BaseRateConfig, RecencyConfig, TrainerConfig
from seqjourney.sequences.task_data import TaskData

_DAY_US = 86_400_000_000


class BaseRate:
    """Everyone gets the log-odds of the training base rate, and an average buyer's amount."""

    per_buyer = True

    def __init__(self, config: BaseRateConfig) -> None:
        self.config = config
        self.chosen_: dict[str, Any] = {}
        self.validation_score_ = float("nan")

    def fit(
        self,
        data: TaskData,
        trainer: TrainerConfig,
        seed: int,
        folder: Path,
    ) -> None:
        """Take the weighted share of positive training labels."""
        train, validation = both_classes(data, "train"), both_classes(data, "validation")
        rate = float(np.average(train["label"], weights=train["weight"]))
        self.chosen_ = {"base_rate": rate}
        if data.task.kind == "sum":
            buyers = train[train["value"] > 0]
            self.chosen_["amount"] = float(np.average(buyers["value"], weights=buyers["weight"]))
        self.validation_score_ = float(
            np.average(validation["label"], weights=validation["weight"])
        )

    def score(self, data: TaskData) -> np.ndarray:
        """Return the same log-odds for every snapshot."""
        rate = self.chosen_["base_rate"]
        return np.full(len(data.snapshots), np.log(rate / (1 - rate)))

    def score_and_amount(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """Return the same for every snapshot; of a `sum` task."""
        return self.score(data), np.full(len(data.snapshots), self.chosen_["amount"])

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        write_model(folder, self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return read_model(folder, cls)[0]


class Recency:
    """Customers ranked by the days since their last event that makes them eligible.

    For an occurrence the most recent come first; for an absence the longest away.
    """

    def __init__(self, config: RecencyConfig) -> None:
        self.config = config
        self.chosen_: dict[str, Any] = {}
        self.validation_score_ = float("nan")

    def fit(
        self,
        data: TaskData,
        trainer: TrainerConfig,
        seed: int,
        folder: Path,
    ) -> None:
        """Remember which events count and which way the ranking goes; nothing is learned."""
        both_classes(data, "train")
        task = data.task
        self.chosen_ = {
            "events": list(task.eligible.events) if task.eligible.events else None,
            "excluded": list(data.tokenizer.label_only_events),
            "sign": 1 if task.kind == "absence" else -1,
        }
        validation = both_classes(data, "validation")
        scores = self.score(data.of("validation"))
        self.validation_score_ = average_precision(
            validation["label"].to_numpy(), scores, validation["weight"].to_numpy()
        )

    def score(self, data: TaskData) -> np.ndarray:
        """Return plus or minus the days since the last event that counts."""
        rows = np.arange(len(data.snapshots))
        cutoffs = memtable(data.snapshots[["customer_id", "cutoff"]].assign(row=rows))
        events = data.events.filter(~data.events.event.isin(self.chosen_["excluded"]))
        counting = (
            events.filter(events.event.isin(self.chosen_["events"]))
            if self.chosen_["events"]
            else events.filter(events.actor == "customer")
        ).select("customer_id", "known_at", "timestamp")
        pairs = counting.join(
            cutoffs,
            [counting.customer_id == cutoffs.customer_id, counting.known_at <= cutoffs.cutoff],
        ).select(cutoffs.row, age_us=cutoffs.cutoff.delta(counting.timestamp, unit="microsecond"))
        youngest = pairs.group_by("row").aggregate(age_us=pairs.age_us.min()).to_pandas()
        # Without such an event a customer has been away longest: since 1970.
        epoch_us = data.snapshots["cutoff"].dt.as_unit("us").astype("int64").to_numpy()
        age_us = (
            youngest.set_index("row")["age_us"]
            .reindex(rows)
            .fillna(dict(enumerate(epoch_us.tolist())))
        )
        return self.chosen_["sign"] * age_us.to_numpy(dtype=np.float64) / _DAY_US

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        write_model(folder, self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return read_model(folder, cls)[0]
