"""The HTTP service answers as `seqjourney.Stream` does, and refuses in one sentence of JSON."""

import asyncio
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from service_clients import as_json, history_of, make_overdue, pairs, post, serving
from starlette.requests import Request

import seqjourney
from seqjourney.config import parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.serving.service import settings, standing
from seqjourney.serving.service.metrics import Metrics
from seqjourney.serving.service.queue import Job, Queue
from seqjourney.serving.service.requests import Refused, read_body
from seqjourney.serving.service.settings import Limits, ServeConfig
from seqjourney.serving.service.states import InMemory
from seqjourney.serving.stream_state import REMEMBERED_IDS

RunOf = Callable[[str], Path]


@pytest.fixture
def run(run_of: RunOf) -> Path:
    return run_of("gru")


@pytest.fixture
def client(run: Path) -> Iterator[Any]:
    with serving(run) as client:
        yield client


def metric(client: Any, name: str) -> float:
    found = re.findall(
        rf"^seqjourney_{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE
    )
    return float(found[0]) if found else 0.0


def test_events_are_answered_in_order_with_the_scores_of_the_whole_history(
    client: Any, run: Path, frame: pd.DataFrame
):
    events = as_json(frame.head(60))
    answers = []
    for part in (events[:1], events[1:40], events[40:]):
        answer = post(client, part)
        assert answer.status_code == 200, answer.text
        answers += answer.json()["scores"]
    expected = seqjourney.Stream(run).update_many(pairs(events))
    assert [a["customer_id"] for a in answers] == [e["customer_id"] for e in events]
    for answer, one in zip(answers, expected, strict=True):
        if one.score != one.score:  # a customer with nothing but labels
            assert answer["score"] is answer["probability"] is None
            continue
        assert answer["score"] == pytest.approx(one.score, abs=1e-5)
        assert answer["probability"] == pytest.approx(one.probability, abs=1e-5)
        assert datetime.fromisoformat(answer["cutoff"]) == one.cutoff
        assert answer["withheld"] is None
    scores = seqjourney.load(run).score(frame.head(60), "2025-01-01").set_index("customer_id")
    for customer in scores.index[scores["score"].notna()][:5]:
        found = client.get(f"/customers/{customer}/score", params={"at": "2025-01-01T00:00Z"})
        assert found.json()["score"] == pytest.approx(scores.score[customer], abs=1e-4)


def test_requests_at_once_are_answered_as_one_after_the_other(
    client: Any, run: Path, frame: pd.DataFrame
):
    histories = [history_of(frame.iloc[30 * n :], f"c{n}", 20) for n in range(8)]

    def send(history: list[Any]) -> list[float]:
        return [post(client, [event]).json()["scores"][0]["score"] for event in history]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(send, histories))
    for scores, history in zip(found, histories, strict=True):
        expected = seqjourney.Stream(run).update_many(pairs(history))
        assert scores == pytest.approx([one.score for one in expected], abs=1e-5)


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda event: {**event, key: value}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: {k: v for k, v in e.items() if k != "value"}, "the event has no 'value'"),
        (lambda e: {**e, "timestamp": "yesterday"}, "'timestamp' is 'yesterday', which is no time"),
        (changed("timestamp", None), "is no time"),
        (changed("timestamp", "3024-01-01"), "in the future"),
        (changed("timestamp", "0001-01-01T00:00+14:00"), "before 19"),
        (changed("event", ["a"]), "must be text"),
        (changed("event", ""), "'event' is empty"),
        (changed("event_id", None), "'event_id' is empty"),
        (changed("value", "much"), "'value' is 'much', which is no number"),
        (changed("value", 10**400), "no number that can be used"),
        (changed("customer_id", " "), "'customer_id' is empty"),
        (changed("customer_id", {}), "must be text"),
        (changed("customer_id", "\ud800"), "which is no text"),
        (lambda e: {"customerid": "a", **{k: e[k] for k in e if k != "customer_id"}},
         "Did you mean 'customerid'?"),
        (lambda _: "an event", "an event is an object"),
    ],
)  # fmt: skip
def test_a_bad_event_is_named_and_nothing_of_its_request_is_taken_in(
    spoil: Any, message: str, client: Any, frame: pd.DataFrame
):
    events = history_of(frame, "someone", 3)
    body = json.dumps({"events": [*events[:2], spoil(events[2])]})
    answer = client.post("/events", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("events[2]: ")
    assert message in answer.json()["error"]
    assert client.get("/customers/someone/score").status_code == 404


def deep(levels: int) -> str:
    return '{"events": [' + "[" * levels + "]" * levels + "]}"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("", 400, "not valid JSON"),
        ('{"events": [', 400, "not valid JSON"),
        (b"\xff\xfe\xff", 400, "not valid JSON"),
        ('{"events": [NaN]}', 400, "write null for a missing number"),
        ('{"events": [' + "9" * 5000 + "]}", 400, "not valid JSON"),
        (deep(7), 400, "more than 8 levels"),
        (deep(100_000), 400, "nested too deep"),
        ("[]", 422, "the body must be"),
        ('{"event": []}', 422, "Did you mean 'event'?"),
        ('{"events": [], "more": 1}', 422, "unknown key 'more'"),
        ('{"events": []}', 422, "1 to 1000 events; this one has 0"),
        ('{"events": [' + ",".join(["1"] * 1001) + "]}", 422, "this one has 1001"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_cannot_be_used_is_refused(
    body: str | bytes, status: int, message: str, client: Any
):
    answer = client.post("/events", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert message in answer.json()["error"]
    answer = client.post("/events", content=body)
    assert answer.status_code == 415


def answer_of(question: Coroutine[Any, Any, Any]) -> Any:
    """Await in a thread of its own: a browser's test may have left a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, question).result()


def test_a_large_body_is_refused_without_being_read_to_its_end(run: Path):
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100_000_000:
            sent += 1000
            yield b" " * 1000

    with serving(run, limits={"body_bytes": 5000}) as client:
        kind = {"Content-Type": "application/json"}
        declared = client.post("/events", content=b" " * 5001, headers=kind)
        assert declared.status_code == 413

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": next(chunks), "more_body": True}

        chunks = endless()
        headers = [(b"content-type", b"application/json")]
        request = Request({"type": "http", "headers": headers}, receive)
        with pytest.raises(Refused, match="more than 5000 bytes"):
            answer_of(read_body(request, Limits(body_bytes=5000)))
    assert sent <= 6000


def test_a_body_that_does_not_arrive_is_not_waited_for():
    async def receive() -> Any:
        await asyncio.sleep(60)

    request = Request(
        {"type": "http", "headers": [(b"content-type", b"application/json")]}, receive
    )
    with pytest.raises(Refused, match=r"longer than 0\.05 seconds") as refused:
        answer_of(read_body(request, Limits(body_seconds=0.05)))
    assert refused.value.status == 408


def test_more_events_of_a_customer_than_can_be_known_again_are_refused(
    client: Any, frame: pd.DataFrame
):
    assert post(client, history_of(frame, "many", REMEMBERED_IDS)).status_code == 200
    answer = post(client, history_of(frame, "more", REMEMBERED_IDS + 1))
    assert answer.status_code == 422
    told = f"customer 'more' has {REMEMBERED_IDS + 1} events in one request; send {REMEMBERED_IDS}"
    assert told in answer.json()["error"]


def test_a_request_sent_again_counts_once(client: Any, frame: pd.DataFrame):
    events = history_of(frame, "again", 50)
    first, second = post(client, events).json(), post(client, events).json()
    assert second["scores"][-1] == first["scores"][-1]
    without = [{k: v for k, v in event.items() if k != "event_id"} for event in events[-1:]]
    third = post(client, without).json()
    assert third["scores"][-1] != first["scores"][-1]  # no id: another event


def test_a_request_that_fails_does_not_fail_those_of_its_batch(run: Path, frame: pd.DataFrame):
    histories = [history_of(frame, name, 5) for name in ("first", "bad", "last")]
    histories[1][3] = {"event": "of no time"}
    queue = Queue(InMemory(ServeConfig(run=run)), 10, Metrics())
    answers = [queue.submit(Job(pairs([{**e, "customer_id": n} for e in history])))
               for n, history in zip(("first", "bad", "last"), histories, strict=True)]  # fmt: skip
    queue.start()
    for position in (0, 2):
        expected = seqjourney.Stream(run).update_many(pairs(histories[position]))
        found = [one.score for one in answers[position].result(30)]
        assert found == pytest.approx([one.score for one in expected], abs=1e-5)
    with pytest.raises(DataError, match="event 3 of 5: the event has no"):
        answers[1].result(30)
    queue.stop()


def test_a_batch_holds_no_more_of_a_customer_than_can_be_known_again(
    run: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    states = InMemory(ServeConfig(run=run))
    sizes = []
    update_many = states.update_many
    monkeypatch.setattr(
        states, "update_many", lambda events: sizes.append(len(events)) or update_many(events)
    )
    queue = Queue(states, 10, Metrics())
    length = REMEMBERED_IDS // 2 - 2
    answers = [queue.submit(Job(pairs(history_of(frame, "one", length)))) for _ in range(5)]
    queue.start()
    queue.stop()
    assert all(len(answer.result()) == length for answer in answers)
    assert sizes == [2 * length, 2 * length, length]


def test_what_comes_after_an_erasure_is_not_erased(run: Path, frame: pd.DataFrame):
    states = InMemory(ServeConfig(run=run))
    queue = Queue(states, 10, Metrics())
    events = pairs(history_of(frame, "someone", 3))
    jobs = [
        Job(events[:1]),
        Job(other=lambda: states.forget("someone")),
        Job(events[1:2]),
        Job(other=lambda: states.score("someone", None)),
        Job(events[2:]),
    ]
    answers = [queue.submit(job) for job in jobs]
    queue.start()
    queue.stop()
    again = seqjourney.Stream(run).update_many(events[1:])
    assert answers[1].result() is True
    assert answers[3].result().score == pytest.approx(again[0].score, abs=1e-5)
    assert answers[4].result()[0].score == pytest.approx(again[1].score, abs=1e-5)


def test_beyond_the_bound_requests_are_refused_and_those_that_wait_are_answered(
    run: Path, frame: pd.DataFrame
):
    with serving(run, limits={"waiting": 2}) as client, ThreadPoolExecutor(8) as pool:
        lock = client.app.state.states.stream._lock
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                held.set()
                go_on.wait(30)

        pool.submit(hold)
        held.wait(30)
        waiting = [pool.submit(post, client, history_of(frame, "a", 1))]
        until(lambda: metric(client, "waiting_requests") == 0)
        time.sleep(0.2)  # the first is being answered: nothing waits
        waiting += [pool.submit(post, client, history_of(frame, n, 1)) for n in "bc"]
        until(lambda: metric(client, "waiting_requests") == 2)
        refused = post(client, history_of(frame, "d", 1))
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert "too many requests wait" in refused.json()["error"]
        assert client.get("/health").status_code == 200
        go_on.set()
        assert [answer.result(30).status_code for answer in waiting] == [200] * 3
        assert metric(client, 'refused_total{reason="full"}') == 1


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_without_the_token_only_probes_are_answered(run: Path, frame: pd.DataFrame):
    with serving(run, token="s3cret") as client:
        for wrong in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
            for method, path in (
                ("POST", "/events"), ("GET", "/customers/a/score"), ("DELETE", "/customers/a"),
                ("GET", "/metrics"), ("GET", "/model"), ("GET", "/docs"), ("GET", "/openapi.json"),
                ("GET", "/nothing"),
            ):  # fmt: skip
                answer = client.request(method, path, headers=wrong)
                assert answer.status_code == 401, path
                assert "s3cret" not in answer.text
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        right = {"Authorization": "Bearer s3cret"}
        assert post(client, history_of(frame, "a", 1), headers=right).status_code == 200


def test_time_that_passes_changes_a_score_and_the_past_is_refused(
    client: Any, run: Path, frame: pd.DataFrame
):
    events = history_of(frame, "a/b c", 10)
    stream = seqjourney.Stream(run)
    stream.update_many(pairs(events))
    last = post(client, events).json()["scores"][-1]
    path = "/customers/a%2Fb%20c/score"
    assert client.get(path).json() == last
    later = client.get(path, params={"at": "2025-06-01T00:00Z"}).json()
    assert later["score"] == pytest.approx(stream.score("a/b c", "2025-06-01").score, abs=1e-5)
    assert later["score"] != last["score"]
    for at, message in (
        ("2001-01-01", "when the customer's last event became known"),
        ("soon", "which is no time"),
        ("", "which is no time"),
        ("9999-12-31T23:59:59-12:00", ""),
    ):
        answer = client.get(path, params={"at": at})
        assert answer.status_code == 422
        assert message in answer.json()["error"]
    nobody = client.get("/customers/nobody/score")
    assert (nobody.status_code, "customer 'nobody'" in nobody.json()["error"]) == (404, True)
    assert client.get("/customers/%20/score").status_code == 422


def test_a_customer_who_is_erased_starts_from_nothing(client: Any, frame: pd.DataFrame):
    events = history_of(frame, "someone", 10)
    first = post(client, events[:1]).json()["scores"][0]
    post(client, events[1:])
    erased = {"customer_id": "someone", "forgotten": True}
    assert client.delete("/customers/someone").json() == erased
    assert client.delete("/customers/someone").json() == {**erased, "forgotten": False}
    assert client.get("/customers/someone/score").status_code == 404
    assert post(client, events[:1]).json()["scores"][0] == first


@pytest.fixture
def asking(run: Path, tmp_path: Path) -> Path:
    """A run whose data needed consent."""
    folder = Path(shutil.copytree(run, tmp_path / "asking"))
    about = json.loads((folder / "run.json").read_text())
    about["config"]["data"] = {
        "name": "several",
        "sources": [{"kind": "segment", "path": "exports"}],
        "consent": {"purpose": "analytics", "unknown": "withhold"},
    }
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def test_who_has_not_consented_is_not_scored(asking: Path, frame: pd.DataFrame):
    events = history_of(frame, "someone", 4)
    with serving(asking) as client:
        found = []
        for event, said in zip(events, (None, "granted", "denied", "perhaps"), strict=True):
            found.append(post(client, [{**event, "consent": said}]))
        answers = [answer.json()["scores"][0] for answer in found[:3]]
        withheld = [answer["withheld"] for answer in answers]
        assert withheld == ["consent unknown", None, "consent denied"]
        assert [a["score"] is None for a in answers] == [True, False, True]
        assert [a["probability"] is None for a in answers] == [True, False, True]
        assert found[3].status_code == 422
        assert "'consent' is 'perhaps'" in found[3].json()["error"]
        asked = client.get("/customers/someone/score").json()
        assert (asked["score"], asked["withheld"]) == (None, "consent denied")
        schema = client.get("/openapi.json").json()["paths"]["/events"]["post"]["requestBody"]
        assert "'analytics'" in json.dumps(schema)


def test_a_model_whose_date_passes_while_it_is_served_is_served_no_longer(
    run: Path, tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(standing, "_SECONDS", 0.0)
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    with serving(folder) as client:
        assert post(client, history_of(frame, "a", 3)).status_code == 200
        make_overdue(folder)
        for answer in (
            post(client, history_of(frame, "b", 1)),
            client.get("/customers/a/score"),
            client.get("/ready"),
        ):
            assert answer.status_code == 503
            assert "had to be retrained by 2020-02-01" in answer.json()["error"]
        assert client.delete("/customers/a").json()["forgotten"]
    with pytest.warns(UserWarning, match="retrained"), serving(folder, overdue="allow") as client:
        assert post(client, history_of(frame, "a", 3)).status_code == 200


def test_what_is_answered_is_counted(client: Any, frame: pd.DataFrame):
    post(client, history_of(frame, "a", 5))
    post(client, [{}])
    client.get("/customers/nobody/score")
    text = client.get("/metrics").text
    for line in (
        'seqjourney_requests_total{endpoint="/events",status="200"} 1.0',
        'seqjourney_requests_total{endpoint="/events",status="422"} 1.0',
        "seqjourney_events_total 5.0",
        'seqjourney_refused_total{reason="event"} 1.0',
        'seqjourney_request_seconds_count{endpoint="/events"} 2.0',
        "seqjourney_waiting_requests 0.0",
        "seqjourney_conflicts_total 0.0",
    ):
        assert f"\n{line}\n" in text
    assert "nobody" not in text


def test_the_model_and_every_address_are_described(client: Any, run: Path):
    model = client.get("/model").json()
    stream = seqjourney.Stream(run)
    assert model["fingerprint"] == stream.fingerprint
    assert model["task"]["kind"] == stream.scorer.task.kind
    assert model["card"] == "# A card"
    api = client.get("/openapi.json").json()
    assert {(path, method) for path, item in api["paths"].items() for method in item} == {
        ("/events", "post"), ("/customers/{customer_id}/score", "get"),
        ("/customers/{customer_id}", "delete"), ("/health", "get"), ("/ready", "get"),
        ("/metrics", "get"), ("/model", "get"),
    }  # fmt: skip
    body = api["paths"]["/events"]["post"]["requestBody"]["content"]["application/json"]
    event = body["schema"]["properties"]["events"]["items"]
    assert event["required"] == ["customer_id", *model["fields"]]
    assert set(event["required"]) <= set(event["properties"])


def test_errors_are_one_sentence_of_json_and_show_nothing_of_the_inside(
    client: Any, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    for answer, status in (
        (client.get("/nothing"), 404),
        (client.put("/events"), 405),
    ):
        assert (answer.status_code, list(answer.json())) == (status, ["error"])

    def broken(*_: Any) -> None:
        raise RuntimeError("of the inside")

    states = client.app.state.states
    with monkeypatch.context() as patched:
        patched.setattr(states, "update_many", broken)
        answer = post(client, history_of(frame, "a", 1))
        assert answer.status_code == 500
        assert answer.json() == {"error": "the service failed; its own output says why."}
    assert post(client, history_of(frame, "a", 1)).status_code == 200
    long = {**history_of(frame, "a", 1)[0], "event": ["x" * 5000]}
    assert len(post(client, [long]).json()["error"]) < 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "workers=2 would each know a part of every customer"),
        ({"states": "memcached://x"}, "states must be memory or the address of a Redis"),
        ({"states": "redis://host:port/0"}, "states: "),
        ({"expire_days": 3}, "use most_customers in memory"),
        ({"states": "redis://x", "most_customers": 3}, "use expire_days with Redis"),
        ({"token": ""}, "token"),
        ({"limits": {"bodybytes": 3}}, "Did you mean 'body_bytes'?"),
        ({"port": 70000}, "port"),
        ({"worker": 2}, "Did you mean 'workers'?"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(ServeConfig, {"run": "runs/gru", **options}, "configuration")


def test_only_networks_are_served(run_of: RunOf):
    with pytest.raises(ConfigError, match="must be a run of a network"), serving(run_of("recency")):
        pass


def test_most_customers_bounds_what_is_kept(run: Path, frame: pd.DataFrame):
    with serving(run, most_customers=2) as client:
        for name in "abc":
            post(client, history_of(frame, name, 2))
        found = [client.get(f"/customers/{name}/score").status_code for name in "abc"]
        assert found == [404, 200, 200]
        assert metric(client, "forgotten_customers_total") == 1


def test_memory_is_bounded_by_default(
    run: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settings, "MOST_CUSTOMERS", 2)
    with serving(run) as client:
        for name in "abc":
            post(client, history_of(frame, name, 1))
        assert client.get("/customers/a/score").status_code == 404


def test_now_may_be_asked(client: Any, frame: pd.DataFrame):
    post(client, history_of(frame, "a", 2))
    now = datetime.now(UTC).isoformat()
    answer = client.get("/customers/a/score", params={"at": now})
    assert datetime.fromisoformat(answer.json()["cutoff"]) == datetime.fromisoformat(now)
