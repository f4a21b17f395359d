"""A trained model of a `next` task for scoring: the values that most likely come next.

A customer has up to `k` rows, the likeliest value first. Probabilities are the model's own: of a
network the softmax over all values that may come, of counts each value's share of them all. They
are not calibrated, and a value that training never saw has none. Values with equal scores keep
the vocabulary's order, the most frequent first.

Shapes: Q questions, V values of the vocabulary.
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
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.consent.policy import ConsentPolicy
from seqjourney.sequences.next_cases import NextData, evenly_spaced, seen
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

    def score_data(self, data: TaskData, withheld: pd.Series | None = None) -> pd.DataFrame:
        """Answer the snapshots of task data, those of consecutive customers in store order.

        `withheld` is always nothing: see the consent of the model.
        """
        keys = data.snapshots[["customer_id", "cutoff"]]
        known = np.flatnonzero(data.snapshots["end"].to_numpy() > 0)
        asked = as_trained(NextData(self.task, data.store, self.tokenizer, data.snapshots), known)
        words = np.array(self.tokenizer.vocabulary[self.task.field], object)
        question, rank, value, score, probability = most_likely(asked, self.model, self.k)
        found = keys.iloc[known[question]].assign(
            rank=rank, next_value=words[value], score=score, probability=probability
        )
        without = np.setdiff1d(np.arange(len(keys)), known[question])
        # A customer of whom nothing is known, or to whom nothing is left to come, is not lost.
        result = pd.concat([found, keys.iloc[without]]).sort_index(kind="stable")
        return result.astype({"rank": "Int32"}).reset_index(drop=True)


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


def most_likely(data: NextData, model: _NextScores, k: int) -> tuple[np.ndarray, ...]:
    """Return the k likeliest values of each question.

    Returns:
        question, rank from 1, value (position in the vocabulary), score and probability; one entry
        per answer, ordered by question and rank. A question has fewer than k where fewer may come.

    Raises:
        DataError: a score is not a number.
    """
    question, value = seen(data)
    parts: list[tuple[np.ndarray, ...]] = []
    start = 0
    scores = model.scores(data) if len(data.snapshots) else ()
    for chunk in scores:
        if np.isnan(chunk).any():
            raise DataError("a model gave scores that are not numbers; nothing can be ranked.")
        first, last = np.searchsorted(question, [start, start + len(chunk)])
        if first < last:
            chunk = chunk.copy()
            chunk[question[first:last] - start, value[first:last]] = -np.inf
        row, best = _best(chunk, k)
        score = chunk[row, best].astype(np.float64)
        rank = np.arange(len(row)) - np.searchsorted(row, row) + 1
        share = _shares(chunk, row, score, log_scores=model.log_scores)
        parts.append((row + start, rank, best, score, share))
        start += len(chunk)
    empty = (np.zeros(0, np.int64),) * 3 + (np.zeros(0),) * 2
    return tuple(np.concatenate(column) for column in zip(empty, *parts, strict=True))


def _best(chunk: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(q, V) -> rows and columns of each row's k highest, best first; of equals the first column.

    A selection leaves open which of equals it takes, so that all of them are taken and sorted.
    """
    count = chunk.shape[1]
    least = np.partition(chunk, count - k, axis=1)[:, count - k] if k < count else chunk.min(1)
    row, column = np.nonzero((chunk >= least[:, None]) & (chunk > -np.inf))
    order = np.lexsort((column, -chunk[row, column], row))
    row, column = row[order], column[order]
    kept = np.arange(len(row)) - np.searchsorted(row, row) < k
    return row[kept], column[kept]


def _shares(
    chunk: np.ndarray, row: np.ndarray, score: np.ndarray, *, log_scores: bool
) -> np.ndarray:
    """Return what share of all values' scores, (q, V), each chosen one has."""
    if log_scores:
        highest = np.maximum(chunk.max(1), np.finfo(chunk.dtype).min)  # where no value may come
        total = np.exp(chunk - highest[:, None]).sum(1, dtype=np.float64)
        return np.exp(score - highest[row]) / total[row]
    total = np.where(chunk > 0, chunk, 0).sum(1, dtype=np.float64)
    return np.divide(score, total[row], out=np.zeros_like(score), where=total[row] > 0)
