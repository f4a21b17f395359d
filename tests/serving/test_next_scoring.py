"""Runs of next tasks score customers: what evaluation ranked, in bulk and from a frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import seqjourney
from models.random_histories import draw
from seqjourney.commands.evaluate_next import evaluate_next
from seqjourney.commands.export import export
from seqjourney.commands.prepare import prepare
from seqjourney.commands.score import score
from seqjourney.commands.train_next import train_next
from seqjourney.config import DataConfig, NextConfig, parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.evaluation.next_best import most_likely
from seqjourney.evaluation.next_ranks import NEVER, read_ranks
from seqjourney.models.next_network import NextNetworkPredictor
from seqjourney.sequences import next_cases
from seqjourney.sequences.next_cases import NextData, build_next_data
from seqjourney.sequences.store import open_store
from seqjourney.serving import bulk
from seqjourney.serving.backends import FILES, open_program

CUTOFF = "2023-10-01"
TASK = {
    "name": "next_event",
    "kind": "next",
    "horizon": "30d",
    "cutoffs": {"train": ["2023-07-01"], "validation": ["2023-08-01"], "test": [CUTOFF]},
}
MODELS: dict[str, dict[str, Any]] = {
    "gru": {"width": 16, "context": 32},
    "transformer": {"width": 16, "heads": 2, "layers": 1, "context": 32},
}
KINDS = ["gru", "transformer", "popularity", "recent", "markov", "rules"]
NextRunOf = Callable[..., Path]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST_CUSTOMERS", 17)  # 120 customers: 8 shards


@pytest.fixture(scope="session")
def next_run_of(small_log: Any, tmp_path_factory: pytest.TempPathFactory) -> NextRunOf:
    """Return the folder of a run of a next task, trained when first asked for."""
    output, done = tmp_path_factory.mktemp("next_runs"), {}

    def run(kind: str, **task: Any) -> Path:
        key = (kind, *sorted(task.items()))
        if key not in done:
            settings = {
                "name": f"next{len(done)}",
                "output": output,
                "processed": small_log.prepared.parent,
                "data": small_log.config.model_dump(),
                "task": TASK | task,
                "model": {"kind": kind, "name": kind, **MODELS.get(kind, {})},
                "trainer": {"max_epochs": 2, "accelerator": "cpu", "threads": 1, "progress": False},
            }
            done[key] = train_next(parse(NextConfig, settings, "run")).folder
        return done[key]

    return run


def read(folder: Path) -> pd.DataFrame:
    return pd.concat(
        [pd.read_parquet(file) for file in sorted(folder.glob("shard-*.parquet"))],
        ignore_index=True,
    )


def assert_ranked_alike(found: pd.DataFrame, run: Path, k: int) -> None:
    """Hold the values found against the counts that evaluation made of the test."""
    ranks = read_ranks(run / "ranks.parquet")
    test = ranks[(ranks["split"] == "test") & (ranks["ranking"] == "full")]
    by_value = found.dropna(subset="rank").set_index(["customer_id", "next_value"])["rank"]
    inside = 0
    for row in test.itertuples():
        rank = by_value.get((row.customer_id, row.target))
        if row.above == NEVER or row.above >= k:
            assert rank is None
        elif row.above + row.tied < k:
            assert row.above < rank <= row.above + row.tied + 1
            inside += 1
    assert inside > 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_likeliest_values_are_those_that_evaluation_ranked(
    kind: str, next_run_of: NextRunOf, frame: pd.DataFrame, small_log: Any, tmp_path: Path
):
    run = next_run_of(kind)
    scored = score(run, cutoff=CUTOFF, output=tmp_path / "scores", threads=2, k=3)
    found = read(scored.folder)
    assert list(found.columns) == [
        "customer_id", "cutoff", "rank", "next_value", "score", "probability", "model", "run",
    ]  # fmt: skip
    assert (scored.customers, scored.shards) == (found["customer_id"].nunique(), 8)
    assert scored.without_events == found["rank"].isna().sum()
    assert set(found["model"]) == {kind} and set(found["run"]) == {f"{run.parent.name}/{kind}"}
    assert_ranked_alike(found, run, 3)
    live = seqjourney.load(run)
    live.k = 3
    expected = live.score(frame, CUTOFF)
    pd.testing.assert_frame_equal(
        found[expected.columns].astype({"rank": "Int32"}), expected, check_dtype=False, atol=1e-5
    )
    # And the numbers are those that the ranks were made of.
    data = build_next_data(open_store(small_log.prepared / "store"), live.task).of("test")
    whole = np.concatenate(list(live.model.scores(data)))
    own = np.exp(whole - whole.max(1)[:, None]) if kind in MODELS else whole
    shares = pd.DataFrame(
        own / own.sum(1)[:, None], data.snapshots["customer_id"], live.tokenizer.vocabulary["event"]
    ).stack()
    asked = found[found["customer_id"].isin(data.snapshots["customer_id"])]
    keys = pd.MultiIndex.from_frame(asked[["customer_id", "next_value"]])
    np.testing.assert_allclose(asked["probability"], shares[keys], atol=1e-5)


def test_all_values_share_out_all_of_the_probability(next_run_of: NextRunOf, tmp_path: Path):
    for kind in ("gru", "markov", "rules"):
        found = read(score(next_run_of(kind), output=tmp_path / kind, threads=1, k=1000).folder)
        found = found.dropna(subset="rank")
        np.testing.assert_allclose(found.groupby("customer_id")["probability"].sum(), 1, atol=1e-6)
        assert found.groupby("customer_id")["score"].is_monotonic_decreasing.all()
        assert found["probability"].std() > 1e-3


def test_customers_before_their_first_event_have_one_empty_row(
    next_run_of: NextRunOf, frame: pd.DataFrame, tmp_path: Path
):
    early = str(frame["timestamp"].min() + pd.Timedelta(days=20))
    scored = score(next_run_of("markov"), cutoff=early, output=tmp_path / "scores", threads=1)
    found = read(scored.folder)
    empty = found[found["rank"].isna()]
    assert 0 < len(empty) == scored.without_events < scored.customers == 120
    assert empty["customer_id"].is_unique
    runs = (found["customer_id"] != found["customer_id"].shift()).sum()
    assert runs == 120  # a customer's rows stand together
    assert empty[["next_value", "score", "probability"]].isna().all(axis=None)
    later = found.dropna(subset="rank")
    assert not set(empty["customer_id"]) & set(later["customer_id"])
    assert (later.groupby("customer_id")["rank"].max() > 1).all()


def test_what_a_history_holds_is_no_candidate_where_values_do_not_repeat(
    next_run_of: NextRunOf, frame: pd.DataFrame
):
    early = "2023-04-01"
    for kind, field in (("gru", "event"), ("markov", "event"), ("gru", "channel")):
        scorer = seqjourney.load(next_run_of(kind, field=field, repeats=False))
        whole = scorer.score(frame, early)
        found = whole.dropna(subset="rank")
        assert 20 < found["customer_id"].nunique() < whole["customer_id"].nunique() == 120
        known = frame[frame["known_at"].fillna(frame["timestamp"]) <= early]
        known = known[~known["event"].isin(scorer.tokenizer.label_only_events)]
        had = known.groupby("customer_id")[field].unique()
        values = set(scorer.tokenizer.vocabulary[field])
        left = {name: values - set(had.get(name, ())) for name in whole["customer_id"]}
        answered = found.groupby("customer_id")["next_value"].agg(set)
        gone = set(whole["customer_id"]) - set(known["customer_id"])
        assert answered.to_dict() == {n: v for n, v in left.items() if v and n not in gone}
        sums = found.groupby("customer_id")["probability"].sum()
        np.testing.assert_allclose(sums, 1, atol=1e-6)


def test_a_model_of_mere_orders_is_asked_right_after_the_last_event(tmp_path: Path):
    rows = [(f"u{user:02d}", position, f"i{(user * user + position) % 9}")
            for user in range(40) for position in range(6 + user % 3)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["user", "position", "item"])
    table.to_csv(tmp_path / "whole.csv", index=False)
    table[table["position"] < table.groupby("user")["position"].transform("max")].to_csv(
        tmp_path / "known.csv", index=False
    )
    told = {"customer": "user", "timestamp": "position", "timestamp_unit": "order"}
    told |= {"event_name": "view", "categorical": ["item"], "threads": 1}
    for name in ("whole", "known"):
        data = parse(DataConfig, told | {"name": name, "path": str(tmp_path / f"{name}.csv")}, "")
        prepare(data, tmp_path / "processed", progress=False)
    settings = {
        "name": "orders",
        "output": tmp_path / "outputs",
        "processed": tmp_path / "processed",
        "data": told | {"name": "whole", "path": str(tmp_path / "whole.csv")},
        "task": {"name": "next_item", "kind": "next", "field": "item", "even_spacing": True,
                 "split": "leave_one_out"},
        "model": {"kind": "gru", "name": "gru", **MODELS["gru"]},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "threads": 1, "progress": False},
    }  # fmt: skip
    run = train_next(parse(NextConfig, settings, "run")).folder
    scored = score(run, prepared=tmp_path / "processed/known", output=tmp_path / "scores", k=7)
    assert_ranked_alike(read(scored.folder), run, 7)


def test_a_killed_job_goes_on_and_another_k_is_another_job(
    next_run_of: NextRunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, output = next_run_of("gru"), tmp_path / "scores"
    whole = read(score(run, cutoff=CUTOFF, output=tmp_path / "whole", threads=2).folder)
    make = bulk.Shards.make

    def failing(self: bulk.Shards, number: int) -> None:
        if number == 3:
            raise RuntimeError("killed")
        make(self, number)

    with monkeypatch.context() as context, pytest.raises(RuntimeError, match="killed"):
        context.setattr(bulk.Shards, "make", failing)
        score(run, cutoff=CUTOFF, output=output, threads=1)
    again = score(run, cutoff=CUTOFF, output=output, threads=1)
    assert 0 < again.made < again.shards
    pd.testing.assert_frame_equal(read(output), whole, atol=1e-6)
    assert score(run, cutoff=CUTOFF, output=output, threads=1).made == 0
    with pytest.raises(DataError, match="its k is 10, this one's is 4"):
        score(run, cutoff=CUTOFF, output=output, k=4)
    default = score(run, cutoff=CUTOFF, k=4)
    assert default.folder == run.parent / "scores" / "gru-small-20231001T000000-top4"
    rows = pq.read_table(default.folder / "shard-00000.parquet").num_rows
    assert rows == 17 * 4


def test_many_values_make_small_shards(
    next_run_of: NextRunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bulk, "MOST_ROWS", 30)
    scored = score(next_run_of("popularity"), output=tmp_path / "scores", threads=1, k=5)
    # 7 customers of 4 rows: training met four values.
    assert scored.shards == 18 and set(read(scored.folder)["rank"]) == {1, 2, 3, 4}


def test_options_that_do_not_fit_are_refused(next_run_of: NextRunOf, tmp_path: Path):
    run = next_run_of("markov")
    for k in (0, True, "5"):
        with pytest.raises(ConfigError, match=f"k={k}: how many values a customer is given"):
            score(run, k=k)
    with pytest.raises(ConfigError, match="certificates are for models of who"):
        score(run, certificate=tmp_path)
    with pytest.raises(ConfigError, match="a run of a next task, which does not stream yet"):
        seqjourney.Stream(next_run_of("gru"))
    (run / "counts.npz").rename(tmp_path / "counts.npz")
    try:
        with pytest.raises(DataError, match=r"counts.npz is missing or damaged"):
            seqjourney.load(run)
    finally:
        (tmp_path / "counts.npz").rename(run / "counts.npz")


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("gru", "torchscript"), ("gru", "onnx"), ("transformer", "torchscript"),
     ("transformer", "onnx"), ("transformer", "torch_export")],
)  # fmt: skip
def test_every_back_end_answers_as_the_network(
    kind: str,
    backend: Any,
    next_run_of: NextRunOf,
    frame: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    if backend == "onnx":
        pytest.importorskip("onnx", reason="needs the onnx extra")
        pytest.importorskip("onnxruntime", reason="needs the onnx extra")
    run = next_run_of(kind)
    exported = export(run, kind=backend)
    monkeypatch.setattr(next_cases, "_AT_ONCE", 5)  # in many pieces
    found = read(score(run, cutoff=CUTOFF, output=tmp_path / "b", backend=backend, k=1000).folder)
    expected = read(score(run, cutoff=CUTOFF, output=tmp_path / "eager", k=1000).folder)
    keys = ["customer_id", "next_value"]  # near ties may change places
    pd.testing.assert_frame_equal(
        found.sort_values(keys, ignore_index=True).drop(columns="rank"),
        expected.sort_values(keys, ignore_index=True).drop(columns="rank"),
        atol=1e-4,
    )
    assert expected["score"].std() > 0.05
    live = seqjourney.load(exported)
    assert live.k == 10 and live.kind == kind
    live.k = 1000
    again = live.score(frame, CUTOFF).sort_values(keys, ignore_index=True)
    np.testing.assert_allclose(
        again["score"], expected.sort_values(keys, ignore_index=True)["score"], atol=1e-4
    )


@pytest.mark.parametrize("backend", ["torchscript", "onnx"])
def test_an_exported_network_takes_any_shape_and_says_what_it_returns(
    backend: Any, next_run_of: NextRunOf, tmp_path: Path
):
    if backend == "onnx":
        pytest.importorskip("onnx", reason="needs the onnx extra")
        pytest.importorskip("onnxruntime", reason="needs the onnx extra")
    run = next_run_of("gru")
    program, extra = open_program(export(run, tmp_path / Path(FILES[backend]).name, kind=backend))
    network = NextNetworkPredictor.load(run)
    for shape in ((1, 1, 1), (2, 1, 5), (5, 33, 3), (1, 200, 1), (3, 7, 4)):
        inputs = draw(np.random.default_rng(0), network.tokenizer, *shape)
        with torch.inference_mode():
            expected = network.model.scores(network.model(*inputs))
            torch.testing.assert_close(program(*inputs), expected, atol=1e-4, rtol=0)
        assert expected.shape == (shape[0], shape[2], 4)
    card = extra["model_card.md"]
    assert "Predicts: which event comes next, of 4 (next). Split by time" in card
    assert "returns (B, S, V) float32" in card and "has not been evaluated yet" in card


def test_a_model_card_has_the_test_of_the_report_on_these_very_ranks(
    next_run_of: NextRunOf, tmp_path: Path
):
    run = next_run_of("transformer")
    report = run.parent / "report"
    evaluate_next([run], report, title="one", replicates=20)
    value = json.loads((report / "metrics.json").read_text())["rankings"]["full"]["models"]
    _, extra = open_program(export(run, tmp_path / "model.pt"))
    assert f"- mrr@20: {value['transformer']['mrr@20']['value']:.4f} [" in extra["model_card.md"]
    baseline = next_run_of("markov")
    with pytest.raises(ConfigError, match="is a markov; only networks"):
        export(baseline)


def test_of_equal_values_the_more_frequent_comes_first(small_log: Any):
    task = parse(NextConfig.model_fields["task"].annotation, TASK, "task")
    data = build_next_data(open_store(small_log.prepared / "store"), task).of("test")
    two = data.of("test")
    two = NextData(task, two.store, two.tokenizer, two.snapshots.iloc[:2].reset_index(drop=True))
    scores = [[0.0, 2.0, 1.0, 2.0, 1.0, 1.0], [1.0] * 6]
    chunks = [np.array(scores)]
    best = most_likely(two, chunks, 4, log_scores=False)
    assert best.question.tolist() == [0] * 4 + [1] * 4
    assert best.rank.tolist() == [1, 2, 3, 4] * 2
    assert best.value.tolist() == [1, 3, 2, 4, 0, 1, 2, 3]
    assert best.score.tolist() == [2, 2, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(best.probability[:4], np.array([2, 2, 1, 1]) / 7)
    share = most_likely(two, chunks, 1, log_scores=True).probability
    np.testing.assert_allclose(share, [np.exp(2) / np.exp(scores[0]).sum(), 1 / 6])
    with pytest.raises(DataError, match="scores that are not numbers"):
        most_likely(two, [np.full((2, 6), np.nan)], 1, log_scores=True)
