"""The HTTP service under load: two workers that share a Redis, on this machine's loopback.

`serving.py` calls `measure_service`. Senders keep a connection each and wait for every answer; each
request carries one event. Most events are of the sender's own customers, some of customers that
all senders share, and some are sent twice, as after a lost answer. At the end the states in Redis
are counted against what was sent.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from record import Figure  # type: ignore[import-not-found]  # its folder is sys.path[0]

SENDERS = 16
SHARED_EVERY, TWICE_EVERY = 10, 20
SHARED = 4  # customers
_ROOT = Path(__file__).resolve().parents[2]
_STARTING_SECONDS = 300


def measure_service(
    run: Path, shop: pd.DataFrame, rounds: int = 5, requests: int = 150
) -> dict[str, Figure]:
    """Measure `requests` of every sender, `rounds` times.

    Args:
        run: of a network.
        shop: events with the fields of the run.
        rounds: of which each gives a rate and a 99th percentile.
        requests: of a sender and round.

    Returns:
        `requests_per_second`, `p99_ms`, `lost_events` and `double_counted_events`; nothing where
        there is no redis-server.
    """
    if shutil.which("redis-server") is None:
        return {}
    sent: Counter[str] = Counter()
    rates, p99 = [], []
    with _redis() as states, _service(run, states) as address:
        events = _events(run, shop, SENDERS * requests)
        for turn in range(rounds + 1):
            parts = [events[n::SENDERS] for n in range(SENDERS)]
            started = time.perf_counter()
            with ThreadPoolExecutor(SENDERS) as pool:
                names = [f"{turn} {n}" for n in range(SENDERS)]
                answers = list(pool.map(_send, repeat(address), names, parts))
            wall = time.perf_counter() - started
            for _, of_sender in answers:
                sent += of_sender
            took = np.concatenate([seconds for seconds, _ in answers])
            if turn:  # the first warms up
                rates.append(len(took) / wall)
                p99.append(1000 * float(np.quantile(took, 0.99)))
        lost, twice = _account(run, states, sent)
    total = sum(sent.values())
    return {
        "requests_per_second": _figure(rates, f"one event each, {SENDERS} senders, 2 workers"),
        "p99_ms": _figure(p99, f"for one event over HTTP, {SENDERS} senders at once"),
        "lost_events": Figure(lost, lost, lost, f"of {total}"),
        "double_counted_events": Figure(twice, twice, twice, f"of {total}"),
    }


def _figure(values: list[float], unit: str) -> Figure:
    return Figure(float(np.median(values)), min(values), max(values), unit)


def _events(run: Path, shop: pd.DataFrame, most: int) -> list[dict[str, Any]]:
    """Return events that a model sees, as JSON has them."""
    import seqjourney

    hidden = seqjourney.load(run).tokenizer.label_only_events
    frame = shop[~shop["event"].isin(hidden)].sort_values("known_at")
    text = frame.head(most).to_json(orient="records", date_format="iso", date_unit="us")
    return list(json.loads(text))


def _send(
    address: tuple[str, int], name: str, events: list[dict[str, Any]]
) -> tuple[list[float], Counter[str]]:
    """Send events one by one; return seconds of each request, and events by customer."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    took: list[float] = []
    sent: Counter[str] = Counter()
    for number, event in enumerate(events):
        customer = f"own {name} {number % 8}"
        if number % SHARED_EVERY == 0:
            customer = f"shared {number % SHARED}"
        event = {**event, "customer_id": customer, "event_id": f"{name} {number}"}
        body = json.dumps({"events": [event]})
        for _ in range(2 if number % TWICE_EVERY == 0 else 1):
            before = time.perf_counter()
            connection.request("POST", "/events", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            took.append(time.perf_counter() - before)
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {content[:200]!r}")
        sent[customer] += 1
    connection.close()
    return took, sent


def _account(run: Path, states: str, sent: Counter[str]) -> tuple[int, int]:
    """Return how many events are missing in the states, and how many are there twice."""
    import redis

    import seqjourney

    stream, kept = seqjourney.Stream(run), redis.Redis.from_url(states)
    lost = twice = 0
    for customer, number in sent.items():
        blob: Any = kept.get(f"seqjourney:{stream.fingerprint}:{customer}")
        difference = number - (stream._form.unpack(blob).count if blob else 0)
        lost, twice = lost + max(0, difference), twice + max(0, -difference)
    return lost, twice


@contextmanager
def _redis() -> Iterator[str]:
    """Run a Redis of our own, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        _await("127.0.0.1", port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


@contextmanager
def _service(run: Path, states: str) -> Iterator[tuple[str, int]]:
    """Run `scripts/serve.py` with two workers, and yield where it listens."""
    words = [f"run={run.resolve()}", f"states={states}", "workers=2", "port=0"]
    service = subprocess.Popen(
        [sys.executable, "scripts/serve.py", *words],
        cwd=_ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert service.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", service.stdout.readline())
        if found is None:
            raise RuntimeError("the service did not start; see above.")
        address = "127.0.0.1", int(found[1])
        connection = http.client.HTTPConnection(*address, timeout=_STARTING_SECONDS)
        connection.request("GET", "/ready")
        connection.getresponse().read()
        connection.close()
        yield address
    finally:
        service.terminate()
        service.wait()


def _await(host: str, port: int) -> None:
    end = time.monotonic() + _STARTING_SECONDS
    while True:
        try:
            socket.create_connection((host, port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
