"""What the engine counts, against the same counted with pandas."""

from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
from hostile_data import in_utc
from sklearn.metrics import roc_auc_score

from seqjourney.config import TaskConfig, parse
from seqjourney.errors import DataError
from seqjourney.events.audit import measure
from seqjourney.events.audit.tasks import auc, find_tasks, recency_auc, task_facts
from seqjourney.events.engine import connect
from seqjourney.events.log import read_event_log
from small_logs import clean_log, raw_events


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    frame = clean_log(raw_events(customers=150, per_customer=6, seed=3))
    # A silence of ten days, repeats, and a customer with nothing but what the company did.
    day = frame["timestamp"].dt.floor("D")
    quiet = (day >= "2023-07-04") & (day < "2023-07-14")
    frame = frame[~quiet].reset_index(drop=True)
    frame.loc[frame["customer_id"] == "c0001", "actor"] = "company"
    again = frame.head(7).assign(event_id=[f"again {i % 3}" for i in range(7)])
    again = pd.concat([again, again.head(2)])
    return pd.concat([frame, again], ignore_index=True)


@pytest.fixture(scope="module")
def table(log):
    return in_utc(log)


@pytest.fixture(scope="module")
def by_month(table):
    return measure.per_customer_month(table.get_backend(), table)


def test_months_are_those_of_utc_and_count_own_customers(log, table, by_month):
    found = measure.calendar(table, by_month)
    month = log["timestamp"].dt.strftime("%Y-%m")
    assert found.months["month"].dt.strftime("%Y-%m").tolist() == sorted(month.unique())
    assert found.months["events"].tolist() == log.groupby(month).size().tolist()
    own = log[log["actor"] == "customer"]
    active = own.groupby(month[own.index])["customer_id"].nunique()
    assert found.months["customers"].tolist() == active.tolist()
    assert found.monthly_customers == active[:11].mean()
    # The log ends on 26 December: that month is not whole.
    assert found.months["whole"].tolist() == [True] * 11 + [False]


def test_silences_are_the_gaps_between_neighbouring_events(log, table, by_month):
    found = measure.calendar(table, by_month)
    times = log["timestamp"].sort_values().drop_duplicates()
    gaps = times.diff().dropna().dt.total_seconds() / 86400
    longest = gaps[gaps >= 1].sort_values(ascending=False)
    assert found.silences["days"].tolist() == pytest.approx(longest.tolist())
    assert found.silences["days"].iloc[0] > 9
    assert found.days - found.empty_days == log["timestamp"].dt.date.nunique()
    assert (found.first, found.last) == (times.min(), times.max())


def test_a_stray_event_of_long_ago_adds_no_history(log):
    stray = log.head(1).copy()
    stray["timestamp"] = stray["known_at"] = pd.Timestamp("2009-03-02", tz="UTC")
    table = in_utc(pd.concat([log, stray], ignore_index=True))
    found = measure.calendar(table, measure.per_customer_month(table.get_backend(), table))
    assert found.history_months == pytest.approx(11.8, abs=0.1)
    assert len(found.months) > 170


def test_customers_are_counted_by_their_events(log, by_month):
    found = measure.customers(by_month)
    sizes = log.groupby("customer_id").size()
    assert (found.customers, found.events) == (len(sizes), len(log))
    assert found.single_event == (sizes == 1).sum()
    assert sum(found.events_per_customer.values()) == len(sizes)
    assert found.events_per_customer["6–10"] == sizes.between(6, 10).sum()
    assert next(iter(found.events_per_customer)) == "1"


def test_delays_are_counted_and_a_log_without_them_has_none(log, table):
    found = measure.late(table)
    hours = (log["known_at"] - log["timestamp"]).dt.total_seconds() / 3600
    for limit in (24, 72):
        assert found.later_than(limit) == pytest.approx((hours > limit).mean())
    assert found.known_by["7 days"] == pytest.approx((hours <= 168).mean())
    assert found.quantiles["p90"] == pytest.approx(hours.quantile(0.9), abs=1e-6)
    assert found.quantiles["longest"] == hours.max()
    assert measure.late(in_utc(log.assign(known_at=log["timestamp"]))) is None


def test_repeats_are_all_but_one_of_each(log, table):
    same = log.duplicated(["customer_id", "timestamp", "event"]).sum()
    assert measure.repeats([table]) == same > 7
    halves = [table.filter(table.customer_id < "c0070"), table.filter(table.customer_id >= "c0070")]
    assert measure.repeats(halves) == same


def test_event_names_are_counted_and_the_rare_ones_stay_behind(log):
    names = [f"id {i:03d}" for i in range(len(log) - 300)] + ["visit"] * 200 + ["click"] * 100
    found = measure.event_types(in_utc(log.assign(event=names)))
    assert found.number == len(set(names))
    assert found.frequent[:2] == [("visit", 200), ("click", 100)]
    assert len(found.frequent) == measure.MOST_NAMED


def test_identifiers_are_those_of_customers_in_the_log(log, table, by_month, tmp_path: Path):
    backend = table.get_backend()
    assert measure.identity(backend, tmp_path, by_month, ("user",)) is None
    rows = [("user", "u", "c0002"), ("anonymous", "a", "c0002"), ("anonymous", "b", "c0003")]
    rows += [("user", "gone", "nobody")] * 3
    (tmp_path / "identity").mkdir()
    frame = pd.DataFrame(rows, columns=["identifier_type", "identifier", "customer_id"])
    frame.to_parquet(tmp_path / "identity" / "identifiers.parquet")
    found = measure.identity(backend, tmp_path, by_month, ("user",))
    sizes = log.groupby("customer_id").size()
    assert found.by_type == {"anonymous": 2, "user": 1}
    assert found.per_customer == {"1": 1, "2": 1}
    assert found.most == 2
    assert found.mean == pytest.approx(3 / len(sizes))
    assert found.strong_share == pytest.approx(sizes["c0002"] / sizes.sum())
    single = set(sizes[sizes == 1].index) - {"c0002"}
    assert found.single_weak == len(single)
    assert measure.identity(backend, tmp_path, by_month, ("anonymous",)).strong_share > (
        found.strong_share
    )


def test_consent_is_the_last_word_and_the_strictest_at_one_instant(
    log, table, by_month, tmp_path: Path
):
    backend = table.get_backend()
    assert measure.consent_states(backend, tmp_path, by_month) is None
    rows = [
        ("c0002", "ads", "denied", "2023-01-01"), ("c0002", "ads", "granted", "2023-02-01"),
        ("c0003", "ads", "granted", "2023-01-01"), ("c0003", "ads", "denied", "2023-01-01"),
        ("c0004", "ads", "unknown", "2023-01-01"), ("nobody", "ads", "granted", "2023-01-01"),
        ("c0002", "mail", "granted", "2023-01-01"),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["customer_id", "purpose", "state", "since"])
    frame["since"] = pd.to_datetime(frame["since"], utc=True).astype("datetime64[us, UTC]")
    frame["known_at"] = frame["since"]
    frame.assign(speaker="customer", personal=True).to_parquet(tmp_path / "consent.parquet")
    n = log["customer_id"].nunique()
    found = measure.consent_states(backend, tmp_path, by_month)
    expected = {"granted": 1 / n, "denied": 1 / n, "unknown": 1 - 2 / n}
    assert found["ads"] == pytest.approx(expected)
    assert found["mail"]["granted"] == pytest.approx(1 / n)


def test_the_auc_is_scikit_learns_with_ties():
    random = np.random.default_rng(0)
    for _ in range(50):
        label = random.integers(0, 2, 40)
        score = random.integers(0, 6, 40).astype(float)
        if label.min() != label.max():
            assert auc(label, score) == pytest.approx(roc_auc_score(label, score))
    assert auc(np.ones(3), np.arange(3.0)) is None


@pytest.mark.parametrize("kind", ["occurrence", "absence"])
@pytest.mark.parametrize("eligible", [None, ["purchase"]])
def test_recency_counts_what_was_known_before_the_test_alone(kind, eligible):
    log = clean_log(raw_events(customers=80, per_customer=20, seed=1))
    random = np.random.default_rng(2)
    cutoffs = pd.to_datetime(["2023-04-01", "2023-06-01", "2023-08-01"], utc=True)
    rows = [
        (c, cutoff, split, int(random.integers(0, 2)))
        for c in sorted(log["customer_id"].unique())
        for cutoff, split in zip(cutoffs, ("train", "validation", "test"), strict=True)
    ]
    snapshots = pd.DataFrame(rows, columns=["customer_id", "cutoff", "split", "label"])
    snapshots["cutoff"] = snapshots["cutoff"].astype("datetime64[us, UTC]")
    settings = {"name": "t", "kind": kind, "target": ["purchase"], "horizon": "30d"}
    task = parse(TaskConfig, settings | {"eligible": {"events": eligible}}, "task")
    seen = log[log["event"] != "outcome"]
    seen = seen[seen["event"].isin(eligible)] if eligible else seen
    away, label = [], []
    for row in snapshots[snapshots["split"] != "test"].itertuples():
        known = seen[(seen["customer_id"] == row.customer_id) & (seen["known_at"] <= row.cutoff)]
        if len(known):
            away.append((row.cutoff - known["timestamp"].max()).total_seconds())
            label.append(row.label)
    expected = roc_auc_score(label, away if kind == "absence" else -np.array(away))
    events = in_utc(log)
    found = recency_auc(events, ibis.memtable(snapshots), task, ("outcome",))
    assert found == pytest.approx(expected)
    snapshots.loc[snapshots["split"] == "test", "label"] ^= 1
    again = recency_auc(events, ibis.memtable(snapshots), task, ("outcome",))
    assert again == found


def test_a_fixed_sample_of_customers_gives_nearly_the_same_auc(small_data, monkeypatch):
    from seqjourney.events.audit import tasks

    snapshots = ibis.memtable(small_data.snapshots)
    exact = recency_auc(small_data.events, snapshots, small_data.task, ("outcome",))
    monkeypatch.setattr(tasks, "MOST_SNAPSHOTS", len(small_data.snapshots) // 2)
    sampled = recency_auc(small_data.events, snapshots, small_data.task, ("outcome",))
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=0.15)
    assert sampled == recency_auc(small_data.events, snapshots, small_data.task, ("outcome",))


def test_a_task_is_measured_from_its_own_folder(small_log, tmp_path: Path):
    frame = pd.read_parquet(small_log.prepared / "tasks/buys/snapshots.parquet")
    with connect(tmp_path, threads=1) as backend:
        log = read_event_log(backend, small_log.prepared)
        facts = task_facts(backend, log, small_log.prepared, "buys", ("outcome",))
    for split, rows in frame.groupby("split"):
        found = facts.outcomes[split]
        assert (found.snapshots, found.positives) == (len(rows), rows["label"].sum())
        assert found.with_outcome == rows.loc[rows["label"] == 1, "customer_id"].nunique()
        assert found.without == rows.loc[rows["label"] == 0, "customer_id"].nunique()
    assert facts.base_rate == frame.loc[frame["split"] != "test", "label"].mean()
    by_cutoff = frame.groupby("cutoff")["label"].mean()
    assert facts.base_rates["rate"].tolist() == pytest.approx(by_cutoff.tolist())


def test_a_task_that_was_not_cut_is_named_with_the_nearest(small_log):
    assert find_tasks(small_log.prepared, None) == ["buys"]
    assert find_tasks(small_log.prepared, ["buys"]) == ["buys"]
    with pytest.raises(DataError, match="Did you mean 'buys'"):
        find_tasks(small_log.prepared, ["buyz"])
    with pytest.raises(DataError, match=r"data\.tasks"):
        find_tasks(small_log.prepared / "store", ["buys"])
