"""Our side of the throughput benchmark, and the bare references on our shapes.

Every function is one work, done in a process of its own (`throughput_process`): what it imports is
not measured, what it returns are seconds and counts.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from record import load_config  # type: ignore[import-not-found]  # its folder is sys.path[0]
from throughput_process import answer  # type: ignore[import-not-found]

Measured = dict[str, float]
CATEGORIES = ("event", "actor", "channel", "device", "country", "page_type")
VALIDATION_SNAPSHOTS = 100
"""So few that what follows the measured training takes no time."""


def prepare(data: dict[str, Any], processed: str) -> Measured:
    """Run the whole of `prepare` on one table."""
    import ibis.backends.duckdb  # noqa: F401 - what a process imports is not what we measure
    import pandas  # noqa: F401
    import rich.console  # noqa: F401

    from seqjourney.commands.prepare import prepare
    from seqjourney.config import DataConfig, parse

    config = parse(DataConfig, data, "data")
    with redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        prepare(config, Path(processed), progress=False)
    return {"seconds": time.perf_counter() - start}


def bare_prepare(data: dict[str, Any], file: str) -> Measured:
    """Encode, sort and write the same columns with bare DuckDB: categories become codes."""
    import duckdb

    log = f"read_parquet('{data['path']}')"
    codes = ", ".join(f"enum_code({name}::word_{name}) AS {name}" for name in CATEGORIES)
    start = time.perf_counter()
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {data['threads']}")
        connection.execute(f"SET memory_limit = '{data['memory_limit']}'")
        connection.execute(f"SET temp_directory = '{file}.spill'")
        for name in CATEGORIES:
            words = f"SELECT DISTINCT {name} FROM {log} WHERE {name} IS NOT NULL ORDER BY 1"
            connection.execute(f"CREATE TYPE word_{name} AS ENUM ({words})")
        connection.execute(
            f"COPY (SELECT * REPLACE ({codes}) FROM {log} "
            "ORDER BY customer_id, timestamp, event_id) "
            f"TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
        )
    return {"seconds": time.perf_counter() - start}


def cut(prepared: str, task: dict[str, Any]) -> Measured:
    """Cut the snapshots of a task and fit its tokenizer."""
    import pandas  # noqa: F401

    start = time.perf_counter()
    with open_task_data(prepared, task) as data:
        return {"seconds": time.perf_counter() - start, "labels": len(data.snapshots)}


def features(prepared: str, task: dict[str, Any]) -> Measured:
    """Compute what the baselines learn from."""
    from seqjourney.baselines.training_table import training_tables

    with open_task_data(prepared, task) as data:
        start = time.perf_counter()
        _, train, validation = training_tables(data)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "labels": len(train.labels) + len(validation.labels)}


def train(
    prepared: str,
    task: dict[str, Any],
    model: dict[str, Any],
    threads: int,
    warm_up: int,
    batches: int | None,
) -> Measured:
    """Train as `scripts/train.py` does, Lightning and all, and watch.

    Counted is from the end of batch `warm_up` (0: from the start) to the end of the last one, of
    an epoch or of so many `batches`, with logging, averaged weights and checkpoints; validation is
    not.
    """
    from torchdata.stateful_dataloader import StatefulDataLoader

    from seqjourney.config import TrainerConfig
    from seqjourney.models.network import NetworkPredictor
    from seqjourney.models.training import JourneyTraining

    clock = Clock(warm_up)
    load = StatefulDataLoader.__iter__

    def started(_training: Any) -> None:
        clock.start()

    def batch_ended(_training: Any, _outputs: Any, batch: Any, _number: int) -> None:
        clock.batch_ended(batch)

    def timed_loading(loader: Any) -> Iterator[Any]:
        batches = load(loader)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            clock.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    trainer = TrainerConfig(
        max_epochs=1, limit_batches=batches, threads=threads, accelerator="cpu", progress=False
    )
    with (
        open_task_data(prepared, task) as data,
        TemporaryDirectory() as folder,
        mock.patch.object(JourneyTraining, "on_train_start", started),
        mock.patch.object(JourneyTraining, "on_train_batch_end", batch_ended),
        mock.patch.object(StatefulDataLoader, "__iter__", timed_loading),
    ):
        snapshots = data.snapshots
        validation = snapshots.index[snapshots["split"] == "validation"]
        few = snapshots.drop(validation[VALIDATION_SNAPSHOTS:]).reset_index(drop=True)
        predictor = NetworkPredictor(network_config(model))
        predictor.fit(replace(data, snapshots=few), trainer, 0, Path(folder))
    return clock.measured()


class Clock:
    """Time and counts of training after its first batches."""

    def __init__(self, warm_up: int) -> None:
        self.waited = 0.0
        """In the loader, so far."""
        self._warm_up, self._batches = warm_up, 0
        self._start = self._end = self._waited_before = self._waited = 0.0
        self._events = self._labels = 0

    def start(self) -> None:
        """Count from here."""
        self._start, self._waited_before = time.perf_counter(), self.waited

    def batch_ended(self, batch: Any) -> None:
        """Count one batch."""
        self._end, self._batches = time.perf_counter(), self._batches + 1
        if self._batches == self._warm_up:
            self.start()
        if self._batches > self._warm_up:
            events, labels = counts(batch)
            self._events, self._labels = self._events + events, self._labels + labels
            self._waited = self.waited - self._waited_before

    def measured(self) -> Measured:
        """Return what was measured.

        Raises:
            ValueError: no batch came after the warm-up.
        """
        if self._batches <= self._warm_up:
            raise ValueError(f"{self._batches} batches are too few to measure; take more events.")
        return {
            "seconds": self._end - self._start,
            "events": self._events,
            "labels": self._labels,
            "waited": self._waited,
        }


def counts(batch: Any) -> tuple[int, int]:
    """Return the events and the snapshots of a batch without padding."""
    return int((batch.categorical[..., 0] != 0).sum()), int((batch.rows >= 0).sum())


def bare_loop(
    prepared: str,
    task: dict[str, Any],
    model: dict[str, Any],
    threads: int,
    warm_up: int,
    batches: int,
) -> Measured:
    """Train the same network on the same batches in a plain torch loop.

    The batches are in memory before; forward, loss, backward and a plain AdamW are all there is.
    """
    import torch
    from useful_operations import forward_flops, gemm_rate  # type: ignore[import-not-found]

    from seqjourney.models.head import BinaryHead, weighted_loss
    from seqjourney.models.model import JourneyModel
    from seqjourney.sequences.batching import BucketBatchSampler, Collator, build_windows

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = network_config(model)
    with open_task_data(prepared, task) as data:
        train = data.of("train")
        windows = build_windows(train, config.context)
        collate = Collator(train, windows)
        chosen = list(BucketBatchSampler(windows, config.batch_tokens, seed=0))[:batches]
        loaded = [collate(numbers) for numbers in chosen]
        head = BinaryHead(float(train.snapshots["label"].mean()))
        network = JourneyModel(config, data.tokenizer, head)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    for number, batch in enumerate(loaded):
        if number == warm_up:
            start = time.perf_counter()
        loss = weighted_loss(network.each(*batch.inputs), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    counted = loaded[warm_up:]
    return {
        "seconds": seconds,
        "events": sum(counts(batch)[0] for batch in counted),
        "labels": sum(counts(batch)[1] for batch in counted),
        "flops": sum(3 * forward_flops(network, config, batch) for batch in counted),
        "gemm": gemm_rate(),
    }


def make_run(log: str, folder: str, kind: str, threads: int) -> dict[str, Any]:
    """Train a run for a moment, on little data: weights do not matter to a speed."""
    from seqjourney.commands.prepare import prepare
    from seqjourney.commands.train import train
    from seqjourney.config import Config, DataConfig, parse

    overrides = [f"model={kind}", "trainer=fast", "trainer.limit_batches=1"]
    overrides += [f"trainer.threads={threads}", f"data.path={log}"]
    overrides += [f"processed={folder}", f"output={folder}/outputs"]
    content = load_config("train", "experiment=demo", *overrides)
    config = parse(Config, content, "train")
    with redirect_stdout(io.StringIO()):
        prepare(parse(DataConfig, content["data"], "data"), Path(folder), progress=False)
        return {"run": str(train(config).folder)}


def score(run: str, prepared: str, threads: int) -> Measured:
    """Score every customer of prepared data, from the saved run to the last shard on disk."""
    import pytorch_lightning  # noqa: F401 - what a process imports is not what we measure

    from seqjourney.commands.score import score

    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        scored = score(
            Path(run),
            prepared=Path(prepared),
            output=Path(folder) / "scores",
            threads=threads,
            progress=False,
        )
        return {"seconds": time.perf_counter() - start, "customers": scored.customers}


@contextmanager
def open_task_data(prepared: str, task: dict[str, Any]) -> Iterator[Any]:
    """Open prepared data for a task."""
    from seqjourney.config import TaskConfig, parse
    from seqjourney.events.engine import connect
    from seqjourney.sequences.cutting import load_task_data

    with TemporaryDirectory() as folder, connect(Path(folder)) as backend:
        yield load_task_data(backend, Path(prepared), parse(TaskConfig, task, "task"))


def network_config(model: dict[str, Any]) -> Any:
    from seqjourney.config import GRUConfig, TransformerConfig, parse

    return parse(GRUConfig if model["kind"] == "gru" else TransformerConfig, model, "model")


WORKS = {
    "prepare": prepare,
    "bare_prepare": bare_prepare,
    "cut": cut,
    "features": features,
    "train": train,
    "bare_loop": bare_loop,
    "make_run": make_run,
    "score": score,
}

if __name__ == "__main__":
    answer(WORKS)
