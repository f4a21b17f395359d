"""How much will a customer bring in? The zero-inflated log-normal head of a `sum` task.

Wang, Liu & Miao 2019, "A deep probabilistic model for customer lifetime value prediction"
(arXiv:1912.07753): with probability p a customer brings in anything, and then an amount whose
logarithm is normal around mu with spread sigma. Three numbers per snapshot, learned together:
the log-odds of p by cross-entropy, mu and sigma by the likelihood of the amounts of buyers. An
amount of zero, or less where refunds outweigh sales, teaches p only.

Shapes: M members, B windows, S snapshots.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seqjourney.errors import DataError

OUTPUTS = 3
"""Of a network's last layer: log-odds, mu, and sigma before it is bounded."""


@dataclass(frozen=True)
class ValueScale:
    """How the positive amounts of training are spread, on a log scale."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: np.ndarray) -> "ValueScale":
        """Measure the amounts above zero, (n,).

        Raises:
            DataError: there is none.
        """
        logs = np.log(values[values > 0])
        if not len(logs):
            raise DataError("no customer brings in anything in training; widen the task's horizon.")
        return cls(float(logs.mean()), float(logs.std()))

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest sigma.

        The expected amount grows with exp(sigma² / 2): 20 times per buyer at sigma 2.4, where the
        likelihood hardly minds. On average the spread around mu cannot exceed that of all amounts;
        half as much again leaves room for customers who vary more than others. Without a least one,
        a fixed price would make the likelihood endless.
        """
        least = max(0.05, 0.1 * self.deviation)
        return least, max(1.5 * self.deviation, 2 * least)

    @property
    def outputs(self) -> int:
        """Of a network's last layer."""
        return OUTPUTS

    def answers(self) -> "ValueAnswers":
        """Return what turns outputs into answers."""
        return ValueAnswers(self)

    def first_bias(self) -> list[float]:
        """Where mu and sigma (before it is bounded) start: at those of all amounts."""
        least, most = self.bounds
        share = min(max((self.deviation - least) / (most - least), 0.05), 0.95)
        return [self.mean, math.log(share / (1 - share))]


class ValueAnswers(nn.Module):
    """What the members say of a snapshot → what the model answers."""

    def __init__(self, scale: ValueScale):
        super().__init__()
        self.least, self.most = scale.bounds

    def sigma(self, raw: Tensor) -> Tensor:
        """Bound sigma, smoothly, so that none is stuck at an end: (..., 3) -> (...)."""
        return self.least + (self.most - self.least) * torch.sigmoid(raw[..., 2])

    def forward(self, raw: Tensor) -> Tensor:
        """(M, B, S, 3) -> (B, S, 2): log-odds, and the log of the expected amount of a buyer.

        The log of money: an exported model is compared with the trained one in any currency.
        """
        amounts = raw[..., 1] + self.sigma(raw).square() / 2  # of a log-normal: exp(mu + sigma²/2)
        amount = torch.logsumexp(amounts, dim=0) - math.log(raw.size(0))
        return torch.stack([raw[..., 0].mean(0), amount], dim=-1)


def amount_loss(raw: Tensor, values: Tensor, weights: Tensor, answers: ValueAnswers) -> Tensor:
    """Return the weighted mean over all snapshots of the buyers' negative log-likelihood.

    Args:
        raw: (M, B, S, 3) or (B, S, 3) outputs.
        values: (B, S) amounts; those of zero or less count as 0 loss.
        weights: (B, S), 0 where padded.
        answers: knows the bounds of sigma.
    """
    buys = values > 0
    logs = torch.where(buys, values, torch.ones_like(values)).log()
    raw = raw.float()
    sigma = answers.sigma(raw)
    z = (logs - raw[..., 1]) / sigma
    losses = logs + sigma.log() + 0.5 * math.log(2 * math.pi) + 0.5 * z.square()
    weights = weights.expand_as(losses)
    return (losses * buys * weights).sum() / weights.sum()
