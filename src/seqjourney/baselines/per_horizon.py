"""A baseline on a `time_to` task: a model for each horizon, asked whether the event comes by then.

A model of its own per horizon may look at what matters soon and at what matters late, and every
baseline becomes one for times without a change; of the base rate this is the estimate of Kaplan and
Meier. Nothing ties the models together, so that now and then a longer horizon gets a lower
probability; `evaluation.horizons` mends that for every model alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from seqjourney.config import BaselineConfig, TrainerConfig
from seqjourney.files import read_json, write_json
from seqjourney.sequences.task_data import Predictor, TaskData

_FOLDER = "members"


class PerHorizon:
    """The same baseline once per horizon; its score is that of the longest."""

    def __init__(self, config: BaselineConfig) -> None:
        self.config = config
        self._models: dict[str, Predictor] = {}

    @property
    def chosen_(self) -> dict[str, Any]:
        """What was chosen, by horizon."""
        return {horizon: getattr(m, "chosen_", {}) for horizon, m in self._models.items()}

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Fit the models one after another."""
        from seqjourney.baselines import build

        for horizon, asked in data.by_horizon().items():
            self._models[horizon] = build(self.config)
            self._models[horizon].fit(asked, trainer, seed, folder / _FOLDER / horizon)

    def score(self, data: TaskData) -> np.ndarray:
        """Return the score at the longest horizon."""
        return self.score_each(data)[:, -1]

    def score_each(self, data: TaskData) -> np.ndarray:
        """Return one score per snapshot and horizon, (n, K)."""
        asked = data.by_horizon()
        return np.stack([m.score(asked[horizon]) for horizon, m in self._models.items()], axis=1)

    def save(self, folder: Path) -> None:
        """Write a folder per horizon, and `model.json`, which lists them."""
        for horizon, model in self._models.items():
            (folder / _FOLDER / horizon).mkdir(parents=True, exist_ok=True)
            model.save(folder / _FOLDER / horizon)
        content = {"kind": self.config.kind, "config": self.config.model_dump(mode="json")}
        write_json(folder / "model.json", content | {"horizons": list(self._models)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from seqjourney.baselines import baseline_class

        content = read_json(folder / "model.json")
        chosen = baseline_class(content["kind"])
        models = {h: chosen.load(folder / _FOLDER / h) for h in content["horizons"]}
        found = cls(next(iter(models.values())).config)  # type: ignore[attr-defined]
        found._models = models
        return found
