"""Pretraining: a network first learns what comes next in all histories, labelled or not.

At a snapshot token it says what the next event will be, field by field, and when: the hazard of
something happening within each step of a grid of waiting times, so that a history that ends
without another event teaches too. `pretrain` trains the embedding and backbone of a `JourneyModel`
in place; the head of its task stays as it was.

Shapes: M members, B windows, S snapshots, Q questions, A fields of an event, G steps of the grid,
D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqjourney.cli import say
from seqjourney.config import LoggerConfig, NetworkConfig, TrainerConfig
from seqjourney.files import replacing_file
from seqjourney.models.embedding import GapCode
from seqjourney.models.head import LOSS
from seqjourney.models.learning import learn, loggers
from seqjourney.models.model import JourneyModel, Member
from seqjourney.models.training import AveragedTraining
from seqjourney.sequences.batching import Batch
from seqjourney.sequences.pretraining import Following, class_counts, pretraining_questions
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer


def pretrain(
    model: JourneyModel,
    config: NetworkConfig,
    data: TaskData,
    trainer: TrainerConfig,
    seed: int,
    folder: Path,
) -> dict[str, float]:
    """Train embedding and backbone until held-out customers' next events surprise no less.

    Args:
        model: its members are changed in place.
        config: of the network; `pretrain_epochs` is the most.
        data: of the task; see `pretraining_questions` for what of it is used.
        trainer: `resume` goes on with a pretraining that was interrupted, or takes one that ended.
        seed: of the questions and batches.
        folder: of the run; checkpoints go to `checkpoints/pretraining`, curves to `pretraining`.

    Returns:
        The held-out `loss`, and after how many `epochs` and `steps` it was reached.
    """
    from seqjourney.sequences.datamodule import JourneyDataModule

    done = folder / "checkpoints" / "pretraining" / "pretrained.pt"
    if trainer.resume and done.exists():
        kept = torch.load(done, map_location="cpu", weights_only=True)
        model.load_state_dict(kept["weights"])
        return kept["found"]
    questions = pretraining_questions(data, seed)
    module = JourneyDataModule(
        questions,
        context=config.context,
        batch_tokens=config.batch_tokens,
        seed=seed,
        workers=trainer.workers,
    )
    answers = {split: Following.of(questions.of(split)) for split in ("train", "validation")}
    training = Pretraining(
        NextEvents(model, config, data.tokenizer), config, module.mean_batch_weight(), answers
    )
    shorter = trainer.model_copy(update={"max_epochs": config.pretrain_epochs, "least_steps": 0})
    if trainer.progress:
        customers = questions.snapshots["customer_index"].nunique()
        say(f"{config.name}: pretraining first, on what comes next in {customers:,} histories")
    curves = loggers(LoggerConfig(), folder / "pretraining", config.name)
    loss, steps = learn(training, module, shorter, done.parent, curves)
    found = {"loss": loss, **steps}
    model.train()  # `learn` leaves it answering, without dropout
    with replacing_file(done) as partial:
        torch.save({"weights": model.state_dict(), "found": found}, partial)
    return found


class NextEvents(nn.Module):
    """A model, and per member a head that answers what comes next and when."""

    def __init__(self, journey: JourneyModel, config: NetworkConfig, tokenizer: Tokenizer):
        super().__init__()
        self.journey = journey
        self.classes = class_counts(tokenizer)
        grid = GapCode(tokenizer.history_us).bins
        self.register_buffer("knots", grid.edges)  # of log(1 + seconds)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(2 * config.width, config.width),
                nn.GELU(),
                nn.Linear(config.width, sum(self.classes) + len(grid.edges) + 1),
            )
            for _ in journey.members
        )

    knots: Tensor

    def forward(self, batch: Batch) -> Tensor:
        """Return answers to the batch's questions, (M, Q, classes of all fields + G)."""
        asked = batch.weights > 0
        found = []
        for member, head in zip(self.journey.members, self.heads, strict=True):
            assert isinstance(member, Member)
            found.append(head(member.states(*batch.inputs)[asked]))
        return torch.stack(found)

    def losses(self, answers: Tensor, classes: Tensor, came: Tensor, wait_us: Tensor) -> Tensor:
        """Negative log-likelihood of what came next and when.

        Args:
            answers: (M, Q, classes of all fields + G).
            classes: (Q, A) int64 of the next event's fields.
            came: (Q,) bool, whether one did.
            wait_us: (Q,) int64 until it did, or for how long none did.

        Returns:
            (M, Q).
        """
        steps = len(self.knots) + 1
        *fields, hazards = answers.float().split([*self.classes, steps], dim=-1)
        seconds = torch.log1p(wait_us.to(torch.float64) / 1e6).to(torch.float32)
        reached = torch.bucketize(seconds, self.knots, right=True).unsqueeze(-1)  # (Q, 1)
        step = torch.arange(steps, device=reached.device)
        # Nothing in all steps before; then an event, or no more knowledge.
        event = ((step == reached) & came.unsqueeze(-1)).float()
        seen = (step < reached).float() + event
        surprise = F.binary_cross_entropy_with_logits(
            hazards, event.expand_as(hazards), reduction="none"
        )
        loss = (surprise * seen).sum(-1)
        for position, field in enumerate(fields):
            truth = classes[:, position].expand(field.shape[:-1])
            missed = F.cross_entropy(field.flatten(0, 1), truth.flatten(), reduction="none")
            loss = loss + missed.view_as(loss) * came
        return loss


class Pretraining(AveragedTraining):
    """Likelihood of what came next, over all questions."""

    monitor = LOSS
    model: NextEvents

    def __init__(
        self,
        model: NextEvents,
        config: NetworkConfig,
        batch_weight: float,
        answers: dict[str, Following],
    ):
        """Wrap a model; `answers` are those of each split."""
        super().__init__(model, config, batch_weight)
        self._answers = answers

    def _losses(self, network: NextEvents, batch: Batch, split: str) -> Tensor:
        """(M, Q)."""
        rows = batch.rows[batch.weights > 0].cpu().numpy()
        following, device = self._answers[split], batch.rows.device
        found = (following.classes[rows], following.came[rows], following.wait_us[rows])
        classes, came, wait_us = (torch.from_numpy(array).to(device) for array in found)
        return network.losses(network(batch), classes.long(), came, wait_us)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss over the batch's questions, each member for itself."""
        losses = self._losses(self.model, batch, "train")
        self._log("train_loss", losses)
        return losses.sum() / self._batch_weight  # every question counts the same

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure the same on customers who teach nothing."""
        averaged: Any = self.averaged.module
        self._log(LOSS.name, self._losses(averaged, batch, "validation"))

    def _log(self, name: str, losses: Tensor) -> None:
        self.log(
            name,
            losses.mean(),
            on_step=False,
            on_epoch=True,
            batch_size=losses.shape[-1],
            sync_dist=True,
            prog_bar=name == self.monitor.name,
        )
