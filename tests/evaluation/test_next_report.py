"""The report of next tasks says what the numbers say, and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqjourney.evaluation.next_answered import Answered
from seqjourney.evaluation.next_ranks import NEVER
from seqjourney.evaluation.next_report import sentence, write_next_report
from seqjourney.evaluation.next_results import answer_results, bands, ranking_results

VALUES = ["a", "b", "c", "d", "e"]
TRAINED = [50, 25, 15, 10, 0]


def ranks(above: np.ndarray, target: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": [f"c{i // 3}" for i in range(len(above))],
            "target": target,
            "above": above,
            "tied": 0,
            "candidates": len(VALUES),
            "weight": 1.0,
        }
    )


@pytest.fixture
def frames() -> dict[str, pd.DataFrame]:
    """A network that is mostly right, a rule that is not; no model knows `new`."""
    random = np.random.default_rng(1)
    target = random.choice([*VALUES[:4], "new"], 300)
    known = target != "new"
    good = np.where(known, random.choice([0, 0, 0, 1, 4], 300), NEVER)
    poor = np.where(known, random.choice([1, 2, 3], 300), NEVER)
    return {"markov": ranks(poor, target), "gru": ranks(good, target)}


def answered(target: pd.Series, answer: pd.Series) -> Answered:
    pairs = pd.DataFrame({"target": target, "answer": answer})
    counts = pairs.value_counts().rename("count").reset_index()
    first = [int((answer == value).sum()) for value in VALUES]
    listed = [len(answer), *[0] * 4]
    values = pd.DataFrame({"value": VALUES, "trained": TRAINED, "first": first, "listed": listed})
    return Answered(values, counts)


def test_models_are_ordered_and_held_against_the_best_count(frames: dict[str, pd.DataFrame]):
    found = ranking_results(frames, (), replicates=200, seed=0)
    assert list(found["models"]) == ["gru", "markov"]
    assert {(c["a"], c["b"]) for c in found["comparisons"]} == {("gru", "markov")}
    gap = next(c for c in found["comparisons"] if c["metric"] == "hit@1")
    gru, markov = (found["models"][m]["hit@1"]["value"] for m in ("gru", "markov"))
    assert gap["difference"] == pytest.approx(gru - markov) and gap["low"] > 0 == markov
    within = found["found_within"]["gru"]
    assert within[0] == pytest.approx(gru) and within == sorted(within)
    assert found["random"] == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]))
    assert "gru ranks what comes next best and is clearly ahead of markov, the best count" in (
        sentence(found)
    )


def test_a_count_that_is_best_and_a_trial_are_called_so(frames: dict[str, pd.DataFrame]):
    swapped = {"rules": frames["gru"], "gru": frames["markov"]}
    found = ranking_results(swapped, (), replicates=200, seed=0)
    text = sentence(found)
    assert text.startswith("rules, the best count, ranks what comes next best and is clearly ahead")
    assert "of gru, the best network" in text and "−" not in text
    same = {"gru": frames["gru"], "rules": frames["gru"].copy()}
    assert "is not clearly ahead" in sentence(ranking_results(same, (), replicates=50, seed=0))
    trial = ranking_results(frames, {"gru"}, replicates=50, seed=0)
    assert list(trial["models"]) == ["markov", "gru"]


def test_values_fall_into_bands_by_how_often_training_saw_them():
    values = pd.DataFrame({"value": VALUES, "trained": TRAINED})
    short = [name.split(":")[0] for name in bands(values)]
    assert short == ["head", "middle", "middle", "tail", "never an answer in training"]
    shuffled = values.sample(frac=1, random_state=0)
    assert dict(zip(shuffled["value"], bands(shuffled), strict=True)) == dict(
        zip(values["value"], bands(values), strict=True)
    )
    one = pd.DataFrame({"value": ["a", "b"], "trained": [99, 1]})
    assert [name.split(":")[0] for name in bands(one)] == ["head", "tail"]


def test_the_report_tells_of_rare_values_coverage_and_confusions(
    frames: dict[str, pd.DataFrame], tmp_path: Path
):
    target = frames["gru"]["target"]
    guess = target.where(target != "b", "a | <b>").where(target != "new", "a")
    told = {"gru": answered(target, guess), "markov": None}
    answers = answer_results(frames, told, replicates=50, seed=0)
    never = answers["by_frequency"][-1]
    assert never["value"] == "never an answer in training"
    assert never["questions"] == (target == "new").sum()
    assert never["models"]["gru"]["hit@10"] == {"value": 0, "low": 0, "high": 0}
    assert [row["value"] for row in answers["by_value"]] == ["a", "b", "c", "d"]
    assert answers["coverage"] == {"gru": {"values": 5, "first": 3, "listed": 1}}
    first, second = answers["confusions"]["gru"]
    counts = {row["target"]: row for row in (first, second)}
    assert counts["b"]["answer"] == "a | <b>" and counts["b"]["of_target"] == 1
    assert counts["new"]["count"] == (target == "new").sum()
    assert counts["new"]["of_all"] == pytest.approx((target == "new").mean())
    metrics = {
        "data": {"title": "next <things>", "split": "test", "seed": 0, "version": "0",
                 "replicates": 50, "command": "run me", "limited": {"gru": "trained on 2 batches"},
                 "runs": [{"model": "gru", "run": "next/gru"}]},
        "task": {"name": "next_item", "description": "which item comes next, of 5",
                 "split": "by time", "even_spacing": False,
                 "never_seen_in_training": {"test": 60}},
        "rankings": {"full": ranking_results(frames, {"gru"}, replicates=50, seed=0)},
        "answers": answers,
    }  # fmt: skip
    metrics["answers"]["confusions"]["markov"] = metrics["answers"]["confusions"].pop("gru")
    written = write_next_report(tmp_path, metrics)
    page, text = written["report.html"].read_text(), written["report.md"].read_text()
    assert "next &lt;things&gt;" in page and "a | &lt;b&gt;" in page and "<b>" not in page
    assert "never an answer in training" in page and "Coverage" in page
    assert "not a result: trained on 2 batches" in page
    assert r"a \| \<b\>" in text and "a trial run with trainer=fast" in text
    assert "http" not in page
