"""The HTTP service under load: two workers that share a Redis, on this machine's loopback.

`serving.py` calls `measure_service`. Senders keep a connection each and wait for every answer; each
request carries one event. Most events are of the sender's own customers, some of customers that
all senders share, and some are sent twice, as after a lost answer. After the timed rounds come one
with eight times the senders, and one in which a worker is killed; then an event is sent again until
it is answered. At the end the states in Redis are counted against all that was sent.
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
from dataclasses import dataclass, field
from functools import reduce
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from record import Figure  # type: ignore[import-not-found]  # its folder is sys.path[0]

SENDERS, OVERLOAD = 16, 8
NORMAL, OVERLOADED, KILLED = (
    f"{SENDERS} senders",
    f"{OVERLOAD * SENDERS} senders",
    "one worker killed",
)
SHARED_EVERY, TWICE_EVERY = 10, 20
SHARED = 4  # customers
_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 300  # seconds


@dataclass
class Sent:
    """What one sender did, or all of a round."""

    seconds: list[float] = field(default_factory=list)
    """Of each answered request."""
    events: Counter[str] = field(default_factory=Counter)
    """Distinct ones, by customer."""
    refused: int = 0
    """Requests that were answered with 503: send it again."""
    broken: int = 0
    """Requests that got no answer."""


def measure_service(
    run: Path, shop: pd.DataFrame, rounds: int = 5, requests: int = 150
) -> tuple[dict[str, Figure], list[dict[str, Any]]]:
    """Measure `requests` of every sender, `rounds` times, then overloaded, then with a loss.

    Args:
        run: of a network.
        shop: events with the fields of the run.
        rounds: of which each gives a rate and a 99th percentile.
        requests: of a sender and round.

    Returns:
        `requests_per_second`, `p99_ms`, `lost_events` and `double_counted_events`, and a row for
        each kind of round; nothing where there is no redis-server.
    """
    if shutil.which("redis-server") is None:
        return {}, []
    found: dict[str, list[tuple[float, Sent]]] = {}
    with _redis() as states, _service(run, states) as (service, address):
        events = _events(run, shop, SENDERS * requests)

        def round_of(kind: str, senders: int, number: int) -> None:
            parts = [events[n::senders] for n in range(senders)]
            names = [f"{kind} {number} {n}" for n in range(senders)]
            started = time.perf_counter()
            with ThreadPoolExecutor(senders) as pool:
                answers = pool.map(_send, repeat(address), names, parts)
                if kind == KILLED:
                    time.sleep(0.5)
                    _workers(service)[0].kill()
                sent = reduce(_add, answers)
            found.setdefault(kind, []).append((time.perf_counter() - started, sent))

        round_of("warming up", SENDERS, 0)
        for number in range(rounds):
            round_of(NORMAL, SENDERS, number)
        round_of(OVERLOADED, OVERLOAD * SENDERS, 0)
        round_of(KILLED, SENDERS, 0)
        everything = reduce(_add, (sent for of_kind in found.values() for _, sent in of_kind))
        lost, twice = _account(run, states, everything.events)
    total = everything.events.total()
    rates = [len(sent.seconds) / wall for wall, sent in found[NORMAL]]
    p99 = [1000 * float(np.quantile(sent.seconds, 0.99)) for _, sent in found[NORMAL]]
    figures = {
        "requests_per_second": _figure(rates, f"one event each, {SENDERS} senders, 2 workers"),
        "p99_ms": _figure(p99, f"for one event over HTTP, {SENDERS} senders at once"),
        "lost_events": Figure(lost, lost, lost, f"of {total}"),
        "double_counted_events": Figure(twice, twice, twice, f"of {total}"),
    }
    return figures, [_row(kind, found[kind]) for kind in (NORMAL, OVERLOADED, KILLED)]


def _add(one: Sent, other: Sent) -> Sent:
    return Sent(
        one.seconds + other.seconds,
        one.events + other.events,
        one.refused + other.refused,
        one.broken + other.broken,
    )


def _row(kind: str, rounds: list[tuple[float, Sent]]) -> dict[str, Any]:
    sent = reduce(_add, (sent for _, sent in rounds))
    return {
        "model": f"gru over HTTP, 2 workers, {kind}",
        "updates": len(sent.seconds),
        "p50_ms": round(1000 * float(np.median(sent.seconds)), 1),
        "p99_ms": round(1000 * float(np.quantile(sent.seconds, 0.99)), 1),
        "requests_per_second": round(len(sent.seconds) / sum(wall for wall, _ in rounds)),
        "refused": sent.refused,
        "unanswered": sent.broken,
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


def _send(address: tuple[str, int], name: str, events: list[dict[str, Any]]) -> Sent:
    """Send events one by one, each until it is answered."""
    sent = Sent()
    connection = http.client.HTTPConnection(*address, timeout=60)
    for number, event in enumerate(events):
        customer = f"own {name} {number % 8}"
        if number % SHARED_EVERY == 0:
            customer = f"shared {number % SHARED}"
        event = {**event, "customer_id": customer, "event_id": f"{name} {number}"}
        body = json.dumps({"events": [event]})
        for _ in range(2 if number % TWICE_EVERY == 0 else 1):
            while not _answered(connection, body, sent):
                time.sleep(0.05)
        sent.events[customer] += 1
    connection.close()
    return sent


def _answered(connection: http.client.HTTPConnection, body: str, sent: Sent) -> bool:
    """Send one request and note what came of it."""
    before = time.perf_counter()
    try:
        connection.request("POST", "/events", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()  # the next request opens it again
        sent.broken += 1
        return False
    if answer.status == 503:
        sent.refused += 1
        return False
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {content[:200]!r}")
    sent.seconds.append(time.perf_counter() - before)
    return True


def _workers(service: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(service.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


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
def _service(run: Path, states: str) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
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
        connection = http.client.HTTPConnection(*address, timeout=_PATIENCE)
        connection.request("GET", "/ready")
        connection.getresponse().read()
        connection.close()
        yield service, address
    finally:
        service.terminate()
        service.wait()


def _await(host: str, port: int) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection((host, port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
