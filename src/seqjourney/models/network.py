"""A network as a `Predictor`: trained with Lightning, saved as plain data, loaded with one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from seqjourney.config import (
    GRUConfig,
    LoggerConfig,
    NetworkConfig,
    TrainerConfig,
    TransformerConfig,
    parse,
)
from seqjourney.errors import DataError
from seqjourney.files import replacing_file
from seqjourney.models.hazard_head import HazardHead
from seqjourney.models.head import BinaryHead, Head
from seqjourney.models.learning import accelerator_for, begin, learn, loggers
from seqjourney.models.model import JourneyModel
from seqjourney.models.value_head import ValueHead
from seqjourney.sequences.batching import Batch, BucketBatchSampler, Collator, build_windows
from seqjourney.sequences.next_cases import NextData
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer

FILE = "model.pt"
_FORMAT = 2
SCORING_TOKENS = 32_768


class NetworkPredictor:
    """GRU or transformer over tokens and snapshot tokens."""

    per_buyer = True

    def __init__(self, config: NetworkConfig, logger: LoggerConfig | None = None):
        self.config = config
        self._logger = logger or LoggerConfig()
        self.tokenizer: Tokenizer | None = None
        self.model: JourneyModel | None = None
        self._accelerator = "auto"
        self.others: dict[str, NetworkPredictor] = {}
        """Of the tasks that were learned beside its own, by name; each stands on its own."""
        self.validation_score_ = float("nan")
        self.chosen_: dict[str, Any] = {}

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Train until validation gets no better (see `Head.monitor`); keep the best weights.

        `folder/checkpoints` holds what a resume needs and goes when training has ended.
        """
        from seqjourney.models.joint import JointModel, JointTraining, Lesson
        from seqjourney.models.training import JourneyTraining
        from seqjourney.sequences.datamodule import JourneyDataModule
        from seqjourney.sequences.joining import join_training

        begin(trainer, seed)
        # Processes of DDP cannot share a connection to the engine, and need none.
        data = replace(data, events=None)
        model = self._begin(data, data.tokenizer, trainer)
        for one in data.also:
            self.others[one.data.task.name] = NetworkPredictor(self.config)
        others = [
            other._begin(one.data, data.tokenizer, trainer)
            for one, other in zip(data.also, self.others.values(), strict=True)
        ]
        pretrained = {}
        if self.config.pretrain_epochs:
            from seqjourney.models.pretraining import pretrain

            found = pretrain(model, self.config, data.together(), trainer, seed, folder)
            pretrained = {"pretraining": found}
            begin(trainer, seed)  # what follows must not depend on whether that was resumed
        joined, targets = join_training(data) if data.also else (data, [])
        module = JourneyDataModule(
            joined,
            context=self.config.context,
            batch_tokens=self.config.batch_tokens,
            seed=seed,
            workers=trainer.workers,
        )
        training = JourneyTraining(model, self.config, module.mean_batch_weight())
        if data.also:
            lessons = [
                Lesson(one.data.task.name, one.weight, answers, module.training_batches())
                for one, answers in zip(data.also, targets, strict=True)
            ]
            joint = JointModel(model, others)
            training = JointTraining(joint, self.config, module.mean_batch_weight(), lessons)
        curves = loggers(self._logger, folder, self.config.name)
        self.validation_score_, steps = learn(
            training, module, trainer, folder / "checkpoints", curves
        )
        self.chosen_ = steps | pretrained
        for other in self.others.values():
            other.chosen_ = self.chosen_

    def _begin(self, data: TaskData, tokenizer: Tokenizer, trainer: TrainerConfig) -> JourneyModel:
        """Take the level of a task's training labels, and draw its network."""
        self._accelerator = trainer.accelerator
        self.tokenizer = tokenizer
        head = _HEADS.get(data.task.kind, BinaryHead).of(data)
        self.model = JourneyModel(self.config, tokenizer, head)
        return self.model

    @property
    def context(self) -> int:
        """How many of the latest events it sees at most."""
        return self.config.context

    def score(self, data: TaskData) -> np.ndarray:
        """Return the log-odds before calibration, one per snapshot."""
        assert self.model is not None
        answers = self._answers(data)
        return self.model.answers.log_odds(answers) if len(answers) else answers

    def score_each(self, data: TaskData) -> np.ndarray:
        """Return the log-odds by each horizon, (n, K); of a `time_to` task."""
        assert self.model is not None
        return self._answers(data).reshape(-1, self.model.answers.outputs)

    def score_and_amount(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-odds, and the expected amount of a buyer; of a `sum` task."""
        return scores_and_amounts(self._answers(data))

    def _answers(self, data: TaskData) -> np.ndarray:
        assert self.model is not None and self.tokenizer is not None
        device = "cuda" if accelerator_for(self._accelerator) == "gpu" else "cpu"
        tokens = max(SCORING_TOKENS, self.config.batch_tokens)
        return score_windows(self.model, data, self.tokenizer, self.config.context, tokens, device)

    def program(self) -> JourneyModel:
        """Return the network as it is exported."""
        assert self.model is not None
        return self.model.eval()

    def first_batch(self, data: TaskData, sequences: int) -> Batch:
        """Return one batch of up to so many windows, to compare models on."""
        assert self.tokenizer is not None
        data = replace(data, tokenizer=self.tokenizer)
        windows = build_windows(data, self.config.context)
        return Collator(data, windows)(range(min(sequences, len(windows))))

    def save(self, folder: Path) -> None:
        """Write `model.pt`: settings, tokenizer and weights as plain data."""
        assert self.model is not None and self.tokenizer is not None
        with replacing_file(folder / FILE) as partial:
            torch.save(
                {
                    "format": _FORMAT,
                    "config": self.config.model_dump(mode="json"),
                    "tokenizer": self.tokenizer.to_dict(),
                    **self.model.answers.saved(),
                    "validation_score": self.validation_score_,
                    "weights": self.model.state_dict(),
                },
                partial,
            )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `model.pt`; nothing in it is executed."""
        config, content = read_network(folder / FILE, _FORMAT)
        network = cls(config)
        network.tokenizer = Tokenizer.from_dict(content["tokenizer"])
        network.model = JourneyModel(config, network.tokenizer, read_head(content))
        network.model.load_state_dict(content["weights"])
        network.model.eval()
        network.validation_score_ = content["validation_score"]
        return network


_HEADS: dict[str, type[Head]] = {"sum": ValueHead, "time_to": HazardHead}


def read_head(content: Mapping[str, Any]) -> Head:
    """Return the head of a saved network, by what its `saved` wrote."""
    if content.get("scale"):
        return ValueHead(content["base_rate"], **content["scale"])
    if content.get("hazards"):
        return HazardHead(content["hazards"])
    return BinaryHead(content["base_rate"])


def read_network(path: Path, version: int) -> tuple[NetworkConfig, dict[str, Any]]:
    """Read the settings of a saved network and all that was saved; nothing in it is executed.

    Raises:
        DataError: the file is missing, damaged or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; train the model first.") from None
    except Exception as error:  # zip, pickle and torch raise many kinds for a damaged file
        raise DataError(f"{path} is damaged ({type(error).__name__}); train again.") from error
    if content.get("format") != version:
        raise DataError(f"{path} was written by another version of seqjourney; train again.")
    gru = content["config"]["kind"] == "gru"
    kind: type[NetworkConfig] = GRUConfig if gru else TransformerConfig
    return parse(kind, content["config"], str(path)), content


def score_windows(
    model: torch.nn.Module,
    data: TaskData | NextData,
    tokenizer: Tokenizer,
    context: int,
    batch_tokens: int = SCORING_TOKENS,
    device: str = "cpu",
) -> np.ndarray:
    """Run a network, trained or exported, over all snapshots of the data.

    Returns:
        (snapshots,) float64; of a `sum` task (snapshots, 2), see `ValueHead`; of a `time_to` one
        (snapshots, K), see `HazardHead`; of a `next` one (snapshots, D), see `NextNetwork`, or
        (snapshots, V), see `NextScores`.
    """
    model = model.eval()
    if device != "cpu":  # moving, even to where it is, is not for threads that share a GRU
        model = model.to(device)
    data = replace(data, tokenizer=tokenizer)
    windows = build_windows(data, context)
    collate = Collator(data, windows)
    scores = np.zeros(0)
    with torch.inference_mode():
        for chosen in BucketBatchSampler(windows, batch_tokens, seed=None):
            batch = collate(chosen)
            answers = model(*batch.to(device).inputs).float().cpu().numpy()
            asked = batch.rows.numpy() >= 0
            if not len(scores):
                scores = np.full((len(data.snapshots), *answers.shape[2:]), np.nan)
            scores[batch.rows.numpy()[asked]] = answers[asked]
    if device != "cpu":
        model.cpu()
    return scores


def scores_and_amounts(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take a `sum` task's answers apart: (n, 2) -> log-odds (n,), amounts of money (n,)."""
    score, log_amount = answers.reshape(-1, 2).T
    return score, np.exp(log_amount)
