"""Random histories and networks with weights that answer loudly, for parity tests.

A fresh network answers almost the same to everything (its last layer starts near zero), which
would let any mistake pass; `lively` redraws the last layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqjourney.config import GRUConfig, NetworkConfig, TransformerConfig, parse
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import DAY_US, NumericScale, Tokenizer
from small_logs import as_store, small_task

START_US = 1_672_531_200_000_000  # 2023-01-01
EVENTS = ("visit", "click", "purchase", "mail")
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def tokenizer(**changes: Any) -> Tokenizer:
    """Return a tokenizer of two categorical and two numeric fields, with all cycles."""
    settings: dict[str, Any] = {
        "fitted_until": "2023-12-31T00:00:00+00:00",
        "fitted_tokens": 1000,
        "vocabulary": {"event": list(EVENTS), "channel": ["web", "app"]},
        "scales": {
            "value": NumericScale(1.5, 0.7, (0.0, 1.0, 2.0, 3.0)),
            "items": NumericScale(1.0, 0.5, ()),  # never seen in training
        },
        "label_only_events": (),
        "event_cycles": ("day", "week", "year"),
        "snapshot_cycles": ("week",),
    }
    return Tokenizer(**(settings | changes))


def network_config(kind: str, **changes: Any) -> NetworkConfig:
    """Return a narrow network of a kind."""
    schema = GRUConfig if kind == "gru" else TransformerConfig
    settings = {"kind": kind, "name": kind, "width": 16, "batch_tokens": 512}
    settings |= {"heads": 2} if kind == "transformer" else {}
    return parse(schema, settings | changes, kind)


def lively(config: NetworkConfig, words: Tokenizer, seed: int = 0) -> JourneyModel:
    """Return an untrained network in evaluation mode whose answers differ by much."""
    torch.manual_seed(seed)
    model = JourneyModel(config, words, BinaryHead(0.3))
    for member in model.members:
        torch.nn.init.normal_(member.head[-1].weight, std=1.0)
    return model.eval()


def draw(
    random: np.random.Generator, words: Tokenizer, batch: int, length: int, asked: int
) -> Inputs:
    """Draw full windows of `length` events and `asked` cutoffs each, `end` from 0 to all."""
    times = START_US + np.sort(random.integers(0, 360 * DAY_US, (batch, length)), axis=1)
    # Late news stands after events that happened later.
    times = times - (random.random(times.shape) < 0.2) * random.integers(0, 9 * DAY_US, times.shape)
    ids = [
        random.integers(1, 3 + len(vocabulary), (batch, length))
        for vocabulary in words.vocabulary.values()
    ]
    numeric = random.normal(10, 50, (batch, length, len(words.scales))).astype(np.float32)
    numeric[random.random(numeric.shape) < 0.3] = np.nan
    ends = np.sort(random.integers(0, length + 1, (batch, asked)), axis=1)
    ends[:, 0], ends[:, -1] = 0, length
    latest = np.maximum.accumulate(times, axis=1)
    known = np.take_along_axis(latest, np.maximum(ends - 1, 0), axis=1)
    cutoffs = known + random.integers(0, 30 * DAY_US, ends.shape)
    return (
        torch.from_numpy(np.stack(ids, axis=-1)),
        torch.from_numpy(numeric),
        torch.from_numpy(times),
        torch.from_numpy(ends),
        torch.from_numpy(cutoffs),
    )


def long_and_short_histories(lengths: tuple[int, ...], asked: int, seed: int = 0) -> TaskData:
    """Return task data of one customer per length, each asked at `asked` random cutoffs."""
    random = np.random.default_rng(seed)
    logs = []
    for number, length in enumerate(lengths):
        at = pd.to_datetime(
            START_US + np.sort(random.integers(0, 360 * DAY_US, length)), unit="us", utc=True
        )
        logs.append(
            pd.DataFrame(
                {
                    "customer_id": f"c{number:03d}",
                    "event_id": [f"{number}-{i:05d}" for i in range(length)],
                    "timestamp": at,
                    "known_at": at,
                    "event": random.choice(EVENTS, length),
                    "channel": random.choice(["web", "app"], length),
                    "value": random.normal(10, 5, length),
                    "items": np.nan,
                }
            )
        )
    store = as_store(pd.concat(logs, ignore_index=True))
    rows = []
    for customer in range(len(lengths)):
        known = store.times[store.offsets[customer] : store.offsets[customer + 1], 1]
        cutoffs = START_US + random.integers(-DAY_US, 361 * DAY_US, asked)
        rows.append(
            pd.DataFrame(
                {
                    "customer_id": store.customer_ids[customer],
                    "customer_index": customer,
                    "cutoff": pd.to_datetime(cutoffs, unit="us", utc=True).as_unit("us"),
                    "end": np.searchsorted(known, cutoffs, side="right"),
                }
            )
        )
    snapshots = pd.concat(rows, ignore_index=True).assign(split="test", weight=1.0)
    snapshots["label"] = (np.arange(len(snapshots)) % 2).astype(np.int8)
    shuffled = snapshots.sample(frac=1, random_state=seed).reset_index(drop=True)
    return TaskData(small_task(), None, store, tokenizer(), shuffled)
