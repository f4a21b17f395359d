"""Ranks of the true value: the one door through which a model of `next` tasks is evaluated.

A rank is two counts, how many candidates score above the true value and how many score the same.
Ties are then neither won nor lost: every metric is its mean over all orders of the tied ones.
`ranks.parquet` has one row per question and ranking (`full`: against all values; `sampled`:
against some, drawn once for all models). Shapes: Q questions, V values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from seqjourney.errors import DataError
from seqjourney.files import replacing_file
from seqjourney.sequences.next_cases import NextData, past, seen
from seqjourney.sequences.tokenizer import FIRST

NEVER = np.iinfo(np.int32).max
"""Candidates above a true value that the model does not know: it is never found."""
SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("cutoff", pa.timestamp("us", tz="UTC")),
        ("end", pa.int64()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("ranking", pa.string()),
        ("target", pa.string()),
        ("above", pa.int32()),
        ("tied", pa.int32()),
        ("candidates", pa.int32()),
        ("weight", pa.float64()),
        ("model", pa.string()),
        ("run", pa.string()),
    ]
)
Gain = Callable[[np.ndarray], np.ndarray]


def hit(k: int) -> Gain:
    """1 for ranks up to k: Hit@k, recall@k and P@k of the literature; accuracy for k = 1."""
    return lambda rank: (rank <= k).astype(np.float64)


def discounted(k: int) -> Gain:
    """NDCG@k with one true value."""
    return lambda rank: np.where(rank <= k, 1 / np.log2(rank + 1.0), 0.0)


def reciprocal(k: int) -> Gain:
    """MRR@k."""
    return lambda rank: np.where(rank <= k, 1.0 / rank, 0.0)


def expected(ranks: pd.DataFrame, gain: Gain) -> np.ndarray:
    """Return each row's gain, averaged over all orders of tied candidates. (rows,)."""
    above = ranks["above"].to_numpy(np.int64)
    tied = ranks["tied"].to_numpy(np.int64)
    largest = int((above + tied + 1)[above < NEVER].max(initial=1))
    total = np.concatenate([[0.0], np.cumsum(gain(np.arange(1, largest + 1)))])
    low, high = np.minimum(above, largest), np.minimum(above + tied + 1, largest)
    return (total[high] - total[low]) / (tied + 1)


def rank_values(
    data: NextData, scores: Iterable[np.ndarray], negatives: np.ndarray | None = None
) -> pd.DataFrame:
    """Count who scores above and who ties with the true value of each question.

    Args:
        data: with Q questions.
        scores: what `NextPredictor.scores` yields for them.
        negatives: (Q, n) codes of the store to rank against as well.

    Returns:
        `ranking`, `above`, `tied` and `candidates`, one row per question for each ranking.

    Raises:
        DataError: a score is not a number.
    """
    label = data.snapshots["label"].to_numpy() - FIRST
    seen_question, seen_value = seen(data)
    found: dict[str, list[np.ndarray]] = {"full": [], "sampled": []}
    start = 0
    for chunk in scores:
        stop = start + len(chunk)
        true = label[start:stop]
        known = true >= 0
        own = chunk[np.arange(len(chunk)), np.maximum(true, 0)].copy()
        if np.isnan(chunk).any():
            raise DataError("a model gave scores that are not numbers; nothing can be ranked.")
        if negatives is not None:
            ids = _columns(data, negatives[start:stop])
            against = np.where(
                ids >= 0, np.take_along_axis(chunk, np.maximum(ids, 0), 1), -np.inf
            )  # who was never seen in training is last
            found["sampled"].append(_count(against, own, known))
        first, last = np.searchsorted(seen_question, [start, stop])
        if first < last:
            chunk = chunk.copy()
            chunk[seen_question[first:last] - start, seen_value[first:last]] = -np.inf
            chunk[np.arange(len(chunk))[known], true[known]] = own[known]
        counts = _count(chunk, own, known)
        counts[known, 1] -= 1  # itself
        found["full"].append(counts)
        start = stop
    if start != len(label):
        raise DataError(f"a model answered {start:,} of {len(label):,} questions.")
    tables = []
    for ranking, parts in found.items():
        if parts:
            counts = np.concatenate(parts)
            size = data.values if ranking == "full" else data.task.sampled + 1
            tables.append(
                pd.DataFrame({"ranking": ranking, "above": counts[:, 0], "tied": counts[:, 1],
                              "candidates": size})
            )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def _count(scores: np.ndarray, own: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(q, n), (q,), (q,) bool -> (q, 2): how many are above, how many the same."""
    above = (scores > own[:, None]).sum(1)
    tied = (scores == own[:, None]).sum(1)
    return np.stack([np.where(known, above, NEVER), np.where(known, tied, 0)], axis=1)


def _columns(data: NextData, codes: np.ndarray) -> np.ndarray:
    position = data.tokenizer.categorical_fields.index(data.task.field)
    return data.tokenizer.code_maps(data.store.dictionaries)[position][codes] - FIRST


def draw_negatives(data: NextData) -> np.ndarray | None:
    """Draw `task.sampled` values per question, evenly among those neither seen nor true.

    Raises:
        DataError: somebody has seen so many values that nothing is left to draw from.
    """
    count, values = data.task.sampled, len(data.store.dictionaries[data.task.field])
    if count == 0:
        return None
    questions = len(data.snapshots)
    question, _, row = past(data)
    field = data.store.categorical_fields.index(data.task.field)
    own = np.arange(questions) * values + data.snapshots["target"].to_numpy(np.int64)
    codes = data.store.categorical[row, field].astype(np.int64)
    taken = np.unique(np.concatenate([own, (question * values + codes)[codes >= 0]]))
    if int(np.bincount(taken // values).max()) >= values:
        raise DataError(
            f"task.sampled={count}: a history holds all {values:,} values, so that none is left "
            "to rank against; set it to 0."
        )
    random = np.random.default_rng(data.task.sampled_seed)
    drawn = np.arange(questions)[:, None] * values + random.integers(0, values, (questions, count))
    while len(again := np.flatnonzero(np.isin(drawn.ravel(), taken))):
        base = drawn.ravel()[again] // values * values
        drawn.ravel()[again] = base + random.integers(0, values, len(again))
    return drawn % values


def ranks_table(data: NextData, ranks: pd.DataFrame, model: str, run: str) -> pd.DataFrame:
    """Put what `rank_values` found beside its questions, in the columns of `SCHEMA`."""
    words = np.array(data.store.dictionaries[data.task.field], object)
    asked = data.snapshots[["customer_id", "cutoff", "end", "split", "weight"]].assign(
        target=words[data.snapshots["target"].to_numpy()]
    )
    times = len(ranks) // len(asked)
    table = pd.concat([asked] * times, ignore_index=True)
    table = pd.concat([table, ranks], axis=1)
    return table.assign(task=data.task.name, model=model, run=run)[SCHEMA.names]


def write_ranks(table: pd.DataFrame, path: Path) -> None:
    """Write `ranks.parquet`, whole or not at all."""
    with replacing_file(path) as partial:
        pq.write_table(pa.Table.from_pandas(table, SCHEMA, preserve_index=False), partial)


def read_ranks(path: Path) -> pd.DataFrame:
    """Read `ranks.parquet`.

    Raises:
        DataError: it is missing, damaged, or lacks a column.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; train the run to its end.") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not readable as Parquet ({error}); train again.") from error
    if absent := set(SCHEMA.names) - set(table.column_names):
        raise DataError(f"{path} lacks column(s) {', '.join(sorted(absent))}; train again.")
    return table.select(SCHEMA.names).to_pandas()
