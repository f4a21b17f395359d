"""`train` and `evaluate` on a next task, and what refuses its runs."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seqjourney.commands.evaluate_next import evaluate_next, find_next_runs
from seqjourney.commands.prepare import prepare
from seqjourney.commands.train import train
from seqjourney.commands.train_next import train_next
from seqjourney.config import Config, DataConfig, NextConfig, parse, served_config
from seqjourney.errors import ConfigError, DataError
from seqjourney.evaluation.next_ranks import read_ranks

TASK = {
    "name": "next_event",
    "kind": "next",
    "split": "time",
    "horizon": "14d",
    "cutoffs": {"train": ["2023-07-01"], "validation": ["2023-08-15"], "test": ["2023-10-15"]},
}
NextConfigOf = Callable[..., NextConfig]


@pytest.fixture
def next_config_of(config_of: Callable[..., Config]) -> NextConfigOf:
    def build(kind: str, **changes: Any) -> NextConfig:
        settings = config_of().model_dump()
        model = {"kind": kind, "name": kind}
        model |= {"width": 16, "context": 64} if kind in ("gru", "transformer") else {}
        settings |= {"name": "next", "task": TASK, "model": model}
        return parse(NextConfig, settings | changes, "configuration")

    return build


def test_runs_of_a_next_task_are_trained_compared_and_refused_elsewhere(
    next_config_of: NextConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs = [train_next(next_config_of(kind)) for kind in ("popularity", "markov", "gru")]
    gru = runs[-1].folder
    names = {path.name for path in gru.iterdir()}
    assert names >= {
        "run.json",
        "task.json",
        "ranks.parquet",
        "next_model.pt",
        "trained_on.parquet",
    }
    assert not any(path.suffix == ".partial" for path in gru.parent.iterdir())
    ranks = read_ranks(gru / "ranks.parquet")
    assert set(ranks["split"]) == {"validation", "test"} and set(ranks["ranking"]) == {"full"}
    assert (ranks["cutoff"].dt.strftime("%Y-%m-%d")[ranks["split"] == "test"] == "2023-10-15").all()
    trained_on = set(pd.read_parquet(gru / "trained_on.parquet")["customer_hash"])
    asked = ranks["customer_id"][ranks["split"] == "validation"]
    assert {sha256(name.encode()).hexdigest() for name in asked} <= trained_on

    found = evaluate_next(find_next_runs(gru.parent), tmp_path / "report", title="next",
                          replicates=50)  # fmt: skip
    models = found.metrics["rankings"]["full"]["models"]
    assert set(models) == {"popularity", "markov", "gru"}
    for values in models.values():
        assert values["hit@1"]["low"] <= values["hit@1"]["value"] <= values["hit@20"]["value"]
    pairs = found.metrics["rankings"]["full"]["comparisons"]
    assert {pair["a"] for pair in pairs} >= {"gru"} and len({pair["b"] for pair in pairs}) == 1
    report = found.markdown.read_text()
    assert "Split by time" in report and "\n| gru |" in report and "95 %" in report
    assert "\n\n|---" not in report and "\n|\n" not in report  # no table is broken
    page = found.html.read_text()
    assert "<svg" in page and "https://" not in page and "gru" in page
    answers = found.metrics["answers"]
    asked = (ranks["split"] == "test").sum()
    for rows in (answers["by_frequency"], answers["by_value"]):
        assert sum(row["questions"] for row in rows) == asked
        whole = sum(row["questions"] * row["models"]["gru"]["hit@1"]["value"] for row in rows)
        assert whole / asked == pytest.approx(models["gru"]["hit@1"]["value"])
    # What was said first and is right, is what the ranks count as right; ties are broken there.
    pairs = pd.read_parquet(gru / "first_answers.parquet")
    right = pairs.loc[pairs["target"] == pairs["answer"], "count"].sum()
    assert pairs["count"].sum() == asked
    assert right / asked == pytest.approx(models["gru"]["hit@1"]["value"])
    assert answers["coverage"]["popularity"]["first"] == 1
    wrong = answers["confusions"]["gru"]
    assert wrong[0]["count"] == pairs.loc[pairs["target"] != pairs["answer"], "count"].max()
    assert "next_event: which event comes next" in capsys.readouterr().out

    about = json.loads((gru / "run.json").read_text())["config"]
    with pytest.raises(ConfigError, match="a run of a next task, which the service does not"):
        served_config(about, "run.json")


def test_models_answer_the_kind_of_task_that_they_are_for(
    next_config_of: NextConfigOf, config_of: Callable[..., Config]
):
    with pytest.raises(ConfigError, match="recency does not answer next tasks; these do: gru"):
        train_next(next_config_of("recency"))
    settings = config_of().model_dump() | {"model": {"kind": "markov", "name": "markov"}}
    with pytest.raises(ConfigError, match="markov answers next tasks only"):
        train(parse(Config, settings, "configuration"))


def test_data_that_is_only_an_order_is_prepared_and_learned_from(
    next_config_of: NextConfigOf, tmp_path: Path
):
    rows = [(f"u{user:02d}", position, f"i{(user + position) % 9}")
            for user in range(40) for position in range(8)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["user", "position", "item"])
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "order.csv", index=False)
    told = {"name": "order", "path": str(tmp_path / "order.csv"), "customer": "user"}
    told |= {"timestamp": "position", "timestamp_unit": "order", "event_name": "view"}
    data = parse(DataConfig, told | {"categorical": ["item"]}, "data")
    prepare(data, tmp_path / "processed", progress=False)
    task = {"name": "next_item", "kind": "next", "field": "item", "split": "leave_one_out"}
    task |= {"even_spacing": True, "sampled": 2, "repeats": False}
    run = train_next(
        next_config_of(
            "markov", data=data.model_dump(), task=task, processed=tmp_path / "processed"
        )
    )
    ranks = read_ranks(run.folder / "ranks.parquet")
    test = ranks[ranks["split"] == "test"]
    assert set(test["ranking"]) == {"full", "sampled"} and (test["end"] == 7).all()
    assert (test["above"] == 0).all()  # each item is followed by one and the same
    about = json.loads((run.folder / "task.json").read_text())
    assert "not one by time" in about["split"] and about["even_spacing"]
    timed = next_config_of(
        "markov", data=data.model_dump(), task=task | {"even_spacing": False}, processed=tmp_path
    )
    with pytest.raises(ConfigError, match="data=order has an order and no times"):
        train_next(timed.model_copy(update={"processed": tmp_path / "processed"}))


def test_a_failed_run_leaves_nothing(next_config_of: NextConfigOf):
    config = next_config_of("markov", task=TASK | {"field": "sku"})
    with pytest.raises(ConfigError, match=r"task.field=sku: .* only event, channel, device"):
        train_next(config)
    assert not config.run_dir.parent.exists() or not list(config.run_dir.parent.iterdir())


def test_runs_of_other_questions_are_not_compared(next_config_of: NextConfigOf, tmp_path: Path):
    one = train_next(next_config_of("markov"))
    other = train_next(next_config_of("popularity", task=TASK | {"horizon": "3d"}))
    with pytest.raises(DataError, match="not asked the same questions"):
        evaluate_next([one.folder, other.folder], tmp_path / "report", title="two")
    with pytest.raises(DataError, match="holds no finished run of a next task"):
        find_next_runs(tmp_path / "nowhere")
