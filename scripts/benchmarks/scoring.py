"""How fast a trained run scores customers in bulk, and how fast each back end answers.

`customers_per_second`: customers of the simulated shop scored by `scripts/score.py`'s function with
a GRU of the default settings, from the opened run to the last shard on disk: loading, network,
calibration and writing.

`restart_repeats`: shards that were finished when a scoring process was killed (SIGKILL) and that
the next one made again nonetheless. It should be 0.

`speedup_over_ptls`: customers per second of that function by those of pytorch-lifestream 0.6.0's
`InferenceModule`, both with a GRU, on the log of the benchmark `throughput` and as there.

The rows are the latency of each back end on batches of 1, 32 and 256 customers with histories as
the shop has them: the network alone, batch in, scores out, in turn within one process.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
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
    scratch,
    write_results,
)
from throughput_stages import FULL, QUICK, Stages  # type: ignore[import-not-found]

from seqjourney.config import Config, DataConfig, parse
from seqjourney.errors import ConfigError
from seqjourney.models.network import NetworkPredictor
from seqjourney.sequences.batching import Batch, Collator, build_windows
from seqjourney.sequences.store import open_store
from seqjourney.sequences.task_data import TaskData
from seqjourney.serving.backends import FORMATS, open_program
from seqjourney.serving.tokens import moment_us, snapshots_of

NOTE = """`customers_per_second`: customers of the simulated shop scored in bulk with a GRU of the
default settings, from opening the run to the last shard on disk; median, lowest and highest of
{rounds} rounds. `restart_repeats`: finished shards that were made again after a scoring process had
been killed. `speedup_over_ptls`: customers per second, ours by those of pytorch-lifestream 0.6.0
with a GRU of the same size on records in memory, as in the benchmark `throughput`. Rows:
milliseconds from a batch to its scores, the network alone, all back ends in turn on the same
batches; `ratio` is the median of a back end's calls by that of the eager network's."""
BATCHES = (1, 32, 256)
RESTARTED = """
import sys
from pathlib import Path
from seqjourney.commands.score import score
from seqjourney.serving import bulk
bulk.MOST_CUSTOMERS = int(sys.argv[3])
print(score(Path(sys.argv[1]), output=Path(sys.argv[2]), threads=1, progress=False).made)
"""


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    torch.set_num_threads(chosen.threads)
    customers, rounds, calls = (300, 2, 10) if chosen.quick else (100_000, 5, 200)
    kinds = ("gru",) if chosen.quick else ("gru", "transformer")
    rows: list[dict[str, Any]] = []
    with scratch() as folder, redirect_stdout(io.StringIO()):
        runs = {kind: _train(kind, folder, customers, chosen) for kind in kinds}
        speeds = [_customers_per_second(runs["gru"], folder, chosen) for _ in range(rounds)]
        repeats = _repeats(runs["gru"], folder / "killed", max(1, customers // 20))
        for kind, run in runs.items():
            rows += _latencies(kind, run, folder, calls)
        over_ptls = _over_ptls(folder / "ptls", chosen)
    figures = {
        "customers_per_second": Figure(
            median(speeds), min(speeds), max(speeds), "customers per second"
        ),
        "restart_repeats": Figure(repeats, repeats, repeats, "shards"),
        **over_ptls,
    }
    write_results("scoring", chosen, figures, rows, NOTE.format(rounds=rounds))


def _train(kind: str, folder: Path, customers: int, chosen: Options) -> Path:
    """Return a run on the simulated shop, trained for a moment: weights do not matter here."""
    from seqjourney.commands.prepare import prepare
    from seqjourney.commands.train import train
    from seqjourney.simulation import ShopConfig, write_shop

    if not (folder / "demo").exists():
        raw = write_shop(ShopConfig(customers=customers), folder / "raw")
        content = load_config("prepare", "data=demo", f"data.path={raw}")["data"]
        prepare(parse(DataConfig, content | {"tasks": []}, "data"), folder, progress=False)
    content = load_config(
        "train", "experiment=demo", f"model={kind}", "trainer=fast", "trainer.limit_batches=1",
        f"data.path={folder / 'raw'}", f"processed={folder}", f"output={folder / 'outputs'}",
        f"trainer.threads={chosen.threads}",
    )  # fmt: skip
    return train(parse(Config, content, "train")).folder


def _customers_per_second(run: Path, folder: Path, chosen: Options) -> float:
    from tempfile import TemporaryDirectory

    from seqjourney.commands.score import score

    with TemporaryDirectory(dir=folder) as output:
        start = time.perf_counter()
        scored = score(run, output=Path(output) / "scores", threads=chosen.threads, progress=False)
        return float(scored.customers / (time.perf_counter() - start))


def _over_ptls(folder: Path, chosen: Options) -> dict[str, Figure]:
    """Compare with pytorch-lifestream; a quick run only where it is installed already."""
    folder.mkdir()
    plan = QUICK if chosen.quick else FULL
    stages = Stages(plan, folder, chosen.threads, install=not chosen.quick)
    try:
        stages.score()
    finally:
        stages.close()
    figure = stages.figures.get("scoring_speedup_over_ptls")
    return {} if figure is None else {"speedup_over_ptls": figure}


def _repeats(run: Path, output: Path, customers_per_shard: int) -> int:
    """Kill a scoring process between its shards, run it again, and count what was made twice."""
    command = [sys.executable, "-c", RESTARTED, str(run), str(output), str(customers_per_shard)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while killed.poll() is None and len(list(output.glob("shard-*.parquet"))) < 3:
        time.sleep(0.001)
    killed.kill()
    _, error = killed.communicate()
    before = {file: file.stat().st_ino for file in output.glob("shard-*.parquet")}
    if len(before) < 3:
        raise SystemExit(f"the process that was to be killed ended by itself: {error.decode()}")
    subprocess.run(command, check=True, capture_output=True)
    return sum(file.stat().st_ino != number for file, number in before.items())


def _latencies(kind: str, run: Path, folder: Path, calls: int) -> list[dict[str, Any]]:
    """Measure a network's back ends in turn."""
    network = NetworkPredictor.load(run)
    assert network.model is not None
    programs: dict[str, Callable[..., Any]] = {"eager": network.model}
    for backend in FORMATS:
        if (kind, backend) == ("gru", "torch_export"):
            continue  # refused, after a long try: it would take one length only
        program = _program(run, backend)
        if program is not None:
            programs[backend] = program
    batches = {size: _batch(network, folder / "demo", size) for size in BATCHES}
    spent: dict[tuple[str, int], list[float]] = {}
    with torch.inference_mode():
        for call in range(-3, calls):  # the first ones warm up
            for size, batch in batches.items():
                for name, program in programs.items():
                    start = time.perf_counter()
                    program(*batch.inputs)
                    if call >= 0:
                        spent.setdefault((name, size), []).append(time.perf_counter() - start)
    return [
        {
            "model": kind,
            "backend": name,
            "batch": size,
            "longest": batches[size].times.shape[1],
            "p50_ms": round(1000 * median(seconds), 3),
            "p99_ms": round(1000 * _p99(seconds), 3),
            "ratio": round(median(seconds) / median(spent["eager", size]), 3),
        }
        for (name, size), seconds in spent.items()
    ]


def _program(run: Path, backend: str) -> Any:
    """Export a run; None where the back end is not installed."""
    from seqjourney.commands.export import export

    try:
        return open_program(export(run, kind=backend))[0]
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None


def _batch(network: NetworkPredictor, prepared: Path, size: int) -> Batch:
    """Return a batch of so many customers, asked now; drawn with a fixed seed."""
    store = open_store(prepared / "store")
    snapshots = snapshots_of(store, moment_us(store, None), 0, len(store.customer_ids))
    drawn = snapshots.sample(size, random_state=0).reset_index(drop=True)
    assert network.tokenizer is not None
    data = TaskData(None, None, store, network.tokenizer, drawn)  # type: ignore[arg-type]
    windows = build_windows(data, network.config.context)
    return Collator(data, windows)(range(size))


def _p99(seconds: Sequence[float]) -> float:
    return float(np.quantile(seconds, 0.99))


if __name__ == "__main__":
    main()
