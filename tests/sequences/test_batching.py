"""Batches hold every snapshot once, with exactly the tokens that it may see."""

from __future__ import annotations

import itertools

import ibis
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.sequences.batching import (
    BucketBatchSampler,
    Collator,
    build_windows,
    plan_batches,
    window_start,
)
from seqjourney.sequences.datamodule import window_loader
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import fit_tokenizer
from small_logs import as_store, clean_log, raw_events, small_task

UNTIL = pd.Timestamp("2023-06-01", tz="UTC")


def make_data(log: pd.DataFrame, cutoffs, label_only: tuple[str, ...] = ()) -> TaskData:
    """Ask every customer at every cutoff, with random labels and weights."""
    store = as_store(log, label_only)
    until_us = UNTIL.value // 1000
    tokenizer = fit_tokenizer(store, until_us, [until_us], min_count=10)
    rows = []
    for index, customer in enumerate(store.customer_ids):
        known_at = store.times[store.offsets[index] : store.offsets[index + 1], 1]
        for cutoff in cutoffs:
            end = int((known_at <= cutoff.value // 1000).sum())
            rows.append((customer, index, cutoff, end))
    snapshots = pd.DataFrame(rows, columns=["customer_id", "customer_index", "cutoff", "end"])
    random = np.random.default_rng(3)
    snapshots = snapshots.assign(
        split="train",
        label=random.integers(0, 2, len(rows)).astype(np.int8),
        weight=random.uniform(0.5, 2, len(rows)),
    ).astype({"cutoff": "datetime64[us, UTC]"})
    snapshots = snapshots.sample(frac=1, random_state=0).reset_index(drop=True)
    return TaskData(small_task(), ibis.table({"a": "int64"}), store, tokenizer, snapshots)


CUTOFFS = list(pd.date_range("2023-01-05", "2023-12-20", periods=9, tz="UTC"))


@pytest.fixture(scope="module")
def data() -> TaskData:
    """Customers of 1 to 400 events, some without a token."""
    log = clean_log(raw_events(customers=40, per_customer=12))
    heavy = clean_log(raw_events(customers=2, per_customer=300, seed=1))
    heavy["customer_id"] = "h" + heavy["customer_id"]
    quiet = log.iloc[[0]].assign(customer_id="quiet", event="outcome")
    log = pd.concat([log, heavy, quiet], ignore_index=True)
    log["event_id"] = [f"e{i:06d}" for i in range(len(log))]
    return make_data(log, CUTOFFS, label_only=("outcome",))


def one_by_one(data: TaskData, row: int, context: int) -> dict[str, np.ndarray]:
    """What a snapshot may see, read from the store without any batching."""
    snapshot = data.snapshots.loc[row]
    end = int(snapshot["end"])
    start = 0
    while end - start > context:  # half a context at a time
        start += context // 2
    first = data.store.offsets[snapshot["customer_index"]]
    rows = slice(first + start, first + end)
    ids = []
    for field, words in data.tokenizer.vocabulary.items():
        position = data.store.categorical_fields.index(field)
        lookup = {word: 3 + i for i, word in enumerate(words)}
        dictionary = data.store.dictionaries[field]
        codes = data.store.categorical[rows, position]
        ids.append([2 if code < 0 else lookup.get(dictionary[code], 1) for code in codes])
    return {
        "categorical": np.array(ids, np.int64).T.reshape(end - start, len(ids)),
        "numeric": data.store.numeric[rows],
        "times": data.store.times[rows, 0],
    }


@pytest.mark.parametrize("context", [2, 7, 64, 512])
def test_every_snapshot_sees_what_one_by_one_reading_gives(data, context):
    loader = window_loader(data, context=context, batch_tokens=700, seed=None)
    seen = []
    for batch in loader:
        for window, slot in zip(*np.nonzero(batch.rows.numpy() >= 0), strict=True):
            row = int(batch.rows[window, slot])
            seen.append(row)
            end = int(batch.ends[window, slot])
            expected = one_by_one(data, row, context)
            assert end == len(expected["times"])
            for name, values in expected.items():
                np.testing.assert_array_equal(getattr(batch, name)[window, :end], values)
            snapshot = data.snapshots.loc[row]
            assert int(batch.cutoffs[window, slot]) == snapshot["cutoff"].value // 1000
            assert float(batch.labels[window, slot]) == snapshot["label"]
            assert float(batch.weights[window, slot]) == pytest.approx(snapshot["weight"])
    assert sorted(seen) == list(range(len(data.snapshots)))


def test_padding_is_marked_as_such_everywhere(data):
    for batch in window_loader(data, context=64, batch_tokens=700, seed=None):
        padded = batch.rows < 0
        assert (batch.weights[padded] == 0).all()
        assert (batch.ends[padded] == 0).all()
        lengths = batch.ends.max(dim=1).values
        empty = torch.arange(batch.times.shape[1]) >= lengths[:, None]
        assert (batch.categorical[empty] == 0).all()
        assert batch.numeric[empty].isnan().all()
        assert (batch.categorical[~empty] > 0).all()
        assert not padded[:, 0].any()


@settings(max_examples=300)
@given(st.integers(2, 600), st.integers(0, 60_000))
def test_a_window_starts_at_a_place_that_depends_on_the_end_alone(context, end):
    (start,) = window_start(np.array([end]), context)
    assert 0 <= start <= end
    assert min(end, context / 2) <= end - start <= context
    assert start % (context // 2) == 0
    among_others = window_start(np.array([0, 3, end, 10**6]), context)
    assert among_others[2] == start


@settings(max_examples=40)
@given(st.integers(2, 80), st.data())
def test_which_other_cutoffs_are_asked_changes_no_window(data, context, draw):
    chosen = draw.draw(
        st.lists(st.integers(0, len(data.snapshots) - 1), min_size=1, max_size=30, unique=True)
    )
    some = TaskData(
        data.task,
        data.events,
        data.store,
        data.tokenizer,
        data.snapshots.iloc[chosen].reset_index(drop=True),
    )
    windows = build_windows(some, context)
    batch = Collator(some, windows)(range(len(windows)))
    for window, slot in zip(*np.nonzero(batch.rows.numpy() >= 0), strict=True):
        row = chosen[int(batch.rows[window, slot])]
        end = int(batch.ends[window, slot])
        expected = one_by_one(data, row, context)["times"]
        np.testing.assert_array_equal(batch.times[window, :end], expected)


sizes = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), min_size=1, max_size=80)


@given(sizes, st.integers(64, 2_000))
def test_batches_keep_to_the_budget_unless_one_window_alone_exceeds_it(sizes, budget):
    lengths, snapshots = np.array(sorted(sizes, key=sum)).T
    bounds = plan_batches(lengths, snapshots, budget)
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    assert (np.diff(bounds) > 0).all()
    for start, stop in itertools.pairwise(bounds):
        tokens = (lengths[start:stop].max() + snapshots[start:stop].max()) * (stop - start)
        assert tokens <= budget or stop - start == 1


def cost(windows, batch) -> int:
    snapshots = np.diff(windows.bounds)
    return int((windows.lengths[batch].max() + snapshots[batch].max()) * len(batch))


@pytest.mark.parametrize("context", [16, 128])
def test_shuffled_batches_exceed_the_budget_by_little_and_hold_every_window_once(data, context):
    windows = build_windows(data, context)
    budget = 600
    sampler = BucketBatchSampler(windows, budget, seed=5)
    largest = (windows.lengths + np.diff(windows.bounds)).max()
    for _ in range(4):
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(w for batch in batches for w in batch) == list(range(len(windows)))
        # Sizes are noisy by 10 % each way: a window may sit among ones that are 22 % smaller.
        assert max(cost(windows, np.array(b)) for b in batches) <= max(budget, largest) * 1.5
        assert np.mean([cost(windows, np.array(b)) > budget * 1.1 for b in batches]) < 0.25


def test_the_same_seed_gives_the_same_order_and_epochs_differ(data):
    windows = build_windows(data, 32)
    first, second = (BucketBatchSampler(windows, 200, seed=5) for _ in range(2))
    epochs = [list(first), list(first)]
    assert epochs == [list(second), list(second)]
    assert epochs[0] != epochs[1]
    assert list(BucketBatchSampler(windows, 200, seed=6)) != epochs[0]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_and_have_equally_many_in_training(data, seed, world):
    windows = build_windows(data, 32)
    alone = list(BucketBatchSampler(windows, 200, seed))
    samplers = [BucketBatchSampler(windows, 200, seed, rank, world) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    assert [len(s) for s in shares] == [len(sampler) for sampler in samplers]
    everything = [tuple(batch) for share in shares for batch in share]
    assert set(everything) == {tuple(batch) for batch in alone}
    repeated = len(everything) - len(alone)
    if seed is None:
        assert repeated == 0
    else:
        assert {len(share) for share in shares} == {-(-len(alone) // world)}
        assert repeated == -len(alone) % world


@pytest.mark.parametrize("position", [0, 1, 4])
def test_a_sampler_resumes_within_an_epoch_with_exactly_the_rest(data, position):
    windows = build_windows(data, 32)
    whole = BucketBatchSampler(windows, 200, seed=5)
    epochs = [list(whole) for _ in range(3)]
    interrupted = BucketBatchSampler(windows, 200, seed=5)
    list(interrupted)
    running = iter(interrupted)
    for _ in range(position):
        next(running)
    state = interrupted.state_dict()
    resumed = BucketBatchSampler(windows, 200, seed=5)
    if position:
        resumed.load_state_dict(state)
        assert list(resumed) == epochs[1][position:]
    else:  # between two epochs
        resumed.load_state_dict({"epoch": 1, "position": 0})
        assert list(resumed) == epochs[1]
    assert list(resumed) == epochs[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_within_an_epoch_with_exactly_the_rest(data, workers):
    def loader():
        return window_loader(data, context=32, batch_tokens=200, seed=5, workers=workers)

    first = loader()
    epochs = [[b.rows.tolist() for b in first] for _ in range(2 if workers == 0 else 1)]
    interrupted = loader()
    running = iter(interrupted)
    for _ in range(3):
        next(running)
    state = interrupted.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    assert [b.rows.tolist() for b in resumed] == epochs[0][3:]
    for number, epoch in enumerate(epochs[1:], 1):
        assert [b.rows.tolist() for b in resumed] == epoch, number


def test_a_customer_with_50000_events_costs_no_more_than_the_context():
    n = 50_000
    at = pd.date_range("2023-01-01", "2023-12-01", periods=n, tz="UTC").as_unit("us")
    log = pd.DataFrame(
        {
            "customer_id": "heavy",
            "event_id": [f"{i:06d}" for i in range(n)],
            "timestamp": at,
            "known_at": at,
            "event": "visit",
        }
    )
    data = make_data(log, CUTOFFS)
    loader = window_loader(data, context=512, batch_tokens=4096, seed=None)
    widths = [(batch.times.shape, (batch.rows >= 0).sum()) for batch in loader]
    assert all(tokens <= 512 for (_, tokens), _ in widths)
    assert sum(int(count) for _, count in widths) == len(data.snapshots)


def test_customers_without_a_token_are_asked_too(data):
    quiet = data.snapshots[data.snapshots["customer_id"] == "quiet"].reset_index(drop=True)
    only = TaskData(data.task, data.events, data.store, data.tokenizer, quiet)
    (batch,) = window_loader(only, context=8, batch_tokens=64, seed=None)
    assert sorted(batch.rows[batch.rows >= 0].tolist()) == list(range(len(CUTOFFS)))
    assert (batch.ends == 0).all()
    assert (batch.categorical == 0).all()


def test_no_snapshots_make_no_batches(data):
    none = TaskData(data.task, data.events, data.store, data.tokenizer, data.snapshots[:0])
    for seed in (None, 1):
        assert list(window_loader(none, context=8, batch_tokens=64, seed=seed)) == []
