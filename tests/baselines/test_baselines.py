"""Every baseline keeps the interface, its scores and its word."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from random_log import as_table, make_data, task

from seqjourney.baselines import BASELINES, baseline_class, build
from seqjourney.config import (
    BaseRateConfig,
    BGNBDConfig,
    CatBoostConfig,
    LightGBMConfig,
    LogisticConfig,
    ParetoNBDConfig,
    PastValueConfig,
    RecencyConfig,
    TrainerConfig,
)
from seqjourney.errors import ConfigError, DataError

CONFIGS = [
    BaseRateConfig(kind="base_rate", name="base_rate"),
    RecencyConfig(kind="recency", name="recency"),
    LogisticConfig(kind="logistic", name="logistic", penalties=(0.01, 0.1)),
    LightGBMConfig(kind="lightgbm", name="lightgbm", trials=3, rounds=30),
    CatBoostConfig(kind="catboost", name="catboost", trials=2, rounds=30),
    BGNBDConfig(kind="bgnbd", name="bgnbd"),
    ParetoNBDConfig(kind="paretonbd", name="paretonbd"),
    PastValueConfig(kind="past_value", name="past_value"),
]
LEARNERS = CONFIGS[2:5]
TRAINER = TrainerConfig(progress=False, threads=1)


def fitted(config, data, folder, seed=0):
    model = build(config)
    model.fit(data, TRAINER, seed, folder)
    return model


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
class TestEveryBaseline:
    def test_a_loaded_model_gives_the_same_scores(self, config, data, tmp_path):
        model = fitted(config, data, tmp_path / "logs")
        model.save(tmp_path)
        test = data.of("test")
        scores = model.score(test)
        assert scores.dtype == np.float64
        assert scores.shape == (len(test.snapshots),)
        assert np.isfinite(scores).all()
        loaded = baseline_class(config.kind).load(tmp_path)
        np.testing.assert_array_equal(loaded.score(test), scores)
        assert loaded.validation_score_ == model.validation_score_
        content = json.loads((tmp_path / "model.json").read_text())
        assert content["kind"] == config.kind
        assert content["config"]["name"] == config.name
        assert content["chosen"] == model.chosen_

    def test_the_same_seed_gives_the_same_scores_whatever_the_test_labels(
        self, config, data, tmp_path
    ):
        snapshots = data.snapshots.copy()
        test = snapshots["split"] == "test"
        snapshots.loc[test, "label"] = 1 - snapshots.loc[test, "label"]
        flipped = fitted(config, replace(data, snapshots=snapshots), tmp_path, seed=3)
        np.testing.assert_array_equal(
            flipped.score(data), fitted(config, data, tmp_path, seed=3).score(data)
        )

    def test_nothing_after_the_cutoff_changes_a_score(self, config, data, events, tmp_path):
        model = fitted(config, data, tmp_path)
        test = data.of("test")
        moved = events.copy()
        later = moved["known_at"] > test.snapshots["cutoff"].iloc[0]
        moved.loc[later, ["timestamp", "known_at"]] += pd.Timedelta(days=365)
        other = replace(test, events=as_table(moved))
        np.testing.assert_allclose(model.score(other), model.score(test), rtol=1e-6)

    @pytest.mark.parametrize("split", ["train", "validation"])
    def test_equal_labels_are_an_error_that_says_how_to_mend_it(
        self, config, split, data, tmp_path
    ):
        snapshots = data.snapshots.copy()
        snapshots.loc[snapshots["split"] == split, "label"] = 1
        with pytest.raises(DataError, match=rf"split '{split}' are 1.*task\.cutoffs\.{split}"):
            fitted(config, replace(data, snapshots=snapshots), tmp_path)

    def test_an_empty_split_is_an_error(self, config, data, tmp_path):
        snapshots = data.snapshots[data.snapshots["split"] != "validation"]
        with pytest.raises(DataError, match="no customer is eligible in split 'validation'"):
            fitted(config, replace(data, snapshots=snapshots), tmp_path)

    def test_an_hourly_horizon_works(self, config, events, tmp_path):
        def moments(month):
            return [f"2020-{month}-{day:02d}T{6 * (day % 4):02d}:00" for day in range(1, 29)]

        cutoffs = {"train": moments("06"), "validation": moments("08"), "test": ["2020-11-01"]}
        hourly = make_data(events, task(horizon="12h", cutoffs=cutoffs))
        assert np.isfinite(fitted(config, hourly, tmp_path).score(hourly.of("test"))).all()


def test_the_base_rate_is_weighted(data, tmp_path):
    train = data.of("train").snapshots
    rate = np.average(train["label"], weights=train["weight"])
    score = fitted(CONFIGS[0], data, tmp_path).score(data)
    np.testing.assert_allclose(1 / (1 + np.exp(-score)), rate)


@pytest.mark.parametrize(("kind", "sign"), [("occurrence", -1), ("absence", 1)])
def test_recency_counts_what_makes_eligible(kind, sign, events, tmp_path):
    data = make_data(events, task(kind=kind, eligible={"events": ["purchase"]}))
    scores = fitted(CONFIGS[1], data, tmp_path).score(data)
    for i in range(0, len(scores), 17):
        row = data.snapshots.iloc[i]
        seen = events[
            (events["customer_id"] == row["customer_id"])
            & (events["known_at"] <= row["cutoff"])
            & (events["event"] == "purchase")
        ]
        last = seen["timestamp"].max() if len(seen) else pd.Timestamp(0, tz="UTC")
        assert scores[i] == pytest.approx(sign * ((row["cutoff"] - last) / pd.Timedelta(days=1)))


@pytest.mark.parametrize("config", LEARNERS, ids=lambda config: config.kind)
def test_learners_find_what_is_there(config, events, tmp_path):
    """Buyers of the last 30 days buy again, the others do not."""
    data = make_data(events, task())
    bought = []
    for customer, cutoff in zip(
        data.snapshots["customer_id"], data.snapshots["cutoff"], strict=True
    ):
        age = cutoff - events["known_at"]
        own = (events["customer_id"] == customer) & (events["event"] == "purchase")
        recent = (cutoff - events["timestamp"]) < pd.Timedelta(days=60)
        bought.append(int((own & recent & (age >= pd.Timedelta(0))).any()))
    known = replace(data, snapshots=data.snapshots.assign(label=np.asarray(bought, dtype="int8")))
    model = fitted(config, known, tmp_path)
    assert model.validation_score_ > 0.95


@pytest.mark.parametrize("does", ["build", "load"])
def test_catboost_without_its_extra_is_one_clear_message(does, data, tmp_path, monkeypatch):
    config = CatBoostConfig(kind="catboost", name="catboost", trials=1, rounds=2)
    fitted(config, data, tmp_path).save(tmp_path)
    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(ConfigError, match=r"pip install 'seqjourney\[catboost\]'"):
        build(config) if does == "build" else baseline_class("catboost").load(tmp_path)


def test_every_kind_is_listed():
    assert list(BASELINES) == [config.kind for config in CONFIGS]
