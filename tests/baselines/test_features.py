"""Features against a slow loop that shares no code with them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from random_log import CUTOFFS, START, as_table, make_data, random_events, task, tokenizer

from seqjourney.baselines import features as features_module
from seqjourney.baselines.feature_spec import FeatureSpec
from seqjourney.baselines.features import point_in_time_features

EVENTS = ["visit", "Visit", "purchase", "mail"]


def spec_of(data, **changes):
    train = data.of("train").snapshots["cutoff"]
    return replace(FeatureSpec.build(data.task, data.tokenizer, train, START), **changes)


def slow_features(events: pd.DataFrame, customer: str, cutoff: pd.Timestamp, spec: FeatureSpec):
    """One snapshot, written as the docstring's table reads."""
    unit = pd.Timedelta(spec.unit_us, unit="us")
    seen = events[
        (events["customer_id"] == customer)
        & (events["known_at"] <= cutoff)
        & (events["event"] != "outcome")
    ].sort_values(["known_at", "timestamp", "event_id"])
    age = cutoff - seen["timestamp"]
    groups = {
        "all": seen["event"] == seen["event"],
        "own": seen["actor"] == "customer",
        "target": seen["event"] == "purchase",
        **{f"event:{name}": seen["event"] == name for name in EVENTS},
        **{f"channel:{name}": seen["channel"] == name for name in ("web", "app")},
    }
    row = {"tenure": age.max() / unit if len(seen) else np.nan}
    for group, member in groups.items():
        if not group.startswith("channel"):
            row[f"recency_{group}"] = age[member].min() / unit if member.any() else np.nan
        for span, length in [*spec.windows.items(), ("ever", None)]:
            within = member if length is None else member & (age < pd.Timedelta(length, unit="us"))
            row[f"count_{group}_{span}"] = within.sum()
            if group == "all":
                values = seen.loc[within, "value"].dropna()
                row[f"value_sum_{span}"] = values.sum()
                row[f"value_mean_{span}"] = values.mean()
                row[f"value_max_{span}"] = values.max()
    lines, values = seen["lines"].dropna(), seen["value"].dropna()
    row["number_sum:lines"], row["number_mean:lines"] = lines.sum(), lines.mean()
    row["number_last:lines"] = lines.iloc[-1] if len(lines) else np.nan
    row["value_last"] = values.iloc[-1] if len(values) else np.nan
    for back, name in enumerate(["last_event", "last_event_2", "last_event_3"], start=1):
        event = seen["event"].iloc[-back] if len(seen) >= back else None
        row[name] = EVENTS.index(event) if event in EVENTS else -1
    for field, known in (("country", ["fr", "de"]), ("channel", ["web", "app"])):
        last = seen[field].iloc[-1] if len(seen) else None
        row[f"last_{field}"] = known.index(last) if last in known else -1
    own = seen.loc[groups["own"], "timestamp"]
    epoch = pd.Timestamp(0, tz="UTC")
    periods = pd.Series(sorted({(moment - epoch) // unit for moment in own}), dtype=float)
    starts = [cutoff - (epoch + int(period) * unit) for period in periods]
    for span, length in spec.windows.items():
        row[f"active_periods_{span}"] = sum(s < pd.Timedelta(length, unit="us") for s in starts)
    row["active_periods_ever"] = len(periods)
    times = seen.loc[groups["target"], "timestamp"].sort_values()
    for kind, gaps, recency in (
        ("target", (times.diff().dropna() / unit).astype(float), row["recency_target"]),
        ("active", periods.diff().dropna(), row["recency_own"]),
    ):
        mean = gaps.mean()
        row[f"gap_mean_{kind}"], row[f"gap_deviation_{kind}"] = mean, gaps.std()
        row[f"gap_last_{kind}"] = gaps.iloc[-1] if len(gaps) else np.nan
        positive = mean > 0
        row[f"regularity_{kind}"] = gaps.std() / mean if positive else np.nan
        row[f"due_{kind}"] = recency / mean if positive else np.nan
        row[f"log_due_{kind}"] = np.log(max(recency / mean, 1e-3)) if positive else np.nan
    lengths = list(spec.windows.items())
    for group in ("all", "own", "target"):
        for i in range(len(lengths) - 1):
            (short, short_us), (long, long_us) = lengths[i], lengths[i + 1]
            recent = row[f"count_{group}_{short}"]
            before = row[f"count_{group}_{long}"] - recent
            rate = before * short_us / (long_us - short_us)
            row[f"trend_{group}_{short}"] = np.log((recent + 1) / (rate + 1))
    return row


def assert_like_the_loop(data, events, spec):
    snapshots = data.snapshots.sample(60, random_state=0)  # any order, any index
    found = point_in_time_features(data.events, snapshots, spec)
    pairs = zip(snapshots["customer_id"], snapshots["cutoff"], strict=True)
    expected = pd.DataFrame([slow_features(events, c, t, spec) for c, t in pairs])
    expected.index = snapshots.index
    assert sorted(found) == sorted(expected)
    pd.testing.assert_frame_equal(
        found[list(expected)].astype(float), expected.astype(float), rtol=1e-4, atol=1e-4
    )


def test_features_equal_a_slow_loop(data, events):
    assert_like_the_loop(data, events, spec_of(data))


def test_batches_change_nothing(data, monkeypatch):
    spec = spec_of(data)
    whole = point_in_time_features(data.events, data.snapshots, spec)
    monkeypatch.setattr(features_module, "SNAPSHOTS_PER_BATCH", 50)
    batched = point_in_time_features(data.events, data.snapshots, spec)
    pd.testing.assert_frame_equal(whole, batched, rtol=1e-6)


def test_short_horizons_use_windows_and_units_of_their_own(events):
    cutoffs = {"train": ["2020-06-01T06:00"], "validation": ["2020-09-01"], "test": ["2020-11-01"]}
    hourly = make_data(events, task(horizon="6h", cutoffs=cutoffs))
    spec = spec_of(hourly)
    assert list(spec.windows) == ["90m", "3h", "6h", "12h", "18h", "36h", "3d"]
    assert spec.unit_us == 90 * 60 * 1_000_000
    assert_like_the_loop(hourly, events, spec)


def test_what_happens_or_is_known_after_the_cutoff_changes_nothing(data, events):
    cutoff = pd.Timestamp(CUTOFFS["validation"][0], tz="UTC")
    early = data.snapshots[data.snapshots["cutoff"] <= cutoff]
    spec = spec_of(data)
    before = point_in_time_features(data.events, early, spec)
    moved = events.copy()
    unknown = moved["known_at"] > cutoff
    assert (moved.loc[unknown, "timestamp"] < cutoff).any()  # late news is among them
    moved.loc[unknown, "timestamp"] += pd.Timedelta(days=400)
    moved.loc[unknown, "known_at"] += pd.Timedelta(days=401)
    moved.loc[unknown, ["value", "lines"]] = 1e6
    pd.testing.assert_frame_equal(before, point_in_time_features(as_table(moved), early, spec))


def test_label_only_events_change_nothing(data, events):
    spec = spec_of(data)
    without = as_table(events[events["event"] != "outcome"])
    pd.testing.assert_frame_equal(
        point_in_time_features(data.events, data.snapshots, spec),
        point_in_time_features(without, data.snapshots, spec),
    )


def test_a_label_only_target_gives_no_target_features(events):
    data = make_data(events, task(target=["outcome"]))
    found = point_in_time_features(data.events, data.snapshots, spec_of(data))
    assert not [name for name in found if "target" in name]


def test_a_customer_without_events_gets_zeros_and_missing_values(data):
    stranger = data.snapshots.iloc[:1].assign(customer_id="nobody")
    row = point_in_time_features(data.events, stranger, spec_of(data)).iloc[0]
    assert row["count_all_ever"] == 0
    assert np.isnan(row["recency_all"])
    assert row["last_event"] == -1


def test_no_snapshots_give_no_rows_but_all_columns(data):
    spec = spec_of(data)
    empty = point_in_time_features(data.events, data.snapshots.iloc[:0], spec)
    full = point_in_time_features(data.events, data.snapshots.iloc[:3], spec)
    assert len(empty) == 0
    assert list(empty) == list(full)


def test_calendar_only_where_training_covered_the_cycle():
    days = pd.Series(pd.date_range("2020-01-01", periods=14, freq="D", tz="UTC"))
    weekly = FeatureSpec.build(task(), tokenizer(), days, START)
    assert weekly.cycles == ("week",)
    months = pd.Series(pd.date_range("2020-01-05", periods=60, freq="7D", tz="UTC"))
    assert FeatureSpec.build(task(), tokenizer(), months, START).cycles == ("year",)


def test_windows_longer_than_the_history_in_training_are_left_out():
    cutoffs = pd.Series(pd.to_datetime(["2020-02-15", "2020-03-15"], utc=True))
    spec = FeatureSpec.build(task(), tokenizer(), cutoffs, START)
    assert list(spec.windows) == ["7d", "14d", "30d", "60d"]


def test_a_spec_survives_json(data):
    spec = spec_of(data)
    assert FeatureSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("seed", [1])
def test_other_logs_agree_with_the_loop_too(seed):
    events = random_events(customers=15, seed=seed)
    data = make_data(events, task())
    assert_like_the_loop(data, events, spec_of(data))
