"""The mean of trained models: networks and baselines err differently, and half of it cancels.

Each member's score becomes log-odds by a logistic regression of the validation labels on it (Platt
scaling), and the blend is their plain mean. A member that ranks badly on validation gets a small
slope and so has little to say; nothing else is fitted, because validation also chose the members'
own settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from seqjourney import predictors
from seqjourney.baselines.saved import read_model, write_model
from seqjourney.baselines.training_table import average_precision, both_classes
from seqjourney.config import BlendConfig, TaskConfig, TrainerConfig, parse
from seqjourney.errors import ConfigError
from seqjourney.files import read_json
from seqjourney.sequences.task_data import Predictor, TaskData


class Blend:
    """Finished runs of one task, averaged."""

    def __init__(self, config: BlendConfig):
        self.config = config
        self.chosen_: dict[str, Any] = {}
        self.validation_score_ = float("nan")
        self._members: list[Predictor] = []

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Read the runs and scale their scores on validation; nothing is trained anew.

        Raises:
            ConfigError: a run is not there, or was trained on another task or other data.
        """
        validation = both_classes(data, "validation")
        label, weight = validation["label"].to_numpy(), validation["weight"].to_numpy()
        self.chosen_ = {"members": []}
        runs = [_run_of(folder.parent, name, seed) for name in self.config.runs]
        if seed and not any(own for _, own in runs):
            raise ConfigError(
                f"seed={seed}: none of model.runs was trained with it, so the blend would be that "
                "of seed 0 again. Train its networks with this seed first."
            )
        for run, _ in runs:
            about = _describe(run, data)
            kind = about["kind"]
            member = predictors.load(run, kind)
            score = member.score(data.of("validation"))
            slope, offset = _log_odds(score, label, weight)
            alone = average_precision(label, score, weight)
            self._members.append(member)
            self.chosen_["members"].append(
                {
                    "name": run.name,
                    "kind": kind,
                    "slope": slope,
                    "offset": offset,
                    "average_precision": alone,
                    "limit_batches": about["config"]["trainer"]["limit_batches"],
                }
            )
        self.validation_score_ = average_precision(label, self.score(data.of("validation")), weight)

    def score(self, data: TaskData) -> np.ndarray:
        """Return the mean log-odds."""
        scores = [
            about["slope"] * member.score(data) + about["offset"]
            for about, member in zip(self.chosen_["members"], self._members, strict=True)
        ]
        return np.asarray(np.mean(scores, axis=0), np.float64)

    def save(self, folder: Path) -> None:
        """Write `model.json`, and every member in a folder of its own."""
        for position, member in enumerate(self._members):
            place = _place(folder, position)
            place.mkdir(parents=True)
            member.save(place)
        write_model(folder, self)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        blend = read_model(folder, cls)[0]
        blend._members = [
            predictors.load(_place(folder, position), about["kind"])
            for position, about in enumerate(blend.chosen_["members"])
        ]
        return blend


def _run_of(folder: Path, name: str, seed: int) -> tuple[Path, bool]:
    """Return a run's folder, and whether it is of a seed above 0; an absolute name is a folder."""
    own = folder / f"{name}_seed{seed}"
    return (own, True) if seed and own.is_dir() else (folder / name, Path(name).is_absolute())


def _describe(run: Path, data: TaskData) -> dict[str, Any]:
    """Read a run's description, if it answers the same question from the same data."""
    if not (run / "run.json").is_file():
        raise ConfigError(
            f"model.runs names {run.name}, and {run} is not a finished run. Train its model first, "
            "with the same experiment, or name other runs."
        )
    about: dict[str, Any] = read_json(run / "run.json")
    if about["kind"] == "blend":
        raise ConfigError(
            f"model.runs names {run.name}, a blend; name the runs that it consists of."
        )
    # Parsed: a run of before a key was there has what is its default now.
    if parse(TaskConfig, read_json(run / "task.json")["task"], "task") != data.task:
        raise ConfigError(
            f"{run} was trained on another task than '{data.task.name}' is now; train it again."
        )
    # An erasure or a withdrawn consent makes other data too: a model that saw the customer must not
    # live on in a run whose own record does not name them.
    if about["data_fingerprint"] != data.fingerprint:
        raise ConfigError(f"{run} was trained on other data than is prepared now; train it again.")
    return about


def _log_odds(score: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Return slope and offset that turn a score into log-odds; a slope of 0 is the least."""
    from sklearn.linear_model import LogisticRegression

    center, spread = float(score.mean()), float(score.std()) or 1.0
    fitted = LogisticRegression(C=np.inf).fit(
        ((score - center) / spread)[:, None], label, sample_weight=weight
    )
    slope = max(0.0, float(fitted.coef_[0, 0])) / spread
    return slope, float(fitted.intercept_[0]) - slope * center


def _place(folder: Path, position: int) -> Path:
    return folder / "members" / str(position)
