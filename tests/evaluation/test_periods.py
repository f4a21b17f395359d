"""Several test periods: what is a period, and that customers are drawn once for all of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from seqjourney.commands.evaluate import evaluate
from seqjourney.errors import DataError
from seqjourney.evaluation.periods import join_periods, period_results, summary

Frames = list[pd.DataFrame]


def earlier(frames: Frames, days: int = 30) -> Frames:
    """The same answers so many days before, as runs of their own."""
    back = pd.Timedelta(days=days)
    return [
        frame.assign(cutoff=frame["cutoff"] - back, run=f"shift_{days}d/" + frame["run"])
        for frame in frames
    ]


def test_periods_come_in_order_and_their_models_keep_their_names(frames: Frames):
    two = [frames[0], frames[2]]
    (periods,) = join_periods([*two, *earlier(two, 60), *earlier(two, 30)])
    firsts = [period.split("test").snapshots["cutoff"].min() for period in periods]
    assert firsts == sorted(firsts) and len(firsts) == 3
    assert all(list(period.scores) == ["gru", "lightgbm"] for period in periods)


def test_a_run_with_other_cutoffs_whose_model_the_last_period_lacks_is_still_refused(
    frames: Frames,
):
    with pytest.raises(DataError, match=r"of model (.+) is tested at .*no run of that model is at"):
        join_periods([frames[0], *earlier(frames[1:2])])


def test_a_period_is_measured_as_ever_and_the_mean_is_over_periods(synthetic: Callable):
    last, before = synthetic(seed=1), earlier(synthetic(seed=2))
    (periods,) = join_periods([*before, *last])
    found = period_results(periods, replicates=20, seed=0)
    for model in range(len(last)):
        name = last[model]["model"].iloc[0]
        values = []
        for place, frame in enumerate((before[model], last[model])):
            test = frame[frame["split"] == "test"]
            ap = average_precision_score(test["label"], test["score"])
            auc = roc_auc_score(test["label"], test["score"])
            entry = found["periods"][place]["models"][name]
            assert entry["average_precision"]["value"] == pytest.approx(ap)
            assert entry["roc_auc"]["value"] == pytest.approx(auc)
            values.append(ap)
        pooled = found["models"][name]["average_precision"]["value"]
        assert pooled == pytest.approx(np.mean(values))
    first = found["comparisons"][0]
    a, b = (found["models"][first[side]]["average_precision"]["value"] for side in "ab")
    assert first["difference"] == pytest.approx(a - b)
    assert a == max(m["average_precision"]["value"] for m in found["models"].values())


def test_a_customer_of_several_periods_is_drawn_once_for_all(frames: Frames):
    """Twice the same answers are no more evidence: a bootstrap of rows would say otherwise."""
    two = frames[:2]
    (once,), (twice,) = join_periods(two), join_periods([*two, *earlier(two)])
    alone = period_results(once, replicates=200, seed=0)
    both = period_results(twice, replicates=200, seed=0)
    assert both["models"] == alone["models"]
    assert [g | {"ahead_in": 0} for g in both["comparisons"]] == [
        g | {"ahead_in": 0} for g in alone["comparisons"]
    ]
    # Other customers in the earlier period are more evidence, and the interval says so.
    others = [f.assign(customer_id="x" + f["customer_id"]) for f in earlier(two)]
    (apart,) = join_periods([*two, *others])
    gap = period_results(apart, replicates=200, seed=0)["comparisons"][0]
    assert gap["high"] - gap["low"] < 0.9 * (
        both["comparisons"][0]["high"] - both["comparisons"][0]["low"]
    )


def test_runs_of_one_model_in_a_period_are_seeds_and_count_with_their_mean(synthetic: Callable):
    gru, other, lightgbm = synthetic(names={"gru": 0.5, "gru2": 0.9, "lightgbm": 0.7})
    seed1 = other.assign(model="gru", run="run_gru_seed1")
    (periods,) = join_periods([gru, seed1, lightgbm, *earlier([gru, lightgbm])])
    found = period_results(periods, replicates=20, seed=0)
    assert [p["runs"]["gru"] for p in found["periods"]] == [1, 2]
    test = gru["split"] == "test"
    aps = [average_precision_score(f["label"][test], f["score"][test]) for f in (gru, seed1)]
    ap = found["periods"][1]["models"]["gru"]["average_precision"]["value"]
    assert ap == pytest.approx(np.mean(aps))


def test_a_model_that_lacks_a_period_is_shown_and_not_pooled(frames: Frames):
    (periods,) = join_periods([*frames[:3], *earlier(frames[:2])])
    found = period_results(periods, replicates=20, seed=0)
    assert set(found["models"]) == {"gru", "transformer"}
    assert "lightgbm" in found["periods"][1]["models"]


def test_a_model_alone_in_all_periods_ranks_before_nobody(frames: Frames):
    (periods,) = join_periods([*frames[:2], *earlier(frames[:1])])
    said = summary(period_results(periods, replicates=20, seed=0))
    assert "only gru has runs in all of them" in said and "best" not in said


def test_the_report_shows_the_periods_and_is_about_the_last_one(
    frames: Frames, make_runs: Callable, tmp_path: Path, capsys
):
    two = [frames[0], frames[2]]
    runs = make_runs([*earlier(two), *two])
    for run in runs:
        (run / "task.json").write_text(json.dumps({"name": "churn", "kind": "absence"}))
    result = evaluate(runs, tmp_path / "out", title="t", replicates=30)
    task = result.metrics["tasks"]["churn"]
    alone = evaluate(runs[2:], tmp_path / "alone", title="t", replicates=30)
    assert task["models"] == alone.metrics["tasks"]["churn"]["models"]
    last = task["periods"]["periods"][-1]["models"]
    for model, values in last.items():  # one figure, one interval
        assert all(task["models"][model][name] == entry for name, entry in values.items())
    assert "periods" not in alone.metrics["tasks"]["churn"]
    for page in (result.html, result.markdown):
        text = page.read_text(encoding="utf-8")
        assert "Does it hold in other test periods?" in text
        assert "2011-08-10" in text
        assert "How early does a warning come?" in text
    assert "Over 2 test periods since 2011-08-10" in " ".join(capsys.readouterr().out.split())
    # Asked in two periods, the same customers have a history to warn in.
    assert "absent" in alone.metrics["tasks"]["churn"]["lead_time"]


def test_periods_of_one_name_that_ask_something_else_are_refused(
    frames: Frames, make_runs: Callable, tmp_path: Path
):
    runs = make_runs([frames[0], *earlier(frames[:1])])
    for run, horizon in zip(runs, ("P30D", "P60D"), strict=True):
        task = {"name": "churn", "kind": "absence", "target": ["buy"], "horizon": horizon}
        content = {"name": "churn", "kind": "absence", "task": task}
        (run / "task.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"horizon of task 'churn' is .* another task\.name"):
        evaluate(runs, tmp_path / "out", title="t", replicates=5)
