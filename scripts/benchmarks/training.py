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

Where CUDA is at hand, `training_cuda` measures larger networks on it, too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
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
from training_arm import SWITCHES, Arm, Measured  # type: ignore[import-not-found]
from training_cuda import CUDA_NOTE, FULL, QUICK, measure_device  # type: ignore[import-not-found]
from useful_operations import gemm_rate  # type: ignore[import-not-found]

from seqjourney.config import (
    DataConfig,
    GRUConfig,
    NetworkConfig,
    TaskConfig,
    TransformerConfig,
    parse,
)
from seqjourney.sequences.batching import Windows, build_windows, window_start
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


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    torch.set_num_threads(chosen.threads)
    customers, rounds, batches = (200, 2, 3) if chosen.quick else (5_000, 9, 60)
    figures: dict[str, Figure] = {}
    rows: list[dict[str, Any]] = []
    with scratch() as folder:
        data = _prepare(folder, customers, chosen)
        if torch.cuda.is_available():
            figures, rows = measure_device(data, QUICK if chosen.quick else FULL, "cuda")
        for kind in ("gru", "transformer"):
            _compare(data, kind, rounds, batches, figures, rows)
    note = NOTE.format(pairs=rounds) + CUDA_NOTE * torch.cuda.is_available()
    write_results("training", chosen, figures, rows, note)


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


if __name__ == "__main__":
    main()
