"""Every way in which the future could reach a model is refused, and honest work is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import ibis
import numpy as np
import pandas as pd
import pytest

from seqjourney.errors import LeakageError
from seqjourney.evaluation.leakage import check_future_blind, check_predictions, check_task_data
from seqjourney.sequences.snapshots import cut_snapshots
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import fit_tokenizer
from small_logs import as_store, as_table, clean_log, raw_events, small_task

END_OF_TRAINING = pd.Timestamp("2023-06-01", tz="UTC")


def make_data(log: pd.DataFrame | None = None, **task) -> TaskData:
    log = clean_log(raw_events()) if log is None else log
    events, store, asked = as_table(log), as_store(log), small_task(**task)
    snapshots, _ = cut_snapshots(events, asked, store.customer_ids)
    return TaskData(asked, events, store, fit(store, END_OF_TRAINING), snapshots)


def fit(store, until: pd.Timestamp):
    return fit_tokenizer(store, until.value // 1000, [until.value // 1000], min_count=1)


@pytest.fixture(scope="module")
def data() -> TaskData:
    return make_data()


class Scores:
    """A predictor made of one function."""

    def __init__(self, score):
        self.score = score


def test_honest_task_data_passes_every_check(data):
    check_task_data(data)


def test_overlapping_splits_are_refused_with_both_moments(data):
    late = data.snapshots.assign(
        cutoff=data.snapshots["cutoff"].where(
            data.snapshots["split"] != "train", pd.Timestamp("2023-07-15", tz="UTC")
        )
    )
    with pytest.raises(LeakageError, match=r"train label window.*2023-07-15.*2023-08-14.*valid"):
        check_task_data(replace(data, snapshots=late))


def test_a_window_may_close_exactly_at_the_next_cutoff_and_not_a_moment_later(data):
    gap = timedelta(days=61)  # 2023-06-01 to 2023-08-01, and 2023-08-01 to 2023-10-01
    check_predictions(data.snapshots, gap)
    with pytest.raises(LeakageError, match="splits overlap"):
        check_predictions(data.snapshots, gap + timedelta(microseconds=1))


def test_a_tokenizer_fitted_after_training_is_refused(data):
    fitted_on_all = fit(data.store, pd.Timestamp("2023-12-31", tz="UTC"))
    with pytest.raises(LeakageError, match=r"fitted on events until 2023-12-31"):
        check_task_data(replace(data, tokenizer=fitted_on_all))


def test_a_word_that_nobody_had_seen_in_training_is_refused_by_name():
    log = clean_log(raw_events())
    log.loc[log["known_at"] > END_OF_TRAINING, "channel"] = "kiosk"
    data = make_data(log)
    assert "kiosk" not in data.tokenizer.vocabulary["channel"]
    forged = fit(data.store, pd.Timestamp("2023-12-31", tz="UTC"))
    forged = replace(forged, fitted_until=data.tokenizer.fitted_until)
    with pytest.raises(LeakageError, match=r"'kiosk' of field 'channel'"):
        check_task_data(replace(data, tokenizer=forged))


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_a_column_that_holds_the_label_is_refused_by_name_unless_trusted(kind):
    log = clean_log(raw_events(customers=300))
    once = {"train": ["2023-06-01"], "validation": ["2023-08-01"], "test": ["2023-10-01"]}
    training = make_data(log, cutoffs=once).of("train").snapshots
    # Written after the fact: every event of a customer tells whether the purchase followed.
    told = log["customer_id"].map(training.set_index("customer_id")["label"]).fillna(0)
    field = "items" if kind == "numeric" else "country"
    values = told.astype(float) if kind == "numeric" else np.where(told == 1, "kept", "left")
    leaking = make_data(log.assign(**{field: values}), cutoffs=once)
    with pytest.raises(LeakageError, match=f"field '{field}' alone tells the training labels"):
        check_task_data(leaking)
    trusted = make_data(log.assign(**{field: values}), cutoffs=once, trusted_fields=[field])
    check_task_data(trusted)


@pytest.mark.parametrize("step", [1, -1])
def test_a_snapshot_that_ends_beyond_or_before_its_cutoff_is_refused(data, step):
    known = data.snapshots["end"].between(3, 10)
    victim = known.idxmax()
    snapshots = data.snapshots.copy()
    snapshots.loc[victim, "end"] += step
    customer = snapshots.loc[victim, "customer_id"]
    with pytest.raises(LeakageError, match=f"customer '{customer}'.*does not end at the last"):
        check_task_data(replace(data, snapshots=snapshots))


def test_a_held_out_customer_in_training_is_refused():
    data = make_data(customer_holdout=0.3)
    check_task_data(data)
    rows = data.snapshots
    held_out = rows["customer_id"][rows["split"] == "test"].iloc[0]
    first = rows[rows["split"] == "train"].iloc[[0]]
    forged = pd.concat([rows, first.assign(customer_id=held_out)], ignore_index=True)
    with pytest.raises(LeakageError, match=f"'{held_out}' is held out"):
        check_task_data(replace(data, snapshots=forged))


def last_known(data: TaskData) -> np.ndarray:
    rows, store = data.snapshots, data.store
    last = store.offsets[rows["customer_index"]] + rows["end"].to_numpy() - 1
    return np.where(rows["end"] > 0, store.times[last, 0] / 1e15, 0.0)


def counted_later(data: TaskData) -> np.ndarray:
    """Peeks: how many tokens the customer will ever have."""
    return np.diff(data.store.offsets)[data.snapshots["customer_index"]].astype(float)


def next_token(data: TaskData) -> np.ndarray:
    """Peeks: the name of the first token that is not known yet."""
    rows, store = data.snapshots, data.store
    following = store.offsets[rows["customer_index"]] + rows["end"].to_numpy()
    inside = following < store.offsets[rows["customer_index"] + 1]
    codes = store.categorical[np.minimum(following, len(store.times) - 1), 0]
    return np.where(inside, codes, -1).astype(float)


def mean_of_all_values(data: TaskData) -> np.ndarray:
    """Peeks: a scaler fitted over the whole history of each customer."""
    totals = data.events.group_by("customer_id").aggregate(x=ibis._.value.mean()).to_pandas()
    return data.snapshots["customer_id"].map(totals.set_index("customer_id")["x"]).fillna(0.0)


def purchases_ever(data: TaskData) -> np.ndarray:
    """Peeks: counts purchases without a bound on time."""
    bought = data.events.filter(data.events.event == "purchase")
    totals = bought.group_by("customer_id").aggregate(n=bought.count()).to_pandas()
    return data.snapshots["customer_id"].map(totals.set_index("customer_id")["n"]).fillna(0.0)


def events_ever(data: TaskData) -> np.ndarray:
    """Peeks: counts all events, whatever they are."""
    totals = data.events.group_by("customer_id").aggregate(n=ibis._.count()).to_pandas()
    return data.snapshots["customer_id"].map(totals.set_index("customer_id")["n"]).fillna(0.0)


def events_known(data: TaskData) -> np.ndarray:
    cutoff = data.snapshots["cutoff"].iloc[0].to_pydatetime()
    known = data.events.filter(data.events.known_at <= ibis.literal(cutoff))
    totals = known.group_by("customer_id").aggregate(n=known.count()).to_pandas()
    return data.snapshots["customer_id"].map(totals.set_index("customer_id")["n"]).fillna(0.0)


@pytest.mark.parametrize(
    "peek", [counted_later, next_token, mean_of_all_values, purchases_ever, events_ever]
)
def test_a_predictor_that_peeks_at_the_future_is_caught(data, peek):
    with pytest.raises(LeakageError, match="the model sees the future"):
        check_future_blind(Scores(lambda d: np.asarray(peek(d), float)), data)


@pytest.mark.parametrize("honest", [last_known, events_known])
def test_a_predictor_that_reads_only_the_past_passes(data, honest):
    assert check_future_blind(Scores(lambda d: np.asarray(honest(d), float)), data) == 0.0


def test_one_customer_is_enough_to_catch_a_peek(data):
    with pytest.raises(LeakageError, match="the model sees the future"):
        check_future_blind(Scores(counted_later), data, customers=1)


def test_a_score_that_is_not_a_number_does_not_pass(data):
    def broken(d):
        return np.full(len(d.snapshots), np.nan)

    with pytest.raises(LeakageError):
        check_future_blind(Scores(broken), data)


class Amounts(Scores):
    """Honest scores beside amounts of another kind."""

    per_buyer = True

    def __init__(self, amount):
        super().__init__(lambda d: np.asarray(last_known(d), float))
        self._amount = amount

    def score_and_amount(self, data: TaskData):
        return self.score(data), np.asarray(self._amount(data), float)


def test_an_amount_that_peeks_at_the_future_is_caught(data):
    summed = replace(data, task=data.task.model_copy(update={"kind": "sum"}))
    for peek in (mean_of_all_values, purchases_ever, counted_later):
        with pytest.raises(LeakageError, match="changed the expected amount"):
            check_future_blind(Amounts(peek), summed)
    assert check_future_blind(Amounts(events_known), summed) == 0.0
