"""Gradient boosting with CatBoost (extra: catboost); the search is `boosting.py`'s.

Its trees are symmetric, and categories are encoded by the target in an order of its own, so it errs
elsewhere than LightGBM. Trees are kept as CatBoost's JSON: readable, and nothing is executed to
load them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.baselines.boosting import BINS, PATIENCE_ROUNDS, Boosting, Trial
from seqjourney.baselines.training_table import TrainingTable
from seqjourney.config import CatBoostConfig, TrainerConfig
from seqjourney.errors import ConfigError

_CAUTIOUS = {
    "learning_rate": 0.05,
    "depth": 4,
    "rsm": 0.5,
    "subsample": 0.8,
    "l2_leaf_reg": 10.0,
    "random_strength": 1.0,
}


class CatBoost(Boosting):
    """Boosted symmetric trees; scores are log-odds."""

    trees_file = "trees.json"

    def __init__(self, config: CatBoostConfig) -> None:
        _catboost()  # at once, not after the features are computed
        super().__init__(config)

    def _cautious(self, rows: int) -> dict[str, Any]:
        return dict(_CAUTIOUS)

    def _random(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        return {
            "learning_rate": float(np.exp(random.uniform(np.log(0.02), np.log(0.15)))),
            "depth": int(random.choice([2, 3, 4, 5, 6])),
            "rsm": float(random.uniform(0.2, 0.9)),
            "subsample": float(random.uniform(0.4, 1.0)),
            "l2_leaf_reg": float(np.exp(random.uniform(np.log(1), np.log(100)))),
            "random_strength": float(random.choice([0.0, 1.0, 3.0])),
        }

    def _sets(self, train: TrainingTable, validation: TrainingTable) -> list[Any]:
        return [
            _pool(split.features, self._codes, split.labels, split.weights)
            for split in (train, validation)
        ]

    def _boost(
        self,
        sets: list[Any],
        setting: dict[str, Any],
        trainer: TrainerConfig,
        seed: int,
        amounts: bool,
    ) -> Trial:
        parameters = {
            **setting,
            # Also what stops early. By PRAUC, the cautious setting stopped after one tree on Online
            # Retail's churn: validation AP 0.665 instead of 0.690.
            "loss_function": "RMSE" if amounts else "Logloss",
            # Combinations of categories gained nothing there.
            "max_ctr_complexity": 1,
            "bootstrap_type": "Bernoulli",
            "border_count": BINS,
            "iterations": self.config.rounds,
            "random_seed": seed,
            "thread_count": trainer.threads or -1,
            "allow_writing_files": False,
            "verbose": False,
        }
        booster = _catboost().train(
            sets[0], parameters, eval_set=sets[1], early_stopping_rounds=PATIENCE_ROUNDS
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / self.trees_file
            booster.save_model(str(file), format="json")
            trees = file.read_text(encoding="utf-8")
        return Trial(trees, booster.tree_count_, _log_odds(booster, sets[1]))

    def _predict(self, trees: str, features: pd.DataFrame) -> np.ndarray:
        booster = _catboost().CatBoost()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / self.trees_file
            file.write_text(trees, encoding="utf-8")
            booster.load_model(str(file), format="json")
        return _log_odds(booster, _pool(features, self._codes))


def _catboost() -> Any:
    try:
        import catboost
    except ImportError as error:
        raise ConfigError(
            "model=catboost needs the 'catboost' extra: pip install 'seqjourney[catboost]'."
        ) from error
    return catboost


def _pool(
    features: pd.DataFrame,
    codes: Sequence[int],
    labels: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Any:
    """Give a split to CatBoost; its columns are named by position, as LightGBM's are."""
    numbered = features.set_axis(range(features.shape[1]), axis=1)
    return _catboost().Pool(numbered, labels, weight=weights, cat_features=list(codes))


def _log_odds(booster: Any, pool: Any) -> np.ndarray:
    return np.asarray(booster.predict(pool, prediction_type="RawFormulaVal"), dtype=np.float64)
