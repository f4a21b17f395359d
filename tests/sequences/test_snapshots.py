"""Snapshots are what a slow reader of the log with a calendar would write down."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.config import parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.files import read_json
from seqjourney.sequences.cutoffs import resolve_cutoffs
from seqjourney.sequences.snapshots import (
    SPLITS,
    check_classes,
    check_events,
    cut_snapshots,
    eligible_customers,
)
from small_logs import as_store, as_table, clean_log, raw_events, small_task

DAY = pd.Timedelta(days=1)
ORIGIN = pd.Timestamp("2023-01-01", tz="UTC")
CUTOFFS = {
    "train": ["2023-01-06", "2023-01-09"],
    "validation": ["2023-01-14"],
    "test": ["2023-01-20"],
}
HORIZON = timedelta(days=3)
LATER = pd.Timestamp("2100-01-01", tz="UTC")


def small_log(rows) -> pd.DataFrame:
    """Rows of (customer, happened, known later by, event), in days."""
    log = pd.DataFrame(
        {
            "customer_id": [f"c{customer}" for customer, *_ in rows],
            "event_id": [f"e{i:03d}" for i in range(len(rows))],
            "timestamp": [ORIGIN + day * DAY for _, day, _, _ in rows],
            "known_at": [ORIGIN + (day + late) * DAY for _, day, late, _ in rows],
            "event": [event for *_, event in rows],
        }
    )
    log["actor"] = np.where(log["event"] == "mail", "company", "customer")
    return log.astype({"timestamp": "datetime64[us, UTC]", "known_at": "datetime64[us, UTC]"})


def oracle(log: pd.DataFrame, task, label_only: tuple[str, ...]) -> pd.DataFrame:
    """Every eligible snapshot, one customer and cutoff at a time."""
    rows = []
    rule = task.eligible
    for customer, events in log.groupby("customer_id"):
        for split in SPLITS:
            for cutoff in map(pd.Timestamp, task.cutoffs.of(split)):
                known = events[events["known_at"] <= cutoff]
                if rule.events is None:
                    own = known[(known["actor"] == "customer") & ~known["event"].isin(label_only)]
                else:
                    own = known[known["event"].isin(rule.events)]
                if own.empty:
                    continue
                if rule.within and cutoff - own["timestamp"].max() > rule.within:
                    continue
                if known["event"].isin(rule.without).any():
                    continue
                following = {"train": "validation", "validation": "test"}.get(split)
                # A label of the past may use only what was known when the next split began.
                settled = min(task.cutoffs.of(following)) if following else LATER
                inside = (
                    (events["timestamp"] > cutoff)
                    & (events["timestamp"] <= cutoff + task.horizon)
                    & (events["known_at"] <= settled)
                )
                happened = events[inside]["event"].isin(task.target).any()
                end = int((~known["event"].isin(label_only)).sum())
                label = int(happened == (task.kind == "occurrence"))
                rows.append((customer, cutoff, split, end, label))
    return pd.DataFrame(rows, columns=["customer_id", "cutoff", "split", "end", "label"])


# Quarter days make ties with cutoffs, window ends and `within` common.
quarters = st.integers(0, 100).map(lambda q: q / 4)
event_rows = st.tuples(
    st.integers(0, 5),
    quarters,
    st.sampled_from([0, 0, 0, 0.25, 1, 2, 6]),
    st.sampled_from(["visit", "buy", "mail", "won", "lost"]),
)
rules = st.fixed_dictionaries(
    {},
    optional={
        "events": st.sampled_from([["visit"], ["buy", "visit"], ["mail"], ["won"]]),
        "within": st.sampled_from(["1d", "2d", "12h"]),
        "without": st.sampled_from([["buy"], ["lost"], ["won", "buy"]]),
    },
)


@settings(max_examples=25)
@given(
    rows=st.lists(event_rows, min_size=10, max_size=80),
    rule=rules,
    kind=st.sampled_from(["occurrence", "absence"]),
    target=st.sampled_from([["buy"], ["won", "lost"]]),
)
def test_snapshots_equal_a_slow_reading_of_the_log(rows, rule, kind, target):
    every = [(9, 0, 0, e) for e in ("visit", "buy", "mail", "won", "lost")]
    log = small_log([*rows, *every, *two_classes()])
    label_only = ("won", "lost")
    task = small_task(kind=kind, target=target, horizon=HORIZON, eligible=rule, cutoffs=CUTOFFS)
    expected = oracle(log, task, label_only)
    classes = expected.groupby("split")["label"].nunique().reindex(SPLITS, fill_value=0)
    customers = np.array(sorted(log["customer_id"].unique()), dtype=object)
    if (classes < 2).any():
        found, _ = cut_snapshots(as_table(log), task, customers, label_only)
        with pytest.raises(DataError, match=r"no customer is eligible|all [\d,]+ \w+ snapshots"):
            check_classes(label_counts(found), task)
        return
    found, excluded = cut_snapshots(as_table(log), task, customers, label_only)
    check_classes(label_counts(found), task)
    columns = list(expected.columns)
    pd.testing.assert_frame_equal(
        found[columns].sort_values(columns, ignore_index=True),
        expected.sort_values(columns, ignore_index=True),
        check_dtype=False,
    )
    assert (customers[found["customer_index"]] == found["customer_id"]).all()
    # Those left out and those asked are together all who were known at all.
    for split in SPLITS:
        cutoffs = task.cutoffs.of(split)
        known = sum(log[log["known_at"] <= c]["customer_id"].nunique() for c in cutoffs)
        assert known == (found["split"] == split).sum() + sum(excluded[split].values())


@pytest.mark.parametrize(
    "rule",
    [{}, {"events": ["purchase"], "within": "60d"}, {"within": "30d", "without": ["outcome"]}],
)
def test_who_is_eligible_for_scoring_is_who_was_asked_in_the_test(rule) -> None:
    log = clean_log(raw_events(400, 5))
    task = small_task(eligible=rule, customer_holdout=0.0)
    label_only = () if "without" in rule else ("outcome",)
    cut, _ = cut_snapshots(as_table(log), task, as_store(log, label_only).customer_ids, label_only)
    (cutoff,) = task.cutoffs.of("test")
    found = eligible_customers(as_table(log), task, cutoff, label_only)
    assert sorted(found) == sorted(cut.loc[cut["split"] == "test", "customer_id"])
    held = task.model_copy(update={"customer_holdout": 0.5})
    assert sorted(eligible_customers(as_table(log), held, cutoff, label_only)) == sorted(found)


def label_counts(snapshots: pd.DataFrame) -> dict[tuple[str, int], int]:
    return snapshots.groupby(["split", "label"]).size().to_dict()


def two_classes() -> list:
    """Customers 7 and 8 give every split both classes, whatever else is in the log."""
    days = [5, 8, 13, 19]
    return [(7, d, 0, "visit") for d in days] + [
        (8, d + shift, 0, event) for d in days for shift, event in ((0, "visit"), (1.5, "buy"))
    ]


def cut(rows, **changes) -> pd.DataFrame:
    log = small_log([*rows, *two_classes()])
    label_only = changes.pop("label_only", ())
    task = small_task(target=["buy"], horizon=HORIZON, cutoffs=CUTOFFS, **changes)
    customers = np.array(sorted(log["customer_id"].unique()), dtype=object)
    return cut_snapshots(as_table(log), task, customers, label_only)[0]


def asked(snapshots: pd.DataFrame, customer: str, cutoff: str) -> pd.Series | None:
    at = snapshots["cutoff"] == pd.Timestamp(cutoff, tz="UTC")
    rows = snapshots[(snapshots["customer_id"] == customer) & at]
    return None if rows.empty else rows.iloc[0]


MICROSECOND = 1 / 86_400_000_000


@pytest.mark.parametrize(
    ("day", "end", "label"),
    [
        (5, 2, 0),  # at the cutoff: the past
        (5 + MICROSECOND, 1, 1),  # a moment later: the label
        (8, 1, 1),  # at the end of the window: still the label
        (8 + MICROSECOND, 1, 0),  # beyond
    ],
)
def test_the_event_at_the_cutoff_is_past_and_the_one_at_the_end_of_the_window_is_label(
    day, end, label
):
    found = asked(cut([(1, 1, 0, "visit"), (1, day, 0, "buy")]), "c1", "2023-01-06")
    assert (found["end"], found["label"]) == (end, label)


def test_an_event_known_only_later_is_invisible_and_no_label_of_that_cutoff():
    snapshots = cut([(1, 1, 0, "visit"), (1, 4, 3, "buy")])
    first, second = (asked(snapshots, "c1", day) for day in ("2023-01-06", "2023-01-09"))
    assert (first["end"], first["label"]) == (1, 0)
    assert (second["end"], second["label"]) == (2, 0)


@pytest.mark.parametrize(("day", "counts"), [(3, True), (3 - MICROSECOND, False)])
def test_an_event_exactly_as_old_as_within_still_counts(day, counts):
    snapshots = cut([(1, day, 0, "visit")], eligible={"within": "2d"})
    assert (asked(snapshots, "c1", "2023-01-06") is not None) == counts


def test_company_events_make_nobody_eligible_but_are_tokens():
    snapshots = cut([(1, 1, 0, "mail"), (2, 1, 0, "mail"), (2, 2, 0, "visit")])
    assert asked(snapshots, "c1", "2023-01-06") is None
    assert asked(snapshots, "c2", "2023-01-06")["end"] == 2


def test_label_only_events_are_no_tokens_and_make_nobody_eligible():
    rows = [(1, 1, 0, "won"), (2, 1, 0, "won"), (2, 2, 0, "visit")]
    snapshots = cut(rows, label_only=("won",))
    assert asked(snapshots, "c1", "2023-01-06") is None
    assert asked(snapshots, "c2", "2023-01-06")["end"] == 1


def test_absence_is_the_opposite_of_occurrence():
    rows = [(1, 1, 0, "visit"), (1, 6, 0, "buy"), (2, 1, 0, "visit")]
    occurrence, absence = cut(rows), cut(rows, kind="absence")
    assert (occurrence["label"] + absence["label"] == 1).all()
    assert asked(absence, "c1", "2023-01-06")["label"] == 0
    assert asked(absence, "c2", "2023-01-06")["label"] == 1


def test_a_cutoff_named_twice_asks_once():
    once = cut([(1, 1, 0, "visit")])
    log = small_log([(1, 1, 0, "visit"), *two_classes()])
    twice = {**CUTOFFS, "train": [*CUTOFFS["train"], CUTOFFS["train"][0]]}
    task = small_task(target=["buy"], horizon=HORIZON, cutoffs=twice)
    customers = np.array(sorted(log["customer_id"].unique()), dtype=object)
    pd.testing.assert_frame_equal(cut_snapshots(as_table(log), task, customers)[0], once)


def test_a_customer_with_one_event_is_asked_and_one_with_50000_as_well():
    many = [(1, day, 0, "visit") for day in np.linspace(0, 24, 50_000)]
    snapshots = cut([*many, (2, 1, 0, "visit")])
    assert asked(snapshots, "c2", "2023-01-20")["end"] == 1
    whole = asked(snapshots, "c1", "2023-01-20")["end"]
    assert whole == sum(day <= 19 for _, day, *_ in many)


def test_the_customer_holdout_is_disjoint_stable_and_of_the_asked_size():
    log = clean_log(raw_events(customers=500, per_customer=8))
    customers = as_store(log).customer_ids
    task = small_task(customer_holdout=0.3)
    found, excluded = cut_snapshots(as_table(log), task, customers)
    testing = set(found["customer_id"][found["split"] == "test"])
    training = set(found["customer_id"][found["split"] != "test"])
    assert not testing & training
    assert 0.22 < len(testing) / len(testing | training) < 0.38
    assert excluded["train"]["held out for the test"] > 0
    assert excluded["test"]["not held out: used in training"] > 0
    fewer = log[log["customer_id"] < "c0250"]
    again, _ = cut_snapshots(as_table(fewer), task, as_store(fewer).customer_ids)
    still = set(again["customer_id"][again["split"] == "test"])
    assert still == {c for c in testing if c < "c0250"}


def test_customers_kept_for_certification_leave_validation_and_nothing_else():
    log = clean_log(raw_events(customers=500, per_customer=8))
    customers = as_store(log).customer_ids
    whole, _ = cut_snapshots(as_table(log), small_task(), customers)
    parted, _ = cut_snapshots(as_table(log), small_task(certify=0.3), customers)
    certifying = parted["split"] == "certification"
    validation = parted["split"] == "validation"
    assert not set(parted["customer_id"][certifying]) & set(parted["customer_id"][validation])
    assert 0.22 < certifying.sum() / (certifying | validation).sum() < 0.38
    assert parted.assign(split=parted["split"].mask(certifying, "validation")).equals(whole)


def test_customers_cut_in_parts_are_cut_as_all_at_once(small_log, tmp_path) -> None:
    from seqjourney.events.engine import connect
    from seqjourney.sequences.cutting import cut_task

    prepared = tmp_path / "prepared"
    shutil.copytree(small_log.prepared, prepared)
    folder = prepared / "tasks" / small_log.task.name
    found = []
    with connect(tmp_path) as backend:
        for part_events in (10**9, 1):
            cut_task(backend, prepared, small_log.task, "", part_events=part_events)
            file = pq.ParquetFile(folder / "snapshots.parquet")
            assert file.num_row_groups == (16 if part_events == 1 else 1)
            found.append((file.read(), read_json(folder / "task.json")))
    assert found[0] == found[1]


spans = st.tuples(
    st.datetimes(datetime(2000, 1, 1), datetime(2020, 1, 1)), st.integers(1, 5 * 365 * 24 * 3600)
)


@settings(max_examples=200)
@given(spans, st.integers(1, 400 * 24))
def test_derived_cutoffs_close_their_windows_within_the_data_and_before_the_next_split(
    span, horizon_hours
):
    first = span[0].replace(tzinfo=UTC)
    last = first + timedelta(seconds=span[1])
    task = small_task(cutoffs=None, horizon=timedelta(hours=horizon_hours))
    try:
        cutoffs = resolve_cutoffs(task, first, last).cutoffs
    except DataError as error:
        assert "too short" in str(error)
        assert last - first < 5 * task.horizon + timedelta(days=5)
        return
    train, validation, test = (cutoffs.of(split) for split in SPLITS)
    assert first < train[0]
    assert train[-1] + task.horizon <= validation[0]
    assert validation[-1] + task.horizon <= test[0]
    assert test[-1] + task.horizon <= last
    assert 1 <= len(train) <= 40
    assert list(train) == sorted(set(train))


@pytest.mark.parametrize(
    ("task", "split", "count", "base_rate"),
    [
        ("online_retail_conversion", "test", 4_067, 0.341),
        ("online_retail_churn", "test", 2_219, 0.401),
    ],
)
def test_online_retail_gives_the_known_snapshots(
    retail_prepared, compose, tmp_path, task, split, count, base_rate
):
    from seqjourney.config import TaskConfig
    from seqjourney.evaluation.leakage import check_task_data
    from seqjourney.events.engine import connect
    from seqjourney.sequences.cutting import load_task_data

    config = parse(TaskConfig, compose("train", f"experiment={task}")["task"], task)
    with connect(tmp_path) as backend:
        data = load_task_data(backend, retail_prepared, config)
        check_task_data(data)
        labels = data.of(split).snapshots["label"]
    assert len(labels) == count
    assert labels.mean() == pytest.approx(base_rate, abs=0.001)


def test_a_target_that_nobody_knew_of_when_the_next_split_began_is_no_training_label() -> None:
    task = small_task()
    first_validation = min(task.cutoffs.of("validation"))
    log = clean_log(raw_events())
    frame = log.assign(known_at=log["known_at"])
    known_late = log["timestamp"] < first_validation
    frame.loc[known_late & log["event"].isin(task.target), "known_at"] = pd.Timestamp(
        first_validation
    ) + pd.Timedelta(seconds=1)
    customers = np.array(sorted(frame["customer_id"].unique()), dtype=object)
    found, _ = cut_snapshots(as_table(frame), task, customers)
    with pytest.raises(DataError, match=r"all .* train snapshots have label 0"):
        check_classes(label_counts(found), task)


def money_log(rows) -> pd.DataFrame:
    """Rows of (customer, happened, known later by, event, value), in days."""
    return small_log([row[:4] for row in rows]).assign(value=[float(row[4]) for row in rows])


def test_a_sum_is_what_came_in_less_refunds_by_hand() -> None:
    nan = float("nan")
    rows = [
        # Bought at 7 and 9 and sent some back; the cutoff's own event is the past's.
        (0, 1, 0, "buy", 5), (0, 6 - 1, 0, "buy", 100), (0, 7, 0, "buy", 10.1),
        (0, 8, 0, "buy", 20.2), (0, 8.5, 0, "refund", -0.3), (0, 8.6, 0, "visit", 999),
        # 0.1 + 0.2 - 0.3 is nothing at all: no buyer.
        (1, 1, 0, "visit", nan), (1, 6, 0, "buy", 0.1), (1, 7, 0, "buy", 0.2),
        (1, 7.5, 0, "refund", -0.3),
        # Sends back what was bought before: less than nothing.
        (2, 1, 0, "buy", 50), (2, 6, 0, "refund", -50),
        # Known only after validation has begun: not for a label of training.
        (3, 1, 0, "visit", nan), (3, 6, 10, "buy", 70),
        # Bought for nothing that anybody wrote down.
        (4, 1, 0, "visit", nan), (4, 6, 0, "buy", nan),
        # Somebody to buy in validation and test.
        (5, 1, 0, "visit", nan), (5, 15, 0, "buy", 3), (5, 21, 0, "buy", 4), (5, 22, 0, "buy", 8),
    ]  # fmt: skip
    log = money_log(rows)
    cutoffs = {"train": ["2023-01-06"], "validation": ["2023-01-14"], "test": ["2023-01-20"]}
    task = small_task(
        kind="sum", target=["buy", "refund"], horizon=HORIZON + HORIZON / 3, cutoffs=cutoffs
    )
    customers = np.array(sorted(log["customer_id"].unique()), dtype=object)
    found, _ = cut_snapshots(as_table(log), task, customers)
    by_split = found.set_index(["split", "customer_id"])
    train = by_split.loc["train"]
    assert train["value"].to_dict() == {
        "c0": 30.0, "c1": 0.0, "c2": -50.0, "c3": 0.0, "c4": 0.0, "c5": 0.0
    }  # fmt: skip
    assert train["label"].to_dict() == {"c0": 1, "c1": 0, "c2": 0, "c3": 0, "c4": 0, "c5": 0}
    assert by_split.loc["validation", "value"]["c5"] == 3
    assert by_split.loc["test", "value"]["c5"] == 12
    assert found["value"].dtype == np.float64


def test_only_a_sum_has_values_and_its_column_must_be_a_number() -> None:
    log = clean_log(raw_events())
    store = as_store(log)
    found, _ = cut_snapshots(as_table(log), small_task(), store.customer_ids)
    assert "value" not in found
    for column, hint in (("valeu", "Did you mean 'value'"), ("country", "value, items")):
        task = small_task(kind="sum", value=column)
        with pytest.raises(DataError, match=f"task.value names '{column}'.*{hint}"):
            check_events(as_table(log), task)


def test_another_column_can_be_summed_and_labels_follow() -> None:
    log = clean_log(raw_events())
    store = as_store(log)
    found, _ = cut_snapshots(
        as_table(log), small_task(kind="sum", value="items"), store.customer_ids
    )
    row = found[found["label"] == 1].iloc[-1]
    mine = log[(log["customer_id"] == row["customer_id"]) & (log["event"] == "purchase")]
    inside = (mine["timestamp"] > row["cutoff"]) & (
        mine["timestamp"] <= row["cutoff"] + pd.Timedelta("30D")
    )
    assert row["split"] == "test" and row["value"] == mine["items"][inside].sum() > 0
    assert (found["label"] == (found["value"] > 0)).all()


def upsell(rows, above, **changes) -> tuple[pd.DataFrame, dict]:
    log = money_log(rows)
    cutoffs = {"train": ["2023-01-06"], "validation": ["2023-01-14"], "test": ["2023-01-20"]}
    task = small_task(target=["buy"], above=above, horizon=HORIZON, cutoffs=cutoffs, **changes)
    customers = np.array(sorted(log["customer_id"].unique()), dtype=object)
    return cut_snapshots(as_table(log), task, customers)


NAN = float("nan")
BUYERS = [
    # Before the cutoff on day 5: mean 20, largest 30. A visit's value is no target's.
    (0, 1, 0, "buy", 10), (0, 2, 0, "buy", 30), (0, 3, 0, "visit", 900), (0, 6, 0, "buy", 25),
    # The same price three times, which as binary fractions adds up to a little less or more.
    (1, 1, 0, "buy", 0.1), (1, 2, 0, "buy", 0.1), (1, 3, 0, "buy", 0.1), (1, 6, 0, "buy", 0.1),
    # The larger one was known only after the cutoff: the bar is 10.
    (2, 1, 0, "buy", 10), (2, 2, 4, "buy", 50), (2, 6, 0, "buy", 40),
    # Nothing that says how much: never bought, and bought for nothing that anybody wrote down.
    (3, 1, 0, "visit", NAN), (3, 6, 0, "buy", 70), (4, 1, 0, "buy", NAN), (4, 6, 0, "buy", 70),
    # A purchase without a value is above nothing; the one beyond the window does not count.
    (5, 1, 0, "buy", 10), (5, 6, 0, "buy", NAN), (5, 8.5, 0, "buy", 99),
    # What is sent back lowers the mean, 8, and not the largest, 20.
    (6, 1, 0, "buy", 20), (6, 2, 0, "buy", -4), (6, 6, 0, "buy", 10),
]  # fmt: skip


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        ("mean", {"c0": 1, "c1": 0, "c2": 1, "c5": 0, "c6": 1}),
        ("largest", {"c0": 0, "c1": 0, "c2": 1, "c5": 0, "c6": 0}),
        (25, {"c0": 0, "c1": 0, "c2": 1, "c3": 1, "c4": 1, "c5": 0, "c6": 0}),
    ],
)
def test_upsell_by_hand(above, expected) -> None:
    found, excluded = upsell(BUYERS, above)
    train = found[found["split"] == "train"].set_index("customer_id")
    assert train["label"].to_dict() == expected
    assert "past" not in found
    reason = "no value of buy to go above"
    assert excluded["train"].get(reason, 0) == 7 - len(expected)
    absent, _ = upsell(BUYERS, above, kind="absence")
    assert (absent["label"] + found["label"] == 1).all()


def test_a_bar_of_money_is_not_passed_by_what_a_binary_fraction_adds() -> None:
    rows = [(0, 1, 0, "buy", 1), (0, 6, 0, "buy", 0.1 + 0.2)]  # 0.30000000000000004
    rows += [(1, 1, 0, "buy", 1), (1, 6, 0, "buy", 0.31)]
    found = upsell(rows, 0.3)[0].set_index(["split", "customer_id"])["label"]
    assert found["train"].to_dict() == {"c0": 0, "c1": 1}


def test_who_is_asked_to_buy_for_more_is_who_bought_before_when_scoring_too() -> None:
    log = as_table(money_log(BUYERS))
    task = small_task(target=["buy"], above="mean", horizon=HORIZON)
    found = eligible_customers(log, task, datetime(2023, 1, 6, tzinfo=UTC))
    assert sorted(found) == ["c0", "c1", "c2", "c5", "c6"]


def test_another_column_may_be_the_one_to_go_above_and_only_of_these_kinds() -> None:
    log = clean_log(raw_events())
    customers = as_store(log).customer_ids
    found, _ = cut_snapshots(as_table(log), small_task(above=5, value="items"), customers)
    plain, _ = cut_snapshots(as_table(log), small_task(), customers)
    assert (found["label"] <= plain["label"]).all() and (found["label"] < plain["label"]).any()
    with pytest.raises(DataError, match=r"task\.value names 'country'"):
        check_events(as_table(log), small_task(above="mean", value="country"))
    with pytest.raises(ConfigError, match="above is not for kind sum"):
        small_task(kind="sum", above="mean")


def test_the_interval_is_the_first_horizon_by_which_it_happened() -> None:
    rows = [(1, 1, 0, "visit"), (1, 6, 0, "buy"), (1, 7, 0, "buy")]  # the end of the first day
    rows += [(2, 1, 0, "visit"), (2, 6 + MICROSECOND, 0, "buy")]
    rows += [
        (3, 1, 0, "visit"),
        (3, 8, 0, "buy"),
        (4, 1, 0, "visit"),
        (4, 8 + MICROSECOND, 0, "buy"),
    ]
    rows += [(5, 1, 0, "visit"), (5, 5.5, 9, "buy")]  # known only when validation has begun
    found = cut(rows, kind="time_to", horizons=["1d", "2d", "3d"])
    first = found[found["cutoff"] == pd.Timestamp("2023-01-06", tz="UTC")]
    intervals = first.set_index("customer_id")["interval"]
    assert intervals[["c1", "c2", "c3", "c4", "c5"]].tolist() == [0, 1, 2, 3, 3]
    assert found["interval"].dtype == np.int64
    assert (found["label"] == (found["interval"] < 3)).all()


def test_by_each_horizon_the_labels_are_those_of_an_occurrence(small_log, tmp_path) -> None:
    from seqjourney.events.engine import connect
    from seqjourney.sequences.cutting import load_task_data

    prepared = tmp_path / "prepared"
    shutil.copytree(small_log.prepared, prepared)
    task = small_task(name="when", kind="time_to", horizon=None, horizons=["36h", "30d"])
    with connect(tmp_path) as backend:
        data = load_task_data(backend, prepared, task)
        again = load_task_data(backend, prepared, task)
        assert data.task == again.task and data.task.horizon == timedelta(days=30)
        for name, asked in data.by_horizon().items():
            plain = small_task(name=f"within_{name}", horizon=name, cutoffs=data.task.cutoffs)
            expected = load_task_data(backend, prepared, plain).snapshots
            pd.testing.assert_frame_equal(asked.snapshots, expected)
            assert asked.task == plain.model_copy(update={"name": f"when@{name}"})


def test_a_horizon_by_which_nothing_happens_is_refused(small_log, tmp_path) -> None:
    from seqjourney.events.engine import connect
    from seqjourney.sequences.cutting import load_task_data

    task = small_task(name="soon", kind="time_to", horizons=["1s", "30d"])
    with connect(tmp_path) as backend, pytest.raises(DataError, match=r"'soon@1s': all .* label 0"):
        load_task_data(backend, small_log.prepared, task)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "time_to"}, "kind time_to needs horizons"),
        ({"horizons": ["7d", "30d"]}, "kind time_to needs horizons, .* and only it"),
        ({"kind": "time_to", "horizons": ["30d"]}, "at least 2"),
        ({"kind": "time_to", "horizons": ["7d", "7d", "30d"]}, "horizons must ascend"),
        ({"kind": "time_to", "horizons": ["7d", "14d"]}, "horizon is 30d and the longest .* 14d"),
    ],
)
def test_horizons_that_make_no_question_are_refused(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        small_task(**changes)


@settings(max_examples=50)
@given(spans, st.integers(1, 60 * 24), st.integers(1, 90))
def test_a_shift_moves_every_cutoff_back_and_less_past_means_fewer_to_train_on(
    span, horizon_hours, days
):
    first = span[0].replace(tzinfo=UTC)
    last = first + timedelta(seconds=span[1])
    shift = timedelta(days=days)
    here = small_task(cutoffs=None, horizon=timedelta(hours=horizon_hours))
    try:
        moved = resolve_cutoffs(here.model_copy(update={"shift": shift}), first, last)
    except DataError as error:
        assert "too short" in str(error)
        return
    cutoffs = resolve_cutoffs(here, first, last).cutoffs
    assert not moved.shift  # what is resolved has nothing left to move
    assert resolve_cutoffs(moved, first, last) == moved
    for split in ("validation", "test"):
        assert moved.cutoffs.of(split) == tuple(c - shift for c in cutoffs.of(split))
    train = moved.cutoffs.of("train")
    assert train[-1] == cutoffs.of("train")[-1] - shift
    assert first < train[0]
    assert len(train) <= 40
    # As one who had stopped recording so long ago would have been asked.
    assert moved.cutoffs.of("test") == resolve_cutoffs(here, first, last - shift).cutoffs.of("test")
    assert train == resolve_cutoffs(here, first, last - shift).cutoffs.of("train")


def test_given_cutoffs_move_too_and_those_before_the_data_fall_away() -> None:
    first, last = (datetime(2024, month, 1, tzinfo=UTC) for month in (1, 12))
    task = small_task(
        horizon=timedelta(days=5),
        cutoffs={
            "train": {"start": "2024-01-11", "end": "2024-03-01", "every": "10d"},
            "validation": ["2024-04-01"],
            "test": ["2024-05-01", "2024-05-11"],
        },
        shift="15d",
    )
    moved = resolve_cutoffs(task, first, last).cutoffs
    days = [f"{c:%m-%d}" for c in moved.of("train")]
    assert days == ["01-06", "01-16", "01-26", "02-05", "02-15"]
    assert [f"{c:%m-%d}" for c in moved.of("test")] == ["04-16", "04-26"]
    gone = task.model_copy(update={"shift": timedelta(days=90)})
    with pytest.raises(
        DataError, match=r"task\.shift=90d moves all training cutoffs .* at most 60d"
    ):
        resolve_cutoffs(gone, first, last)


def test_a_share_too_small_to_certify_anything_is_refused():
    labels = {(split, label): 5 for split in ("train", "validation", "test") for label in (0, 1)}
    with pytest.raises(DataError, match=r"task\.certify=0\.001 keeps no customer"):
        check_classes(labels, small_task(certify=0.001))
    check_classes(labels | {("certification", 0): 1}, small_task(certify=0.001))
