"""One network that learns several tasks: a head for each over one embedding and one backbone.

Each task has a whole `JourneyModel`, but reads histories with the modules of the main task's, so
that after training each is scored, saved and served like one that was trained alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from seqjourney.config import NetworkConfig
from seqjourney.models.model import JourneyModel, Member
from seqjourney.models.training import JourneyTraining
from seqjourney.sequences.batching import Batch


class JointModel(JourneyModel):
    """The model of the main task, with those of others beside it that own their heads alone."""

    def __init__(self, main: JourneyModel, others: Sequence[JourneyModel]):
        nn.Module.__init__(self)
        self.members, self.answers = main.members, main.answers
        self.others = nn.ModuleList(others)
        for other in others:
            for member, own in zip(main.members, other.members, strict=True):
                own.embedding, own.backbone = member.embedding, member.backbone


class Lesson(nn.Module):
    """What a task beside the main one teaches: its answers to each row of the training table."""

    def __init__(self, name: str, weight: float, targets: Sequence[np.ndarray], batches: int):
        """Take `targets` as of `targets_of`; an epoch has so many `batches`."""
        super().__init__()
        self.name, self.weight = name, weight
        self.batch_weight = float(targets[1].sum(dtype=np.float64)) / batches
        self.register_buffer("targets", torch.from_numpy(np.stack(targets)), persistent=False)

    targets: Tensor  # (3, n) labels, weights, values

    def forward(self, batch: Batch) -> Batch:
        """Return the same batch with this task's answers."""
        found = self.targets[:, batch.rows.clamp(min=0)] * (batch.rows >= 0)  # (3, B, S)
        labels, weights, values = found.unbind()
        return replace(batch, labels=labels, weights=weights, values=values)


class JointTraining(JourneyTraining):
    """The main task's loss plus the weighted losses of the others; validation is the main one's."""

    model: JointModel

    def __init__(
        self,
        model: JointModel,
        config: NetworkConfig,
        batch_weight: float,
        lessons: Sequence[Lesson],
    ):
        """Wrap a model; `lessons` are those of its others, in their order."""
        super().__init__(model, config, batch_weight)
        self.lessons = nn.ModuleList(lessons)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss over the batch's snapshots, each member for itself."""
        states = [cast("Member", member).states(*batch.inputs) for member in self.model.members]
        raw = _heads(self.model, states)
        loss = self._taught(raw, batch, self.model.answers, self._batch_weight)
        for module, of in zip(self.model.others, self.lessons, strict=True):
            other, lesson = cast("JourneyModel", module), cast("Lesson", of)
            raw = _heads(other, states)
            asked = lesson(batch)
            more = self._taught(raw, asked, other.answers, lesson.batch_weight, f"_{lesson.name}")
            loss = loss + lesson.weight * more
        return loss * len(self.model.members)


def _heads(model: JourneyModel, states: Sequence[Tensor]) -> Tensor:
    """Answer from what the members read, M of (B, S, 2D) -> (M, B, S[, O])."""
    heads = [cast("Member", member).head for member in model.members]
    return torch.stack([head(one).squeeze(-1) for head, one in zip(heads, states, strict=True)])
