"""What every model is given, network or baseline, and what it must answer.

`TaskData` travels from `prepare` to `fit` and `score`; `Predictor` is the one interface of all
models, so that training, evaluation, export and scoring know no exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd

from seqjourney.config import TaskConfig, TrainerConfig

if TYPE_CHECKING:
    import ibis

    from seqjourney.sequences.store import SequenceStore
    from seqjourney.sequences.tokenizer import Tokenizer


@dataclass(frozen=True)
class TaskData:
    """One task on one prepared data set.

    `snapshots` has one row per (customer, cutoff): `customer_id` (str), `customer_index` (int64,
    position in the store), `cutoff` (datetime64[us, UTC]), `end` (int64, how many of the
    customer's tokens are known at the cutoff), `split` (train, validation, test), `label` (int8),
    `weight` (float64); of a `sum` task also `value` (float64, money: what came in, less refunds);
    of a `time_to` task also `interval` (int64, by which horizon it happened; how many horizons
    there are where it did not).
    """

    task: TaskConfig
    events: ibis.Table
    store: SequenceStore
    tokenizer: Tokenizer
    snapshots: pd.DataFrame
    learnable: np.ndarray | None = None
    """(C,) bool: whose events may teach what needs no label; everybody's if unset."""
    also: tuple[Beside, ...] = ()
    """Tasks that a network learns beside this one."""
    excluded: dict[str, dict[str, int]] = field(default_factory=dict)
    """Who was left out when the task was cut, by split and reason."""
    fingerprint: str = ""
    """Of the prepared data."""

    def of(self, split: str) -> Self:
        """Return the same data with only the snapshots of one split."""
        chosen = self.snapshots[self.snapshots["split"] == split].reset_index(drop=True)
        return replace(self, snapshots=chosen)

    def together(self) -> Self:
        """Return the same data with the snapshots of the tasks beside it, too."""
        if not self.also:
            return self
        tables = [self.snapshots, *(one.data.snapshots for one in self.also)]
        return replace(self, snapshots=pd.concat(tables, ignore_index=True))

    def by_horizon(self) -> dict[str, TaskData]:
        """Return the data of the occurrence by each horizon of a `time_to` task, ascending."""
        asked = {}
        for position, (name, task) in enumerate(self.task.by_horizon().items()):
            snapshots = self.snapshots
            if "interval" in snapshots:  # not where labels are unknown
                came = (snapshots["interval"] <= position).astype(np.int8)
                snapshots = snapshots.drop(columns="interval").assign(label=came)
            asked[name] = replace(self, task=task, snapshots=snapshots)
        return asked


@dataclass(frozen=True)
class Beside:
    """A task that a network learns beside its main one."""

    data: TaskData
    weight: float
    """What its loss counts, against 1 of the main task's."""


class Asked(Protocol):
    """What batches are made of, whatever the kind of task: histories and questions to them.

    Of `snapshots` it needs `customer_index`, `end`, `cutoff`, `split`, `label` and `weight`.
    """

    @property
    def store(self) -> SequenceStore:
        """Where the events are."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """What a model may know of them."""
        ...

    @property
    def snapshots(self) -> pd.DataFrame:
        """The questions, one per row."""
        ...

    def of(self, split: str) -> Self:
        """Return the same data with only the questions of one split."""
        ...


class Predictor(Protocol):
    """A model: it learns from the training and validation snapshots and scores any."""

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Learn from `train`; choose settings on `validation`; never look at `test`.

        Logs and checkpoints go to `folder`.
        """
        ...

    def score(self, data: TaskData) -> np.ndarray:
        """Return one score per row of `data.snapshots`, higher means likelier, float64."""
        ...

    def save(self, folder: Path) -> None:
        """Write plain data (JSON, text, tensors) that `load` needs."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, without any configuration."""
        ...


@runtime_checkable
class ValuePredictor(Predictor, Protocol):
    """A model that can also say how much: what a `sum` task needs."""

    per_buyer: bool
    """Whether its amounts are what a customer brings in who brings in anything; else, what anyone
    does, buyer or not."""

    def score_and_amount(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """Return `score`, and an amount of money, 0 or more, before calibration. (n,), (n,)."""
        ...


@runtime_checkable
class HorizonPredictor(Predictor, Protocol):
    """A model that can say by when: what a `time_to` task needs. Its `score` is by the longest."""

    def score_each(self, data: TaskData) -> np.ndarray:
        """Return one score per snapshot and horizon, (n, K)."""
        ...
