"""What a network's last layer means: its outputs, their start, what they learn, what they answer.

Each kind of task has a head of its own. `BinaryHead` is that of `occurrence` and `absence` tasks;
`value_head` has that of `sum` tasks and `hazard_head` that of `time_to` tasks. A `JourneyModel`
holds its head as `answers`, the name by which streams find it in a TorchScript file. The layers
before are not a head's matter, so it has no weights.

Shapes: M members, B windows, S snapshots, and where a head has several outputs, O of them last.
"""

from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqjourney.config import NetworkConfig
from seqjourney.sequences.batching import Batch
from seqjourney.sequences.task_data import TaskData

Answers = TypeVar("Answers", Tensor, np.ndarray)


@dataclass(frozen=True)
class Monitor:
    """What validation logs and training goes by."""

    name: str
    short: str
    """On a narrow bar."""
    mode: str = "max"
    """Or `min`, of a loss."""


AVERAGE_PRECISION = Monitor("validation_average_precision", "AP")
LOSS = Monitor("validation_loss", "loss", "min")
"""Of a `sum` task: the likelihood judges every customer's amount, where a Gini rests on the few
largest and jumps from epoch to epoch. Of a `time_to` task it judges all horizons at once."""


class Head(nn.Module):
    """What the members say of a snapshot → what the model answers: `forward`, which scripts."""

    outputs = 1  # of a network's last layer
    monitor = LOSS

    @classmethod
    def of(cls, data: TaskData) -> Self:
        """Measure where a head starts on the training snapshots of its task.

        Raises:
            DataError: nothing can be learned from them.
        """
        raise NotImplementedError

    def saved(self) -> dict[str, Any]:
        """Return what was measured as plain data; `network.read_head` takes it."""
        raise NotImplementedError

    def first_bias(self) -> list[float]:
        """Return where the outputs start: epochs then learn differences, not the level. (O,)."""
        raise NotImplementedError

    def loss(self, raw: Tensor, batch: Batch, config: NetworkConfig) -> Tensor:
        """Return the weighted mean loss of the outputs, ([M,] B, S[, O]) -> ()."""
        raise NotImplementedError

    def validation_loss(
        self, raw: Tensor, answers: Tensor, batch: Batch, config: NetworkConfig
    ) -> Tensor:
        """Return the loss to log of the outputs and of what `forward` made of them: -> ()."""
        return self.loss(raw, batch, config)

    def log_odds(self, answers: Answers) -> Answers:
        """Return what customers are ranked by, of what `forward` returned: -> (B, S) or (n,)."""
        raise NotImplementedError


class BinaryHead(Head):
    """Will it happen? Log-odds, learned by cross-entropy; members answer with their mean."""

    monitor = AVERAGE_PRECISION

    def __init__(self, base_rate: float):
        super().__init__()
        self.base_rate = base_rate

    @classmethod
    def of(cls, data: TaskData) -> Self:
        """Take the share of positives."""
        return cls(float(data.of("train").snapshots["label"].mean()))

    def saved(self) -> dict[str, Any]:
        """See `Head`."""
        return {"base_rate": self.base_rate}

    def first_bias(self) -> list[float]:
        """Start at the base rate."""
        return [float(torch.logit(torch.tensor(self.base_rate)))]

    def loss(self, raw: Tensor, batch: Batch, config: NetworkConfig) -> Tensor:
        """See `Head`."""
        return weighted_loss(raw, batch)

    def validation_loss(
        self, raw: Tensor, answers: Tensor, batch: Batch, config: NetworkConfig
    ) -> Tensor:
        """Judge the mean of the members, not each."""
        return weighted_loss(answers, batch)

    def log_odds(self, answers: Answers) -> Answers:
        """There is nothing else."""
        return answers

    def forward(self, raw: Tensor) -> Tensor:
        """(M, B, S) -> (B, S)."""
        return raw.mean(0)


def weighted_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Weighted mean binary cross-entropy; padded snapshots weigh nothing. (..., B, S) -> ()."""
    labels = batch.labels.expand_as(logits)
    losses = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
    weights = batch.weights.expand_as(losses)
    return (losses * weights).sum() / weights.sum()
