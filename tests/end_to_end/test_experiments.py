"""Every experiment and every model config runs, on a few batches, into a complete run folder."""

from pathlib import Path

import pandas as pd
import pytest
from composed_configs import ROOT, composed

from seqjourney.commands.prepare import prepare
from seqjourney.commands.train import train
from seqjourney.commands.train_next import train_next
from seqjourney.config import Config, DataConfig, NextConfig, TaskConfig, parse
from seqjourney.evaluation.next_ranks import read_ranks
from seqjourney.evaluation.predictions import read_predictions

NEXT = {"demo_next"}
NEXT_MODELS = {"popularity", "recent", "markov", "rules"}
EXPERIMENTS = sorted({path.stem for path in (ROOT / "configs/experiment").glob("*.yaml")} - NEXT)
MODELS = sorted({path.stem for path in (ROOT / "configs/model").glob("*.yaml")} - NEXT_MODELS)
SMALLER = {
    "lightgbm": ["model.trials=1", "model.rounds=20"],
    "catboost": ["model.trials=1", "model.rounds=20"],
    "logistic": ["model.penalties=[0.1]"],
}
prepared_data: dict[str, Path] = {}


@pytest.fixture(scope="session")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processed")


def run(experiment: str, *words: str) -> Path:
    fast = ["trainer=fast", "trainer.threads=1"]
    settings = composed("train", f"experiment={experiment}", *fast, *words)
    return train(parse(Config, settings, "configuration")).folder


def prepared(data: str, processed: Path, request: pytest.FixtureRequest) -> list[str]:
    """Prepare a data set once; return the words that let `train` find it."""
    if data == "demo":
        return request.getfixturevalue("in_shop")
    if data not in prepared_data:
        real_data = request.getfixturevalue("real_data")
        settings = composed("prepare", f"data={data}")["data"]
        if not (real_data / data).exists():
            pytest.skip(f"SEQJOURNEY_DATA has no {data}")
        config = parse(DataConfig, settings, "data")
        tasks = [
            parse(TaskConfig, composed("train", f"task={name}")["task"], name)
            for name in config.tasks
        ]
        prepared_data[data] = prepare(config, processed, tasks, progress=False)
    return [f"processed={processed}"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_runs(
    experiment: str, processed: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    data = composed("train", f"experiment={experiment}")["data"]["name"]
    words = prepared(data, processed, request)
    folder = run(experiment, "model=gru", f"output={tmp_path}", *words)
    assert folder == tmp_path / experiment / "gru"
    predictions = read_predictions(folder)
    assert set(predictions["split"]) == {"validation", "test"}
    assert predictions["label"].nunique() == 2
    assert (folder / "model.pt").exists()


@pytest.mark.parametrize("model", MODELS)
def test_model_config_runs(model: str, in_shop: list[str], tmp_path: Path):
    experiment = "demo_ltv" if model == "past_value" else "demo"
    smaller = SMALLER.get(model, [])
    if model == "blend":
        for member in ("gru", "lightgbm"):
            run(experiment, f"model={member}", f"output={tmp_path}", *SMALLER.get(member, []),
                *in_shop)  # fmt: skip
    folder = run(experiment, f"model={model}", f"output={tmp_path}", *smaller, *in_shop)
    scores = pd.read_parquet(folder / "predictions.parquet")
    assert scores["model"].unique().tolist() == [model]
    assert scores["probability"].between(0, 1).all()


@pytest.mark.parametrize("model", ["gru", "transformer", *sorted(NEXT_MODELS)])
def test_next_experiments_run_with_every_model_that_answers_them(
    model: str, in_shop: list[str], tmp_path: Path
):
    for experiment in sorted(NEXT):
        fast = ["trainer=fast", "trainer.threads=1", f"output={tmp_path}", *in_shop]
        settings = composed("train", f"experiment={experiment}", f"model={model}", *fast)
        folder = train_next(parse(NextConfig, settings, "configuration")).folder
        ranks = read_ranks(folder / "ranks.parquet")
        assert ranks["model"].unique().tolist() == [model]
        assert set(ranks["split"]) == {"validation", "test"}


def test_each_task_of_a_data_config_has_an_experiment_of_its_name():
    """`prepare` tells the user to go on with `experiment=<task>`."""
    for path in sorted((ROOT / "configs/data").glob("*.yaml")):
        if path.stem != "table":
            tasks = composed("prepare", f"data={path.stem}")["data"]["tasks"]
            assert set(tasks) <= set(EXPERIMENTS), path
