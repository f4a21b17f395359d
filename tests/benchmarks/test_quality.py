"""The quality benchmark: who meets whom, what is pooled, and that nothing is trained twice."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqjourney.evaluation.bootstrap import estimate

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))
quality = pytest.importorskip("quality")
record = pytest.importorskip("record")
runs_of = pytest.importorskip("quality_runs")


def measured(
    model: str, validation: float, value: float, spread: float, seed: int = 0, amount: bool = False
) -> Any:
    drawn = value + spread * np.random.default_rng(seed).normal(size=400)
    ap = estimate(value, drawn)
    task = quality.Task("x", "x", amount=amount)
    metrics = {"gini": ap} if amount else {"ap": ap, "auc": ap, "ece": ap}
    return quality.Measured(task, model, validation, metrics, (value,), ("platt",), 5000, 0.3)


def test_the_best_are_those_of_validation_whatever_the_test_says():
    found = [
        measured("lightgbm", 0.6, 0.9, 0.01),
        measured("logistic", 0.7, 0.5, 0.01),
        measured("gru", 0.65, 0.4, 0.01),
        measured("transformer", 0.62, 0.8, 0.01),
    ]
    network, baseline = quality._best(found)
    assert (network.model, baseline.model) == ("gru", "logistic")
    assert quality._best(found[:2]) is None and quality._best(found[2:]) is None


def test_a_difference_is_paired_and_the_pool_is_the_mean_of_tasks():
    duels = []
    for seed, gap in enumerate((0.05, -0.04, 0.02)):
        # The same luck on both sides: only the pairing shows that they differ.
        network = measured("gru", 0.6, 0.5 + gap, 0.2, seed)
        baseline = measured("logistic", 0.6, 0.5, 0.2, seed)
        paired = quality._less(network, baseline)
        assert paired.low == pytest.approx(gap) and paired.high == pytest.approx(gap)
        duels.append((network, baseline, paired))
    figures = quality._figures(duels, 2, enough=1)
    assert figures["pooled_ap_difference"].value == pytest.approx(0.01)
    assert figures["significantly_better"].value == 2
    assert figures["significantly_worse"].value == 1
    assert figures["data_sets"].value == 2
    assert figures["worst_ece"].value == pytest.approx(0.55)
    assert "worst_ece" not in quality._figures(duels, 2, enough=5001)
    # What comes in is judged by another measure, which is not averaged with precisions.
    amounts = [
        measured(model, 0.6, 0.5 + gap, 0.0, amount=True)
        for model, gap in (("gru", 0.2), ("lightgbm", 0))
    ]
    more = quality._figures([*duels, (*amounts, quality._less(*amounts))], 2, enough=1)
    assert more["pooled_ap_difference"].value == pytest.approx(0.01)
    assert more["significantly_better"].value == 3


def test_the_mean_over_seeds_is_resampled_as_one_model():
    draw = np.random.default_rng(0)
    seeds = [(0.4, 0.4 + draw.normal(size=500)), (0.6, 0.6 + draw.normal(size=500))]
    found = quality.mean_of(seeds)
    assert found.value == pytest.approx(0.5)
    np.testing.assert_allclose(found.replicates, (seeds[0][1] + seeds[1][1]) / 2)


def test_a_finished_run_is_not_trained_again_unless_what_makes_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from seqjourney.commands import train as module

    trained: list[Path] = []
    fingerprint = {"fingerprint": "a"}

    def train(config: Any) -> Any:
        config.run.mkdir(parents=True)
        (config.run / "run.json").write_text(json.dumps({}))
        trained.append(config.run)
        return module.Run(config.run, {"average_precision": 0.5})

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr("seqjourney.events.log.read_manifest", lambda _: fingerprint)
    chosen = record.Options(False, tmp_path, 1, 0.0, argparse.Namespace())
    runs = runs_of.Runs(tmp_path, chosen)
    monkeypatch.setattr(runs, "_processed", lambda _: tmp_path)
    asked = runs_of.Asked("grocery_elog_churn", "gru", 0)
    assert runs.get(asked, train=False) is None and trained == []
    first = runs.get(asked, train=True)
    assert runs.get(asked, train=True) == runs.get(asked, train=False) == first
    assert len(trained) == 1
    runs.get(runs_of.Asked("grocery_elog_churn", "gru", 1), train=True)
    fingerprint["fingerprint"] = "b"  # the data was prepared from other files
    runs.get(asked, train=True)
    monkeypatch.setattr(runs_of, "digest_of_code", lambda *_: "other")
    runs.get(asked, train=True)
    assert len(set(trained)) == len(trained) == 4


def test_every_experiment_on_public_data_is_measured():
    experiments = {path.stem for path in (ROOT / "configs/experiment").glob("*.yaml")}
    experiments -= {name for name in experiments if name.startswith(("demo", "company"))}  # ours
    asked = {task.experiment for task in quality.TASKS}
    others = {name for name in experiments if name.endswith("_time_to")}  # no one measure
    assert asked == experiments - others
    for task in quality.TASKS:
        assert task.experiment.startswith(task.data)
