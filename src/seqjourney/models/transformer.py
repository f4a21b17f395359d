"""Causal transformer backbone with rotary attention on real time.

Two streams share all weights. Events attend causally to events, without a dense mask (right
padding is never looked at by a valid position). Snapshot tokens attend to the events known at
their cutoff and to nothing else, so an answer does not depend on which other cutoffs are asked.
A learned start token makes every attention non-empty.

Queries and keys are rotated by the time in days at geometric frequencies (RoPE, Su et al. 2021,
with time in place of position), so that attention sees real time differences.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqjourney.models.dropout import Dropout

# Periods of rotation, as shares of the training history. The slowest turns by less than a right
# angle over all of it, so that it orders times; faster ones than this only fitted noise.
_SLOWEST, _FASTEST = 4.0, 1 / 64
DAY_US = 86_400_000_000


class RotaryTime(nn.Module):
    """Sine and cosine of the angles by which queries and keys are rotated, from real time."""

    frequencies: Tensor

    def __init__(self, head_width: int, history_us: int):
        super().__init__()
        days = max(history_us, 1) / DAY_US
        periods = days * torch.logspace(math.log10(_FASTEST), math.log10(_SLOWEST), head_width // 2)
        self.register_buffer("frequencies", 2.0 * math.pi / periods, persistent=False)

    def forward(self, days: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) float64 days -> sine and cosine, (B, 1, T, head_width / 2) each."""
        turns = days.unsqueeze(-1) * self.frequencies.to(torch.float64)
        # Reduced in float64: float32 has few digits left for many turns.
        angles = torch.remainder(turns, 2.0 * math.pi).to(torch.float32).unsqueeze(1)
        return torch.sin(angles), torch.cos(angles)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate pairs of channels by sine and cosine: (B, H, T, head_width) -> the same."""
    a, b = x.chunk(2, dim=-1)
    sin, cos = turn[0].to(x.dtype), turn[1].to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Block(nn.Module):
    """Pre-norm attention and feed-forward, for both streams."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.width, self.heads = width, heads
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = Dropout(dropout)

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, D / H)."""
        return x.unflatten(-1, [self.heads, -1]).transpose(1, 2)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed_forward(self.norm_forward(x)))

    def forward(
        self,
        events: Tensor,
        snapshots: Tensor,
        event_turn: tuple[Tensor, Tensor],
        snapshot_turn: tuple[Tensor, Tensor],
        visible: Tensor,
        last: bool,
    ) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, S, D), turns, (B, 1, S, T) bool -> both streams one layer on.

        Nobody looks at what the last layer makes of events, so it leaves them as they came.
        """
        seen = self.norm_attention(events)
        q_weight, kv_weight = self.qkv.weight.tensor_split([self.width])
        q_bias, kv_bias = self.qkv.bias.tensor_split([self.width])
        k, v = F.linear(seen, kv_weight, kv_bias).chunk(2, dim=-1)
        keys, values = rotate(self._split(k), event_turn), self._split(v)
        asked = F.linear(self.norm_attention(snapshots), q_weight, q_bias)
        asked = rotate(self._split(asked), snapshot_turn)
        # No dropout on attention: with a handful of events it would drop half of the history.
        answered = F.scaled_dot_product_attention(asked, keys, values, attn_mask=visible)
        if not last:
            queries = rotate(self._split(F.linear(seen, q_weight, q_bias)), event_turn)
            attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            events = self._finish(events, attended)
        return events, self._finish(snapshots, answered)


class TransformerBackbone(nn.Module):
    """Stack of blocks over both streams."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float, history_us: int):
        super().__init__()
        self.history_us = history_us
        self.start = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.rotary = RotaryTime(width // heads, history_us)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, events: Tensor, snapshots: Tensor, times: Tensor, ends: Tensor, cutoffs: Tensor
    ) -> Tensor:
        """Answer all snapshots in one pass; shapes as in `GRUBackbone.forward`."""
        batch, length, width = events.shape
        origin = times[:, :1]
        days = torch.cat([origin, times], dim=1) - origin  # the start token stands at the origin
        day_us = 86_400_000_000.0
        event_turn = self.rotary(days.to(torch.float64) / day_us)
        snapshot_turn = self.rotary((cutoffs - origin).to(torch.float64) / day_us)
        x = torch.cat([self.start.to(events.dtype).expand(batch, 1, width), events], dim=1)
        # A snapshot sees the start token and the events that it knows, but none from further back
        # than training could show: attention would meet distances that nothing taught it.
        keys = torch.arange(length, device=ends.device)
        recent = cutoffs.unsqueeze(-1) - times.unsqueeze(1) <= self.history_us  # (B, S, T)
        seen = (keys < ends.unsqueeze(-1)) & recent
        visible = F.pad(seen, [1, 0], value=1.0).unsqueeze(1)  # (B, 1, S, 1 + T)
        query = snapshots
        final = len(self.blocks) - 1
        for position, block in enumerate(self.blocks):
            x, query = block(x, query, event_turn, snapshot_turn, visible, position == final)
        return self.norm(query)
