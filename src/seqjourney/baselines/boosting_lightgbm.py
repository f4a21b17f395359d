"""Gradient boosting with LightGBM; the search is `boosting.py`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.baselines.boosting import BINS, PATIENCE_ROUNDS, Boosting, Trial
from seqjourney.baselines.training_table import TrainingTable
from seqjourney.config import TrainerConfig

_CAUTIOUS = {
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "lambda_l1": 0.0,
    "lambda_l2": 10.0,
}


class LightGBM(Boosting):
    """Boosted trees that grow leaf by leaf; scores are log-odds."""

    trees_file = "trees.txt"

    def _cautious(self, rows: int) -> dict[str, Any]:
        return _CAUTIOUS | {
            "min_data_in_leaf": min(_CAUTIOUS["min_data_in_leaf"], _largest_leaf(rows))
        }

    def _random(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        return {
            "learning_rate": float(np.exp(random.uniform(np.log(0.02), np.log(0.1)))),
            "num_leaves": int(random.choice([4, 7, 15, 31, 63])),
            "min_data_in_leaf": min(
                int(random.choice([20, 50, 100, 300, 1000])), _largest_leaf(rows)
            ),
            "feature_fraction": float(random.uniform(0.2, 0.9)),
            "bagging_fraction": float(random.uniform(0.4, 1.0)),
            "lambda_l1": float(random.choice([0.0, 0.1, 1.0, 10.0])),
            "lambda_l2": float(np.exp(random.uniform(np.log(0.1), np.log(100)))),
        }

    def _sets(self, train: TrainingTable, validation: TrainingTable) -> tuple[Any, Any, np.ndarray]:
        import lightgbm

        first = lightgbm.Dataset(
            _matrix(train.features, self._codes),
            label=train.labels,
            weight=train.weights,
            categorical_feature=self._codes,
            # With the filter on, bins would depend on the first trial's min_data_in_leaf.
            params={"feature_pre_filter": False, "max_bin": BINS, "verbosity": -1},
            free_raw_data=False,
        )
        matrix = _matrix(validation.features, self._codes)
        second = first.create_valid(matrix, label=validation.labels, weight=validation.weights)
        return first, second, matrix

    def _boost(
        self,
        sets: tuple[Any, Any, np.ndarray],
        setting: dict[str, Any],
        trainer: TrainerConfig,
        seed: int,
        amounts: bool,
    ) -> Trial:
        import lightgbm

        train, validation, matrix = sets
        parameters = {
            **setting,
            "objective": "regression" if amounts else "binary",
            "metric": "rmse" if amounts else "average_precision",
            "bagging_freq": 1,
            "feature_pre_filter": False,
            "max_bin": BINS,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": trainer.threads or 0,
            "verbosity": -1,
        }
        booster = lightgbm.train(
            parameters,
            train,
            num_boost_round=self.config.rounds,
            valid_sets=[validation],
            callbacks=[lightgbm.early_stopping(PATIENCE_ROUNDS, verbose=False)],
        )
        rounds = booster.best_iteration or booster.current_iteration()
        scores = booster.predict(matrix, raw_score=True, num_threads=trainer.threads or 0)
        trees = booster.model_to_string(num_iteration=rounds)
        return Trial(trees, rounds, np.asarray(scores, dtype=np.float64))

    def _predict(self, trees: str, features: pd.DataFrame) -> np.ndarray:
        import lightgbm

        booster = lightgbm.Booster(model_str=trees)
        scores = booster.predict(_matrix(features, self._codes), raw_score=True, num_threads=0)
        return np.asarray(scores, dtype=np.float64)


def _largest_leaf(rows: int) -> int:
    """Return the most snapshots that a leaf may need; small data gets smaller leaves."""
    return max(rows // 20, 2)


def _matrix(features: pd.DataFrame, codes: Sequence[int]) -> np.ndarray:
    """Return float32 without names: LightGBM refuses those with JSON's special characters.

    Unknown categories (-1) become missing, which LightGBM would do with a warning.
    """
    values = features.to_numpy(dtype=np.float32, copy=True)
    coded = values[:, codes]
    values[:, codes] = np.where(coded < 0, np.nan, coded)
    return values
