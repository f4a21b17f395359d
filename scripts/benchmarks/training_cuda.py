"""How well training uses a CUDA device: what the benchmark `training` measures where there is one.

A transformer of about 10 and one of about 100 million parameters in bf16 autocast, and the default
GRU in float32, which cuDNN takes in every version (as TF32 where PyTorch lets it; bf16 from 9.13
on: PyTorch's pull request 164411). They learn from full windows of 512 events with our training's
step, through our loader.

`mfu_*`, the model FLOPs utilisation of PaLM (Chowdhery et al. 2022, appendix B): event tokens per
second, times the model FLOPs of a token (`flops_per_token`: 6 N + 12 L H Q T, attention halved as
it is causal, less what our last layer leaves out), by the peak FLOPs per second. The peak is no
data sheet's but that of a large bf16 matrix product on the same device, measured before each
round, which is lower; so the share is higher than by a data sheet.

`loader_wait_share` of the rows is the time in the loader's `next` by all time. The device goes on
meanwhile with what it was given, so that it waits at most so long.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from record import Figure, load_config, paired_ratio  # type: ignore[import-not-found]
from training_arm import BF16, Arm  # type: ignore[import-not-found]
from useful_operations import (  # type: ignore[import-not-found]
    flops_per_token,
    gemm_rate,
    wait_for,
)

from seqjourney.config import GRUConfig, NetworkConfig, TransformerConfig, parse
from seqjourney.sequences.batching import Batch, build_windows
from seqjourney.sequences.datamodule import window_loader
from seqjourney.sequences.task_data import TaskData

CUDA_NOTE = """

On the CUDA device: `mfu_*`, model FLOPs per second (PaLM's 6 N + 12 L H Q T a token, attention
halved because it is causal, without what the last layer leaves out) of transformers of about 10 and
100 million parameters in bf16 on full windows of 512 events, by the FLOPs per second of a large
bf16 `torch.mm` on the same device. Events are the tokens. `loader_wait_share`: time in the loader's
`next` by all time, the most that the device can have waited for it."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    models: dict[str, tuple[str, ...]]
    """Overrides of `train`'s configuration by name."""
    length: int = 512
    """Events of every window."""
    snapshots: int = 8
    """Asked of every window."""
    windows: int = 32
    """Of a batch."""
    batches: int = 30
    """Of a round; the first round warms up and does not count."""
    rounds: int = 5
    gemm: int = 8192
    """Side of the matrices whose product is the peak."""


FULL = Plan(
    models={
        "transformer_10m": (
            "model=transformer",
            "model.width=384",
            "model.layers=6",
            "model.heads=6",
        ),
        "transformer_100m": (
            "model=transformer",
            "model.width=1024",
            "model.layers=8",
            "model.heads=16",
        ),
        "gru": ("model=gru",),
    }
)
QUICK = replace(FULL, batches=3, rounds=2)


@dataclass(frozen=True)
class Round:
    """What one round took."""

    seconds: float
    waited: float
    batches: int
    labels: int
    events: int


def measure_device(
    data: TaskData, plan: Plan, device: str
) -> tuple[dict[str, Figure], list[dict[str, Any]]]:
    """Measure every model of a plan on a device; float32 throughout where it is no CUDA."""
    figures: dict[str, Figure] = {}
    rows: list[dict[str, Any]] = []
    long = long_histories(data, plan)
    half = torch.bfloat16 if device == "cuda" else torch.float32
    for name, overrides in plan.models.items():
        config = configured(plan, overrides)
        loader = window_loader(
            long,
            context=plan.length,
            batch_tokens=config.batch_tokens,
            seed=0,
            pin=device == "cuda",
        )
        attends = isinstance(config, TransformerConfig)
        switch = BF16 if attends and half == torch.bfloat16 else None
        arm = Arm(long, config, build_windows(long, plan.length), switch, device)
        gemm_rate(plan.gemm, 50, device, half)
        _run(arm, loader, device)
        peaks, runs = [], []
        for _ in range(plan.rounds):
            peaks.append(gemm_rate(plan.gemm, 50, device, half))
            runs.append(_run(arm, loader, device))
        model = arm.model
        row = _row(name, device, switch or "float32", runs)
        row["parameters"] = sum(weight.numel() for weight in model.parameters())
        if isinstance(config, TransformerConfig):
            features = model.members[0].embedding.project_event.in_features
            flops = flops_per_token(config, features, plan.length)
            useful = [flops * run.events / run.seconds for run in runs]
            row |= {
                "useful_gflops": round(median(useful) / 1e9, 2),
                "gemm_gflops": round(median(peaks) / 1e9, 1),
            }
            figures[f"mfu_{name}"] = paired_ratio(
                useful, peaks, f"share of the device's {str(half)[6:]} matrix product"
            )
        rows.append(row)
    return figures, rows


def configured(plan: Plan, overrides: tuple[str, ...]) -> NetworkConfig:
    """Return a model of a plan."""
    budget = plan.windows * (plan.length + plan.snapshots)
    own = (f"model.context={plan.length}", f"model.batch_tokens={budget}")
    content = load_config("train", "experiment=demo", *overrides, *own)["model"]
    config: NetworkConfig = (
        parse(GRUConfig, content, "model")
        if content["kind"] == "gru"
        else parse(TransformerConfig, content, "model")
    )
    return config


def long_histories(data: TaskData, plan: Plan) -> TaskData:
    """Return customers enough for a round, each with a full window of events drawn from `data`.

    Their events are evenly spread over as long as training's history; each is asked at evenly
    spread cutoffs, the last after all of them. They lie in memory.
    """
    random = np.random.default_rng(0)
    store, length = data.store, plan.length
    customers = plan.windows * plan.batches
    chosen = random.integers(0, len(store.times), customers * length)
    step = data.tokenizer.history_us // length
    at = int(store.times[:, 0].min()) + step * np.arange(length)
    ids = np.array([f"customer {number}" for number in range(customers)], object)
    ends = length * np.arange(1, plan.snapshots + 1) // plan.snapshots
    asked = customers * plan.snapshots
    snapshots = pd.DataFrame(
        {
            "customer_id": np.repeat(ids, plan.snapshots),
            "customer_index": np.repeat(np.arange(customers), plan.snapshots),
            "cutoff": pd.to_datetime(np.tile(at[ends - 1], customers), unit="us", utc=True),
            "end": np.tile(ends, customers),
            "split": "train",
            "label": random.integers(0, 2, asked).astype(np.int8),
            "weight": 1.0,
        }
    )
    drawn = replace(
        store,
        customer_ids=ids,
        offsets=length * np.arange(customers + 1),
        categorical=store.categorical[chosen],
        numeric=store.numeric[chosen],
        times=np.tile(at[:, None], (customers, 2)),
    )
    return replace(data, store=drawn, snapshots=snapshots)


def _run(arm: Arm, loader: Iterable[Batch], device: str) -> Round:
    """Learn from all batches of a loader; no window is padded, so that sizes are counts."""
    waited, batches, labels, events = 0.0, 0, 0, 0
    wait_for(device)
    start = time.perf_counter()
    coming = iter(loader)
    while True:
        before = time.perf_counter()
        batch = next(coming, None)
        waited += time.perf_counter() - before
        if batch is None:
            break
        arm.step(batch)
        batches += 1
        labels, events = labels + batch.ends.numel(), events + batch.times.numel()
    wait_for(device)
    return Round(time.perf_counter() - start, waited, batches, labels, events)


def _row(name: str, device: str, precision: str, runs: list[Round]) -> dict[str, Any]:
    def total(field: str) -> float:
        return sum(getattr(run, field) for run in runs)

    seconds = total("seconds")
    return {
        "model": name,
        "arm": precision,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "batches": int(total("batches")),
        "labels_per_second": round(total("labels") / seconds),
        "events_per_second": round(total("events") / seconds),
        "step_ms": round(1000 * seconds / total("batches"), 1),
        "loader_wait_share": round(total("waited") / seconds, 4),
    }
