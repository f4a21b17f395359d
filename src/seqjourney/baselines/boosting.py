"""Gradient boosting (LightGBM) on point-in-time features, tuned by random search on validation.

The first trial is a fixed cautious setting; a random one replaces it only by doing better on
validation, so that a small validation split cannot talk the search into something wild unopposed.
Saved as LightGBM's text format and JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from rich.progress import track

from seqjourney.baselines.feature_spec import FeatureSpec
from seqjourney.baselines.features import point_in_time_features
from seqjourney.baselines.training_table import (
    TrainingTable,
    average_precision,
    training_tables,
)
from seqjourney.config import LightGBMConfig, TrainerConfig
from seqjourney.errors import DataError
from seqjourney.files import read_json, replacing_file, write_json
from seqjourney.sequences.task_data import TaskData

_PATIENCE_ROUNDS = 30
# Half of the default: half the time, and no worse where noise is this large.
_BINS = 127
_CAUTIOUS = {
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "lambda_l1": 0.0,
    "lambda_l2": 10.0,
}


def _settings(trials: int, rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the cautious setting, then random ones; small data gets smaller leaves."""
    random = np.random.default_rng(seed)
    largest_leaf = max(rows // 20, 2)
    yield _CAUTIOUS | {"min_data_in_leaf": min(_CAUTIOUS["min_data_in_leaf"], largest_leaf)}
    for _ in range(trials - 1):
        yield {
            "learning_rate": float(np.exp(random.uniform(np.log(0.02), np.log(0.1)))),
            "num_leaves": int(random.choice([4, 7, 15, 31, 63])),
            "min_data_in_leaf": min(int(random.choice([20, 50, 100, 300, 1000])), largest_leaf),
            "feature_fraction": float(random.uniform(0.2, 0.9)),
            "bagging_fraction": float(random.uniform(0.4, 1.0)),
            "lambda_l1": float(random.choice([0.0, 0.1, 1.0, 10.0])),
            "lambda_l2": float(np.exp(random.uniform(np.log(0.1), np.log(100)))),
        }


class LightGBM:
    """Boosted trees; scores are log-odds."""

    def __init__(self, config: LightGBMConfig) -> None:
        self.config = config
        self.chosen_: dict[str, Any] = {}
        self.validation_score_ = float("nan")
        self._spec: FeatureSpec | None = None
        self._columns: list[str] = []
        self._trees = ""

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Try every setting with early stopping and keep the best on validation."""
        self._spec, train, validation = training_tables(data)
        self._columns = train.features.columns.tolist()
        self.validation_score_ = -1.0
        sets = self._datasets(train, validation)
        trials = []
        for setting in track(
            _settings(self.config.trials, len(train.labels), seed),
            "lightgbm",
            total=self.config.trials,
            disable=not trainer.progress,
            transient=True,
        ):
            booster = self._boost(sets, setting, trainer, seed)
            rounds = booster.best_iteration or booster.current_iteration()
            scores = _predict(
                booster, validation.features, self._spec.categorical_features, trainer.threads
            )
            found = average_precision(validation.labels, scores, validation.weights)
            chosen = {**setting, "rounds": rounds}
            trials.append({**chosen, "validation_average_precision": found})
            if found > self.validation_score_:
                self.validation_score_, self.chosen_ = found, chosen
                self._trees = booster.model_to_string(num_iteration=rounds)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "trials.json", trials)

    def _datasets(self, train: TrainingTable, validation: TrainingTable) -> list[Any]:
        """Bin both splits once for all trials."""
        import lightgbm

        assert self._spec is not None
        codes = [self._columns.index(name) for name in self._spec.categorical_features]
        first = lightgbm.Dataset(
            _matrix(train.features, self._spec.categorical_features),
            label=train.labels,
            weight=train.weights,
            categorical_feature=codes,
            # With the filter on, bins would depend on the first trial's min_data_in_leaf.
            params={"feature_pre_filter": False, "max_bin": _BINS, "verbosity": -1},
            free_raw_data=False,
        )
        second = first.create_valid(
            _matrix(validation.features, self._spec.categorical_features),
            label=validation.labels,
            weight=validation.weights,
        )
        return [first, second]

    def _boost(
        self, sets: list[Any], setting: dict[str, Any], trainer: TrainerConfig, seed: int
    ) -> Any:
        import lightgbm

        parameters = {
            **setting,
            "objective": "binary",
            "metric": "average_precision",
            "bagging_freq": 1,
            "feature_pre_filter": False,
            "max_bin": _BINS,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": trainer.threads or 0,
            "verbosity": -1,
        }
        return lightgbm.train(
            parameters,
            sets[0],
            num_boost_round=self.config.rounds,
            valid_sets=[sets[1]],
            callbacks=[lightgbm.early_stopping(_PATIENCE_ROUNDS, verbose=False)],
        )

    def score(self, data: TaskData) -> np.ndarray:
        """Return the log-odds of every snapshot."""
        import lightgbm

        if self._spec is None:
            raise DataError("the boosted trees have not been fitted; train them first.")
        features = point_in_time_features(data.events, data.snapshots, self._spec)
        booster = lightgbm.Booster(model_str=self._trees)
        return _predict(booster, features[self._columns], self._spec.categorical_features, None)

    def save(self, folder: Path) -> None:
        """Write `model.json` and the trees, `trees.txt`."""
        if self._spec is None:
            raise DataError("the boosted trees have not been fitted; train them first.")
        with replacing_file(folder / "trees.txt") as partial:
            partial.write_text(self._trees, encoding="utf-8")
        content = {
            "kind": self.config.kind,
            "config": self.config.model_dump(mode="json"),
            "chosen": self.chosen_,
            "validation_score": self.validation_score_,
            "features": self._spec.to_json(),
            "columns": self._columns,
        }
        write_json(folder / "model.json", content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        content = read_json(folder / "model.json")
        model = cls(LightGBMConfig.model_validate(content["config"]))
        model.chosen_ = content["chosen"]
        model.validation_score_ = content["validation_score"]
        model._spec = FeatureSpec.from_json(content["features"])
        model._columns = content["columns"]
        model._trees = (folder / "trees.txt").read_text(encoding="utf-8")
        return model


def _matrix(features: pd.DataFrame, categorical: Collection[str]) -> np.ndarray:
    """Return float32 without names: LightGBM refuses those with JSON's special characters.

    Unknown categories (-1) become missing, which LightGBM would do with a warning.
    """
    values = features.to_numpy(dtype=np.float32, copy=True)
    coded = features.columns.isin(list(categorical))
    values[:, coded] = np.where(values[:, coded] < 0, np.nan, values[:, coded])
    return values


def _predict(
    booster: Any, features: pd.DataFrame, categorical: Collection[str], threads: int | None
) -> np.ndarray:
    matrix = _matrix(features, categorical)
    scores = booster.predict(matrix, raw_score=True, num_threads=threads or 0)
    return np.asarray(scores, dtype=np.float64)
