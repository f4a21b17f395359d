"""EventEmbedding → backbone → head: the one network of this project, GRU or transformer.

`JourneyModel` holds one or several such networks that learn side by side from the same batches
and answer with their mean log-odds; several differ by their initial weights and their dropout.
The forward pass takes and returns tensors only, so that it scripts and exports as it stands. What
the last layer's outputs mean is a matter of the task's `head`.
"""

import torch
from torch import Tensor, nn

from seqjourney.config import NetworkConfig, TransformerConfig
from seqjourney.models.dropout import Dropout
from seqjourney.models.embedding import EventEmbedding
from seqjourney.models.gru import GRUBackbone
from seqjourney.models.head import Head
from seqjourney.models.transformer import TransformerBackbone
from seqjourney.sequences.tokenizer import Tokenizer


def build_backbone(config: NetworkConfig, tokenizer: Tokenizer) -> nn.Module:
    """Return what turns embedded events and snapshot tokens into answers."""
    if isinstance(config, TransformerConfig):
        return TransformerBackbone(
            config.width, config.layers, config.heads, config.dropout, tokenizer.history_us
        )
    return GRUBackbone(config.width, config.layers, config.dropout)


class Member(nn.Module):
    """One network: scores of all snapshots of a batch in one pass over its events."""

    def __init__(self, config: NetworkConfig, tokenizer: Tokenizer, head: Head):
        super().__init__()
        self.embedding = EventEmbedding(tokenizer, config.width, config.dropout)
        self.backbone = build_backbone(config, tokenizer)
        self.head = nn.Sequential(
            nn.Linear(2 * config.width, config.width),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.width, head.outputs),
        )
        last: nn.Linear = self.head[-1]  # type: ignore[assignment]
        nn.init.normal_(last.weight, std=0.01)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(head.first_bias()))

    def forward(
        self, categorical: Tensor, numeric: Tensor, times: Tensor, ends: Tensor, cutoffs: Tensor
    ) -> Tensor:
        """Return the head's outputs, (B, S) or (B, S, O); takes what `JourneyModel` does."""
        return self.head(self.states(categorical, numeric, times, ends, cutoffs)).squeeze(-1)

    def states(
        self, categorical: Tensor, numeric: Tensor, times: Tensor, ends: Tensor, cutoffs: Tensor
    ) -> Tensor:
        """Return what heads read of each snapshot, (B, S, 2D)."""
        events = self.embedding.events(categorical, numeric, times)
        snapshots = self.embedding.snapshots(times, ends, cutoffs)
        answers = self.backbone(events, snapshots, times, ends, cutoffs)
        # The snapshot token itself stands beside the answer: recency is always in plain sight.
        return torch.cat([answers, snapshots], dim=-1)


class JourneyModel(nn.Module):
    """What one or several networks answer together, by the `head` of their task."""

    def __init__(self, config: NetworkConfig, tokenizer: Tokenizer, head: Head):
        super().__init__()
        self.members = nn.ModuleList(Member(config, tokenizer, head) for _ in range(config.members))
        self.answers = head

    def forward(
        self, categorical: Tensor, numeric: Tensor, times: Tensor, ends: Tensor, cutoffs: Tensor
    ) -> Tensor:
        """Score snapshots.

        Args:
            categorical: (B, T, F) int64 token ids; 0 where padded on the right.
            numeric: (B, T, K) float32 raw values; NaN where missing.
            times: (B, T) int64 microseconds UTC, when each event happened.
            ends: (B, S) int64, how many of the events are known at each cutoff.
            cutoffs: (B, S) int64 microseconds UTC.

        Returns:
            (B, S) float32 log-odds before calibration; of a `sum` task (B, S, 2), see
            `ValueHead`; of a `time_to` task (B, S, K), see `HazardHead`.
        """
        return self.answers(self.each(categorical, numeric, times, ends, cutoffs))

    def each(
        self, categorical: Tensor, numeric: Tensor, times: Tensor, ends: Tensor, cutoffs: Tensor
    ) -> Tensor:
        """Return every member's outputs, (members, B, S[, O]): each learns from its own."""
        answers = [member(categorical, numeric, times, ends, cutoffs) for member in self.members]
        return torch.stack(answers)
