"""What a trained model answers to one task: calibrated predictions, and how they did on validation.

Each kind of task has a function of its own: who (`occurrence` and `absence`), how much (`sum`) and
when (`time_to`). Calibrators are fitted on validation; the test's labels only go along.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from seqjourney.evaluation.calibration import Calibrator
from seqjourney.evaluation.calibrator_choice import choose_calibrator
from seqjourney.evaluation.horizons import HorizonCalibrator, rows_by_horizon
from seqjourney.sequences.task_data import HorizonPredictor, Predictor, TaskData, ValuePredictor


@dataclass(frozen=True)
class Answers:
    """The answers to the validation and test snapshots of a task."""

    scores: np.ndarray
    """(n,) one per snapshot; of a `time_to` task by the longest horizon."""
    calibrator: Calibrator
    """Of `scores`."""
    predictions: pd.DataFrame
    """The columns of a predictions file but for `model` and `run`."""
    validation: dict[str, float]
    """Metrics."""
    about: dict[str, Any]
    """Calibrators, as plain data for run.json."""
    notes: list[str] = field(default_factory=list)


def answer(predictor: Predictor, data: TaskData) -> Answers:
    """Ask a trained model about validation and test; `data` has no other snapshots."""
    if data.task.kind == "sum":
        return _how_much(cast("ValuePredictor", predictor), data)
    if data.task.kind == "time_to":
        return _when(cast("HorizonPredictor", predictor), data)
    return _who(predictor.score(data), data)


def _who(scores: np.ndarray, data: TaskData) -> Answers:
    calibrator, compared = choose_calibrator(
        *_of_validation(data, scores, *(data.snapshots[c].to_numpy() for c in ("label", "weight"))),
        *_of_validation(data, data.snapshots["customer_id"].to_numpy(object)),
    )
    predictions = data.snapshots[_columns(data)].assign(
        task=data.task.name, score=scores, probability=calibrator(scores)
    )
    about = {"calibrator": {**calibrator.to_dict(), "compared": compared}}
    return Answers(
        scores, calibrator, predictions, _ranking(scores, data), about, [calibrator.note]
    )


def _how_much(predictor: ValuePredictor, data: TaskData) -> Answers:
    from seqjourney.evaluation.value import normalised_gini_of
    from seqjourney.evaluation.value_calibration import ValueCalibrator

    scores, amounts = predictor.score_and_amount(data)
    who = _who(scores, data)
    came, weight = (data.snapshots[c].to_numpy() for c in ("value", "weight"))
    probability = who.predictions["probability"].to_numpy()
    values = ValueCalibrator.fit(
        *_of_validation(data, amounts, probability, came, weight), per_buyer=predictor.per_buyer
    )
    expected = values(amounts, probability)
    gini = normalised_gini_of(*_of_validation(data, came, expected, weight))
    return replace(
        who,
        predictions=who.predictions.assign(value=came, expected_value=expected),
        validation={**who.validation, "normalised_gini": gini},
        about={**who.about, "value_calibrator": values.to_dict()},
        notes=[*who.notes, values.note],
    )


def _when(predictor: HorizonPredictor, data: TaskData) -> Answers:
    from seqjourney.evaluation.times import concordance, expected_days

    scores = predictor.score_each(data)
    (known,) = _of_validation(data, scores)
    horizons, compared = HorizonCalibrator.fit(known, data.of("validation"))
    probabilities = horizons(scores)
    rows = rows_by_horizon(data, _columns(data), scores, probabilities)
    days = np.array([h.total_seconds() / 86400 for h in data.task.horizons or ()])
    interval, expected, weight = _of_validation(
        data,
        data.snapshots["interval"].to_numpy(),
        expected_days(days, probabilities),
        data.snapshots["weight"].to_numpy(),
    )
    longest = horizons.longest
    return Answers(
        scores[:, -1],
        longest,
        rows,
        _ranking(scores[:, -1], data)
        | {"mean_average_precision": _mean_precision(rows)}
        | {"concordance": float(concordance(interval, expected, weight[None])[0])},
        {
            "calibrator": longest.to_dict(),
            "horizon_calibrators": horizons.to_dict(),
            "compared_by_horizon": compared,
            "raised_by_a_shorter_horizon": {
                split: horizons.raised(scores[(data.snapshots["split"] == split).to_numpy()])
                for split in data.snapshots["split"].unique()
            },
        },
        [f"by {name}: {curve.note}" for name, curve in horizons.curves.items() if curve.note],
    )


def _mean_precision(rows: pd.DataFrame) -> float:
    """Return the mean over horizons of the average precision on validation."""
    from sklearn.metrics import average_precision_score

    known = rows[rows["split"] == "validation"]
    each = [average_precision_score(of["label"], of["score"]) for _, of in known.groupby("task")]
    return float(np.mean(each))


def _ranking(scores: np.ndarray, data: TaskData) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    label, scores = _of_validation(data, data.snapshots["label"].to_numpy(), scores)
    return {
        "average_precision": float(average_precision_score(label, scores)),
        "roc_auc": float(roc_auc_score(label, scores)),
    }


def _of_validation(data: TaskData, *arrays: np.ndarray) -> list[np.ndarray]:
    rows = (data.snapshots["split"] == "validation").to_numpy()
    return [array[rows] for array in arrays]


def _columns(data: TaskData) -> list[str]:
    slices = [c for c in data.snapshots.columns if c.startswith("slice_")]
    return ["customer_id", "cutoff", "split", "label", "weight", *slices]
