"""A time_to task from a log to curves: every model trains, is evaluated, and serves its answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_runs
from small_runs import configs, trained

import seqjourney
from seqjourney.commands.evaluate import evaluate
from seqjourney.commands.export import export
from seqjourney.commands.score import score
from seqjourney.commands.train import train
from seqjourney.config import Config
from seqjourney.errors import ConfigError
from seqjourney.evaluation.predictions import read_predictions
from seqjourney.evaluation.times import TIME_METRICS
from seqjourney.serving.backends import open_program

MODELS = ("gru", "transformer", "base_rate", "recency", "logistic", "lightgbm", "bgnbd")
SETTINGS = small_runs.MODELS | {"blend": {"runs": ["gru", "logistic"]}}
HORIZONS = ["5d", "12d", "30d"]
TASK = {"name": "when", "kind": "time_to", "horizon": None, "horizons": HORIZONS}
PROBABILITIES = [f"probability_{h}" for h in HORIZONS]
CUTOFF = "2023-10-01"


@pytest.fixture(scope="module")
def config_of(small_log: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    return configs(small_log, tmp_path_factory.mktemp("time_runs"), TASK, SETTINGS)


@pytest.fixture(scope="module")
def time_run(config_of: Callable[..., Config]) -> Callable[[str], Path]:
    return trained(config_of)


def curves_of(predictions: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per snapshot, one column per horizon."""
    table = predictions.pivot_table(column, ["split", "customer_id", "cutoff"], "task")
    return table[[f"when@{h}" for h in HORIZONS]]


@pytest.mark.parametrize("kind", MODELS)
def test_a_run_holds_a_curve_per_snapshot_that_never_falls(kind: str, time_run: Any):
    run = time_run(kind)
    predictions = read_predictions(run)
    for column in ("label", "probability"):
        assert (np.diff(curves_of(predictions, column), axis=1) >= 0).all()
    if kind in ("gru", "transformer"):
        assert (np.diff(curves_of(predictions, "score"), axis=1) >= 0).all()
    validation = predictions[predictions["split"] == "validation"].groupby("task")
    off = (validation["probability"].mean() - validation["label"].mean()).abs()
    assert off.max() < 0.05  # of Platt's lines alone nothing, of what was raised a little
    about = json.loads((run / "run.json").read_text())
    assert list(about["horizon_calibrators"]) == HORIZONS
    raised = about["raised_by_a_shorter_horizon"]
    assert set(raised) == {"validation", "test"} and all(0 <= r < 0.5 for r in raised.values())
    assert 0 <= about["validation"]["concordance"] <= 1
    assert about["future_changed_score_by"] <= 1e-5


@pytest.mark.parametrize("kind", MODELS)
def test_a_loaded_run_answers_a_frame_as_its_predictions_say(
    kind: str, time_run: Any, frame: pd.DataFrame
):
    wanted = curves_of(read_predictions(time_run(kind)).query("split == 'test'"), "probability")
    wanted = wanted.droplevel(["split", "cutoff"])
    scored = seqjourney.load(time_run(kind)).score(frame, CUTOFF).set_index("customer_id")
    np.testing.assert_allclose(scored.loc[wanted.index, PROBABILITIES], wanted, atol=1e-5)
    pd.testing.assert_series_equal(
        scored["probability"], scored["probability_30d"], check_names=False
    )
    unknown = scored["score"].isna()
    assert unknown.any() or len(scored) == 120
    assert (scored[PROBABILITIES].isna().all(axis=1) == unknown).all()


def test_the_base_rate_is_the_estimate_of_kaplan_and_meier(time_run: Any, config_of: Any):
    run = time_run("base_rate")
    data = config_of("base_rate").prepared / "tasks" / "when" / "snapshots.parquet"
    train_ = pd.read_parquet(data).query("split == 'train'")
    waiting, expected = 1.0, []
    for k in range(3):
        still = train_["interval"] >= k
        waiting *= 1 - (train_["interval"][still] == k).mean()
        expected.append(1 - waiting)
    scores = curves_of(read_predictions(run), "score").iloc[0]
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), expected)


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("gru", "torchscript"), ("gru", "onnx"), ("transformer", "torch_export")],
)
def test_exported_files_and_bulk_scores_answer_the_same(
    kind: str, backend: str, time_run: Any, frame: pd.DataFrame, tmp_path: Path
):
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    run = time_run(kind)
    file = export(run, None, backend)
    card = open_program(file)[1]["model_card.md"]
    assert "(B, S, 3)" in card and "by 5d, 12d, 30d" in card and "- by 12d: `sigmoid(" in card
    expected = seqjourney.load(run).score(frame, CUTOFF).set_index("customer_id")
    found = seqjourney.load(file).score(frame, CUTOFF).set_index("customer_id")
    np.testing.assert_allclose(found[PROBABILITIES], expected[PROBABILITIES], atol=1e-4)
    some = frame[frame["customer_id"].isin(expected.index[:2])]
    pd.testing.assert_frame_equal(
        seqjourney.load(file).explain(some, CUTOFF), seqjourney.load(run).explain(some, CUTOFF),
        atol=1e-3,
    )  # fmt: skip
    done = score(run, cutoff=CUTOFF, output=tmp_path / "scores", backend=backend, progress=False)
    shards = pd.concat(pd.read_parquet(f) for f in sorted(done.folder.glob("shard-*.parquet")))
    shards = shards.set_index("customer_id")
    together = expected.loc[shards.index, PROBABILITIES]
    np.testing.assert_allclose(shards[PROBABILITIES], together, atol=1e-4)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_stream_answers_as_the_whole_history_does(kind: str, time_run: Any, frame: pd.DataFrame):
    known = frame[frame["known_at"] <= pd.Timestamp(CUTOFF, tz="UTC")]
    some = known[known["customer_id"].isin(known["customer_id"].unique()[:5])]
    some = some.sort_values(["known_at", "timestamp", "event_id"])
    stream = seqjourney.Stream(time_run(kind))
    for row in some.to_dict("records"):
        stream.update(row.pop("customer_id"), row)
    expected = seqjourney.load(time_run(kind)).score(some, CUTOFF).set_index("customer_id")
    for customer, row in expected.iterrows():
        found = stream.score(customer, CUTOFF)
        assert list(found.by_horizon) == HORIZONS
        np.testing.assert_allclose(
            list(found.by_horizon.values()), row[PROBABILITIES].astype(float), atol=1e-4
        )
        assert found.probability == found.by_horizon["30d"]
    nobody = stream.score("nobody", CUTOFF)
    assert math.isnan(nobody.by_horizon["5d"]) and math.isnan(nobody.probability)


def test_a_report_compares_every_horizon_and_the_times(
    time_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture
):
    runs = [time_run(kind) for kind in ("gru", "logistic", "base_rate", "recency")]
    result = evaluate(runs, tmp_path / "report", title="When?", replicates=30)
    tasks = result.metrics["tasks"]
    assert list(tasks) == [f"when@{h}" for h in HORIZONS]
    assert set(TIME_METRICS) <= set(tasks["when@30d"]["models"]["gru"])
    assert tasks["when@30d"]["models"]["base_rate"]["concordance"]["value"] == 0.5
    assert "concordance" in {c["metric"] for c in tasks["when@30d"]["comparisons"]}
    assert tasks["when@30d"]["times"]["horizons_days"] == [5, 12, 30]
    assert set(tasks["when@30d"]["times"]["mean_days"]) == {
        "actual", "gru", "logistic", "base_rate", "recency"
    }  # fmt: skip
    assert "concordance" not in tasks["when@5d"]["models"]["gru"]
    # What the run was asked of poorer histories is about its main answer.
    assert tasks["when@30d"]["ablations"]["gru"] and not tasks["when@5d"]["ablations"]
    assert tasks["when@30d"]["examples"]["gru"] and not tasks["when@12d"]["examples"]
    for text in (result.html.read_text(), result.markdown.read_text()):
        assert "Concordance (C-index)" in text
        assert "purchase within 5 days after the cutoff" in text
        assert "when: all horizons" in text and "when, by 12d" in text
        actual = tasks["when@30d"]["times"]["mean_days"]["actual"]
        assert f"{actual:.1f}\u00a0days" in text
    printed = capsys.readouterr().out
    assert "C-index" in printed and "AP 12d" in printed


def test_a_value_rule_is_refused_for_times(config_of: Callable[..., Config]):
    with pytest.raises(ConfigError, match="it is for tasks of kind sum"):
        train(config_of("past_value"))


def test_a_blend_of_single_scores_is_refused_for_times(config_of: Callable[..., Config]):
    with pytest.raises(ConfigError, match="asks by when, and model=blend knows one horizon only"):
        train(config_of("blend"))
