"""Snapshots → windows → batches: one pass over a customer answers all of its cutoffs.

A window is a stretch of a customer's tokens with all snapshots that look at it. A snapshot that
knows `end` tokens sees the window that starts at `window_start(end)`: everything while the
history fits into the context, else between half a context and a whole one. The start depends on
`end` alone, so an answer never depends on which other cutoffs are asked, and a customer with
50,000 events costs no more memory than the context.

Shapes: B windows, T tokens of the longest, S snapshots of the fullest, F categorical and K
numeric fields. Right-padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqjourney.sequences.task_data import Asked
from seqjourney.sequences.tokenizer import PADDING


@dataclass(frozen=True)
class Batch:
    """What travels from the loader to a model and its loss."""

    categorical: Tensor  # (B, T, F) int64 token ids, 0 where padded
    numeric: Tensor  # (B, T, K) float32 raw values, NaN where missing or padded
    times: Tensor  # (B, T) int64 microseconds UTC
    ends: Tensor  # (B, S) int64 tokens of the window known at the snapshot, 0 where padded
    cutoffs: Tensor  # (B, S) int64 microseconds UTC
    labels: Tensor  # (B, S) float32
    weights: Tensor  # (B, S) float32, 0 where padded
    rows: Tensor  # (B, S) int64 position in the snapshot table, -1 where padded
    values: Tensor  # (B, S) float32, what a `sum` task's came in, a `time_to`'s interval; else 0

    def to(self, device: torch.device | str) -> Batch:
        """Move all tensors; Lightning calls this."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def pin_memory(self) -> Batch:
        """Pin all tensors; the loader calls this for GPUs."""
        return Batch(*(getattr(self, f.name).pin_memory() for f in fields(self)))

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What a model's forward takes, in its order."""
        return self.categorical, self.numeric, self.times, self.ends, self.cutoffs


def window_start(ends: np.ndarray, context: int) -> np.ndarray:
    """Return the first token of the window for snapshots that know `ends` tokens."""
    half = context // 2
    return np.maximum(0, -(-(ends - context) // half)) * half


@dataclass(frozen=True)
class Windows:
    """All windows of a snapshot table, W of them."""

    first_token: np.ndarray  # (W,) position in the store
    lengths: np.ndarray  # (W,) tokens
    bounds: np.ndarray  # (W + 1,) stretch of `order` that belongs to each window
    order: np.ndarray  # (snapshots,) rows of the table, grouped by window
    starts: np.ndarray  # (W,) position of the first token within its customer

    def __len__(self) -> int:
        return len(self.lengths)


def build_windows(data: Asked, context: int) -> Windows:
    """Group the snapshots of a table into windows; the columns do it, not a loop."""
    customer = data.snapshots["customer_index"].to_numpy(np.int64)
    ends = data.snapshots["end"].to_numpy(np.int64)
    starts = window_start(ends, context)
    order = np.lexsort((ends, starts, customer))
    customer, ends, starts = customer[order], ends[order], starts[order]
    new = np.ones(len(order), bool)
    new[1:] = (customer[1:] != customer[:-1]) | (starts[1:] != starts[:-1])
    first = np.flatnonzero(new)
    bounds = np.append(first, len(order))
    longest = ends[bounds[1:] - 1]  # ends ascend within a window
    return Windows(
        first_token=data.store.offsets[customer[first]] + starts[first],
        lengths=longest - starts[first],
        bounds=bounds,
        order=order,
        starts=starts[first],
    )


def targets_of(snapshots: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the labels, weights and values of a batch for every snapshot, (n,) float32 each."""
    labels, weights = (snapshots[name].to_numpy(np.float32) for name in ("label", "weight"))
    more = [name for name in ("value", "interval") if name in snapshots]
    values = snapshots[more[0]].to_numpy(np.float32) if more else np.zeros_like(labels)
    return labels, weights, values


class Collator:
    """Window numbers → padded batch, gathered from the memory-mapped store."""

    def __init__(self, data: Asked, windows: Windows):
        self._windows = windows
        self._store = data.store
        self._maps = data.tokenizer.code_maps(data.store.dictionaries)
        self._fields = [
            data.store.categorical_fields.index(f) for f in data.tokenizer.categorical_fields
        ]
        self._ends = data.snapshots["end"].to_numpy(np.int64)
        cutoff = data.snapshots["cutoff"].dt.tz_convert(None)
        self._cutoffs = cutoff.to_numpy("datetime64[us]").astype(np.int64)
        self._labels, self._weights, self._values = targets_of(data.snapshots)

    def __call__(self, chosen: Sequence[int]) -> Batch:
        """Build one batch."""
        w = self._windows
        which = np.asarray(chosen, np.int64)
        lengths = w.lengths[which]
        steps = np.arange(max(1, int(lengths.max(initial=0))))
        real = steps < lengths[:, None]  # (B, T)
        rows = np.where(real, w.first_token[which][:, None] + steps, 0)
        if len(self._store.times) == 0:  # only customers without any token
            shape = (*rows.shape, len(self._fields))
            codes = np.full(shape, -1, np.int32)
            numeric = np.full((*rows.shape, self._store.numeric.shape[1]), np.nan, np.float32)
            times = np.zeros(rows.shape, np.int64)
        else:
            codes = self._store.categorical[rows]  # (B, T, fields of the store)
            numeric = np.array(self._store.numeric[rows])
            times = self._store.times[rows, 0]
        categorical = np.stack(
            [mapping[codes[..., f]] for f, mapping in zip(self._fields, self._maps, strict=True)],
            axis=-1,
        )
        categorical[~real] = PADDING
        numeric[~real] = np.nan
        counts = w.bounds[which + 1] - w.bounds[which]
        slots = np.arange(int(counts.max()))
        asked = slots < counts[:, None]  # (B, S)
        snapshot = np.where(asked, w.order[np.where(asked, w.bounds[which][:, None] + slots, 0)], 0)
        ends = np.where(asked, self._ends[snapshot] - w.starts[which][:, None], 0)
        return Batch(
            categorical=torch.from_numpy(categorical),
            numeric=torch.from_numpy(numeric),
            times=torch.from_numpy(np.where(real, times, 0)),
            ends=torch.from_numpy(ends),
            cutoffs=torch.from_numpy(self._cutoffs[snapshot]),
            labels=torch.from_numpy(np.where(asked, self._labels[snapshot], np.float32(0))),
            weights=torch.from_numpy(np.where(asked, self._weights[snapshot], np.float32(0))),
            rows=torch.from_numpy(np.where(asked, snapshot, -1)),
            values=torch.from_numpy(np.where(asked, self._values[snapshot], np.float32(0))),
        )


def plan_batches(lengths: np.ndarray, snapshots: np.ndarray, budget: int) -> np.ndarray:
    """Return where to cut windows, sorted by size, so that a batch keeps to a token budget.

    Args:
        lengths: (W,) tokens of each window, in ascending order of size.
        snapshots: (W,) snapshot tokens of each window, in the same order.
        budget: most tokens of a batch, padding included; a longer window is a batch alone.

    Returns:
        (batches + 1,) bounds.
    """
    bounds = [0]
    total = len(lengths)
    while bounds[-1] < total:
        start = bounds[-1]
        # Sizes ascend, so the first window's size bounds how many can fit.
        most = budget // max(1, int(lengths[start] + snapshots[start])) + 1
        stop = min(total, start + most)
        tallest = np.maximum.accumulate(lengths[start:stop])
        fullest = np.maximum.accumulate(snapshots[start:stop])
        fits = (tallest + fullest) * np.arange(1, stop - start + 1) <= budget
        bounds.append(start + max(1, int(fits.sum())))
    return np.array(bounds)


class BucketBatchSampler:
    """Length-bucketed batches of window numbers, a new order each epoch, resumable.

    Sizes get a little noise each epoch, so that who meets whom varies while the number of
    batches stays (a batch may then exceed its budget by that much). The order depends on seed
    and epoch alone. With several processes each takes every `world`-th batch; in training the
    first ones repeat at the end so that all processes have equally many.
    """

    def __init__(
        self, windows: Windows, budget: int, seed: int | None, rank: int = 0, world: int = 1
    ):
        snapshots = np.diff(windows.bounds)
        self._size = windows.lengths + snapshots
        order = np.argsort(self._size, kind="stable")
        self._bounds = plan_batches(windows.lengths[order], snapshots[order], budget)
        self._seed, self._rank, self._world = seed, rank, world
        self.epoch = -1
        self._position = 0
        self._resuming = False

    def _batches(self, epoch: int) -> list[np.ndarray]:
        if self._seed is None:  # evaluation: fixed order, every window exactly once
            order = np.argsort(self._size, kind="stable")
            batches = np.split(order, self._bounds)[1:-1]
            return batches[self._rank :: self._world]
        rng = np.random.default_rng([self._seed, epoch])
        order = np.argsort(self._size * rng.uniform(0.9, 1.1, len(self._size)), kind="stable")
        batches = np.split(order, self._bounds)[1:-1]
        batches = [batches[i] for i in rng.permutation(len(batches))]
        batches += batches[: -len(batches) % self._world]
        return batches[self._rank :: self._world]

    def __len__(self) -> int:
        batches = len(self._bounds) - 1
        if self._seed is None:
            return len(range(self._rank, batches, self._world))
        return -(-batches // self._world)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield one epoch; after `load_state_dict`, the rest of the interrupted one."""
        if self._resuming:
            self._resuming = False
        else:
            self.epoch, self._position = self.epoch + 1, 0
        for batch in self._batches(self.epoch)[self._position :]:
            self._position += 1
            yield batch.tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler stands."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self._position = state["epoch"], state["position"]
        self._resuming = True
