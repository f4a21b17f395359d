"""Histories of a Markov chain: what comes next depends on the last value alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqjourney.config import NextTaskConfig, parse
from seqjourney.sequences.store import SequenceStore
from seqjourney.sequences.tokenizer import DAY_US

START_US = 1_672_531_200_000_000  # 2023-01-01


def as_histories(
    histories: list[list[str]],
    roles: list[list[str]] | None = None,
    step_us: int = DAY_US,
    field: str = "item",
) -> SequenceStore:
    """Build a store of one field, and of `fold` if roles are given; events are evenly spaced."""
    lengths = [len(history) for history in histories]
    columns = {field: histories} | ({"fold": roles} if roles else {})
    words = {name: sorted({v for h in column for v in h}) for name, column in columns.items()}
    codes = [
        np.array([words[name].index(v) for h in column for v in h], np.int32)
        for name, column in columns.items()
    ]
    times = np.concatenate([START_US + step_us * np.arange(n) for n in lengths]).astype(np.int64)
    return SequenceStore(
        customer_ids=np.array([f"c{i:04d}" for i in range(len(histories))], object),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        categorical=np.stack(codes, axis=1),
        numeric=np.zeros((sum(lengths), 0), np.float32),
        times=np.stack([times, times], axis=1),
        categorical_fields=tuple(columns),
        numeric_fields=(),
        dictionaries=words,
    )


def chain(customers: int, values: int = 12, seed: int = 0) -> SequenceStore:
    """Draw histories in which value v is mostly followed by v + 1, and value 0 is the commonest."""
    random = np.random.default_rng(seed)
    histories = []
    for _ in range(customers):
        value, history = int(random.integers(values)), []
        for _ in range(int(random.integers(5, 15))):
            history.append(f"i{value:02d}")
            follows = random.random()
            value = (value + 1) % values if follows < 0.7 else 0 if follows < 0.9 else value
        histories.append(history)
    return as_histories(histories)


def next_task(**changes: Any) -> NextTaskConfig:
    """Return a task of the next item, by leaving the last one out."""
    values = {"name": "next_item", "kind": "next", "field": "item", "split": "leave_one_out"}
    return parse(NextTaskConfig, values | {"even_spacing": True} | changes, "task")
