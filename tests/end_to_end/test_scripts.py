"""The real command lines: all scripts, several models at once, a sweep, and a newcomer's CSV."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import seqjourney
from seqjourney.files import read_json

Script = Callable[..., object]
FAST = ["trainer=fast", "trainer.accelerator=cpu", "trainer.threads=1"]


def test_several_models_are_trained_compared_and_exported(
    script: Script, in_shop: list[str], tmp_path: Path
):
    output = f"output={tmp_path}"
    done = script(
        "train", "-m", "experiment=demo", "model=recency,logistic,gru", *FAST, output, *in_shop
    )
    assert done.stdout.count("validation average precision") == 3
    assert "Warning" not in done.stderr, done.stderr
    done = script("evaluate", "experiment=demo", "replicates=30", output, *in_shop)
    for model in ("recency", "logistic", "gru"):
        assert model in done.stdout
    report = tmp_path / "demo/report/report.html"
    assert str(report) in done.stdout
    assert "scripts/evaluate.py experiment=demo" in report.read_text()
    file = tmp_path / "gru.pt"
    done = script("export", f"run={tmp_path / 'demo/gru'}", f"output={file}")
    assert str(file) in done.stdout
    assert torch.jit.load(str(file))
    assert {path.name for path in tmp_path.iterdir()} == {"demo", "gru.pt"}


def test_a_sweep_keeps_its_study_and_its_trials(script: Script, in_shop: list[str], tmp_path: Path):
    pytest.importorskip("optuna", reason="needs the sweep extra")
    words = ["-m", "experiment=demo", "sweep=gru", *FAST, f"output={tmp_path}", *in_shop]
    script("train", *words, "hydra.sweeper.n_trials=2")
    folder = tmp_path / "demo/sweep/gru"
    assert (folder / "study.db").exists()
    assert (folder / "0/run.json").exists()
    assert (folder / "1/run.json").exists()
    assert "model.width" in (folder / "optimization_results.yaml").read_text()
    # A second start goes on to as many as it asks for: other settings, runs numbered on.
    before = (folder / "0/run.json").read_bytes()
    done = script("train", *words, "hydra.sweeper.n_trials=2")
    assert "2 trials are finished, 2 are asked for." in done.stdout
    assert not (folder / "2").exists()
    script("train", *words, "hydra.sweeper.n_trials=3")
    assert (folder / "0/run.json").read_bytes() == before
    tried = [read_json(folder / f"{number}/run.json")["config"]["model"] for number in range(3)]
    assert len({str(settings) for settings in tried}) == 3
    # Trials of other settings in one study would make its best that of neither.
    done = script("train", *words, "model.context=32", "hydra.sweeper.n_trials=4", status=2)
    assert "search with other settings (model.context)" in done.stderr
    assert not (folder / "3").exists()


def test_a_search_needs_several_runs_and_is_one(script: Script, in_shop: list[str]):
    done = script("train", "experiment=demo", "sweep=gru", *in_shop, status=2)
    assert "needs -m: python scripts/train.py -m experiment=demo sweep=gru" in done.stderr
    done = script("train", "-m", "experiment=demo", "sweep=gru,transformer", *in_shop, status=2)
    assert "error: sweep=gru,transformer: one search at a time" in done.stderr


def test_a_next_task_can_be_searched(script: Script, in_shop: list[str], tmp_path: Path):
    pytest.importorskip("optuna", reason="needs the sweep extra")
    words = ["-m", "experiment=demo_next", "sweep=transformer", *FAST, f"output={tmp_path}"]
    script("train", *words, *in_shop, "hydra.sweeper.n_trials=1")
    assert (tmp_path / "demo_next/sweep/transformer/0/ranks.parquet").exists()


def test_runs_side_by_side_write_what_runs_one_by_one_write(
    script: Script, in_shop: list[str], tmp_path: Path
):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the launchers extra")
    words = ["-m", "experiment=demo", "model=recency,base_rate", *FAST, *in_shop]
    script("train", *words, f"output={tmp_path / 'one'}")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = script("train", *words, *launcher, f"output={tmp_path / 'two'}")
    assert done.stdout.count("validation average precision") == 2
    assert not done.stderr
    for model in ("recency", "base_rate"):
        one, two = (
            pd.read_parquet(tmp_path / f"{at}/demo/{model}/predictions.parquet")
            for at in ("one", "two")
        )
        pd.testing.assert_frame_equal(one, two)
    wrong = ["model=recency,past_value", *launcher, f"output={tmp_path / 'three'}"]
    done = script("train", *[w for w in words if "model=" not in w], *wrong, status=2)
    assert done.stderr.count("error: model=past_value says what customers will bring in") == 1
    assert "Traceback" not in done.stderr


def test_a_job_that_fails_under_submitit_says_why(
    script: Script, in_shop: list[str], tmp_path: Path
):
    pytest.importorskip("submitit", reason="needs the launchers extra")
    words = ["-m", "experiment=demo", *FAST, *in_shop, f"output={tmp_path}"]
    words += ["hydra/launcher=submitit_local", f"hydra.sweep.dir={tmp_path / 'jobs'}"]
    script("train", *words, "model=recency")
    assert (tmp_path / "demo/recency/run.json").exists()
    done = script("train", *words, "model=past_value", status=1)
    assert "error: model=past_value says what customers will bring in" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_newcomers_csv_goes_all_the_way(script: Script, tmp_path: Path):
    random = np.random.default_rng(0)
    n = 6000
    rows = pd.DataFrame(
        {
            "user": [f"user {i}" for i in random.integers(0, 200, n)],
            "when": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(random.integers(0, 300 * 86400, n), unit="s"),
            "what": random.choice(["look", "add", "buy"], n, p=[0.7, 0.25, 0.05]),
        }
    )
    rows.to_csv(tmp_path / "my events.csv", index=False)
    here = [f"processed={tmp_path / 'processed'}"]
    done = script(
        "prepare", "data=table", "data.name=mine", f"data.path='{tmp_path / 'my events.csv'}'",
        "data.customer=user", "data.timestamp=when", "data.event=what", *here,
    )  # fmt: skip
    assert "data=table data.name=mine 'task.target=[...]'" in done.stdout
    words = ["data=table", "data.name=mine", *here, f"output={tmp_path / 'outputs'}"]
    script("train", "-m", *words, "task.target=[buy]", "model=recency,gru", *FAST)
    done = script("evaluate", *words, "replicates=20")
    report = tmp_path / "outputs/mine_conversion/report"
    assert (report / "report.html").exists()
    frame = rows.rename(columns={"user": "customer_id", "when": "timestamp", "what": "event"})
    scored = seqjourney.load(tmp_path / "outputs/mine_conversion/gru").score(frame)
    assert len(scored) == 200
    done = script("train", *words, "task.target=[bye]", "model=logistic", status=2)
    assert "Did you mean 'buy'?" in done.stderr
