"""Logistic regression on point-in-time features, saved as plain JSON.

`Design` turns features into the columns of the regression: signed logarithms where a feature is
skewed, medians for what is missing (and a column that says so), standard scores, and one column
per known category. It is fitted on training snapshots only and travels with the coefficients.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from rich.progress import track

from seqjourney.baselines.feature_spec import FeatureSpec
from seqjourney.baselines.features import point_in_time_features
from seqjourney.baselines.saved import read_model, write_model
from seqjourney.baselines.training_table import average_precision, training_tables
from seqjourney.cli import alone
from seqjourney.config import LogisticConfig, TrainerConfig
from seqjourney.errors import DataError
from seqjourney.files import write_json
from seqjourney.sequences.task_data import TaskData

# Beyond this skewness a logarithm brings a feature nearer to a line in the log-odds.
_SKEWED = 1.0
_MOST_ITERATIONS = 500
# A standard score beyond this is a value that training hardly saw; a line there is a guess.
_FARTHEST = 8.0


@dataclass(frozen=True)
class Design:
    """How features become columns; one entry per numeric feature in every sequence."""

    names: Sequence[str]
    skewed: Sequence[bool]
    medians: Sequence[float]
    means: Sequence[float]
    deviations: Sequence[float]
    with_missing: Sequence[str]
    """Numeric features with a column of their own for being missing."""
    categories: Mapping[str, Sequence[int]]
    """Codes with a column each, of each categorical feature."""

    @classmethod
    def fit(cls, features: pd.DataFrame, spec: FeatureSpec) -> Design:
        """Learn medians, scales and categories."""
        codes = list(spec.categorical_features)
        numbers = features.drop(columns=codes).astype(np.float64)
        skewed = (numbers.skew().abs() > _SKEWED).to_numpy()
        values = _unskewed(numbers, skewed)
        medians = np.nanmedian(values, axis=0)
        values = np.where(np.isnan(values), medians, values)
        missing = numbers.isna().any()
        return cls(
            names=numbers.columns.tolist(),
            skewed=skewed.tolist(),
            medians=medians.tolist(),
            means=values.mean(axis=0).tolist(),
            deviations=np.maximum(values.std(axis=0), 1e-9).tolist(),
            with_missing=missing.index[missing].tolist(),
            categories={name: sorted(features[name].unique().tolist()) for name in codes},
        )

    def columns(self, features: pd.DataFrame) -> np.ndarray:
        """Return the matrix of the regression: (rows, numbers + missing + categories)."""
        numbers = features[list(self.names)].astype(np.float64)
        values = _unskewed(numbers, np.asarray(self.skewed, dtype=bool))
        values = np.where(np.isnan(values), np.asarray(self.medians), values)
        scores = (values - np.asarray(self.means)) / np.asarray(self.deviations)
        parts = [np.clip(scores, -_FARTHEST, _FARTHEST)]
        parts.append(features[list(self.with_missing)].isna().to_numpy(dtype=np.float64))
        for name, codes in self.categories.items():
            parts.append(features[name].to_numpy()[:, None] == np.asarray(codes)[None, :])
        return np.concatenate(parts, axis=1, dtype=np.float64)


def _unskewed(numbers: pd.DataFrame, skewed: np.ndarray) -> np.ndarray:
    """Take the signed logarithm of the skewed columns."""
    values = numbers.to_numpy(dtype=np.float64, copy=True)
    chosen = values[:, skewed]
    values[:, skewed] = np.sign(chosen) * np.log1p(np.abs(chosen))
    return values


class Logistic:
    """Logistic regression whose penalty is chosen by average precision on validation."""

    def __init__(self, config: LogisticConfig) -> None:
        self.config = config
        self.chosen_: dict[str, Any] = {}
        self.validation_score_ = float("nan")
        self._spec: FeatureSpec | None = None
        self._design: Design | None = None
        self._coefficients = np.zeros(0)
        self._intercept = 0.0

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Fit every penalty on training, from strong to weak, and keep the best on validation."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        self._spec, train, validation = training_tables(data)
        self._design = Design.fit(train.features, self._spec)
        x, x_validation = (self._design.columns(t.features) for t in (train, validation))
        model = LogisticRegression(
            warm_start=True, max_iter=_MOST_ITERATIONS, random_state=seed, tol=1e-4
        )
        self.validation_score_ = -1.0
        trials = []
        # Neighbouring snapshots of a customer are nearly copies: evidence grows with customers.
        customers = data.of("train").snapshots["customer_id"].nunique()
        weights = train.weights * customers / train.weights.sum()
        penalties = sorted(self.config.penalties)
        for strength in track(
            penalties, "logistic", disable=not (trainer.progress and alone()), transient=True
        ):
            model.set_params(C=strength)
            with warnings.catch_warnings():
                # Unconverged fits are judged on validation like all others.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x, train.labels, sample_weight=weights)
            scores = model.decision_function(x_validation)
            found = average_precision(validation.labels, scores, validation.weights)
            trials.append({"C": strength, "validation_average_precision": found})
            if found > self.validation_score_:
                self.validation_score_ = found
                self.chosen_ = {"C": strength}
                self._coefficients = model.coef_[0].copy()
                self._intercept = float(model.intercept_[0])
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "trials.json", trials)

    def score(self, data: TaskData) -> np.ndarray:
        """Return the log-odds of every snapshot."""
        if self._spec is None or self._design is None:
            raise DataError("the logistic regression has not been fitted; train it first.")
        features = point_in_time_features(data.events, data.snapshots, self._spec)
        return self._design.columns(features) @ self._coefficients + self._intercept

    def save(self, folder: Path) -> None:
        """Write `model.json`: settings, features, design and coefficients."""
        if self._spec is None or self._design is None:
            raise DataError("the logistic regression has not been fitted; train it first.")
        write_model(
            folder,
            self,
            features=self._spec.to_json(),
            design=asdict(self._design),
            coefficients=self._coefficients.tolist(),
            intercept=self._intercept,
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        model, content = read_model(folder, cls)
        model._spec = FeatureSpec.from_json(content["features"])
        model._design = Design(**content["design"])
        model._coefficients = np.asarray(content["coefficients"])
        model._intercept = content["intercept"]
        return model
