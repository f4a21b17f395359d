"""A blend of finished runs: what it answers, what it keeps, what it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

import seqjourney
from seqjourney.commands.train import train
from seqjourney.config import Config, parse
from seqjourney.errors import ConfigError
from seqjourney.evaluation.trials import limit_of
from seqjourney.files import read_json, write_json
from seqjourney.provenance import model_fingerprint

ConfigOf = Callable[..., Config]


def blend_of(config_of: ConfigOf, *runs: str, **changes: int) -> Config:
    settings = config_of("recency").model_dump(mode="json") | changes
    settings["model"] = {"kind": "blend", "name": "blend", "runs": runs}
    return parse(Config, settings, "configuration")


@pytest.fixture
def members(config_of: ConfigOf) -> dict[str, Path]:
    return {kind: train(config_of(kind)).folder for kind in ("gru", "logistic")}


def in_order(folder: Path) -> pd.DataFrame:
    predictions = pd.read_parquet(folder / "predictions.parquet")
    return predictions.sort_values(["cutoff", "customer_id"], ignore_index=True)


def test_a_blend_is_the_mean_of_its_members_log_odds_and_stands_without_them(
    members: dict[str, Path], config_of: ConfigOf, shop: Path
):
    folder = train(blend_of(config_of, "gru", "logistic")).folder
    blend = in_order(folder)
    for name, about in zip(members, read_json(folder / "model.json")["chosen"]["members"],
                           strict=True):  # fmt: skip
        assert (about["name"], about["kind"]) == (name, name)
    expected = []
    for run in members.values():
        scores = in_order(run)
        # By another route: the log-odds of the member's own Platt curve, fitted on the same rows.
        kept = read_json(run / "run.json")["calibrator"]
        assert kept["kind"] == "platt"
        expected.append(logit(scores["probability"]))
    np.testing.assert_allclose(blend["score"], np.mean(expected, axis=0), atol=0.02)

    events = pd.read_parquet(shop / "raw/events.parquet").head(3000)
    before = seqjourney.load(folder).score(events)
    for run in members.values():
        shutil.rmtree(run)
    pd.testing.assert_frame_equal(seqjourney.load(folder).score(events), before)


def test_the_fingerprint_of_a_blend_knows_its_members(
    members: dict[str, Path], config_of: ConfigOf
):
    folder = train(blend_of(config_of, *members)).folder
    before = model_fingerprint(folder)
    (folder / "members/1/model.json").write_text("{}")
    assert model_fingerprint(folder) != before


def test_a_blend_names_the_run_that_it_lacks(config_of: ConfigOf):
    with pytest.raises(ConfigError, match=r"model\.runs names gru, and .* not a finished run"):
        train(blend_of(config_of, "gru", "logistic"))


def test_a_blend_refuses_runs_of_another_task(members: dict[str, Path], config_of: ConfigOf):
    about = read_json(members["gru"] / "task.json")
    about["task"]["customer_holdout"] = 0.2
    write_json(members["gru"] / "task.json", about)
    with pytest.raises(ConfigError, match="gru was trained on another task than 'orders'"):
        train(blend_of(config_of, *members))


def test_a_blend_refuses_runs_of_data_that_changed_since(
    members: dict[str, Path], config_of: ConfigOf
):
    about = read_json(members["gru"] / "run.json")
    write_json(members["gru"] / "run.json", about | {"data_fingerprint": "before an erasure"})
    with pytest.raises(ConfigError, match="gru was trained on other data"):
        train(blend_of(config_of, *members))


def test_a_blend_of_a_blend_and_a_seed_that_changes_nothing_are_refused(
    members: dict[str, Path], config_of: ConfigOf
):
    train(blend_of(config_of, *members))
    with pytest.raises(ConfigError, match="names blend, a blend"):
        train(blend_of(config_of, "blend", "gru"))
    with pytest.raises(ConfigError, match=r"seed=1: none of model.runs was trained with it"):
        train(blend_of(config_of, *members, seed=1))


def test_a_blend_of_a_trial_run_is_a_trial(members: dict[str, Path], config_of: ConfigOf):
    trial = train(config_of("gru", trainer={"limit_batches": 1})).folder
    assert limit_of(trial) == limit_of(train(blend_of(config_of, *members)).folder)
    assert limit_of(trial) == "trained on 1 batch an epoch"
