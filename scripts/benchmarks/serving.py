"""What a live score costs: into `seqjourney.Stream`, in process, on one core, and over HTTP.

GRU and transformer with their default settings, trained for a few epochs on the simulated shop
(how long an answer takes does not depend on what was learned). Made-up customers live through
events drawn from the shop's; each event past the 500th is timed, from the dictionary to the
score, beside what a server without state would do: the trained torch network over the last 500
events, already tokens, in one pass.

`stream_max_error` is the largest difference of log-odds between streaming and
`seqjourney.load(...).score` over the whole history, of all the shop's customers and the made-up
ones. The service's load test is `serving_load`.
"""

from __future__ import annotations

import io
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
from serving_load import measure_service  # type: ignore[import-not-found]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

import seqjourney
from seqjourney.serving.stream_events import EventReader

NOTE = """In process, one thread, default settings of GRU and transformer (context {context}),
{rounds} made-up customers with {timed} timed events each after their first 500; both windows of
every state are then open. `stream_p99_ms_*`: 99th percentile of one update, from an event
dictionary to its score; median, lowest and highest customer. `stream_speedup_over_reencode_500`:
median time of the torch network over the last 500 events (tokens ready, one pass, no parsing) by
the median time of an update, of the network where it is lower; lowest and highest customer.
`stream_max_error`: largest difference of log-odds to scoring the whole history, of both networks'
the larger; low is the other's. Rows: `cpu_ms` is processor time of an update, which a busy machine
raises less; `many_events_per_second` takes 256 customers' events at once. Over HTTP: the GRU behind
`scripts/serve.py` with two workers and Redis on loopback, one event a request, senders and service
on the same cores; `requests_per_second` and `p99_ms` with 16 senders, median, lowest and highest
round; `refused` requests were told to come again (503), `unanswered` ones went to a worker that was
killed, and both were sent again. `lost_events`, `double_counted_events`: all that was sent, the
overloaded round's and the killed worker's too, against the states in Redis."""
KINDS = ("gru", "transformer")
PAST = 500
TOGETHER = 256


def main() -> None:
    assert __doc__ is not None
    chosen = replace(options(__doc__), threads=1)
    torch.set_num_threads(1)
    customers, rounds, timed = (80, 2, 80) if chosen.quick else (2_000, 9, 700)
    figures: dict[str, Figure] = {}
    rows: list[dict[str, Any]] = []
    speedups: list[Figure] = []
    with scratch() as folder, threadpool_limits(1):
        runs = _train(folder, customers, chosen)
        shop = pd.read_parquet(folder / "raw" / "events.parquet")
        long = _long_histories(shop, rounds, PAST + timed)
        for kind, run in runs.items():
            row, p99, speedup = _measure(run, long)
            row["max_error"] = _largest_error(run, pd.concat([shop, long], ignore_index=True))
            row["many_events_per_second"] = _events_per_second(run, shop)
            figures[f"stream_p99_ms_{kind}"] = p99
            speedups.append(speedup)
            rows.append({"model": kind, **row})
        service, more = measure_service(runs["gru"], shop, *((2, 20) if chosen.quick else (7, 150)))
        figures |= service
        rows += more
        context = seqjourney.load(runs["gru"]).model.config.context  # type: ignore[union-attr]
    figures["stream_speedup_over_reencode_500"] = min(speedups, key=lambda s: s.value)
    errors = [row["max_error"] for row in rows if "max_error" in row]
    unit = "log-odds, largest difference to scoring the whole history"
    figures["stream_max_error"] = Figure(max(errors), min(errors), max(errors), unit)
    note = NOTE.format(context=context, rounds=rounds, timed=timed)
    write_results("serving", chosen, figures, rows, note)


def _train(folder: Path, customers: int, chosen: Options) -> dict[str, Path]:
    """Simulate and prepare a shop, and train both networks."""
    from seqjourney.commands.prepare import prepare
    from seqjourney.commands.train import train
    from seqjourney.config import Config, DataConfig, parse
    from seqjourney.simulation import ShopConfig, write_shop

    raw = write_shop(ShopConfig(customers=customers), folder / "raw")
    trainer = ["trainer=fast"] if chosen.quick else ["trainer.max_epochs=5"]
    content = load_config("train", "experiment=demo", f"data.path={raw}", *trainer)
    content["data"] |= {"tasks": [], "threads": chosen.threads}
    content |= {"processed": str(folder / "processed"), "output": str(folder / "outputs")}
    found = {}
    with redirect_stdout(io.StringIO()):
        prepare(parse(DataConfig, content["data"], "data"), folder / "processed", progress=False)
        for kind in KINDS:
            content["model"] = load_config("train", "experiment=demo", f"model={kind}")["model"]
            content["run"] = str(folder / "outputs" / kind)
            content["trainer"] |= {"threads": 1, "accelerator": "cpu", "progress": False}
            found[kind] = train(parse(Config, content, "configuration")).folder
    return found


def _long_histories(shop: pd.DataFrame, customers: int, length: int) -> pd.DataFrame:
    """Draw customers with many events: the shop's, at times of their own over the same span."""
    random = np.random.default_rng(0)
    first, last = shop["timestamp"].min(), shop["timestamp"].max()
    parts = []
    for number in range(customers):
        part = shop.sample(length, replace=True, random_state=number)
        seconds = np.sort(random.integers(0, int((last - first).total_seconds()), length))
        at = (first + pd.to_timedelta(seconds, unit="s")).astype(shop["timestamp"].dtype)
        part = part.assign(customer_id=f"long {number}", timestamp=at, known_at=at)
        parts.append(part.assign(event_id=[f"long {number} {i:05d}" for i in range(length)]))
    return pd.concat(parts, ignore_index=True)


def _events(frame: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """Return `(customer_id, event)` of each row, as they became known."""
    frame = frame.sort_values(["known_at", "timestamp", "event_id"])
    rows: list[Any] = frame.drop(columns="customer_id").to_dict("records")
    return list(zip(frame["customer_id"], rows, strict=True))


def _measure(run: Path, long: pd.DataFrame) -> tuple[dict[str, Any], Figure, Figure]:
    """Time updates and second readings in turn, customer by customer."""
    stream = seqjourney.Stream(run)
    p99, medians, again, cpu = [], [], [], []
    state_bytes = 0
    for customer, history in long.groupby("customer_id"):
        events = _events(history)
        stream.update_many(events[:PAST])
        encode = _Reencoding(run, [event for _, event in events])
        state_bytes = max(state_bytes, len(stream.dump(str(customer))))
        took, processor, encoded = [], [], []
        for position, (_, event) in enumerate(events[PAST:], start=PAST):
            if position % 10 == 0:
                encoded.append(encode(position))
            before, worked = time.perf_counter(), time.thread_time()
            stream.update(str(customer), event)
            processor.append(time.thread_time() - worked)
            took.append(time.perf_counter() - before)
        p99.append(1000 * float(np.quantile(took, 0.99)))
        medians.append(1000 * float(np.median(took)))
        again.append(1000 * float(np.median(encoded)))
        cpu.append(1000 * float(np.median(processor)))
    unit = "ms for one event, dictionary to score"
    figure = Figure(float(np.median(p99)), min(p99), max(p99), unit)
    speedup = paired_ratio(again, medians, "times as long to encode the last 500 events again")
    row = {
        "updates": len(long) - PAST * len(p99),
        "p50_ms": round(float(np.median(medians)), 3),
        "p99_ms": round(figure.value, 3),
        "cpu_ms": round(float(np.median(cpu)), 3),
        "reencode_500_ms": round(float(np.median(again)), 2),
        "speedup": round(speedup.value, 1),
        "state_bytes_at_500": state_bytes,
    }
    return row, figure, speedup


class _Reencoding:
    """The trained torch network over the last 500 events of a history."""

    def __init__(self, run: Path, events: list[dict[str, Any]]):
        scorer: Any = seqjourney.load(run)
        reader = EventReader(scorer.tokenizer, scorer.reading, needs_consent=False)
        tokens = [reader.read(event) for event in events]
        self._model = scorer.model.model
        self._categorical = torch.tensor([token.categories for token in tokens])[None]
        self._numeric = torch.tensor([token.numbers for token in tokens])[None]
        self._times = torch.tensor([token.time for token in tokens])[None]

    def __call__(self, end: int) -> float:
        """Return the seconds that the answer after `end` events takes."""
        last = slice(end - PAST, end)
        times = self._times[:, last]
        ends, cutoffs = torch.tensor([[PAST]]), times[:, -1:]
        before = time.perf_counter()
        with torch.inference_mode():
            self._model(
                self._categorical[:, last], self._numeric[:, last], times, ends, cutoffs
            ).item()
        return time.perf_counter() - before


def _largest_error(run: Path, frame: pd.DataFrame) -> float:
    """Return the largest difference to scoring whole histories, a week after the last event."""
    stream = seqjourney.Stream(run)
    stream.update_many(_events(frame))
    at = frame["known_at"].max() + pd.Timedelta(days=7)
    expected = seqjourney.load(run).score(frame, at).dropna(subset="score")
    found = [stream.score(customer, at).score for customer in expected["customer_id"]]
    return float(np.abs(np.array(found) - expected["score"].to_numpy()).max())


def _events_per_second(run: Path, shop: pd.DataFrame) -> int:
    """Return the rate of `update_many` with each customer at most once a call."""
    stream, events = seqjourney.Stream(run), _events(shop)
    first = {customer: (customer, event) for customer, event in events}
    calls = list(first.values())[:TOGETHER]
    rates = []
    for turn in range(6):
        at = pd.Timestamp(shop["known_at"].max()) + pd.Timedelta(hours=turn)
        changed = {"timestamp": at, "known_at": at}
        batch = [
            (customer, {**event, **changed, "event_id": f"{turn} {customer}"})
            for customer, event in calls
        ]
        before = time.perf_counter()
        stream.update_many(batch)
        rates.append(len(batch) / (time.perf_counter() - before))
    return round(float(np.median(rates)))


if __name__ == "__main__":
    main()
