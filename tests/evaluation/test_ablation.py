"""Poorer histories are what they are called, and their scores are measured in pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from seqjourney.errors import DataError
from seqjourney.evaluation.ablation import (
    FILE,
    VARIANTS,
    Histories,
    ablation_results,
    evenly_spaced,
    recent,
    score_ablations,
    shuffled,
    write_ablations,
)
from seqjourney.evaluation.predictions import write_predictions
from seqjourney.sequences.snapshots import cut_snapshots
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import fit_tokenizer
from small_logs import as_store, as_table, clean_log, raw_events, small_task

DAY_US = 86_400_000_000
RNG = np.random.default_rng(0)


@pytest.fixture
def histories() -> Histories:
    days = np.array([1, 5, 70, 2, 90])  # of two snapshots asked on day 100; the second's has two
    return Histories(
        times=np.stack([days * DAY_US, days * DAY_US], axis=1),
        categorical=np.arange(5, dtype=np.int32)[:, None],
        numeric=np.arange(5, dtype=np.float32)[:, None],
        owner=np.array([0, 0, 0, 2, 2]),
        cutoff_us=np.array([100, 100, 100]) * DAY_US,
    )


def test_recent_leaves_out_what_is_older_than_so_many_days(histories):
    poorer = recent(95, histories, RNG)
    assert poorer.categorical[:, 0].tolist() == [1, 2, 4]  # 95 days old still counts
    assert poorer.owner.tolist() == [0, 0, 2]


def test_shuffled_moves_content_within_a_history_and_no_time(histories):
    found = set()
    for seed in range(20):
        poorer = shuffled(histories, np.random.default_rng(seed))
        assert (poorer.times == histories.times).all()
        assert sorted(poorer.categorical[:3, 0].tolist()) == [0, 1, 2]
        assert (poorer.categorical[:, 0] == poorer.numeric[:, 0]).all()  # an event stays whole
        found.add(tuple(poorer.categorical[:3, 0].tolist()))
    assert len(found) > 3


def test_evenly_spaced_keeps_the_order_and_spans_to_the_cutoff(histories):
    poorer = evenly_spaced(histories, RNG)
    assert (poorer.categorical == histories.categorical).all()
    assert (poorer.times[:, 0] // DAY_US).tolist() == [1, 34, 67, 2, 51]
    assert (poorer.times[:, 0] == poorer.times[:, 1]).all()


class CountsEvents:
    """Says how many events it is shown, and remembers what it was asked."""

    def score(self, data: TaskData) -> np.ndarray:
        offsets = data.store.offsets
        index = data.snapshots["customer_index"].to_numpy()
        assert (np.diff(offsets)[index] == data.snapshots["end"]).all()
        return np.diff(offsets)[index].astype(float)


@pytest.fixture(scope="module")
def data() -> TaskData:
    log = clean_log(raw_events())
    events, store, task = as_table(log), as_store(log), small_task()
    snapshots, _ = cut_snapshots(events, task, store.customer_ids)
    until = pd.Timestamp("2023-06-01", tz="UTC").value // 1000
    tokenizer = fit_tokenizer(store, until, [until], min_count=1)
    return TaskData(task, events, store, tokenizer, snapshots)


def test_every_snapshot_of_the_test_is_asked_about_its_own_past_only(data):
    scores = score_ablations(CountsEvents(), data, 512, seed=0)
    rows = data.of("test").snapshots
    assert scores["customer_id"].tolist() == rows["customer_id"].tolist()
    assert (scores["shuffled"].to_numpy() == rows["end"].to_numpy()).all()
    assert "last_365_days" not in scores  # the log is shorter than that
    since = rows["cutoff"].iloc[0] - pd.Timedelta(days=90)
    log = clean_log(raw_events())
    mine = log[(log["known_at"] <= rows["cutoff"].iloc[0]) & (log["timestamp"] >= since)]
    expected = mine.groupby("customer_id").size().reindex(rows["customer_id"], fill_value=0)
    assert (scores["last_90_days"].to_numpy() == expected.to_numpy()).all()


def test_the_difference_is_paired_and_found_only_where_there_is_one(tmp_path, frames):
    frame = frames[0]
    write_predictions(frame, tmp_path / "predictions.parquet")
    assert ablation_results(tmp_path, frame, replicates=50, seed=0) == {}
    test = frame[frame["split"] == "test"].reset_index(drop=True)
    scores = test[["customer_id", "cutoff"]].assign(
        last_30_days=test["score"] * 3 + 1, shuffled=RNG.normal(size=len(test))
    )
    write_ablations(scores, tmp_path)
    found = ablation_results(tmp_path, frame, replicates=50, seed=0)
    assert found["snapshots"] == len(test)
    assert (
        list(found["variants"])
        == ["last_30_days", "shuffled"]
        == [name for name in VARIANTS if name in scores]
    )
    same = found["variants"]["last_30_days"]["difference"]
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["variants"]["shuffled"]["difference"]["high"] < 0
    write_ablations(scores.assign(customer_id="somebody else").head(1), tmp_path)
    with pytest.raises(DataError, match=rf"{FILE}: 1 of its snapshots .* Train the run again"):
        ablation_results(tmp_path, frame, replicates=50, seed=0)
