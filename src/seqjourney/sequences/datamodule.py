"""Task data → loaders for Lightning: bucketed batches that resume exactly where they stopped."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from seqjourney.sequences.batching import Batch, BucketBatchSampler, Collator, build_windows
from seqjourney.sequences.task_data import Asked


class _WindowNumbers(Dataset):
    """The collator does the work; the data set only passes window numbers on."""

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index


def window_loader(
    data: Asked,
    *,
    context: int,
    batch_tokens: int,
    seed: int | None,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> StatefulDataLoader:
    """Return a loader over all windows of the data's snapshots.

    Args:
        data: only the snapshots that are wanted (see `TaskData.of`).
        context: most recent tokens that a snapshot sees.
        batch_tokens: token budget of a batch.
        seed: shuffles; None keeps one order and every window exactly once.
        workers: processes that build batches.
        rank, world: this process and the number of processes.
        pin: pin memory for a GPU.
    """
    windows = build_windows(data, context)
    return StatefulDataLoader(
        _WindowNumbers(len(windows)),
        batch_sampler=BucketBatchSampler(windows, batch_tokens, seed, rank, world),
        collate_fn=Collator(data, windows),
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        # Loaders draw seeds for their workers; dropout's numbers must not depend on how often.
        generator=torch.Generator().manual_seed(0),
    )


class JourneyDataModule(pl.LightningDataModule):
    """Training and validation loaders of one task."""

    def __init__(self, data: Asked, *, context: int, batch_tokens: int, seed: int, workers: int):
        super().__init__()
        self._train, self._validation = data.of("train"), data.of("validation")
        self._options: dict[str, Any] = {
            "context": context,
            "batch_tokens": batch_tokens,
            "workers": workers,
        }
        self._seed = seed

    def _process(self) -> dict[str, Any]:
        trainer = self.trainer
        if trainer is None:
            return {}
        cuda = trainer.strategy.root_device.type == "cuda"
        return {"rank": trainer.global_rank, "world": trainer.world_size, "pin": cuda}

    def mean_batch_weight(self) -> float:
        """Return the mean over training batches of the weight of their snapshots."""
        return float(self._train.snapshots["weight"].sum()) / max(1, self.training_batches())

    def training_batches(self, world: int = 1) -> int:
        """Return how many batches of an epoch each of `world` processes learns from."""
        windows = build_windows(self._train, self._options["context"])
        budget = self._options["batch_tokens"]
        return len(BucketBatchSampler(windows, budget, self._seed, world=world))

    def train_dataloader(self) -> StatefulDataLoader:
        """Shuffled anew each epoch, by seed and epoch alone."""
        return window_loader(self._train, seed=self._seed, **self._options, **self._process())

    def val_dataloader(self) -> StatefulDataLoader:
        """Every validation snapshot exactly once."""
        return window_loader(self._validation, seed=None, **self._options, **self._process())

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        """Move a batch, which is our own class, to the device."""
        return batch.to(device)
