"""How a network learns what comes next: a loss after every event, validation by rank."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from seqjourney.config import NetworkConfig
from seqjourney.models.head import Monitor
from seqjourney.models.next_head import NextNetwork
from seqjourney.models.training import AveragedTraining
from seqjourney.sequences.batching import Batch
from seqjourney.sequences.tokenizer import FIRST

MONITOR = Monitor("validation_reciprocal_rank", "MRR")
_CHUNK = 512  # questions that are ranked at once, against all values


class NextTraining(AveragedTraining):
    """Softmax, full or sampled; validation by the mean reciprocal rank among all values."""

    monitor = MONITOR
    model: NextNetwork

    def __init__(
        self, model: NextNetwork, config: NetworkConfig, batch_weight: float, negatives: int | None
    ):
        """Wrap a model; `negatives` as in `NextNetwork.loss`."""
        super().__init__(model, config, batch_weight)
        self._negatives = negatives
        self._reciprocal = MeanMetric()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss over the batch's questions."""
        asked = batch.weights > 0
        queries = self.model(*batch.inputs)[asked]
        truth = batch.labels[asked].long() - FIRST
        weights = batch.weights[asked]
        losses = self.model.loss(queries, truth, self._negatives)
        loss = (losses * weights).sum()
        total = weights.sum()
        self.log("train_loss", loss / total, on_step=False, on_epoch=True, batch_size=len(truth))
        return loss / self._batch_weight  # every question counts the same

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Rank the true value of each question; one outside the vocabulary is never found."""
        network: NextNetwork = self.averaged.module  # type: ignore[assignment]
        asked = batch.weights > 0
        queries = network(*batch.inputs)[asked]
        ids = batch.labels[asked].long()
        for query, label in zip(queries.split(_CHUNK), ids.split(_CHUNK), strict=True):
            scores = network.scores(query)
            known = label >= FIRST
            true = scores.gather(1, (label - FIRST).clamp(min=0).unsqueeze(-1))
            rank = (~(scores < true)).sum(-1)  # a score that is no number ranks last
            reciprocal = torch.where(known, 1.0 / rank, torch.zeros_like(true[:, 0]))
            self._reciprocal.update(reciprocal)
        self.log(MONITOR.name, self._reciprocal, prog_bar=True, on_step=False, on_epoch=True)
