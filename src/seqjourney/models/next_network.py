"""A network that answers `next` tasks: trained like any other, saved as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from seqjourney.config import LoggerConfig, NetworkConfig, TrainerConfig
from seqjourney.errors import ConfigError
from seqjourney.files import replacing_file
from seqjourney.models.learning import accelerator_for, begin, learn, loggers
from seqjourney.models.network import SCORING_TOKENS, read_network, score_windows
from seqjourney.models.next_head import NextNetwork, NextScores
from seqjourney.sequences.batching import Batch, Collator, Windows, build_windows
from seqjourney.sequences.next_cases import NextData, questions_at_once
from seqjourney.sequences.tokenizer import FIRST, Tokenizer

FILE = "next_model.pt"
_FORMAT = 2


class NextNetworkPredictor:
    """GRU or transformer, with a head that compares with every value of a field."""

    log_scores = True

    def __init__(self, config: NetworkConfig, logger: LoggerConfig | None = None):
        if config.members > 1:
            raise ConfigError(
                f"model.members={config.members}: next tasks train one network; set it to 1."
            )
        if config.pretrain_epochs:
            raise ConfigError(
                "model.pretrain_epochs: what comes next is what next tasks train for; set it to 0."
            )
        self.config = config
        self._logger = logger or LoggerConfig()
        self._accelerator = "auto"
        self.tokenizer: Tokenizer | None = None
        self.field = ""
        self.model: NextNetwork | None = None
        self.validation_score_ = float("nan")
        self.chosen_: dict[str, Any] = {}

    def fit(self, data: NextData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Train until the reciprocal rank on validation stops rising; keep the best weights."""
        from seqjourney.models.next_training import NextTraining
        from seqjourney.sequences.datamodule import JourneyDataModule

        self._accelerator = trainer.accelerator
        begin(trainer, seed)
        train = data.of("train")
        if data.task.split != "time":  # histories overlap in time; what counts is one's own length
            longest = longest_span(train, self.config.context)
            data = replace(data, tokenizer=replace(data.tokenizer, history_us=longest))
        self.tokenizer, self.field = data.tokenizer, data.task.field
        frequency = np.bincount(train.snapshots["label"] - FIRST, minlength=data.values)
        self.model = NextNetwork(self.config, self.tokenizer, self.field, frequency)
        module = JourneyDataModule(
            data,
            context=self.config.context,
            batch_tokens=self.config.batch_tokens,
            seed=seed,
            workers=trainer.workers,
        )
        weight = module.mean_batch_weight()
        training = NextTraining(self.model, self.config, weight, data.task.negatives)
        curves = loggers(self._logger, folder, self.config.name)
        self.validation_score_, self.chosen_ = learn(
            training, module, trainer, folder / "checkpoints", curves
        )

    def scores(self, data: NextData) -> Iterator[np.ndarray]:
        """Yield scores of all values, (q, V) float32, for consecutive questions."""
        assert self.model is not None
        queries = torch.from_numpy(self.queries(data))
        for chunk in queries.split(questions_at_once(data.values)):
            with torch.inference_mode():  # ends before others go on with what is yielded
                scores = self.model.scores(chunk).numpy()
            yield scores

    def queries(self, data: NextData) -> np.ndarray:
        """Return the answer to each question before it is compared with values, (Q, D)."""
        assert self.model is not None and self.tokenizer is not None
        device = "cuda" if accelerator_for(self._accelerator) == "gpu" else "cpu"
        tokens = max(SCORING_TOKENS, self.config.batch_tokens)
        found = score_windows(self.model, data, self.tokenizer, self.config.context, tokens, device)
        return found.reshape(len(data.snapshots), self.config.width).astype(np.float32)

    def program(self) -> NextScores:
        """Return the network as it is exported: a program that scores all values."""
        assert self.model is not None
        return NextScores(self.model).eval()

    def first_batch(self, data: NextData, sequences: int) -> Batch:
        """Return one batch of up to so many windows, to compare models on."""
        assert self.tokenizer is not None
        data = replace(data, tokenizer=self.tokenizer)
        windows = build_windows(data, self.config.context)
        return Collator(data, windows)(range(min(sequences, len(windows))))

    def save(self, folder: Path) -> None:
        """Write `next_model.pt`: settings, tokenizer and weights as plain data.

        `embedding.*` and `backbone.*` of its weights fit a `Member` of the same settings and
        tokenizer.
        """
        assert self.model is not None and self.tokenizer is not None
        with replacing_file(folder / FILE) as partial:
            torch.save(
                {
                    "format": _FORMAT,
                    "config": self.config.model_dump(mode="json"),
                    "tokenizer": self.tokenizer.to_dict(),
                    "field": self.field,
                    "validation_score": self.validation_score_,
                    "weights": self.model.state_dict(),
                },
                partial,
            )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `next_model.pt`; nothing in it is executed."""
        config, content = read_network(folder / FILE, _FORMAT)
        network = cls(config)
        network.tokenizer = Tokenizer.from_dict(content["tokenizer"])
        network.field = content["field"]
        values = len(network.tokenizer.vocabulary[network.field])
        # How often values come is needed for drawing negatives alone: that is, in training.
        network.model = NextNetwork(
            network.config, network.tokenizer, network.field, np.zeros(values)
        )
        network.model.load_state_dict(content["weights"])
        network.model.eval()
        network.validation_score_ = content["validation_score"]
        return network


def longest_span(data: NextData, context: int) -> int:
    """Return the longest time in microseconds that a window of the questions covers."""
    windows: Windows = build_windows(data, context)
    times = data.store.times[:, 0]
    last = times[windows.first_token + np.maximum(windows.lengths, 1) - 1]
    return max(1, int((last - times[windows.first_token]).max(initial=1)))
