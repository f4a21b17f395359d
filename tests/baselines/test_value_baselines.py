"""The baselines of a sum task: amounts by hand, by simulation, and blind to the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from random_log import CUTOFFS, as_table, make_data, task
from simulated_buyers import simulate

from seqjourney.baselines import baseline_class, build
from seqjourney.baselines.past_value import earlier_value
from seqjourney.baselines.purchase_counts import BGNBD, ParetoNBD
from seqjourney.baselines.training_table import TrainingTable
from seqjourney.baselines.two_part import log_error, smearing
from seqjourney.config import (
    BaseRateConfig,
    BGNBDConfig,
    CatBoostConfig,
    LightGBMConfig,
    ParetoNBDConfig,
    PastValueConfig,
    TrainerConfig,
)
from seqjourney.errors import DataError
from seqjourney.sequences.task_data import TaskData, ValuePredictor

CONFIGS = [
    BaseRateConfig(kind="base_rate", name="base_rate"),
    PastValueConfig(kind="past_value", name="past_value"),
    LightGBMConfig(kind="lightgbm", name="lightgbm", trials=2, rounds=20),
    CatBoostConfig(kind="catboost", name="catboost", trials=1, rounds=20),
    BGNBDConfig(kind="bgnbd", name="bgnbd", penalties=(0.01,)),
    ParetoNBDConfig(kind="paretonbd", name="paretonbd", penalties=(0.01,)),
]
TARGET = ["purchase", "odd"]  # "odd" stands for refunds


def with_refunds(events: pd.DataFrame) -> pd.DataFrame:
    """Let purchases bring in something and odd events take it back."""
    size = np.abs(events["value"].fillna(7.0)) + 1
    sign = np.where(events["event"] == "odd", -0.5, 1.0)
    return events.assign(value=(size * sign).round(2))


def value_data(events: pd.DataFrame, **changes) -> TaskData:
    """Cut the snapshots with a slow loop over the log."""
    asked = task(kind="sum", target=TARGET, **changes)
    data = make_data(events, asked)
    target = events[events["event"].isin(asked.target)]
    values = []
    for row in data.snapshots.itertuples():
        inside = (target["timestamp"] > row.cutoff) & (
            target["timestamp"] <= row.cutoff + asked.horizon
        )
        mine = target[inside & (target["customer_id"] == row.customer_id)]
        values.append(round(mine["value"].sum(), 6))
    value = np.array(values)
    snapshots = data.snapshots.assign(value=value, label=(value > 0).astype(np.int8))
    return replace(data, snapshots=snapshots)


@pytest.fixture(scope="module")
def money(events: pd.DataFrame) -> pd.DataFrame:
    return with_refunds(events)


@pytest.fixture(scope="module")
def summed(money: pd.DataFrame) -> TaskData:
    return value_data(money)


def fitted(config, data, folder):
    model = build(config)
    model.fit(data, TrainerConfig(progress=False, threads=1), 0, folder)
    return model


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
class TestEveryValueBaseline:
    def test_a_loaded_model_gives_the_same_amounts(self, config, summed, tmp_path):
        model = fitted(config, summed, tmp_path / "logs")
        assert isinstance(model, ValuePredictor)
        model.save(tmp_path)
        test = summed.of("test")
        score, amount = model.score_and_amount(test)
        assert score.shape == amount.shape == (len(test.snapshots),)
        assert np.isfinite(amount).all() and (amount >= 0).all() and amount.max() > 0
        np.testing.assert_array_equal(score, model.score(test))
        again = baseline_class(config.kind).load(tmp_path).score_and_amount(test)
        np.testing.assert_array_equal(again, (score, amount))

    def test_nothing_after_the_cutoff_changes_an_amount(self, config, summed, money, tmp_path):
        model = fitted(config, summed, tmp_path)
        test = summed.of("test")
        moved = money.copy()
        later = moved["known_at"] > test.snapshots["cutoff"].iloc[0]
        moved.loc[later, ["timestamp", "known_at"]] += pd.Timedelta(days=365)
        moved.loc[later, "value"] *= -7
        other = replace(test, events=as_table(moved))
        np.testing.assert_allclose(
            model.score_and_amount(other), model.score_and_amount(test), rtol=1e-6
        )

    def test_the_tests_values_are_not_looked_at(self, config, summed, tmp_path):
        snapshots = summed.snapshots.copy()
        test = (snapshots["split"] == "test").to_numpy()
        snapshots.loc[test, "value"] = 1e6
        richer = fitted(config, replace(summed, snapshots=snapshots), tmp_path)
        plain = fitted(config, summed, tmp_path)
        np.testing.assert_array_equal(
            richer.score_and_amount(summed), plain.score_and_amount(summed)
        )


def test_past_value_equals_a_slow_loop(summed, money, tmp_path):
    _, amount = fitted(CONFIGS[1], summed, tmp_path).score_and_amount(summed)
    totals = []
    for i in range(0, len(amount), 7):
        row = summed.snapshots.iloc[i]
        seen = money[
            (money["customer_id"] == row["customer_id"])
            & (money["known_at"] <= row["cutoff"])
            & money["event"].isin(TARGET)
        ]
        if seen.empty:
            assert amount[i] == 0
            continue
        age = max(row["cutoff"] - seen["timestamp"].min(), pd.Timedelta("30D"))
        totals.append(seen["value"].sum())
        expected = max(totals[-1], 0.0) * (pd.Timedelta("30D") / age)
        assert amount[i] == pytest.approx(expected)
    assert min(totals) < 0 < max(totals)  # refunds are among them


def test_money_is_added_up_exactly(money):
    moments = pd.to_datetime(["2020-02-01", "2020-02-02", "2020-02-03"], utc=True).as_unit("us")
    log = pd.DataFrame(
        {"customer_id": "c", "timestamp": moments, "known_at": moments, "event": "buy"}
    ).assign(value=[0.1, 0.2, -0.3])
    asked = pd.DataFrame(
        {"customer_id": ["c", "d"], "cutoff": pd.to_datetime(["2020-03-01"] * 2, utc=True)}
    )
    found = earlier_value(as_table(log), asked, ("buy",), "value")
    assert found["total"].iloc[0] == 0.0
    assert np.isnan(found["total"].iloc[1]) and np.isnan(found["age_us"].iloc[1])


def test_the_base_rate_expects_an_average_buyers_amount(summed, tmp_path):
    train = summed.of("train").snapshots
    buys = train[train["value"] > 0]
    _, amount = fitted(CONFIGS[0], summed, tmp_path).score_and_amount(summed)
    assert set(amount) == {np.average(buys["value"], weights=buys["weight"])}


def test_smearing_keeps_the_mean_of_what_it_was_fitted_on():
    random = np.random.default_rng(0)
    logs = random.normal(3, 1, 500)
    residuals = random.normal(0, 0.8, 500)
    weights = random.uniform(0.5, 2, 500)
    table = TrainingTable(pd.DataFrame(), logs + residuals, weights)
    assert smearing(logs, table) == pytest.approx(np.average(np.exp(residuals), weights=weights))
    assert log_error(logs + residuals, logs, weights) == pytest.approx(
        np.sqrt(np.average(residuals**2, weights=weights))
    )


def test_a_target_that_serves_labels_only_has_no_past(summed, tmp_path):
    hidden = replace(summed, task=task(kind="sum", target=["outcome"]))
    with pytest.raises(DataError, match=r"past_value.*serve labels only"):
        fitted(CONFIGS[1], hidden, tmp_path)


@pytest.mark.parametrize(
    ("config", "truth"),
    [(CONFIGS[4], BGNBD(0.9, 20.0, 0.9, 2.5)), (CONFIGS[5], ParetoNBD(0.9, 20.0, 0.9, 60.0))],
    ids=["bgnbd", "paretonbd"],
)
def test_expected_values_are_right_for_customers_who_behave_as_the_models_say(
    config, truth, tmp_path
):
    """Without any scaling: in all within 10 %, and in each half within 25 %."""
    customers, start = 2000, pd.Timestamp("2020-01-01", tz="UTC")
    random = np.random.default_rng(0)
    first = random.uniform(0, 100, customers)
    _, _, times = simulate(truth, 340 - first, horizon=0.0)
    customer, order = np.nonzero(~np.isnan(times))
    moments = start + pd.to_timedelta(first[customer] + times[customer, order], unit="D")
    # Gamma-gamma: everybody spends around a mean of their own.
    scale = random.gamma(4.0, 1 / 60.0, customers)
    spent = random.gamma(6.0, 1 / scale[customer]).round(2) + 0.01
    log = pd.DataFrame(
        {
            "customer_id": [f"c{i:04d}" for i in customer],
            "event_id": [f"e{i:06d}" for i in range(len(customer))],
            "timestamp": moments.as_unit("us"),
            "known_at": moments.as_unit("us"),
            "event": "purchase",
            "value": spent,
        }
    )
    asked = task(kind="sum")
    data = make_data(log, asked)
    parts = []
    for cutoff in data.snapshots["cutoff"].unique():
        inside = (log["timestamp"] > cutoff) & (log["timestamp"] <= cutoff + asked.horizon)
        parts.append(log[inside].groupby("customer_id")["value"].sum().rename(cutoff))
    table = pd.concat(parts, axis=1)
    keys = list(zip(data.snapshots["customer_id"], data.snapshots["cutoff"], strict=True))
    value = table.stack().reindex(pd.MultiIndex.from_tuples([*keys])).fillna(0.0).to_numpy()
    snapshots = data.snapshots.assign(value=value, label=(value > 0).astype(np.int8))
    data = replace(data, snapshots=snapshots)
    test = data.of("test")
    score, amount = fitted(config, data, tmp_path).score_and_amount(test)
    expected, came = amount / (1 + np.exp(-score)), test.snapshots["value"].to_numpy()
    assert expected.sum() == pytest.approx(came.sum(), rel=0.1)
    for half in np.array_split(np.argsort(expected), 2):
        assert expected[half].sum() == pytest.approx(came[half].sum(), rel=0.25)
    assert CUTOFFS["test"] == ["2020-11-01"]  # the window closes within the simulated days
