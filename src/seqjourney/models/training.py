"""How a network learns: loss, averaged weights, validation, and a resume that is exact."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchmetrics.classification import BinaryAveragePrecision

from seqjourney.config import NetworkConfig
from seqjourney.models.head import AVERAGE_PRECISION, LOSS, Head, Monitor
from seqjourney.models.model import JourneyModel
from seqjourney.sequences.batching import Batch


class AveragedTraining(pl.LightningModule):
    """What learning any head has in common: averaged weights, optimiser, and the score to watch.

    Validation and the kept checkpoint use an exponential average of the weights: it ranks more
    steadily than the last step's weights on small data (Polyak averaging).
    """

    monitor: Monitor

    def __init__(self, model: nn.Module, config: NetworkConfig, batch_weight: float):
        """Wrap a model; `batch_weight` is the mean weight of a training batch's snapshots."""
        super().__init__()
        self.model = model
        self._batch_weight = batch_weight
        self.averaged = Averaged(model, config.average_decay)
        self.averaged.requires_grad_(False)
        self._config = config

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Let the average follow within the step: a checkpoint after it then holds both."""
        super().optimizer_step(*args, **kwargs)
        self.averaged.update_parameters(self.model)

    def on_validation_epoch_start(self) -> None:
        """Averaged weights never drop out."""
        self.averaged.eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the score beside the weights; of processes of DDP nothing else comes back."""
        found = self.trainer.callback_metrics.get(self.monitor.name, float("nan"))
        checkpoint[self.monitor.name] = float(found)

    def configure_optimizers(self) -> Any:
        """AdamW, with decay on matrices only, and a linear warm-up."""
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self._config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self._config.learning_rate)
        warmup = max(1, self._config.warmup_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class JourneyTraining(AveragedTraining):
    """The loss of the task's head at every snapshot; validation by what the head is judged by."""

    model: JourneyModel

    def __init__(self, model: JourneyModel, config: NetworkConfig, batch_weight: float):
        """Wrap a model; see `AveragedTraining`."""
        super().__init__(model, config, batch_weight)
        self._precision = BinaryAveragePrecision()
        self.monitor = model.answers.monitor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss over the batch's snapshots, each member for itself."""
        raw = self.model.each(*batch.inputs)
        loss = self._taught(raw, batch, self.model.answers, self._batch_weight)
        # The sum over members: each learns as fast as it would alone (the clipped norm is joint).
        return loss * len(self.model.members)

    def _taught(
        self, raw: Tensor, batch: Batch, head: Head, batch_weight: float, of: str = ""
    ) -> Tensor:
        """Return what a batch teaches the head of a task, `of` which one: -> ()."""
        weight = batch.weights.sum()
        if weight == 0:  # it asks none of these customers
            return (raw * 0).sum()
        loss = head.loss(raw, batch, self._config)
        size = max(1, int(weight))
        self.log(f"train_loss{of}", loss, on_step=False, on_epoch=True, batch_size=size)
        # Batches hold very different numbers of snapshots; every snapshot counts the same.
        return loss * weight / batch_weight

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the answers to all validation snapshots."""
        averaged = cast("JourneyModel", self.averaged.module)
        raw, head = averaged.each(*batch.inputs), averaged.answers
        answers = head(raw)
        asked = batch.weights > 0
        logits = head.log_odds(answers)
        # The metric squashes what lies outside [0, 1] itself; be explicit instead.
        self._precision.update(torch.sigmoid(logits[asked].double()), batch.labels[asked].long())
        loss = head.validation_loss(raw, answers, batch, self._config)
        self.log(LOSS.name, loss, batch_size=int(asked.sum()), sync_dist=True)
        score = AVERAGE_PRECISION.name
        self.log(score, self._precision, prog_bar=True, on_step=False, on_epoch=True)


class Averaged(AveragedModel):
    """Torch's average without what it looks up anew, tensor by tensor, after every step.

    The weights to follow are always those of one model, and none of our buffers ever changes: once
    copied, they stay in step.
    """

    def __init__(self, model: nn.Module, decay: float):
        """Take so much of the average and the rest of the model at every update."""
        # A function that processes of DDP can be given, unlike torch's own.
        super().__init__(model, multi_avg_fn=partial(_follow, decay))
        self._decay = decay
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Follow the model; the first update copies it, unless the average was resumed."""
        if self._pairs is None:
            super().update_parameters(model)
            self._pairs = list(self.module.parameters()), list(model.parameters())
        else:
            _follow(self._decay, *self._pairs)
            self.n_averaged += 1


@torch.no_grad()
def _follow(decay: float, averages: Any, weights: Any, _updates: Any = None) -> None:
    """Move averages towards weights, in place."""
    torch._foreach_lerp_(averages, weights, 1 - decay)


class ResumableCheckpoint(pl.Callback):
    """Write all that a resume needs every so many steps and after each epoch's first batch.

    Lightning goes on exactly from there only: at an epoch's last batch it would skip the
    validation, and while a batch is being learned its data count as read. So an epoch of a single
    batch leaves nothing to resume.
    """

    def __init__(self, path: Path, every_steps: int):
        self._path, self._every_steps = path, every_steps
        self._written_at = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from the step that a resumed run starts at."""
        self._written_at = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write when it is time; short epochs would never be, so each one's start counts too."""
        due = trainer.global_step - self._written_at >= self._every_steps or batch_idx == 0
        if due and not trainer.is_last_batch:
            trainer.save_checkpoint(self._path)
            self._written_at = trainer.global_step


class RandomState(pl.Callback):
    """Keep the random number generators in the checkpoint: dropout goes on where it stopped."""

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states to the checkpoint."""
        checkpoint["random_state"] = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": np.random.get_state(),  # noqa: NPY002 - third parties may still use it
            "python": random.getstate(),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the states until training starts; Lightning draws numbers before that."""
        self._state = checkpoint["random_state"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the remembered states."""
        state = getattr(self, "_state", None)
        if state is None:
            return
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        random.setstate(state["python"])


class SpawnedProcesses(DDPStrategy):
    """DDP over spawned processes, which need no second command line, so Hydra's does not matter.

    Each leaves the process group while it is still whole: Lightning leaves gloo's to the
    destructors at exit, where a thread that still runs at times aborts the process.
    """

    def __init__(self) -> None:
        """Take Lightning's defaults."""
        super().__init__(start_method="spawn")

    def teardown(self) -> None:
        """Leave the group too."""
        super().teardown()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
