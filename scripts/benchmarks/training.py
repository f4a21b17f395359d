"""How well training uses the machine, and what one pass for all cutoffs of a customer saves.

Two figures per network, both on batches of the simulated shop with weekly training cutoffs (as the
Online Retail tasks have) and the default model settings; a step is loading, forward, backward,
clipping, AdamW and the average of the weights, all that our training does but Lightning's own loop.

`gemm_share_*`: useful floating-point operations per second of training by those of a 2048 x 2048
float32 matrix product. Useful means what the answers need (`forward_flops`): no padding, no
embedding look-ups, no element-wise work; forward and backward count three times forward.

`snapshot_token_speedup_*`: labels per second with all cutoffs of a customer in one pass by those
with one sequence per snapshot: the same model, sampler, collator and token budget, each snapshot
a window of its own.

`step_speedup_*`: the seconds of the one pass as we train by those with one switch turned: AdamW's
fused kernel or bf16 autocast. Whether a switch pays on a machine is read here.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from record import (  # type: ignore[import-not-found]  # its folder is sys.path[0]
    Figure,
    Options,
    load_config,
    options,
    paired_ratio,
    scratch,
    write_results,
)

from seqjourney.config import (
    DataConfig,
    GRUConfig,
    NetworkConfig,
    TaskConfig,
    TransformerConfig,
    parse,
)
from seqjourney.models.embedding import EventEmbedding
from seqjourney.models.model import JourneyModel
from seqjourney.models.training import JourneyTraining, weighted_loss
from seqjourney.sequences.batching import (
    Batch,
    BucketBatchSampler,
    Collator,
    Windows,
    build_windows,
    window_start,
)
from seqjourney.sequences.task_data import TaskData

NOTE = """`gemm_share_*`: useful floating-point operations per second of training (padding,
look-ups and element-wise work not counted; forward and backward as three times forward) by those
of a 2048 x 2048 float32 `torch.mm` on the same threads. `snapshot_token_speedup_*`: labels per
second of training with all weekly cutoffs of a customer in one pass by those with one sequence per
snapshot, loading and optimiser included, the same model, sampler and token budget. Medians over
{pairs} interleaved rounds (matrix product, one pass, one sequence per snapshot), each on other
batches that cover all sizes; low and high are the lowest and the highest round. The rows sum up
all rounds. `step_speedup_*`: seconds of the same batches as we train by those with one switch
turned (AdamW's fused kernel, bf16 autocast); below 1 it does not pay."""
GEMM = 2048
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


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    torch.set_num_threads(chosen.threads)
    customers, rounds, batches = (200, 2, 3) if chosen.quick else (5_000, 9, 60)
    figures: dict[str, Figure] = {}
    rows: list[dict[str, Any]] = []
    with scratch() as folder:
        data = _prepare(folder, customers, chosen)
        for kind in ("gru", "transformer"):
            _compare(data, kind, rounds, batches, figures, rows)
    write_results("training", chosen, figures, rows, NOTE.format(pairs=rounds))


def _prepare(folder: Path, customers: int, chosen: Options) -> TaskData:
    """Simulate a shop, prepare it and return its training snapshots."""
    from seqjourney.commands.prepare import prepare
    from seqjourney.events.engine import connect
    from seqjourney.sequences.cutting import load_task_data
    from seqjourney.simulation import ShopConfig, write_shop

    raw = write_shop(ShopConfig(customers=customers), folder / "raw")
    content = load_config("prepare", "data=demo", f"data.path={raw}")["data"]
    config = parse(DataConfig, content | {"tasks": []}, "data")
    weekly = "task.cutoffs.train.every=7d"
    task = parse(TaskConfig, load_config("train", "experiment=demo", weekly)["task"], "task")
    with redirect_stdout(io.StringIO()):
        prepared = prepare(config, folder, progress=False)
    with connect(folder, threads=chosen.threads) as backend:
        return load_task_data(backend, prepared, task).of("train")


def _compare(
    data: TaskData,
    kind: str,
    rounds: int,
    batches: int,
    figures: dict[str, Figure],
    rows: list[dict[str, Any]],
) -> None:
    """Measure one network's arms and the machine in turn."""
    content = load_config("train", "experiment=demo", f"model={kind}")["model"]
    config: NetworkConfig = (
        parse(GRUConfig, content, "model")
        if kind == "gru"
        else parse(TransformerConfig, content, "model")
    )
    windows = build_windows(data, config.context)
    arms = {
        "one pass": Arm(data, config, windows),
        "one sequence per snapshot": Arm(data, config, single_windows(data, config.context)),
    }
    arms |= {switch: Arm(data, config, windows, switch) for switch in SWITCHES}
    for arm in arms.values():
        arm.run(0, 3)  # warm up
    gemm_rate()
    peak: list[float] = []
    measured: dict[str, list[Measured]] = {name: [] for name in arms}
    for turn in range(rounds):
        peak.append(gemm_rate())
        for name, arm in arms.items():
            measured[name].append(arm.run(turn, batches))
    ours, single = measured["one pass"], measured["one sequence per snapshot"]
    figures[f"gemm_share_{kind}"] = paired_ratio(
        [m.flops / m.seconds for m in ours], peak, "share of the machine's float32 matrix product"
    )
    figures[f"snapshot_token_speedup_{kind}"] = paired_ratio(
        [m.labels / m.seconds for m in ours],
        [m.labels / m.seconds for m in single],
        "times the labels per second of one sequence per snapshot",
    )
    for switch in SWITCHES:
        figures[f"step_speedup_{switch.lower().replace(' ', '_')}_{kind}"] = paired_ratio(
            [m.seconds for m in ours],
            [m.seconds for m in measured[switch]],
            "times as fast as our training without the switch",
        )
    rows += [_row(kind, name, runs, median(peak)) for name, runs in measured.items()]


def _row(kind: str, arm: str, runs: Sequence[Measured], peak: float) -> dict[str, Any]:
    def total(field: str) -> float:
        return sum(getattr(run, field) for run in runs)

    seconds = total("seconds")
    return {
        "model": kind,
        "arm": arm,
        "batches": int(total("batches")),
        "labels_per_second": round(total("labels") / seconds),
        "events_per_second": round(total("events") / seconds),
        "step_ms": round(1000 * seconds / total("batches"), 1),
        "loading_share": round(total("loading") / seconds, 4),
        "padding_share": round(1 - total("tokens") / total("slots"), 4),
        "useful_gflops": round(total("flops") / seconds / 1e9, 2),
        "gemm_gflops": round(peak / 1e9, 1),
    }


class Arm:
    """A model that learns from windows; two arms differ in their windows or in one switch."""

    def __init__(
        self, data: TaskData, config: NetworkConfig, windows: Windows, switch: str | None = None
    ):
        torch.manual_seed(0)
        self._bf16 = switch == BF16
        self._config = config
        base_rate = float(data.snapshots["label"].mean())
        self._batches = list(BucketBatchSampler(windows, config.batch_tokens, seed=None))
        batch_weight = float(data.snapshots["weight"].sum()) / len(self._batches)
        model = JourneyModel(config, data.tokenizer, base_rate)
        self._training = JourneyTraining(model, config, batch_weight)
        optimisation = self._training.configure_optimizers()
        self._optimizer = optimisation["optimizer"]
        for group in self._optimizer.param_groups:
            group["fused"] = switch == FUSED
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
            self._step(batch)
            before = time.perf_counter()
            known, asked = real_tokens(batch)
            labels, events = labels + int(asked.sum()), events + int(known.sum())
            tokens += int(asked.sum() + known.sum())
            slots += batch.times.numel() + batch.ends.numel()
            flops += 3 * forward_flops(self._training.model, self._config, batch)
            counting += time.perf_counter() - before
        seconds = time.perf_counter() - start - counting
        return Measured(seconds, loading, len(chosen), labels, events, tokens, slots, flops)

    def _step(self, batch: Batch) -> None:
        model = self._training.model
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            logits = model.each(*batch.inputs)
        loss = weighted_loss(logits, batch) * len(model.members)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        self._optimizer.step()
        self._schedule.step()
        self._training.averaged.update_parameters(model)


def single_windows(data: TaskData, context: int) -> Windows:
    """Return one window per snapshot: what training without snapshot tokens would read."""
    ends = data.snapshots["end"].to_numpy(np.int64)
    starts = window_start(ends, context)
    customer = data.snapshots["customer_index"].to_numpy(np.int64)
    return Windows(
        first_token=data.store.offsets[customer] + starts,
        lengths=ends - starts,
        bounds=np.arange(len(ends) + 1),
        order=np.arange(len(ends)),
        starts=starts,
    )


def real_tokens(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return event tokens (B,) and snapshots (B,) of each window without padding."""
    return (batch.categorical[..., 0] != 0).sum(1), (batch.rows >= 0).sum(1)


def forward_flops(model: JourneyModel, config: NetworkConfig, batch: Batch) -> float:
    """Return the multiplications and additions that the answers to a batch need.

    With width D, E event tokens and S snapshots (real ones), a matrix of n x m costs 2nm a token:
    projection of numbers and time; per GRU layer 12 D^2 a token (three gates on input and state);
    per transformer layer 24 D^2 an event (queries, keys, values, output, feed-forward: 12 D^2
    weights), in the last layer 4 D^2 (keys and values alone), 20 D^2 a snapshot (no keys and
    values), and 4 D for each pair of a token and a key that it sees; head 4 D^2 + 2 D a snapshot.
    """
    d, layers = config.width, config.layers
    known, asked = real_tokens(batch)
    events, snapshots = int(known.sum()), int(asked.sum())
    embedding: EventEmbedding = model.members[0].embedding  # type: ignore[assignment]
    event_features = embedding.project_event.in_features
    snapshot_features = embedding.project_snapshot.in_features
    total = 2.0 * d * (event_features * events + snapshot_features * snapshots)
    total += (4 * d * d + 2 * d) * snapshots
    if isinstance(config, TransformerConfig):
        starts = len(known)  # a start token in front of each window
        pairs = float(((known + 1) * (known + 2) // 2).sum())
        seen = float((batch.ends + 1)[batch.rows >= 0].sum())
        total += (layers - 1) * (24 * d * d * (events + starts) + 4 * d * pairs)
        total += 4 * d * d * (events + starts)
        total += layers * (20 * d * d * snapshots + 4 * d * seen)
    else:
        total += layers * 12 * d * d * (events + snapshots)
    return total * len(model.members)


def gemm_rate(repeats: int = 5) -> float:
    """Return the floating-point operations per second of a large matrix product."""
    a, b = torch.randn(GEMM, GEMM), torch.randn(GEMM, GEMM)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, b)
    return 2.0 * GEMM**3 * repeats / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
