"""`seqjourney.Stream` answers after every event as scoring the whole history does, at flat cost."""

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import seqjourney
from seqjourney.commands.export import export
from seqjourney.config import GRUConfig, TransformerConfig, parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.models.network import NetworkPredictor
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer
from seqjourney.serving.stream_gru import GRUSteps
from seqjourney.serving.stream_state import REMEMBERED_IDS
from seqjourney.serving.stream_transformer import TransformerSteps
from seqjourney.serving.tokens import task_data_of_frame

RunOf = Callable[[str], Path]
NETWORKS: dict[str, dict[str, Any]] = {
    "gru": {"kind": "gru", "width": 16, "context": 32, "members": 2},
    "gru of odd context": {"kind": "gru", "width": 8, "layers": 2, "context": 7},
    "gru of smallest context": {"kind": "gru", "width": 8, "context": 2},
    "transformer": {"kind": "transformer", "width": 16, "heads": 2, "layers": 2, "context": 32},
    "transformer of odd context": {
        "kind": "transformer", "width": 8, "heads": 1, "layers": 3, "context": 9, "members": 2
    },
    "transformer of smallest context": {
        "kind": "transformer", "width": 8, "heads": 2, "layers": 1, "context": 3
    },
}  # fmt: skip
BOTH = ["gru", "transformer"]
DAYS3_US = 3 * 86_400_000_000


@pytest.fixture(scope="session")
def loud(run_of: RunOf, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a run of a random network whose answers differ much from event to event."""
    done: dict[str, Path] = {}

    def run(name: str, seed: int = 0, consent: str | None = None) -> Path:
        key = f"{name} {seed} {consent}"
        if key in done:
            return done[key]
        folder = tmp_path_factory.mktemp("loud") / "run"
        done[key] = Path(shutil.copytree(run_of("recency"), folder))
        settings = {"name": "loud", **NETWORKS[name]}
        schema = GRUConfig if settings["kind"] == "gru" else TransformerConfig
        network = NetworkPredictor(parse(schema, settings, name))
        network.tokenizer = Tokenizer.load(folder / "tokenizer.json")
        torch.manual_seed(seed)
        network.model = JourneyModel(network.config, network.tokenizer, BinaryHead(0.3)).eval()
        for member in network.model.members:
            torch.nn.init.normal_(member.head[-1].weight, std=2.0)
        network.save(folder)
        about = json.loads((folder / "run.json").read_text())
        about["kind"] = settings["kind"]
        about["calibrator"] = {"slope": 0.7, "intercept": -0.2, "note": ""}
        if consent is not None:
            about["config"]["data"] = {
                "name": "several",
                "sources": [{"kind": "segment", "path": "exports"}],
                "consent": {"purpose": "analytics", "unknown": consent},
                "label_only_events": ["outcome"],
            }
        (folder / "run.json").write_text(json.dumps(about))
        return done[key]

    return run


@pytest.fixture(scope="session")
def history(frame: pd.DataFrame) -> pd.DataFrame:
    """Three customers of 130, 40 and 6 events, as they became known."""
    owners = np.repeat(["long", "middle", "short"], [130, 40, 6])
    some = frame.iloc[: len(owners)].assign(customer_id=owners)
    return in_order(some)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["known_at", "timestamp", "event_id"], ignore_index=True)


def events_of(frame: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    rows = frame.drop(columns="customer_id").to_dict("records")
    return list(zip(frame["customer_id"], rows, strict=True))


@pytest.fixture(scope="session")
def whole(loud: Any, history: pd.DataFrame) -> Iterator[TaskData]:
    """The same events as batch scoring reads them."""
    with as_read(seqjourney.load(loud("gru")), history) as data:
        yield data


def as_read(scorer: Any, frame: pd.DataFrame) -> Any:
    return task_data_of_frame(frame, scorer.task, scorer.tokenizer, scorer.reading, None)


def rescored(scorer: Any, data: TaskData, later_us: int = 0) -> dict[str, list[float]]:
    """Score every prefix of every customer's tokens from scratch, as batch scoring does."""
    store = data.store
    lengths = np.diff(store.offsets)
    customer = np.repeat(np.arange(len(lengths)), lengths)
    cutoffs = pd.to_datetime(store.times[:, 1] + later_us, unit="us", utc=True)
    snapshots = pd.DataFrame(
        {
            "customer_id": store.customer_ids[customer],
            "customer_index": customer,
            "cutoff": cutoffs.as_unit("us"),
            "end": np.arange(len(customer)) - store.offsets[customer] + 1,
            "split": "score",
            "label": np.zeros(len(customer), np.int8),
            "weight": 1.0,
        }
    )
    scores = scorer.model.score(replace(data, snapshots=snapshots))
    return {c: list(scores[customer == i]) for i, c in enumerate(store.customer_ids)}


def by_customer(scored: Iterable[Any]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in scored:
        found.setdefault(one.customer_id, []).append(one.score)
    return found


def assert_same(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert found.keys() == expected.keys()
    for customer in expected:
        np.testing.assert_allclose(found[customer], expected[customer], atol=1e-4, rtol=0)


@pytest.mark.parametrize("later_us", [0, DAYS3_US, 100 * 86_400_000_000])
@pytest.mark.parametrize("name", NETWORKS)
def test_after_every_event_a_stream_answers_as_scoring_the_whole_history(
    name: str, later_us: int, loud: Any, history: pd.DataFrame, whole: TaskData
):
    stream = seqjourney.Stream(loud(name))
    tokens = history[history["event"] != "outcome"]
    scored = []
    for customer, event in events_of(tokens):
        one = stream.update(customer, event)
        if later_us:
            one = stream.score(customer, one.cutoff + timedelta(microseconds=later_us))
        scored.append(one)
    expected = rescored(seqjourney.load(loud(name)), whole, later_us)
    assert len(expected["long"]) > 3 * NETWORKS[name]["context"]
    assert np.std(expected["long"]) > 0.02
    assert_same(by_customer(scored), expected)


@pytest.mark.parametrize("name", BOTH)
def test_an_answer_has_the_names_and_numbers_of_a_scored_frame(
    name: str, loud: Any, history: pd.DataFrame
):
    stream = seqjourney.Stream(loud(name))
    stream.update_many(events_of(history))
    cutoff = "2024-01-15T06:00:00+02:00"
    frame = seqjourney.load(loud(name)).score(history, cutoff)
    for row in frame.itertuples():
        one = stream.score(row.customer_id, cutoff)
        assert (one.customer_id, one.cutoff) == (row.customer_id, row.cutoff)
        assert one.score == pytest.approx(row.score, abs=1e-4)
        assert one.probability == pytest.approx(row.probability, abs=1e-4)
        assert one.withheld is None


@pytest.mark.parametrize("kind", BOTH)
def test_an_exported_file_streams_as_its_run_and_reads_its_states(
    kind: str, run_of: RunOf, history: pd.DataFrame, tmp_path: Path
):
    ours = seqjourney.Stream(run_of(kind))
    theirs = seqjourney.Stream(export(run_of(kind), tmp_path / "model.pt"))
    events = events_of(history)
    assert_same(by_customer(theirs.update_many(events)), by_customer(ours.update_many(events)))
    theirs.restore("other", ours.dump("long"))
    assert theirs.score("other").score == ours.score("long").score


@pytest.mark.parametrize("name", BOTH)
def test_time_that_passes_changes_a_score_and_asking_changes_nothing(
    name: str, loud: Any, history: pd.DataFrame
):
    stream = seqjourney.Stream(loud(name))
    stream.update_many(events_of(history))
    before = stream.dump("long")
    last = stream.score("long")
    later = [stream.score("long", last.cutoff + timedelta(days=d)).score for d in (1, 10, 100)]
    assert len({last.score, *later}) == 4
    assert stream.dump("long") == before
    assert stream.score("long") == last


@pytest.mark.parametrize("name", BOTH)
def test_many_at_once_is_the_same_as_one_by_one(name: str, loud: Any, history: pd.DataFrame):
    events = events_of(history)
    events[60:60] = events[50:55]  # seen already
    one, many = seqjourney.Stream(loud(name)), seqjourney.Stream(loud(name))
    alone = [one.update(customer, event) for customer, event in events]
    together = many.update_many(events[:100]) + many.update_many(events[100:])
    for a, b in zip(alone, together, strict=True):
        assert (a.customer_id, a.cutoff) == (b.customer_id, b.cutoff)
        assert a.score == pytest.approx(b.score, abs=1e-5, nan_ok=True)
    assert many.update_many([]) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_that_is_dumped_and_restored_goes_on_as_if_nothing_had_been(
    name: str, loud: Any, history: pd.DataFrame
):
    events = events_of(history[history["customer_id"] == "long"])
    whole = seqjourney.Stream(loud(name)).update_many(events)
    for at in (1, 16, 47, len(events) - 1):
        first, second = seqjourney.Stream(loud(name)), seqjourney.Stream(loud(name))
        first.update_many(events[:at])
        second.restore("long", first.dump("long"))
        assert second.dump("long") == first.dump("long")
        rest = second.update_many(events[at:])
        assert [s.score for s in rest] == pytest.approx([s.score for s in whole[at:]], abs=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_states_kept_as_bytes_elsewhere_outlive_the_stream(
    name: str, loud: Any, history: pd.DataFrame
):
    place: dict[str, bytes] = {}
    events = events_of(history)
    found = seqjourney.Stream(loud(name), states=place).update_many(events[:90])
    assert all(isinstance(blob, bytes) for blob in place.values())
    found += seqjourney.Stream(loud(name), states=place).update_many(events[90:])
    expected = seqjourney.Stream(loud(name)).update_many(events)
    assert [s.score for s in found] == pytest.approx(
        [s.score for s in expected], abs=1e-5, nan_ok=True
    )


def test_a_state_of_a_gru_is_small_and_one_of_a_transformer_bounded(
    loud: Any, history: pd.DataFrame
):
    sizes = {}
    for name in BOTH:
        stream = seqjourney.Stream(loud(name))
        stream.update_many(events_of(history))
        sizes[name] = len(stream.dump("long")), len(stream.dump("short"))
    header, ids, times = 68, REMEMBERED_IDS * 8, 32 * 8
    assert sizes["gru"][0] <= header + ids + times + 2 * 2 * 16 * 4  # windows, members, width
    assert sizes["transformer"][0] <= header + ids + times + (32 + 16) * 2 * 2 * 16 * 4
    assert sizes["gru"][1] < 400


@pytest.mark.parametrize("name", BOTH)
def test_an_event_costs_two_rows_and_no_second_reading_however_long_the_history(
    name: str, loud: Any, history: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    rows: list[int] = []
    kept: list[int] = []

    def counted(kind: Any) -> None:
        step, answer = kind.step, kind.answer

        def counted_step(self: Any, events: np.ndarray, *rest: Any) -> Any:
            rows.append(len(events))
            return step(self, events, *rest)

        def counted_answer(
            self: Any, snapshots: Any, memories: Any, recent: Any, *rest: Any
        ) -> Any:
            kept.append(len(recent[0]))
            return answer(self, snapshots, memories, recent, *rest)

        monkeypatch.setattr(kind, "step", counted_step)
        monkeypatch.setattr(kind, "answer", counted_answer)

    stream = seqjourney.Stream(loud(name))
    counted(GRUSteps)
    counted(TransformerSteps)
    monkeypatch.setattr(JourneyModel, "forward", lambda *_: pytest.fail("encoded again"))
    long = history[(history["customer_id"] == "long") & (history["event"] != "outcome")]
    for customer, event in events_of(long):
        stream.update(customer, event)
    members = NETWORKS[name].get("members", 1)
    assert len(rows) == members * len(long)  # one step an event and member, never more
    assert max(rows) == 2 and set(rows[members * 32 :]) <= {1, 2}
    assert max(kept) == 32  # what an answer looks at never exceeds the context


@pytest.mark.parametrize("name", BOTH)
def test_an_event_that_comes_again_changes_nothing(name: str, loud: Any, history: pd.DataFrame):
    stream = seqjourney.Stream(loud(name))
    events = events_of(history[history["customer_id"] == "long"])
    scored = stream.update_many(events[:60])
    before = stream.dump("long")
    assert stream.update(*events[59]) == scored[59]
    assert stream.update(*events[10]) == scored[59]
    assert stream.dump("long") == before
    stream.update(events[0][0], {**events[59][1], "event_id": "another"})
    assert stream.dump("long") != before


def test_an_event_out_of_order_counts_as_known_when_it_arrives(loud: Any, history: pd.DataFrame):
    long = history[(history["customer_id"] == "long") & (history["event"] != "outcome")]
    long = long.head(50).reset_index(drop=True)
    order = np.random.default_rng(0).permutation(np.arange(50))
    shuffled = long.loc[order].reset_index(drop=True)
    stream = seqjourney.Stream(loud("gru"))
    scored = stream.update_many(events_of(shuffled))
    cutoffs = [one.cutoff for one in scored]
    assert cutoffs == sorted(cutoffs)
    assert timedelta(microseconds=1) in {b - a for a, b in itertools.pairwise(cutoffs)}
    arrived = shuffled.assign(known_at=pd.to_datetime(cutoffs, utc=True).as_unit("us"))
    scorer = seqjourney.load(loud("gru"))
    with as_read(scorer, arrived) as data:
        assert_same(by_customer(scored), rescored(scorer, data))


def test_without_known_at_an_event_is_known_when_it_happens(loud: Any, history: pd.DataFrame):
    stream = seqjourney.Stream(loud("gru"))
    event = events_of(history)[0][1]
    happened = event.pop("known_at") and event["timestamp"]
    assert stream.update("new", event).cutoff == happened


def test_an_event_of_a_fast_clock_leaves_the_customer_scored_as_of_now(
    loud: Any, history: pd.DataFrame
):
    """Hours fast: refused, as batch scoring does not see it. Minutes fast: it counts as now."""
    path = loud("gru")
    stream, scorer = seqjourney.Stream(path), seqjourney.load(path)
    short = history[(history["customer_id"] == "short") & (history["event"] != "outcome")]
    stream.update_many(events_of(short))

    def ahead(**by: float) -> dict[str, Any]:
        moment = pd.Timestamp.now("UTC").as_unit("us") + pd.Timedelta(**by)
        return {**short.iloc[0], "timestamp": moment, "known_at": moment, "event_id": str(by)}

    with pytest.raises(DataError, match="in the future"):
        stream.update("short", ahead(hours=10))
    now = datetime.now(UTC)
    rows = pd.concat([short, pd.DataFrame([ahead(hours=10)])], ignore_index=True)
    expected = scorer.score(rows, now)["score"].item()
    assert stream.score("short", now).score == pytest.approx(expected, abs=1e-4)
    for event in (ahead(minutes=4), ahead(seconds=0)):
        assert stream.update("short", event).cutoff <= datetime.now(UTC)
        assert not np.isnan(stream.score("short", datetime.now(UTC)).score)


def test_label_only_events_become_no_token(loud: Any, history: pd.DataFrame):
    stream = seqjourney.Stream(loud("gru"))
    only = history[history["event"] == "outcome"].head(1)
    alone = stream.update("new", events_of(only)[0][1])
    assert np.isnan(alone.score)
    long = history[history["customer_id"] == "long"]
    stream.update_many(events_of(long))
    without = seqjourney.Stream(loud("gru"))
    without.update_many(events_of(long[long["event"] != "outcome"]))
    at = "2025-01-01"
    assert stream.score("long", at).score == without.score("long", at).score


def test_a_customer_of_whom_nothing_is_known_gets_no_score(loud: Any):
    one = seqjourney.Stream(loud("gru")).score("nobody", "2023-05-01")
    assert np.isnan(one.score) and np.isnan(one.probability)
    assert one.cutoff == datetime(2023, 5, 1, tzinfo=UTC)


def test_the_past_cannot_be_asked(loud: Any, history: pd.DataFrame):
    stream = seqjourney.Stream(loud("gru"))
    stream.update_many(events_of(history))
    last = stream.score("short").cutoff
    with pytest.raises(DataError, match="keeps the present only"):
        stream.score("short", last - timedelta(microseconds=1))
    with pytest.raises(DataError, match="'at' is 'next week'"):
        stream.score("short", "next week")


def test_a_bad_event_among_many_is_named_and_none_is_taken_in(loud: Any, history: pd.DataFrame):
    stream = seqjourney.Stream(loud("gru"))
    events = events_of(history)[:10]
    events[4] = ("short", {**events[4][1], "timestamp": "last Tuesday"})
    with pytest.raises(DataError, match="event 4 of 10: 'timestamp' is 'last Tuesday'"):
        stream.update_many(events)
    assert np.isnan(stream.score("long").score)
    with pytest.raises(DataError, match="'customer_id' is empty"):
        stream.update(" ", events[0][1])


@pytest.mark.parametrize("unknown", ["allow", "withhold"])
def test_who_does_not_consent_is_not_scored_as_in_a_frame(
    unknown: str, loud: Any, history: pd.DataFrame
):
    """Every two statements of a customer, at one moment, one after the other, and turned round."""
    early, late = pd.Timestamp("2023-03-01", tz="UTC"), pd.Timestamp("2023-04-01", tz="UTC")
    states = (None, "granted", "denied", "unknown")
    rows = []
    for first, second in itertools.product(states, states):
        for when, (one, two) in {"tied": (early, early), "apart": (early, late)}.items():
            customer = {"customer_id": f"{first} {second} {when}"}
            rows.append({**customer, "timestamp": one, "known_at": one, "consent": first})
            rows.append({**customer, "timestamp": two, "known_at": two, "consent": second})
            customer = {"customer_id": f"{first} {second} {when}, news late"}
            rows.append({**customer, "timestamp": two, "known_at": two, "consent": second})
            rows.append({**customer, "timestamp": one, "known_at": late, "consent": first})
    spoken = pd.DataFrame([{**history.iloc[0], **row} for row in rows])
    spoken["event_id"] = [f"e{i:03d}" for i in range(len(spoken))]
    spoken = in_order(spoken)
    path = loud("gru", consent=unknown)
    stream, scorer = seqjourney.Stream(path), seqjourney.load(path)
    reasons = set()
    for at in (early, late):
        stream.update_many(events_of(spoken[spoken["known_at"] == at]))
        for row in scorer.score(spoken[spoken["known_at"] <= at], at).itertuples():
            one = stream.score(row.customer_id, at + timedelta(days=1))
            withheld = None if pd.isna(row.withheld) else row.withheld
            reasons.add(withheld)
            assert one.withheld == withheld, row.customer_id
            assert np.isnan([one.score, one.probability]).all() == (withheld is not None)
    allowed = {None, "consent denied"}
    assert reasons == (allowed | {"consent unknown"} if unknown == "withhold" else allowed)


def test_a_forgotten_customer_starts_again(loud: Any, history: pd.DataFrame):
    place: dict[str, bytes] = {}
    for stream in (seqjourney.Stream(loud("gru")), seqjourney.Stream(loud("gru"), states=place)):
        stream.update_many(events_of(history))
        assert stream.forget("long") is True
        assert stream.forget("long") is False
        assert np.isnan(stream.score("long").score)
        with pytest.raises(DataError, match="nothing is known of customer 'long'"):
            stream.dump("long")
    place["short"] = b"damaged"
    assert stream.forget("short") is True


def test_in_memory_the_customer_unused_for_longest_goes_first(loud: Any, history: pd.DataFrame):
    stream = seqjourney.Stream(loud("gru"), most_customers=2)
    event = events_of(history)[0][1]
    stream.update("a", event)
    stream.update("b", event)
    stream.score("a")
    stream.update("c", event)
    known = {c: not np.isnan(stream.score(c, "2025-01-01").score) for c in "abc"}
    assert known == {"a": True, "b": False, "c": True}
    with pytest.raises(ConfigError, match="most_customers is 0"):
        seqjourney.Stream(loud("gru"), most_customers=0)
    with pytest.raises(ConfigError, match="states in memory"):
        seqjourney.Stream(loud("gru"), most_customers=2, states={})


@pytest.mark.parametrize("name", BOTH)
def test_a_state_of_another_model_is_refused(name: str, loud: Any, history: pd.DataFrame):
    stream = seqjourney.Stream(loud(name))
    stream.update_many(events_of(history))
    blob = stream.dump("short")
    for other in (loud(name, seed=1), loud(f"{name} of odd context")):
        with pytest.raises(DataError, match="made by another model"):
            seqjourney.Stream(other).restore("short", blob)
        kept = seqjourney.Stream(other, states={"short": blob})
        with pytest.raises(DataError, match=r"customer 'short': .*made by another model"):
            kept.score("short")


def test_threads_share_a_stream(loud: Any, history: pd.DataFrame):
    events = [event for customer, event in events_of(history) if customer == "middle"]
    stream, alone = seqjourney.Stream(loud("transformer")), seqjourney.Stream(loud("transformer"))
    expected = [alone.update("x", event).score for event in events]
    found: dict[str, list[float]] = {}

    def work(customer: str) -> None:
        found[customer] = [stream.update(customer, event).score for event in events]

    threads = [threading.Thread(target=work, args=(c,)) for c in ("x", "y", "z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for scores in found.values():
        assert scores == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_only_networks_stream(run_of: RunOf):
    with pytest.raises(ConfigError, match="must be a run of a network"):
        seqjourney.Stream(run_of("recency"))
    with pytest.raises(DataError, match="does not exist"):
        seqjourney.Stream("nowhere")


def test_a_model_that_should_have_been_retrained_is_refused(loud: Any, tmp_path: Path):
    from seqjourney.events.ledger import OF_RUN

    folder = shutil.copytree(loud("gru"), tmp_path / "run")
    request = {"request": "r1", "received": "2020-01-01T00:00:00+00:00"}
    late = {"format": 1, "requests": [{**request, "retrain_by": "2020-02-01T00:00:00+00:00"}]}
    (folder / OF_RUN).write_text(json.dumps(late))
    with pytest.raises(DataError, match="had to be retrained"):
        seqjourney.Stream(folder)
    with pytest.warns(UserWarning, match="had to be retrained") as warned:
        seqjourney.Stream(folder, overdue="allow")
    assert warned[0].filename == __file__
