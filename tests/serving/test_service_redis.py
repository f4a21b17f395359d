"""Services that share a real Redis: no event is lost, none is counted twice."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import redis
from service_clients import Event, TestClient, history_of, make_overdue, pairs, post, serving

import seqjourney
from seqjourney.serving.service.app import from_environment
from seqjourney.serving.service.settings import WORKER_VARIABLE, ServeConfig
from seqjourney.serving.service.states import InRedis, Unreachable
from seqjourney.serving.stream_state import REMEMBERED_IDS

ROOT = Path(__file__).parents[2]
TOKEN = {"Authorization": "Bearer s3cret"}
RunOf = Callable[[str], Path]


class Server:
    """A Redis of the test's own, which can be stopped and started again."""

    def __init__(self, folder: Path):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.url = folder, f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--appendonly", "no", "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 30
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < end, "redis-server does not start"
                time.sleep(0.02)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH")
    started = Server(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def run(run_of: RunOf) -> Path:
    return run_of("gru")


def tokens_of(states: InRedis, customer: str) -> int:
    """How many events a customer's state has taken in."""
    blob = states._redis.get(f"seqjourney:{states.stream.fingerprint}:{customer}")
    return states.stream._form.unpack(blob).count


def test_customers_outlive_the_service_and_other_models_do_not_see_them(
    server: Server, run: Path, frame: pd.DataFrame
):
    events = history_of(frame, "someone", 20)
    with serving(run, states=server.url, expire_days=2) as client:
        post(client, events[:12])
        fingerprint = client.get("/model").json()["fingerprint"]
    with serving(run, states=server.url, expire_days=2) as client:
        found = post(client, events[12:]).json()["scores"][-1]["score"]
    expected = seqjourney.Stream(run).update_many(pairs(events))[-1].score
    assert found == pytest.approx(expected, abs=1e-5)
    key = f"seqjourney:{fingerprint}:someone"
    assert set(server.client.keys()) == {key.encode(), b"seqjourney:models"}
    assert 86_400 < server.client.ttl(key) <= 2 * 86_400


def test_two_services_at_once_on_one_customer_lose_no_event_and_count_none_twice(
    server: Server, run: Path, frame: pd.DataFrame
):
    """In the order in which they were taken in, the events have the scores that were answered."""
    distinct = frame.drop_duplicates("timestamp").drop_duplicates("known_at")  # no two at once
    events = history_of(distinct, "shared", 120)
    conflicts: list[int] = []
    config = ServeConfig(run=run, states=server.url)
    services = [InRedis(config, conflicts.append) for _ in range(2)]
    together = threading.Barrier(2)

    def send(number: int) -> list[tuple[Event, Any]]:
        found = []
        for event in events[number::2]:
            together.wait(60)
            found.append((event, services[number].update_many(pairs([event]))[0]))
        return found

    with ThreadPoolExecutor(2) as pool:
        answers = [pair for found in pool.map(send, range(2)) for pair in found]
    assert conflicts
    assert tokens_of(services[0], "shared") == len(events)
    answers.sort(key=lambda pair: pair[1].cutoff)
    arrived = [{**event, "known_at": one.cutoff} for event, one in answers]
    expected = seqjourney.Stream(run).update_many(pairs(arrived))
    assert [one.cutoff for _, one in answers] == [one.cutoff for one in expected]
    np.testing.assert_allclose(
        [one.score for _, one in answers], [one.score for one in expected], atol=1e-5
    )


def test_an_update_whose_answer_got_lost_counts_once(
    server: Server, run: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    states = InRedis(ServeConfig(run=run, states=server.url))
    events = pairs(history_of(frame, "someone", REMEMBERED_IDS))
    execute = redis.client.Pipeline.execute

    def lost(pipe: Any, *words: Any, **more: Any) -> Any:
        execute(pipe, *words, **more)
        raise redis.ConnectionError("the answer got lost")

    with monkeypatch.context() as patched:
        patched.setattr(redis.client.Pipeline, "execute", lost)
        with pytest.raises(Unreachable, match="the answer got lost"):
            states.update_many(events)
    assert tokens_of(states, "someone") == REMEMBERED_IDS
    states.update_many(events)
    assert tokens_of(states, "someone") == REMEMBERED_IDS


def test_an_update_that_began_before_an_erasure_does_not_bring_the_customer_back(
    server: Server, run: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    one, other = (InRedis(ServeConfig(run=run, states=server.url)) for _ in range(2))
    events = pairs(history_of(frame, "someone", 10))
    one.update_many(events[:9])
    server.client.sadd("seqjourney:models", "older")
    server.client.set("seqjourney:older:someone", b"of another model")
    write, erased = one._write, []

    def erase_first(before: Any) -> set[str]:
        if not erased:
            erased.append(other.forget("someone"))
        return write(before)

    monkeypatch.setattr(one, "_write", erase_first)
    one.update_many(events[9:])
    assert erased == [True]
    assert tokens_of(one, "someone") == 1
    assert not server.client.exists("seqjourney:older:someone")


def test_a_worker_that_starts_again_with_an_overdue_model_still_erases(
    server: Server, run: Path, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = shutil.copytree(run, tmp_path / "run")
    config = ServeConfig(run=folder, states=server.url)
    InRedis(config).update_many(pairs(history_of(frame, "someone", 3)))
    make_overdue(folder)
    monkeypatch.setenv(WORKER_VARIABLE, config.model_dump_json())
    with pytest.warns(UserWarning, match="had to be retrained"):
        app = from_environment()
    with TestClient(app) as client:
        for answer in (
            post(client, history_of(frame, "someone", 1)),
            client.get("/customers/someone/score"),
            client.get("/ready"),
        ):
            assert answer.status_code == 503
            assert "had to be retrained by 2020-02-01" in answer.json()["error"]
        assert client.delete("/customers/someone").json()["forgotten"]
    assert server.client.keys("*someone") == []


def test_a_damaged_state_is_named_and_can_be_erased(server: Server, run: Path, frame: pd.DataFrame):
    with serving(run, states=server.url) as client:
        post(client, history_of(frame, "a", 3))
        states = client.app.state.states
        server.client.set(f"seqjourney:{states.stream.fingerprint}:a", b"\x80\x04." * 40)
        for answer in (post(client, history_of(frame, "a", 3)), client.get("/customers/a/score")):
            assert answer.status_code == 500
            assert "customer 'a': these bytes are no customer's state" in answer.json()["error"]
            assert "DELETE the customer" in answer.json()["error"]
        assert post(client, history_of(frame, "b", 3)).status_code == 200
        assert client.delete("/customers/a").json()["forgotten"]
        assert post(client, history_of(frame, "a", 3)).status_code == 200


def test_without_redis_the_service_says_so_and_goes_on_when_it_is_back(
    server: Server, run: Path, frame: pd.DataFrame
):
    events = history_of(frame, "someone", 3)
    with serving(run, states=server.url) as client:
        assert client.get("/ready").status_code == 200
        server.stop()
        for answer in (
            post(client, events), client.get("/customers/someone/score"),
            client.delete("/customers/someone"), client.get("/ready"),
        ):  # fmt: skip
            assert answer.status_code == 503
            assert f"Redis at 127.0.0.1:{server.port} cannot be used" in answer.json()["error"]
        assert client.get("/health").status_code == 200
        server.start()
        assert client.get("/ready").status_code == 200
        assert post(client, events).status_code == 200
        text = client.get("/metrics").text
        assert 'seqjourney_refused_total{reason="redis"} 3.0' in text
        server.client.config_set("maxmemory", 1)
        full = post(client, history_of(frame, "another", 3))
        assert full.status_code == 503
        assert "command not allowed when used memory > 'maxmemory'" in full.json()["error"]
        assert "EVAL" not in full.text
        server.client.config_set("maxmemory", 0)
        assert post(client, history_of(frame, "another", 3)).status_code == 200


def test_a_password_in_the_address_is_never_shown(run: Path, frame: pd.DataFrame):
    with serving(run, states="redis://user:s3cret@127.0.0.1:1/0") as client:
        for answer in (post(client, history_of(frame, "a", 1)), client.get("/ready")):
            assert answer.status_code == 503
            assert "127.0.0.1:1" in answer.text
            assert "s3cret" not in answer.text


def test_a_worker_that_is_killed_loses_nothing_of_what_is_sent_again(
    server: Server, run: Path, frame: pd.DataFrame, tmp_path: Path
):
    """`scripts/serve.py` with two workers; each customer's events are sent in their order."""
    command = [sys.executable, "scripts/serve.py", f"run={run}", "port=0", "workers=2"]
    settings = {"OMP_NUM_THREADS": "1", "SEQJOURNEY_TOKEN": "s3cret", "TMPDIR": str(tmp_path)}
    service = subprocess.Popen(
        [*command, f"states={server.url}"], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **settings},
        start_new_session=True,
    )  # fmt: skip
    try:
        assert service.stdout is not None
        said = service.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found, said + service.stdout.read()
        url = found[0]
        answered(url, "/ready")
        histories = [history_of(frame.iloc[90 * n :], f"c{n}", 90) for n in range(4)]
        third, resent = threading.Event(), []

        def send(history: list[Event]) -> float:
            for number, event in enumerate(history):
                while True:
                    try:
                        answer = once(url, "/events", {"events": [event]})
                        break
                    except (OSError, http.client.HTTPException):  # it died, or is not back yet
                        resent.append(event)
                        time.sleep(0.05)
                if number == len(history) // 3:
                    third.set()
            return answer["scores"][0]["score"]

        with ThreadPoolExecutor(4) as pool:
            scores = pool.map(send, histories)
            third.wait(300)
            workers = [
                child
                for child in psutil.Process(service.pid).children()
                if "spawn_main" in " ".join(child.cmdline())
            ]
            assert len(workers) == 2
            for worker in workers * 500:  # one may still be starting
                if stopped_with_a_request(worker, server.port):
                    break
                worker.send_signal(signal.SIGCONT)
                time.sleep(0.01)
            worker.kill()
            scores = list(scores)
        states = InRedis(ServeConfig(run=run, states=server.url))
        for history, score in zip(histories, scores, strict=True):
            customer = history[0]["customer_id"]
            expected = seqjourney.Stream(run).update_many(pairs(history))[-1].score
            assert tokens_of(states, customer) == len(history)
            assert score == pytest.approx(expected, abs=1e-5)
        assert resent
        request = urllib.request.Request(f"{url}/metrics", headers=TOKEN)
        with urllib.request.urlopen(request, timeout=60) as answer:
            counted = re.findall(r"^seqjourney_events_total (\d+)", answer.read().decode(), re.M)
        # Of all workers, the killed one too; an answer that got lost was counted as well.
        assert 360 <= int(counted[0]) <= 360 + len(resent)
    finally:
        os.killpg(service.pid, signal.SIGKILL)  # at once: a worker may still be starting
        service.communicate(timeout=60)


def stopped_with_a_request(worker: psutil.Process, redis_port: int) -> bool:
    """Stop a worker, and say whether somebody waits for its answer."""
    worker.send_signal(signal.SIGSTOP)
    time.sleep(0.05)
    return any(
        c.status == psutil.CONN_ESTABLISHED and c.raddr and c.raddr.port != redis_port
        for c in worker.net_connections("tcp4")
    )


def once(url: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url + path, data, {"Content-Type": "application/json", **TOKEN}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def answered(url: str, path: str) -> None:
    end = time.monotonic() + 300
    while True:
        try:
            once(url, path)
            return
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < end
            time.sleep(0.1)
