"""Which values a model of a `next` task answered with on the test: how often, and for which others.

Counts over all test questions, no customer is in them. `values.parquet` has one row per value of
the vocabulary: how often training saw it come, how often the model named it first, and how often
among the first ten. `first_answers.parquet` has one row per pair of what came and what was named
first. `evaluate` reads both where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from seqjourney.evaluation.next_best import Best
from seqjourney.files import read_parquet, replacing_file
from seqjourney.sequences.next_cases import NextData
from seqjourney.sequences.tokenizer import FIRST

LISTED = 10
"""How long a list is that a value may stand in."""
VALUES, FIRST_ANSWERS = "values.parquet", "first_answers.parquet"


@dataclass(frozen=True)
class Answered:
    """The two tables."""

    values: pd.DataFrame
    """`value`, `trained`, `first`, `listed`; the most frequent of the training events first."""
    first_answers: pd.DataFrame
    """`target`, `answer`, `count`; the most frequent first."""


def answered(data: NextData, best: Best) -> Answered:
    """Count what a model answered to the test; `best` holds `LISTED` values of each question."""
    words = data.tokenizer.vocabulary[data.task.field]
    trained = data.of("train").snapshots["label"].to_numpy() - FIRST
    first = best.rank == 1

    def count(value: np.ndarray) -> np.ndarray:
        return np.bincount(value, minlength=len(words))

    values = pd.DataFrame(
        {
            "value": words,
            "trained": count(trained),
            "first": count(best.value[first]),
            "listed": count(best.value),
        }
    )
    target = data.of("test").snapshots["target"].to_numpy()[best.question[first]]
    pairs = pd.DataFrame(
        {
            "target": np.array(data.store.dictionaries[data.task.field], object)[target],
            "answer": np.array(words, object)[best.value[first]],
        }
    )
    counts = pairs.value_counts().rename("count").reset_index()
    order = ["count", "target", "answer"]
    counts = counts.sort_values(order, ascending=[False, True, True], ignore_index=True)
    return Answered(values, counts)


def write_answered(found: Answered, folder: Path) -> None:
    """Write both tables, each whole or not at all."""
    for name, table in ((VALUES, found.values), (FIRST_ANSWERS, found.first_answers)):
        with replacing_file(folder / name) as partial:
            table.to_parquet(partial, index=False)


def read_answered(folder: Path) -> Answered | None:
    """Read both tables of a run; None where it was trained before there were any.

    Raises:
        DataError: one is damaged.
    """
    if not (folder / VALUES).exists() or not (folder / FIRST_ANSWERS).exists():
        return None
    return Answered(*(read_parquet(folder / name) for name in (VALUES, FIRST_ANSWERS)))
