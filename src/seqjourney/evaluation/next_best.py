"""The values that most likely come next: from scores of all values, a chunk of questions at a time.

Shapes: Q questions, V values of the vocabulary, q questions of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from seqjourney.errors import DataError
from seqjourney.sequences.next_cases import NextData, seen


@dataclass(frozen=True)
class Best:
    """One entry per answer (A,), ordered by question and rank.

    A question has fewer answers than were asked for where fewer values may come.
    """

    question: np.ndarray  # (A,) position among the questions
    rank: np.ndarray  # (A,) 1 is the likeliest
    value: np.ndarray  # (A,) position in the vocabulary
    score: np.ndarray  # (A,) float64, as the model gave it
    probability: np.ndarray  # (A,) its share of all values that may come; not calibrated


def most_likely(data: NextData, scores: Iterable[np.ndarray], k: int, *, log_scores: bool) -> Best:
    """Return the k likeliest values of each question.

    Args:
        data: with Q questions.
        scores: what `NextPredictor.scores` yields for them.
        k: how many, at most.
        log_scores: see `NextPredictor`.

    Raises:
        DataError: a score is not a number.
    """
    parts: list[Best] = []
    for _ in noting(data, scores, k, parts, log_scores=log_scores):
        pass
    return joined(parts)


def noting(
    data: NextData, scores: Iterable[np.ndarray], k: int, parts: list[Best], *, log_scores: bool
) -> Iterator[np.ndarray]:
    """Pass scores on, and note the k likeliest values in `parts`; see `most_likely`."""
    question, value = seen(data)
    start = 0
    for given in scores:
        chunk = given
        if np.isnan(chunk).any():
            raise DataError("a model gave scores that are not numbers; nothing can be ranked.")
        first, last = np.searchsorted(question, [start, start + len(chunk)])
        if first < last:
            chunk = chunk.copy()
            chunk[question[first:last] - start, value[first:last]] = -np.inf
        row, best = _best(chunk, k)
        score = chunk[row, best].astype(np.float64)
        rank = np.arange(len(row)) - np.searchsorted(row, row) + 1
        share = _shares(chunk, row, score, log_scores=log_scores)
        parts.append(Best(row + start, rank, best, score, share))
        start += len(chunk)
        yield given


def joined(parts: list[Best]) -> Best:
    """Put what was noted of consecutive chunks together."""
    whole = np.zeros(0, np.int64), np.zeros(0)
    nothing = Best(*(whole[:1] * 3), *(whole[1:] * 2))
    columns = zip(*(vars(part).values() for part in (nothing, *parts)), strict=True)
    return Best(*(np.concatenate(column) for column in columns))


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
