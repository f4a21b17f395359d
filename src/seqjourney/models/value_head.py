"""How much will a customer bring in? The zero-inflated log-normal head of a `sum` task.

Wang, Liu & Miao 2019, "A deep probabilistic model for customer lifetime value prediction"
(arXiv:1912.07753): with probability p a customer brings in anything, and then an amount whose
logarithm is normal around mu with spread sigma. Three numbers per snapshot, learned together:
the log-odds of p by cross-entropy, mu and sigma by the likelihood of the amounts of buyers. An
amount of zero, or less where refunds outweigh sales, teaches p only.

Shapes: M members, B windows, S snapshots.
"""

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from seqjourney.config import NetworkConfig
from seqjourney.errors import DataError
from seqjourney.models.head import Answers, BinaryHead, Head, weighted_loss
from seqjourney.sequences.batching import Batch
from seqjourney.sequences.task_data import TaskData


class ValueHead(Head):
    """Log-odds, mu, and sigma before it is bounded."""

    outputs = 3

    def __init__(self, base_rate: float, mean: float, deviation: float):
        """Take the share of buyers, and how their amounts are spread on a log scale.

        The expected amount grows with exp(sigma² / 2): 20 times per buyer at sigma 2.4, where the
        likelihood hardly minds. On average the spread around mu cannot exceed that of all amounts;
        half as much again leaves room for customers who vary more than others. Without a least one,
        a fixed price would make the likelihood endless.
        """
        super().__init__()
        self.base_rate, self.mean, self.deviation = base_rate, mean, deviation
        self.least = max(0.05, 0.1 * deviation)  # sigma's bounds
        self.most = max(1.5 * deviation, 2 * self.least)

    @classmethod
    def of(cls, data: TaskData) -> Self:
        """Measure the amounts above zero.

        Raises:
            DataError: there is none.
        """
        train = data.of("train").snapshots
        values = train["value"].to_numpy()
        logs = np.log(values[values > 0])
        if not len(logs):
            raise DataError("no customer brings in anything in training; widen the task's horizon.")
        return cls(float(train["label"].mean()), float(logs.mean()), float(logs.std()))

    def saved(self) -> dict[str, Any]:
        """See `Head`."""
        scale = {"mean": self.mean, "deviation": self.deviation}
        return {"base_rate": self.base_rate, "scale": scale}

    def first_bias(self) -> list[float]:
        """Start mu and sigma (before it is bounded) at those of all amounts."""
        share = (self.deviation - self.least) / (self.most - self.least)
        share = min(max(share, 0.05), 0.95)
        whether = BinaryHead(self.base_rate).first_bias()
        return [*whether, self.mean, math.log(share / (1 - share))]

    def loss(self, raw: Tensor, batch: Batch, config: NetworkConfig) -> Tensor:
        """Add up whether and how much; see `Head`."""
        amounts = self.amount_loss(raw, batch.values, batch.weights)
        return weighted_loss(raw[..., 0], batch) + config.amount_weight * amounts

    def amount_loss(self, raw: Tensor, values: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted mean over all snapshots of the buyers' negative log-likelihood.

        Args:
            raw: (M, B, S, 3) or (B, S, 3) outputs.
            values: (B, S) amounts; those of zero or less count as 0 loss.
            weights: (B, S), 0 where padded.
        """
        buys = values > 0
        logs = torch.where(buys, values, torch.ones_like(values)).log()
        raw = raw.float()
        sigma = self.sigma(raw)
        z = (logs - raw[..., 1]) / sigma
        losses = logs + sigma.log() + 0.5 * math.log(2 * math.pi) + 0.5 * z.square()
        weights = weights.expand_as(losses)
        return (losses * buys * weights).sum() / weights.sum()

    def sigma(self, raw: Tensor) -> Tensor:
        """Bound sigma, smoothly, so that none is stuck at an end: (..., 3) -> (...)."""
        return self.least + (self.most - self.least) * torch.sigmoid(raw[..., 2])

    def log_odds(self, answers: Answers) -> Answers:
        """Take the first."""
        return answers[..., 0]

    def forward(self, raw: Tensor) -> Tensor:
        """(M, B, S, 3) -> (B, S, 2): log-odds, and the log of the expected amount of a buyer.

        The log of money: an exported model is compared with the trained one in any currency.
        """
        amounts = raw[..., 1] + self.sigma(raw).square() / 2  # of a log-normal: exp(mu + sigma²/2)
        amount = torch.logsumexp(amounts, dim=0) - math.log(raw.size(0))
        return torch.stack([raw[..., 0].mean(0), amount], dim=-1)
