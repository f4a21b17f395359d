"""What learns in the training benchmark: a model with our training's step, and no Lightning.

A step is forward, backward, clipping, AdamW and the average of the weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from useful_operations import forward_flops, real_tokens  # type: ignore[import-not-found]

from seqjourney.config import NetworkConfig
from seqjourney.models.head import BinaryHead, weighted_loss
from seqjourney.models.model import JourneyModel
from seqjourney.models.training import JourneyTraining
from seqjourney.sequences.batching import Batch, BucketBatchSampler, Collator, Windows
from seqjourney.sequences.task_data import TaskData

GRADIENT_CLIP = 1.0
FUSED, BF16 = SWITCHES = "fused AdamW", "bf16 autocast"


@dataclass(frozen=True)
class Measured:
    """One arm in one round."""

    seconds: float
    loading: float
    batches: int
    labels: int
    events: int
    tokens: int  # event and snapshot tokens
    slots: int  # the same with padding
    flops: float


class Arm:
    """A model that learns from windows; two arms differ in their windows or in one switch."""

    def __init__(
        self,
        data: TaskData,
        config: NetworkConfig,
        windows: Windows,
        switch: str | None = None,
        device: str = "cpu",
    ):
        torch.manual_seed(0)
        self._device, self._bf16 = device, switch == BF16
        self._config = config
        base_rate = float(data.snapshots["label"].mean())
        self._batches = list(BucketBatchSampler(windows, config.batch_tokens, seed=None))
        batch_weight = float(data.snapshots["weight"].sum()) / len(self._batches)
        self.model = JourneyModel(config, data.tokenizer, BinaryHead(base_rate))
        self._training = JourneyTraining(self.model, config, batch_weight).to(device)
        optimisation = self._training.configure_optimizers()
        self._optimizer = optimisation["optimizer"]
        for group in self._optimizer.param_groups:
            group["fused"] = True if switch == FUSED else None  # None: as PyTorch would
        self._schedule = optimisation["lr_scheduler"]["scheduler"]
        self._collate = Collator(data, windows)

    def run(self, turn: int, count: int) -> Measured:
        """Train on about `count` batches that cover all sizes; another turn takes others."""
        stride = max(1, len(self._batches) // count)
        chosen = self._batches[turn % stride :: stride][: count + 1]
        tokens = slots = labels = events = 0
        loading = flops = 0.0
        start = time.perf_counter()
        counting = 0.0
        for windows in chosen:
            before = time.perf_counter()
            batch = self._collate(windows)
            loading += time.perf_counter() - before
            self.step(batch)
            before = time.perf_counter()
            known, asked = real_tokens(batch)
            labels, events = labels + int(asked.sum()), events + int(known.sum())
            tokens += int(asked.sum() + known.sum())
            slots += batch.times.numel() + batch.ends.numel()
            flops += 3 * forward_flops(self.model, self._config, batch)
            counting += time.perf_counter() - before
        seconds = time.perf_counter() - start - counting
        return Measured(seconds, loading, len(chosen), labels, events, tokens, slots, flops)

    def step(self, batch: Batch) -> None:
        """Learn from a batch, which may lie elsewhere than the model."""
        model, batch = self.model, batch.to(self._device)
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
            logits = model.each(*batch.inputs)
        loss = weighted_loss(logits, batch) * len(model.members)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        self._optimizer.step()
        self._schedule.step()
        self._training.averaged.update_parameters(model)
