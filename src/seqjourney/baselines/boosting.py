"""What all boosted trees share: the search for settings on validation, saving and loading.

The first trial is a fixed cautious setting; a random one replaces it only by doing better on
validation, so that a small validation split cannot talk the search into something wild unopposed.
Each library gets the same features, number of trials, most rounds and patience. Read
`boosting_lightgbm.py` and `boosting_catboost.py` next. Saved as JSON and the library's own text.
Of a `sum` task a second search, by the same rules, learns how much (`two_part.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from rich.progress import track

from seqjourney.baselines.feature_spec import FeatureSpec
from seqjourney.baselines.features import point_in_time_features
from seqjourney.baselines.saved import read_model, write_model
from seqjourney.baselines.training_table import (
    TrainingTable,
    average_precision,
    training_tables,
)
from seqjourney.baselines.two_part import AmountTrees, buyers, log_error, smearing
from seqjourney.cli import alone
from seqjourney.config import CatBoostConfig, LightGBMConfig, TrainerConfig
from seqjourney.errors import DataError
from seqjourney.files import replacing_file, write_json
from seqjourney.sequences.task_data import TaskData

PATIENCE_ROUNDS = 30
# Half of LightGBM's default: half the time, and no worse where noise is this large.
BINS = 127


@dataclass(frozen=True)
class Trial:
    """What one setting led to."""

    trees: str
    """The trees up to the best round, as text of the library's own."""
    rounds: int
    scores: np.ndarray
    """Log-odds of the validation snapshots, or log amounts."""


@dataclass(frozen=True)
class _Found:
    """The best trial of a search."""

    trial: Trial
    setting: dict[str, Any]
    judged: float


class Boosting(ABC):
    """Boosted trees; scores are log-odds."""

    trees_file: ClassVar[str]
    per_buyer = True

    def __init__(self, config: LightGBMConfig | CatBoostConfig) -> None:
        self.config = config
        self.chosen_: dict[str, Any] = {}
        self.validation_score_ = float("nan")
        self._spec: FeatureSpec | None = None
        self._columns: list[str] = []
        self._trees = ""
        self._amounts: AmountTrees | None = None

    @abstractmethod
    def _cautious(self, rows: int) -> dict[str, Any]:
        """Return the setting that the first trial takes, for so many training snapshots."""

    @abstractmethod
    def _random(self, random: np.random.Generator, rows: int) -> dict[str, Any]:
        """Draw a setting."""

    @abstractmethod
    def _sets(self, train: TrainingTable, validation: TrainingTable) -> Any:
        """Give both splits to the library, once for all trials."""

    @abstractmethod
    def _boost(
        self, sets: Any, setting: dict[str, Any], trainer: TrainerConfig, seed: int, amounts: bool
    ) -> Trial:
        """Add trees until validation gets no better; labels are classes, or log amounts."""

    @abstractmethod
    def _predict(self, trees: str, features: pd.DataFrame) -> np.ndarray:
        """Return the log-odds, or log amounts, that trees give."""

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Try every setting with early stopping and keep the best on validation."""
        self._spec, train, validation = training_tables(data)
        self._columns = train.features.columns.tolist()
        found, trials = self._search(train, validation, trainer, seed, amounts=False)
        self.validation_score_, self.chosen_ = found.judged, found.setting
        self._trees = found.trial.trees
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "trials.json", trials)
        if data.task.kind == "sum":
            split = {name: data.of(name).snapshots for name in ("train", "validation")}
            train, validation = (
                buyers(train, split["train"]),
                buyers(validation, split["validation"]),
            )
            found, trials = self._search(train, validation, trainer, seed, amounts=True)
            factor = smearing(found.trial.scores, validation)
            self._amounts = AmountTrees(found.trial.trees, factor, found.setting)
            write_json(folder / "amount_trials.json", trials)

    def _search(
        self,
        train: TrainingTable,
        validation: TrainingTable,
        trainer: TrainerConfig,
        seed: int,
        *,
        amounts: bool,
    ) -> tuple[_Found, list[dict[str, Any]]]:
        """Try every setting; return the best one by validation, and what each led to."""
        judge, name = (
            (log_error, "validation_log_error")
            if amounts
            else (average_precision, "validation_average_precision")
        )
        sets = self._sets(train, validation)
        best: _Found | None = None
        trials = []
        for setting in track(
            self._settings(len(train.labels), seed),
            self.config.kind,
            total=self.config.trials,
            disable=not (trainer.progress and alone()),
            transient=True,
        ):
            trial = self._boost(sets, setting, trainer, seed, amounts)
            judged = judge(validation.labels, trial.scores, validation.weights)
            chosen = {**setting, "rounds": trial.rounds}
            trials.append({**chosen, name: judged})
            if best is None or (judged < best.judged if amounts else judged > best.judged):
                best = _Found(trial, chosen, judged)
        assert best is not None
        return best, trials

    def _settings(self, rows: int, seed: int) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng(seed)
        yield self._cautious(rows)
        for _ in range(self.config.trials - 1):
            yield self._random(random, rows)

    @property
    def _codes(self) -> list[int]:
        """Positions of the columns that are codes."""
        assert self._spec is not None
        return [self._columns.index(name) for name in self._spec.categorical_features]

    def score(self, data: TaskData) -> np.ndarray:
        """Return the log-odds of every snapshot."""
        return self._predict(self._trees, self._features(data))

    def score_and_amount(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-odds, and what a buyer brings in; of a `sum` task."""
        assert self._amounts is not None
        features = self._features(data)
        logs = self._predict(self._amounts.trees, features)
        return self._predict(self._trees, features), self._amounts.amounts(logs)

    def _features(self, data: TaskData) -> pd.DataFrame:
        if self._spec is None:
            raise DataError("the boosted trees have not been fitted; train them first.")
        features = point_in_time_features(data.events, data.snapshots, self._spec)
        return features[self._columns]

    def save(self, folder: Path) -> None:
        """Write `model.json` and the trees."""
        if self._spec is None:
            raise DataError("the boosted trees have not been fitted; train them first.")
        with replacing_file(folder / self.trees_file) as partial:
            partial.write_text(self._trees, encoding="utf-8")
        if self._amounts is not None:
            with replacing_file(folder / f"amount_{self.trees_file}") as partial:
                partial.write_text(self._amounts.trees, encoding="utf-8")
        write_model(
            folder,
            self,
            features=self._spec.to_json(),
            columns=self._columns,
            **({} if self._amounts is None else {"amounts": self._amounts.to_json()}),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        model, content = read_model(folder, cls)
        model._spec = FeatureSpec.from_json(content["features"])
        model._columns = content["columns"]
        model._trees = (folder / cls.trees_file).read_text(encoding="utf-8")
        if "amounts" in content:
            trees = (folder / f"amount_{cls.trees_file}").read_text(encoding="utf-8")
            model._amounts = AmountTrees(trees, **content["amounts"])
        return model
