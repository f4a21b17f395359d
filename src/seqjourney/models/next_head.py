"""The network of `next` tasks: the embedding and backbone of every other, and another head.

The head turns the answer at a snapshot token into a query; a value's score is the query's product
with the value's own embedding (tied weights) plus a learned preference that starts at its
frequency. Losses are a softmax over all values, or one over sampled values whose estimate of the
softmax's denominator is unbiased.

`embedding` and `backbone` have the parameters and the names of `Member`'s, so that either can
start from the other's weights.

Shapes: B windows, T events, S snapshots, D width, V values, Q questions, K negatives.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqjourney.config import NetworkConfig
from seqjourney.models.embedding import EventEmbedding
from seqjourney.models.model import build_backbone
from seqjourney.sequences.tokenizer import FIRST, Tokenizer

_VALUE_SPREAD = 0.03


class NextNetwork(nn.Module):
    """Queries for what comes next, one per snapshot, and what they are compared with."""

    frequency: Tensor
    cumulative: Tensor

    def __init__(
        self, config: NetworkConfig, tokenizer: Tokenizer, field: str, frequency: np.ndarray
    ):
        """Build for one field; `frequency` (V,) is how often training saw each value come."""
        super().__init__()
        self.embedding = EventEmbedding(tokenizer, config.width, config.dropout)
        self.backbone = build_backbone(config, tokenizer)
        self.head = nn.Linear(config.width, config.width)
        self.field = tokenizer.categorical_fields.index(field)
        # From a wide start, answers are noise for longer than a value that comes a dozen times
        # takes to move; from a narrow one, each value scores its frequency and is moved from there.
        nn.init.normal_(self.embedding.fields[self.field].weight[FIRST:], std=_VALUE_SPREAD)  # type: ignore[index]
        share = torch.as_tensor(frequency, dtype=torch.float64) + 1.0
        share = share / share.sum()
        self.preference = nn.Parameter(torch.log(share * len(share)).float())
        # Negatives are drawn half evenly, half as often as they come: frequent values are the
        # hard ones, but each must be met.
        drawn = 0.5 * share + 0.5 / len(share)
        self.register_buffer("frequency", drawn.log().float(), persistent=False)
        self.register_buffer("cumulative", drawn.cumsum(0), persistent=False)

    def forward(
        self, categorical: Tensor, numeric: Tensor, times: Tensor, ends: Tensor, cutoffs: Tensor
    ) -> Tensor:
        """(B, T, F), (B, T, K), (B, T), (B, S), (B, S) -> queries (B, S, D)."""
        events = self.embedding.events(categorical, numeric, times)
        snapshots = self.embedding.snapshots(times, ends, cutoffs)
        # The last known event asks: what it is then runs straight through to the answer, as in
        # any causal model of the next item, while the snapshot token adds what time it is.
        at = (ends - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, events.size(-1))
        last = events.gather(1, at) * (ends > 0).unsqueeze(-1)
        answers = self.backbone(events, snapshots + last, times, ends, cutoffs)
        return self.head(answers)

    def values(self) -> Tensor:
        """Return the embeddings of the values that may be answered, (V, D)."""
        table: nn.Embedding = self.embedding.fields[self.field]  # type: ignore[assignment]
        return table.weight[FIRST:]

    def scores(self, queries: Tensor) -> Tensor:
        """(Q, D) -> log-odds of every value against the others, (Q, V)."""
        return F.linear(queries, self.values(), self.preference)

    def draw(self, count: int) -> Tensor:
        """Draw values to compare with, with replacement. (K,) int64."""
        at = torch.rand(count, dtype=torch.float64, device=self.cumulative.device)
        drawn = torch.searchsorted(self.cumulative, at * self.cumulative[-1], right=True)
        return drawn.clamp(max=len(self.cumulative) - 1)

    def loss(self, queries: Tensor, truth: Tensor, negatives: int | None) -> Tensor:
        """Cross-entropy of each question, over all values or over so many drawn ones.

        With sampling, `sum exp(score)` over the others is estimated from K draws, each divided by
        K times its probability of being drawn (the logQ correction); draws of the true value are
        left out, and it stands for itself. The estimate is unbiased (Bengio & Senecal 2008).

        Args:
            queries: (Q, D).
            truth: (Q,) positions of the true values, from 0.
            negatives: how many are drawn for all questions together; None: all values.

        Returns:
            (Q,).
        """
        if negatives is None or negatives >= len(self.preference):
            return F.cross_entropy(self.scores(queries), truth, reduction="none")
        table = self.values()
        drawn = self.draw(negatives)
        others = F.linear(
            queries,
            table[drawn],
            self.preference[drawn] - self.frequency[drawn] - float(np.log(negatives)),
        )
        others = others.masked_fill(drawn == truth.unsqueeze(-1), float("-inf"))
        true = (queries * table[truth]).sum(-1) + self.preference[truth]
        return torch.logsumexp(torch.cat([true.unsqueeze(-1), others], dim=-1), -1) - true


class NextScores(nn.Module):
    """A trained network as a program of its own: from events to the scores of all values."""

    table: Tensor

    def __init__(self, network: NextNetwork):
        """Take over a trained network and its table of values."""
        super().__init__()
        self.network = network
        self.register_buffer("table", network.values().detach())

    def forward(
        self, categorical: Tensor, numeric: Tensor, times: Tensor, ends: Tensor, cutoffs: Tensor
    ) -> Tensor:
        """(B, T, F), (B, T, K), (B, T), (B, S), (B, S) -> scores (B, S, V); see `NextNetwork`."""
        queries = self.network(categorical, numeric, times, ends, cutoffs)
        return F.linear(queries, self.table, self.network.preference)
