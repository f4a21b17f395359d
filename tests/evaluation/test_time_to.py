"""Several horizons: curves that never fall, and metrics of time against slow readings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from seqjourney.config import TaskConfig, parse
from seqjourney.evaluation.bootstrap import Resampling, replicate_weights
from seqjourney.evaluation.horizons import HorizonCalibrator, rows_by_horizon
from seqjourney.evaluation.predictions import join_runs
from seqjourney.evaluation.times import (
    actual_days,
    concordance,
    expected_days,
    find_times,
    measure_times,
    median_days,
)
from seqjourney.sequences.task_data import TaskData

DAYS = np.array([7.0, 14.0, 30.0])
TASK = parse(
    TaskConfig,
    {"name": "buys", "kind": "time_to", "target": ["purchase"], "horizons": ["7d", "14d", "30d"]},
    "task",
)


def data_of(n: int, seed: int = 0) -> tuple[TaskData, np.ndarray]:
    """Snapshots whose interval follows a hidden score, and scores (n, 3) that know a little."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=n)
    hazard = 1 / (1 + np.exp(1.5 - hidden[:, None] - random.normal(0, 0.1, (n, 3))))
    came = random.random((n, 3)) < hazard
    interval = np.where(came.any(axis=1), came.argmax(axis=1), 3)
    snapshots = pd.DataFrame(
        {
            "customer_id": [f"c{i % (n // 2):04d}" for i in range(n)],
            "cutoff": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(n) % 2, "D"),
            "split": np.where(np.arange(n) < n // 2, "validation", "test"),
            "label": (interval < 3).astype(np.int8),
            "weight": 1.0,
            "interval": interval,
        }
    )
    scores = hidden[:, None] + random.normal(0, 1, (n, 3)) + np.array([0, 0.1, 0.2])
    return TaskData(TASK, None, None, None, snapshots), scores  # type: ignore[arg-type]


def test_probabilities_by_horizon_never_fall_and_each_is_right_on_validation():
    data, scores = data_of(4000)
    validation = data.of("validation")
    mine = scores[(data.snapshots["split"] == "validation").to_numpy()]
    calibrator, compared = HorizonCalibrator.fit(mine, validation)
    found = calibrator(mine)
    assert (np.diff(found, axis=1) >= 0).all()
    own = np.stack([curve(mine[:, k]) for k, curve in enumerate(calibrator.curves.values())], 1)
    for k, name in enumerate(calibrator.curves):
        came = (validation.snapshots["interval"] <= k).mean()
        assert own[:, k].mean() == pytest.approx(came, abs=1e-3)
        assert set(compared[name]) == {"platt", "beta", "isotonic"}
    # Raised a little where curves cross, and never lowered.
    assert (found >= own).all() and np.abs(found.mean(0) - own.mean(0)).max() < 0.05
    assert calibrator.raised(mine) == (found > own).mean() > 0
    again = HorizonCalibrator.from_dict(calibrator.to_dict(), "here")
    np.testing.assert_array_equal(again(mine), found)
    assert np.isnan(calibrator(np.full((2, 3), np.nan))).all()


def slow_concordance(interval, expected, weight) -> float:
    right = pairs = 0.0
    for i in range(len(interval)):
        for j in range(len(interval)):
            if interval[i] < interval[j]:
                both = weight[i] * weight[j]
                pairs += both
                earlier, equal = expected[i] < expected[j], expected[i] == expected[j]
                right += both * (earlier + 0.5 * equal)
    return right / pairs


def test_concordance_is_that_of_all_pairs():
    random = np.random.default_rng(0)
    interval = random.integers(0, 4, 60)
    expected = random.integers(0, 9, 60) / 3  # with ties
    weights = random.integers(0, 3, (5, 60)).astype(float)
    slow = [slow_concordance(interval, expected, weight) for weight in weights]
    np.testing.assert_allclose(concordance(interval, expected, weights), slow)
    assert np.isnan(concordance(np.full(4, 3), np.arange(4.0), np.ones((1, 4))))[0]
    assert concordance(np.arange(3), np.arange(3.0), np.ones((1, 3)))[0] == 1


def test_expected_actual_and_median_times_by_hand():
    curve = np.array([0.2, 0.4, 0.8])
    area = 7 * (1 + 0.8) / 2 + 7 * (0.8 + 0.6) / 2 + 16 * (0.6 + 0.2) / 2
    assert expected_days(DAYS, curve) == pytest.approx(area)
    assert expected_days(DAYS, np.zeros(3)) == 30
    assert median_days(DAYS, curve) == pytest.approx(14 + 16 * (0.5 - 0.4) / 0.4)
    assert median_days(DAYS, np.array([0.7, 0.8, 0.9])) == pytest.approx(7 * 0.5 / 0.7)
    assert median_days(DAYS, np.array([0.1, 0.2, 0.49])) is None
    assert actual_days(DAYS, np.array([0, 1, 2, 3])).tolist() == [3.5, 10.5, 22, 30]


def predictions(data: TaskData, scores: np.ndarray, model: str) -> pd.DataFrame:
    calibrator, _ = HorizonCalibrator.fit(scores, data)
    columns = ["customer_id", "cutoff", "split", "label", "weight"]
    rows = rows_by_horizon(data, columns, scores, calibrator(scores))
    return rows.assign(model=model, run=model)


def test_horizons_are_found_by_name_and_measured_together():
    data, scores = data_of(1200)
    noise = np.random.default_rng(1).normal(size=scores.shape)
    frames = [predictions(data, scores, "good"), predictions(data, noise, "bad")]
    tasks = join_runs(frames)
    assert {task.task for task in tasks} == {"buys@7d", "buys@14d", "buys@30d"}
    ((name, times),) = find_times(tasks, "test").items()
    assert name == "buys@30d" and times.days.tolist() == DAYS.tolist()
    test = data.of("test").snapshots.sort_values(["split", "customer_id", "cutoff"])
    np.testing.assert_array_equal(times.interval, test["interval"])
    metrics, about = measure_times(times, replicates=50, seed=0)
    good, bad = (metrics[m]["concordance"] for m in ("good", "bad"))
    assert good.value > 0.6 > bad.value and good.low > bad.high
    # Calibrated by each horizon, so the mean time is right too.
    assert abs(metrics["bad"]["expected_time_bias"].value) < 1.5
    assert about["mean_days"]["actual"] == pytest.approx(
        actual_days(DAYS, test["interval"].to_numpy()).mean()
    )
    assert about["mean_days"]["good"] == pytest.approx(
        about["mean_days"]["actual"] + metrics["good"]["expected_time_bias"].value
    )
    draws = Resampling(pd.factorize(test["customer_id"])[0], np.ones(len(test)), 50, 0)
    weights = next(replicate_weights(draws))
    expected = expected_days(DAYS, times.probabilities["good"])
    slow = slow_concordance(times.interval, expected, weights[0])
    assert good.replicates[0] == pytest.approx(slow)


def test_tasks_that_only_look_alike_are_measured_alone():
    data, scores = data_of(400)
    frame = predictions(data, scores, "m")
    alone = frame[frame["task"] == "buys@7d"]
    odd = frame.assign(task=frame["task"].str.replace("@7d", "@soon"))
    other = frame[(frame["task"] != "buys@7d") | (frame["customer_id"] != "c0001")]
    assert not find_times(join_runs([alone]), "test")
    assert find_times(join_runs([odd]), "test")["buys@30d"].days.tolist() == [14, 30]
    assert not find_times(join_runs([other]), "test")
