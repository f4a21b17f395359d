"""A trained model of a `next` task for scoring: the values that most likely come next.

A customer has up to `k` rows, the likeliest value first. Probabilities are the model's own: of a
network the softmax over all values that may come, of counts each value's share of them all. They
are not calibrated, and a value that training never saw has none. Values with equal scores keep
the vocabulary's order, the most frequent first.

"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from seqjourney.config import NextTaskConfig, TaskConfig
from seqjourney.errors import ConfigError
from seqjourney.evaluation.next_best import most_likely
from seqjourney.events.consent.policy import ConsentPolicy
from seqjourney.sequences.next_cases import NextData, evenly_spaced, questions_at_once
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer
from seqjourney.serving.loaded import ASKED, WHO, Loaded, moment_of, require_frame

MOST_LIKELY = 10
"""How many values a customer is given unless somebody asks for another number."""


class _NextScores(Protocol):
    """What is asked of a model; see `NextPredictor`."""

    @property
    def log_scores(self) -> bool: ...

    def scores(self, data: NextData) -> Iterator[np.ndarray]: ...


class NextScorer(Loaded):
    """A trained model of a `next` task with its tokenizer; `k` values a customer."""

    def __init__(
        self,
        model: _NextScores,
        tokenizer: Tokenizer,
        task: NextTaskConfig,
        reading: dict[str, Any],
        kind: str,
        trained_on: str,
        fingerprint: str,
        k: int = MOST_LIKELY,
    ):
        # Training refuses data that needs consent, so there is none to ask for.
        super().__init__(tokenizer, reading, ConsentPolicy(), kind, trained_on, fingerprint)
        self.model, self.task, self.k = model, task, k

    def __repr__(self) -> str:
        return f"NextScorer(model={self.kind!r}, task={self.task.name!r}, data={self.trained_on!r})"

    @property
    def k(self) -> int:
        """How many of the likeliest values a customer is given, at most."""
        return self._k

    @k.setter
    def k(self, k: object) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ConfigError(f"k={k}: how many values a customer is given; a whole number from 1.")
        self._k = k

    @property
    def rows_each(self) -> int:
        """At most so many rows are answered of a customer."""
        return min(self.k, len(self.tokenizer.vocabulary[self.task.field]))

    @property
    def columns(self) -> list[tuple[str, pa.DataType]]:
        """Columns of its scores in bulk, with their types."""
        own = [("rank", pa.int32()), ("next_value", pa.string())]
        return [*ASKED, *own, ("score", pa.float64()), ("probability", pa.float64()), *WHO]

    def score(self, events: pd.DataFrame, cutoff: datetime | str | None = None) -> pd.DataFrame:
        """Say of every customer of a frame of events what most likely comes next.

        Args:
            events: as for `Scorer.score`.
            cutoff: as for `Scorer.score`.

        Returns:
            Up to `k` rows per customer: `customer_id`, `cutoff`, `rank` (1 is the likeliest),
            `next_value`, `score` (as the model gives it) and `probability` (not calibrated). A
            customer of whom nothing was known by then has one row without them.

        Raises:
            DataError: as `Scorer.score`.
        """
        from seqjourney.serving.tokens import task_data_of_frame

        require_frame(events)
        moment = moment_of(cutoff) if cutoff is not None else None
        task = cast("TaskConfig", self.task)  # only handed on
        with task_data_of_frame(events, task, self.tokenizer, self.reading, moment) as data:
            return self.score_data(data)

    def explain(self, events: pd.DataFrame, cutoff: datetime | str | None = None) -> pd.DataFrame:
        """Refuse: what is explained is a probability, and these answers have many.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self!r} says what comes next; explain answers for other tasks only.")

    def score_data(self, data: TaskData, withheld: pd.Series | None = None) -> pd.DataFrame:
        """Answer the snapshots of task data, those of consecutive customers in store order.

        `withheld` is always nothing: see the consent of the model.
        """
        keys = data.snapshots[["customer_id", "cutoff"]]
        known = np.flatnonzero(data.snapshots["end"].to_numpy() > 0)
        asked = as_trained(NextData(self.task, data.store, self.tokenizer, data.snapshots), known)
        words = np.array(self.tokenizer.vocabulary[self.task.field], object)
        scores = self.model.scores(asked) if len(known) else ()
        best = most_likely(asked, scores, self.k, log_scores=self.model.log_scores)
        found = keys.iloc[known[best.question]].assign(
            rank=best.rank,
            next_value=words[best.value],
            score=best.score,
            probability=best.probability,
        )
        without = np.setdiff1d(np.arange(len(keys)), known[best.question])
        # A customer of whom nothing is known, or to whom nothing is left to come, is not lost.
        result = pd.concat([found, keys.iloc[without]]).sort_index(kind="stable")
        return result.astype({"rank": "Int32"}).reset_index(drop=True)


class ExportedNext:
    """An exported network: the same batches through another runtime."""

    log_scores = True

    def __init__(self, module: Any, tokenizer: Tokenizer, context: int):
        self._module, self._tokenizer, self._context = module, tokenizer, context

    def scores(self, data: NextData) -> Iterator[np.ndarray]:
        """Yield scores of all values, (q, V), for consecutive questions."""
        from seqjourney.models.network import score_windows

        at_once = questions_at_once(data.values)
        for start in range(0, len(data.snapshots), at_once):
            rows = data.snapshots.iloc[start : start + at_once].reset_index(drop=True)
            piece = replace(data, snapshots=rows)
            yield score_windows(self._module, piece, self._tokenizer, self._context)


def as_trained(data: NextData, rows: np.ndarray) -> NextData:
    """Return some snapshots of consecutive customers, asked as training asked.

    What was split by time was asked at moments between events. Other splits ask right after the
    last event, so that this is the moment that the model is shown; where times were only an
    order, its events are a day apart as they were in training.
    """
    customer = data.snapshots["customer_index"].to_numpy(np.int64)
    first, last = (customer[0], customer[-1] + 1) if len(customer) else (0, 0)
    store = data.store.stretch(first, last)
    chosen = data.snapshots.iloc[rows].reset_index(drop=True)
    chosen["customer_index"] -= first
    if data.task.even_spacing:
        store = evenly_spaced(store)
    if data.task.split != "time":
        end = store.offsets[chosen["customer_index"]] + chosen["end"].to_numpy() - 1
        asked_us = np.asarray(store.times[end, 1])
        chosen["cutoff"] = pd.to_datetime(asked_us, unit="us", utc=True).as_unit("us")
    return replace(data, store=store, snapshots=chosen)
