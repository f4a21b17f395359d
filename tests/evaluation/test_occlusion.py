"""An effect is the score with a happening minus the score without it, nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from seqjourney.evaluation.occlusion import FILE, example_results, explain, write_examples
from seqjourney.sequences.batching import window_start
from seqjourney.sequences.snapshots import cut_snapshots
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import fit_tokenizer
from small_logs import as_store, as_table, clean_log, raw_events, small_task

WEIGHTS = {"visit": 1.0, "click": -2.0, "purchase": 5.0, "mail": 0.0, "outcome": 0.5}


class Weighs:
    """Scores a history by the sum of its events' weights."""

    def score(self, data: TaskData) -> np.ndarray:
        field = data.store.categorical_fields.index("event")
        weights = np.array([WEIGHTS[name] for name in data.store.dictionaries["event"]])
        each = weights[data.store.categorical[:, field]]
        sums = np.diff(np.append(0, each.cumsum())[data.store.offsets])
        assert (np.diff(data.store.offsets) == data.snapshots["end"]).all()
        return sums[data.snapshots["customer_index"]]


def make_data() -> TaskData:
    raw = raw_events()
    log = clean_log(raw.assign(at=raw["at"].dt.floor("20D")))  # much happens together
    events, store, task = as_table(log), as_store(log), small_task()
    snapshots, _ = cut_snapshots(events, task, store.customer_ids)
    until = pd.Timestamp("2023-06-01", tz="UTC").value // 1000
    return TaskData(task, events, store, fit_tokenizer(store, until, [until]), snapshots)


def test_what_happened_together_under_one_name_is_left_out_together():
    data = make_data().of("test")
    found = explain(Weighs().score, data, 512)
    assert len(found) < found["events"].sum() == data.snapshots["end"].sum()  # some do tie
    weights = found["event"].map(WEIGHTS) * found["events"]
    np.testing.assert_allclose(found["score"] - found["score_without"], weights)
    whole = weights.groupby([found["customer_id"], found["cutoff"]]).transform("sum")
    np.testing.assert_allclose(found["score"], whole)
    assert (found["days_before"] >= 0).all()
    first = found[found["customer_id"] == found["customer_id"].iloc[0]]
    assert first["days_before"].is_monotonic_decreasing


def test_examples_are_chosen_by_score_alone_and_come_back_strongest_first(tmp_path):
    data = make_data()
    test = data.of("test").snapshots
    scored = test.assign(score=test["end"].astype(float))
    assert example_results(tmp_path) == []
    write_examples(Weighs().score, data, 512, scored, lambda score: score / 100, tmp_path)
    kept = pd.read_parquet(tmp_path / FILE)
    longest = test.sort_values("end", ascending=False, kind="stable")["customer_id"].iloc[0]
    assert kept["customer_id"].iloc[0] == longest
    examples = example_results(tmp_path)
    asked = (test["end"] > 0).sum() - 1
    assert [e["place"] for e in examples] == [1, 1 + asked * 10 // 100, 1 + asked // 2]
    for example in examples:
        effects = [abs(it["effect"]) for it in example["happenings"]]
        assert effects == sorted(effects, reverse=True) and 0 < len(effects) <= 6


def test_nobody_to_explain_leaves_an_empty_file(tmp_path):
    data = make_data()
    nobody = data.of("test").snapshots.assign(score=0.0).head(0)
    write_examples(Weighs().score, data, 512, nobody, lambda score: score, tmp_path)
    assert example_results(tmp_path) == []


def test_what_a_network_does_not_see_stays_out_of_sight():
    """Without a token a window must not begin earlier, or older tokens would be the effect."""
    data = make_data()
    longest = data.snapshots["end"].max()
    long = data.snapshots[data.snapshots["end"] == longest].head(1).reset_index(drop=True)
    context = 2 * ((int(longest) - 1) // 2)  # the window has just moved on
    seen = int(longest - window_start(np.array([longest]), context)[0])
    assert 0 < seen < longest
    found = explain(Weighs().score, replace(data, snapshots=long), context)
    assert found["events"].sum() == seen
    effects = found["score"] - found["score_without"]
    np.testing.assert_allclose(effects, found["event"].map(WEIGHTS) * found["events"])


def test_a_report_tells_times_no_finer_than_hours(tmp_path):
    row = {"customer_id": "c", "cutoff": pd.Timestamp("2023-01-01", tz="UTC"), "event": "visit",
           "events": 1, "place": 1, "probability": 0.5, "probability_without": 0.4}  # fmt: skip
    pd.DataFrame([{**row, "days_before": d} for d in (0.51, 3.31)]).to_parquet(tmp_path / FILE)
    ((first, second),) = [e["happenings"] for e in example_results(tmp_path)]
    assert (first["days_before"], second["days_before"]) == (0.5, 3.0)
