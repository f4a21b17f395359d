"""What the learning baselines train on: features, labels and weights of one split.

`both_classes` guards every baseline: a split whose labels are all equal teaches and proves nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from seqjourney.baselines.feature_spec import FeatureSpec
from seqjourney.baselines.features import point_in_time_features
from seqjourney.errors import DataError
from seqjourney.sequences.task_data import TaskData


@dataclass(frozen=True)
class TrainingTable:
    """One split, row by row."""

    features: pd.DataFrame
    labels: np.ndarray
    weights: np.ndarray


def both_classes(data: TaskData, split: str) -> pd.DataFrame:
    """Return the snapshots of a split.

    Raises:
        DataError: the split has no snapshots, or all of them carry the same label.
    """
    snapshots = data.of(split).snapshots
    task = data.task
    mend = (
        f"Choose other task.cutoffs.{split}, another task.horizon (now {task.horizon}) or "
        f"another task.eligible."
    )
    if snapshots.empty:
        raise DataError(f"task '{task.name}': no customer is eligible in split '{split}'. {mend}")
    seen = snapshots["label"].unique()
    if len(seen) == 1:
        raise DataError(
            f"task '{task.name}': all {len(snapshots)} labels of split '{split}' are {seen[0]}, "
            f"so there is nothing to tell apart. {mend}"
        )
    return snapshots


def training_tables(data: TaskData) -> tuple[FeatureSpec, TrainingTable, TrainingTable]:
    """Compute the features of training and validation; the test split is not touched."""
    train, validation = both_classes(data, "train"), both_classes(data, "validation")
    log_start = pd.Timestamp(data.events.timestamp.min().execute())
    spec = FeatureSpec.build(data.task, data.tokenizer, train["cutoff"], log_start)
    snapshots = pd.concat([train, validation], ignore_index=True)
    features = point_in_time_features(data.events, snapshots, spec)
    kept = _informative(features[: len(train)], spec)
    features = pd.DataFrame({name: features[name] for name in kept}, copy=False)

    def rows(part: slice) -> TrainingTable:
        chosen = snapshots[part]
        return TrainingTable(
            features=features[part],
            labels=chosen["label"].to_numpy(dtype=np.int8),
            weights=chosen["weight"].to_numpy(dtype=np.float64),
        )

    return spec, rows(slice(0, len(train))), rows(slice(len(train), None))


def _informative(features: pd.DataFrame, spec: FeatureSpec) -> list[str]:
    """Return the features that vary and repeat no other; categories stay in any case.

    With one kind of event `all`, `own` and `target` are the same, and a feature that is there
    three times is three times as likely to be drawn, and penalised a third as much.
    """
    kept: dict[bytes, str] = {}
    for name, column in features.items():
        values = column.to_numpy()
        if name in spec.categorical_features:
            kept[str(name).encode()] = str(name)
        elif _varies(values):
            kept.setdefault(hashlib.sha256(values.tobytes()).digest(), str(name))
    return list(kept.values())


def _varies(values: np.ndarray) -> bool:
    """Whether there are two different values; a missing one is a value."""
    first = values[0]
    return not bool(np.isnan(values).all() if np.isnan(first) else (values == first).all())


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted average precision of a ranking."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores, sample_weight=weights))
