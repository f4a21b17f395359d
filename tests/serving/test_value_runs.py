"""A sum task from a log to money: every model trains, is evaluated, and serves what it promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_runs
import torch
from small_runs import configs, trained

import seqjourney
from seqjourney.commands.evaluate import evaluate
from seqjourney.commands.export import export
from seqjourney.commands.score import score
from seqjourney.commands.train import Run, train
from seqjourney.config import Config
from seqjourney.errors import ConfigError
from seqjourney.evaluation.predictions import read_predictions
from seqjourney.evaluation.value import VALUE_METRICS, normalised_gini_of
from seqjourney.serving.backends import open_program

MODELS = (
    "gru", "transformer", "past_value", "base_rate", "lightgbm", "catboost", "bgnbd", "paretonbd"
)  # fmt: skip
TASK = {"name": "worth", "kind": "sum", "target": ["purchase", "click"]}
CUTOFF = "2023-10-01"


@pytest.fixture(scope="module")
def config_of(small_log: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    return configs(small_log, tmp_path_factory.mktemp("value_runs"), TASK, small_runs.MODELS)


@pytest.fixture(scope="module")
def value_run(config_of: Callable[..., Config]) -> Callable[[str], Path]:
    return trained(config_of)


@pytest.mark.parametrize("kind", MODELS)
def test_a_run_says_how_much_and_its_total_is_right_on_validation(kind: str, value_run: Any):
    run = value_run(kind)
    predictions = read_predictions(run)
    assert (predictions["label"] == (predictions["value"] > 0)).all()
    validation = predictions[predictions["split"] == "validation"]
    assert validation["expected_value"].sum() == pytest.approx(validation["value"].sum())
    about = json.loads((run / "run.json").read_text())
    gini = normalised_gini_of(
        validation["value"].to_numpy(),
        validation["expected_value"].to_numpy(),
        validation["weight"].to_numpy(),
    )
    assert about["validation"]["normalised_gini"] == pytest.approx(gini)
    assert about["future_changed_score_by"] <= 1e-5
    if kind == "gru":  # stopped by the loss, which may be anything but a share
        assert torch.load(run / "model.pt", weights_only=True)["scale"]["deviation"] > 0
        curve = pd.concat(pd.read_csv(f) for f in (run / "logs").glob("metrics*.csv"))
        best = torch.load(run / "model.pt", weights_only=True)["validation_score"]
        assert best == pytest.approx(curve["validation_loss"].min(), rel=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_a_loaded_run_expects_of_a_frame_what_its_predictions_say(
    kind: str, value_run: Any, frame: pd.DataFrame
):
    predictions = pd.read_parquet(value_run(kind) / "predictions.parquet")
    wanted = predictions[predictions["split"] == "test"].set_index("customer_id")
    scored = seqjourney.load(value_run(kind)).score(frame, CUTOFF).set_index("customer_id")
    found = scored.loc[wanted.index]
    np.testing.assert_allclose(found["probability"], wanted["probability"], atol=1e-5)
    np.testing.assert_allclose(found["expected_value"], wanted["expected_value"], rtol=1e-4)
    unknown = scored["score"].isna()
    assert (scored["expected_value"].isna() == unknown).all()


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("gru", "torchscript"), ("gru", "onnx"), ("transformer", "torch_export")],
)
def test_exported_files_and_bulk_scores_expect_the_same(
    kind: str, backend: str, value_run: Any, frame: pd.DataFrame, tmp_path: Path
):
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    run = value_run(kind)
    file = export(run, None, backend)
    card = open_program(file)[1]["model_card.md"]
    assert "exp(log amount)" in card and "(B, S, 2)" in card
    expected = seqjourney.load(run).score(frame, CUTOFF).set_index("customer_id")
    found = seqjourney.load(file).score(frame, CUTOFF).set_index("customer_id")
    np.testing.assert_allclose(found["expected_value"], expected["expected_value"], rtol=1e-3)
    some = frame[frame["customer_id"].isin(expected.index[:2])]
    pd.testing.assert_frame_equal(
        seqjourney.load(file).explain(some, CUTOFF), seqjourney.load(run).explain(some, CUTOFF),
        atol=1e-3,
    )  # fmt: skip
    done = score(run, cutoff=CUTOFF, output=tmp_path / "scores", backend=backend, progress=False)
    shards = pd.concat(pd.read_parquet(f) for f in sorted(done.folder.glob("shard-*.parquet")))
    shards = shards.set_index("customer_id")
    assert "expected_value" in shards
    together = expected.loc[shards.index, "expected_value"]
    np.testing.assert_allclose(shards["expected_value"], together, rtol=1e-3)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_stream_expects_what_the_whole_history_does(
    kind: str, value_run: Any, frame: pd.DataFrame
):
    known = frame[frame["known_at"] <= pd.Timestamp(CUTOFF, tz="UTC")]
    some = known[known["customer_id"].isin(known["customer_id"].unique()[:5])]
    some = some.sort_values(["known_at", "timestamp", "event_id"])
    stream = seqjourney.Stream(value_run(kind))
    for row in some.to_dict("records"):
        stream.update(row.pop("customer_id"), row)
    expected = seqjourney.load(value_run(kind)).score(some, CUTOFF).set_index("customer_id")
    for customer, row in expected.iterrows():
        found = stream.score(customer, CUTOFF)
        assert found.expected_value == pytest.approx(row["expected_value"], rel=1e-3)
        assert found.probability == pytest.approx(row["probability"], abs=1e-4)
    assert np.isnan(stream.score("nobody", CUTOFF).expected_value)


def test_the_service_answers_with_expected_values(value_run: Any, frame: pd.DataFrame):
    pytest.importorskip("fastapi")
    from service_clients import as_json, pairs, post, serving

    events = as_json(frame.head(20))
    expected = seqjourney.Stream(value_run("gru")).update_many(pairs(events))
    with serving(value_run("gru")) as client:
        answers = post(client, events).json()["scores"]
        assert client.get("/customers/nobody/score").status_code == 404
    assert [a["expected_value"] for a in answers] == [
        None if np.isnan(e.expected_value) else e.expected_value for e in expected
    ]


def test_a_report_puts_money_first(value_run: Any, tmp_path: Path, capsys: Any):
    runs = [value_run(kind) for kind in ("past_value", "base_rate", "gru", "bgnbd")]
    result = evaluate(runs, tmp_path / "report", title="Worth", replicates=40)
    worth = result.metrics["tasks"]["worth"]
    ginis = [m["normalised_gini"]["value"] for m in worth["models"].values()]
    assert ginis == sorted(ginis, reverse=True)
    for values in worth["models"].values():
        assert set(VALUE_METRICS) < set(values)
        gini = values["normalised_gini"]
        assert gini["low"] <= gini["value"] <= gini["high"]
    assert worth["models"]["base_rate"]["normalised_gini"]["value"] == pytest.approx(0)
    compared = {entry["metric"] for entry in worth["comparisons"]}
    assert compared > {"normalised_gini", "value_mean_absolute_error", "average_precision"}
    test = read_predictions(runs[0]).query("split == 'test'")
    assert worth["value"]["total"] == pytest.approx(test["value"].sum())
    assert [len(groups) for groups in worth["value"]["deciles"].values()] == [10] * 4
    html, markdown = result.html.read_text(), result.markdown.read_text()
    best = next(iter(worth["models"]))
    assert "mathdefault" not in html  # an axis with formulas that nothing typesets
    assert f"{best} ranks best" in html and "normalised Gini" in html
    for text in (html, markdown):
        assert "Does the money come in that was expected?" in text
        assert "Mean absolute error" in text and "Normalised Gini" in text
    assert "Gini" in capsys.readouterr().out


def test_a_model_that_cannot_say_how_much_refuses_and_leaves_nothing(
    config_of: Callable[..., Config],
):
    for kind in ("logistic", "recency"):
        config = config_of(kind)
        with pytest.raises(ConfigError, match=f"asks how much, and model={kind} says only who"):
            train(config)
        assert not config.run_dir.exists()
    with pytest.raises(ConfigError, match="it is for tasks of kind sum"):
        other = config_of("past_value", kind="occurrence", name="buys")
        train(other.model_copy(update={"name": "buys"}))


def test_the_same_seed_gives_the_same_expected_values(
    config_of: Callable[..., Config], value_run: Any, tmp_path: Path
):
    config = config_of("gru").model_copy(update={"run": tmp_path / "again"})
    again = read_predictions(train(config).folder)
    first = read_predictions(value_run("gru"))
    pd.testing.assert_series_equal(again["expected_value"], first["expected_value"])


def test_a_sweep_maximises_the_gini_of_a_sum_and_the_precision_of_others():
    found = {"average_precision": 0.3, "roc_auc": 0.6}
    assert Run(Path(), found).objective == 0.3
    assert Run(Path(), found | {"normalised_gini": 0.5}).objective == 0.5
    assert Run(Path(), found | {"mean_average_precision": 0.4}).objective == 0.4
