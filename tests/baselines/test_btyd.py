"""The baselines on BG/NBD and Pareto/NBD: point-in-time histories, odds, and who has none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from random_log import CUTOFFS, as_table, make_data, random_events, task
from simulated_buyers import simulate

from seqjourney.baselines import btyd, build
from seqjourney.baselines.btyd import purchase_histories
from seqjourney.baselines.purchase_counts import BGNBD, ParetoNBD
from seqjourney.config import BGNBDConfig, ParetoNBDConfig, TrainerConfig
from seqjourney.errors import DataError

CONFIGS = [
    BGNBDConfig(kind="bgnbd", name="bgnbd"),
    ParetoNBDConfig(kind="paretonbd", name="pareto"),
]
EACH = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
DAY_US = 86_400_000_000


def fitted(config, data, folder):
    model = build(config)
    model.fit(data, TrainerConfig(progress=False, threads=1), 0, folder)
    return model


def slow_history(events, customer, cutoff, unit):
    """Frequency, recency and age of one snapshot, in units."""
    seen = events[
        (events["customer_id"] == customer)
        & (events["known_at"] <= cutoff)
        & events["event"].isin(["purchase"])
    ]
    epoch = pd.Timestamp(0, tz="UTC")
    periods = sorted({(moment - epoch) // unit for moment in seen["timestamp"]})
    if not periods:
        return np.nan, np.nan, np.nan
    now = (cutoff - epoch) / unit
    return len(periods) - 1, periods[-1] - periods[0], now - periods[0]


@pytest.mark.parametrize("unit", [pd.Timedelta(days=1), pd.Timedelta(hours=3)])
def test_histories_equal_a_slow_loop(unit, data, events):
    snapshots = data.snapshots.sample(80, random_state=0)  # any order, any index
    found = purchase_histories(data.events, snapshots, ("purchase",), unit // pd.Timedelta("1us"))
    pairs = zip(snapshots["customer_id"], snapshots["cutoff"], strict=True)
    slow = np.array([slow_history(events, customer, cutoff, unit) for customer, cutoff in pairs])
    assert np.isnan(slow).any() and (slow[:, 0] > 1).any()
    for values, expected in zip((found.frequency, found.recency, found.age), slow.T, strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-9)


def test_what_is_known_later_changes_no_history(data, events):
    cutoff = pd.Timestamp(CUTOFFS["validation"][0], tz="UTC")
    early = data.snapshots[data.snapshots["cutoff"] <= cutoff]
    moved = events.copy()
    unknown = moved["known_at"] > cutoff
    assert (moved.loc[unknown, "timestamp"] < cutoff).any()  # late news is among them
    moved.loc[unknown, ["timestamp", "known_at"]] += pd.Timedelta(days=400)
    before = purchase_histories(data.events, early, ("purchase",), DAY_US)
    after = purchase_histories(as_table(moved), early, ("purchase",), DAY_US)
    np.testing.assert_array_equal(before.frequency, after.frequency)
    np.testing.assert_array_equal(before.recency, after.recency)


def test_orders_of_one_day_are_one_purchase(data):
    times = ["2020-02-03T09:00", "2020-02-03T18:00", "2020-02-05T23:59", "2020-02-06T00:00"]
    moments = pd.to_datetime(times, utc=True).as_unit("us")
    log = pd.DataFrame({"customer_id": "c", "timestamp": moments, "known_at": moments})
    snapshot = pd.DataFrame(
        {"customer_id": ["c"], "cutoff": pd.to_datetime(["2020-02-10"], utc=True).as_unit("us")}
    )
    found = purchase_histories(as_table(log.assign(event="buy")), snapshot, ("buy",), DAY_US)
    assert (found.frequency[0], found.recency[0], found.age[0]) == (2, 3, 7)


@EACH
def test_parameters_come_from_every_training_customer_once_at_the_last_training_cutoff(
    config, data, tmp_path
):
    early = data.snapshots["customer_id"].isin([f"c{i:03d}" for i in range(10)])
    only_early = early & (data.snapshots["cutoff"] == pd.Timestamp(CUTOFFS["train"][1], tz="UTC"))
    some = replace(data, snapshots=data.snapshots[~only_early].reset_index(drop=True))
    found = fitted(config, some, tmp_path).chosen_
    train = data.of("train").snapshots
    last = train[train["cutoff"] == train["cutoff"].max()]
    history = purchase_histories(data.events, last, ("purchase",), DAY_US)
    kind = {"bgnbd": BGNBD, "paretonbd": ParetoNBD}[config.kind]
    expected = kind.fit(history.of(history.frequency >= 0), found["penalty"])
    assert found["parameters"] == pytest.approx(expected.to_json(), rel=1e-3)


@EACH
def test_many_customers_are_sampled_by_the_seed(config, data, tmp_path, monkeypatch):
    everyone = fitted(config, data, tmp_path).chosen_
    monkeypatch.setattr(btyd, "_MOST_CUSTOMERS", 15)
    sample, again = (fitted(config, data, tmp_path).chosen_ for _ in range(2))
    assert sample == again != everyone


@EACH
def test_an_absence_is_one_minus_the_occurrence(config, data, events, tmp_path):
    one_penalty = config.model_copy(update={"penalties": (0.01,)})
    absent = fitted(one_penalty, make_data(events, task(kind="absence")), tmp_path).score(data)
    present = fitted(one_penalty, data, tmp_path).score(data)
    np.testing.assert_allclose(absent, -present, rtol=1e-9)


def test_only_purchases_above_the_bar_are_purchases(tmp_path):
    config = CONFIGS[0].model_copy(update={"penalties": (0.01,)})
    events = random_events(300)
    data = make_data(events, task())
    large = events[(events["event"] != "purchase") | (events["value"] > 0)]
    upsell = replace(data, task=task(above=0))
    only_large = replace(data, events=as_table(large))
    expected = fitted(config, only_large, tmp_path).score(only_large)
    plain = fitted(config, data, tmp_path).score(data)
    model = fitted(config, upsell, tmp_path)
    model.save(tmp_path)
    for found in (model.score(upsell), type(model).load(tmp_path).score(upsell)):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.abs(expected - plain).max() > 0.1


@EACH
def test_who_has_not_bought_gets_the_base_rate_of_such_training_snapshots(config, data, tmp_path):
    train, test = data.of("train").snapshots, data.of("test").snapshots

    def none(snapshots):
        known = purchase_histories(data.events, snapshots, ("purchase",), DAY_US)
        return np.isnan(known.frequency)

    without = train[none(train)]
    overall = np.average(train["label"], weights=train["weight"])
    positive = (without["label"] * without["weight"]).sum()
    rate = (positive + overall) / (without["weight"].sum() + 1)
    strangers = test.iloc[:3].assign(customer_id=["x", "y", "z"])
    scores = fitted(config, data, tmp_path).score(replace(data, snapshots=strangers))
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), rate)


@EACH
@pytest.mark.parametrize(
    ("target", "message"),
    [(["outcome"], "outcome serve labels only"), (["Purchase"], "Purchase twice or more")],
)
def test_a_target_without_a_past_is_an_error(config, target, message, data, tmp_path):
    asked = replace(data, task=task(target=target))
    with pytest.raises(DataError, match=rf"{config.kind}.*{message}.*Choose another model"):
        fitted(config, asked, tmp_path)


@pytest.mark.parametrize(
    ("config", "truth"),
    [(CONFIGS[0], BGNBD(0.9, 20.0, 0.9, 2.5)), (CONFIGS[1], ParetoNBD(0.9, 20.0, 0.9, 60.0))],
    ids=["bgnbd", "paretonbd"],
)
def test_probabilities_are_right_for_customers_who_behave_as_the_model_says(
    config, truth, tmp_path
):
    """Without calibration: within five points in each third of the test snapshots."""
    customers, start = 1500, pd.Timestamp("2020-01-01", tz="UTC")
    first = np.random.default_rng(0).uniform(0, 100, customers)
    _, _, times = simulate(truth, 340 - first, horizon=0.0)
    customer, order = np.nonzero(~np.isnan(times))
    moments = start + pd.to_timedelta(first[customer] + times[customer, order], unit="D")
    log = pd.DataFrame(
        {
            "customer_id": [f"c{i:04d}" for i in customer],
            "event_id": [f"e{i:06d}" for i in range(len(customer))],
            "timestamp": moments.as_unit("us"),
            "known_at": moments.as_unit("us"),
            "event": "purchase",
        }
    )
    data = make_data(log, task())
    test = data.of("test")
    probability = 1 / (1 + np.exp(-fitted(config, data, tmp_path).score(test)))
    for third in np.array_split(np.argsort(probability), 3):
        happened = test.snapshots["label"].to_numpy()[third].mean()
        assert probability[third].mean() == pytest.approx(happened, abs=0.05)
