"""When will it happen? The discrete-time hazard head of a `time_to` task.

The horizons cut the time after a cutoff into intervals. Of each the network gives one hazard, the
chance that the event comes in this interval if it has not come before, as log-odds h. By horizon k
the event has come with probability 1 - (1 - hazard_1) ... (1 - hazard_k), which cannot fall as k
grows (Singer & Willett 1993, "It's about time", J. Educational Statistics 18:155).

The likelihood of a snapshot is that of every interval it lived through: no event in those before,
the event in its own. Label windows close within the data, so nobody is censored before the longest
horizon; who has no event by then has lived through all intervals.

Shapes: M members, B windows, S snapshots, K horizons.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqjourney.config import NetworkConfig
from seqjourney.models.head import Answers, Head
from seqjourney.sequences.batching import Batch
from seqjourney.sequences.task_data import TaskData

# An interval in which nobody, or everybody, had the event in training is no proof of never.
_LEAST = 1e-4


class HazardHead(Head):
    """A log-odds of the hazard by interval; members answer with their mean hazards."""

    def __init__(self, rates: Sequence[float]):
        """Take the share of those still waiting who had the event, by interval, in training."""
        super().__init__()
        self.rates = tuple(rates)
        self.outputs = self.horizons = len(rates)

    @classmethod
    def of(cls, data: TaskData) -> Self:
        """Count them, by the estimate of Kaplan and Meier."""
        intervals = data.of("train").snapshots["interval"].to_numpy()
        horizons = len(data.task.by_horizon())
        came = np.bincount(intervals, minlength=horizons + 1)[:horizons]
        waiting = len(intervals) - np.cumsum(came) + came
        rates = np.clip(came / np.maximum(waiting, 1), _LEAST, 1 - _LEAST)
        return cls(rates.tolist())

    def saved(self) -> dict[str, Any]:
        """See `Head`."""
        return {"hazards": list(self.rates)}

    def first_bias(self) -> list[float]:
        """Start at the log-odds of these rates."""
        rates = np.array(self.rates)
        return (np.log(rates) - np.log1p(-rates)).tolist()

    def loss(self, raw: Tensor, batch: Batch, config: NetworkConfig) -> Tensor:
        """Return the weighted mean negative log-likelihood of the intervals; see `Head`."""
        return hazard_loss(raw, batch.values, batch.weights)

    def log_odds(self, answers: Answers) -> Answers:
        """Take the longest horizon's."""
        return answers[..., -1]

    def forward(self, raw: Tensor) -> Tensor:
        """(M, B, S, K) -> (B, S, K): log-odds that the event has come by each horizon.

        From one horizon to the next odds become odds * (1 + e^h) + e^h. As logarithms nothing is
        subtracted, so that nothing cancels and no rounding lets an answer fall.
        """
        hazards = raw.mean(0)
        found = [hazards[..., 0]]
        for k in range(1, self.horizons):
            h = hazards[..., k]
            before = found[-1] + F.softplus(h)
            found.append(torch.maximum(before, h) + F.softplus(-(before - h).abs()))
        return torch.stack(found, dim=-1)


def hazard_loss(raw: Tensor, intervals: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean negative log-likelihood of the snapshots.

    Args:
        raw: (..., B, S, K) log-odds of hazards.
        intervals: (B, S), the interval of the event, K where there is none.
        weights: (B, S), 0 where padded.
    """
    steps = torch.arange(raw.shape[-1], device=raw.device)
    lived = (steps <= intervals[..., None]).expand_as(raw)
    came = (steps == intervals[..., None]).float().expand_as(raw)
    losses = F.binary_cross_entropy_with_logits(raw.float(), came, reduction="none")
    weights = weights.expand(raw.shape[:-1])
    return ((losses * lived).sum(-1) * weights).sum() / weights.sum()


def odds_by_horizon(hazards: np.ndarray) -> np.ndarray:
    """Return what `HazardHead.forward` does, without torch: (..., K) -> (..., K)."""
    found = [hazards[..., 0]]
    for k in range(1, hazards.shape[-1]):
        h = hazards[..., k]
        found.append(np.logaddexp(found[-1] + np.logaddexp(0, h), h))
    return np.stack(found, axis=-1)
