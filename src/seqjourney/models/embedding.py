"""Raw token tensors → vectors, inside the model, so that an exported model needs nothing else.

Categorical ids are embedded per field; numbers are read through a signed log, standardised, and
placed on the quantiles of training (a piecewise-linear code: Gorishniy et al. 2022, "On
Embeddings for Numerical Features in Tabular Deep Learning"); time enters as log gaps on a fixed
grid from a minute to three years, and as phases of those calendar cycles that training covered.

Shapes: B windows, T tokens, S snapshots, F categorical and K numeric fields, D width.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqjourney.models.dropout import Dropout
from seqjourney.sequences.tokenizer import FIRST, Tokenizer

DAY_US = 86_400_000_000
_CYCLE_DAYS = {"day": 1.0, "week": 7.0, "year": 365.2425}
_GAP_GRID_S = (60.0, 3 * 365.25 * 86400.0)
_GAP_KNOTS = 20
# Counted at a snapshot: events of so many shares of the training history. All of it, and then a
# quarter to a five hundredth; between them a count says most of all how old the data were.
_COUNTED = (1, 4, 8, 16, 32, 64, 128, 256, 512)


class PiecewiseLinear(nn.Module):
    """Code of a number by the quantile bins that it has passed: 1, 1, 0.4, 0, 0, ...

    A number beyond the outer edges stays at 0 or 1: it cannot leave the range of training.
    """

    edges: Tensor
    widths: Tensor

    def __init__(self, edges: Sequence[float]):
        super().__init__()
        # Two distinct edges at least; a constant field has one quantile only.
        fixed = list(edges) if len(edges) > 1 else [0.0, 1.0]
        self.register_buffer("edges", torch.tensor(fixed[:-1], dtype=torch.float32))
        widths = [high - low for low, high in itertools.pairwise(fixed)]
        self.register_buffer("widths", torch.tensor(widths, dtype=torch.float32))
        self.size = len(widths)

    def forward(self, x: Tensor) -> Tensor:
        """(...,) -> (..., bins)."""
        return ((x.unsqueeze(-1) - self.edges) / self.widths).clamp(0.0, 1.0)


class NumericCode(nn.Module):
    """One numeric field: standardised signed log, quantile bins, and whether it is missing."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float, std: float, edges: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.bins = PiecewiseLinear(edges)
        self.size = self.bins.size + 2

    def forward(self, raw: Tensor) -> Tensor:
        """(...,) raw values, NaN where missing -> (..., size)."""
        missing = torch.isnan(raw)
        value = torch.where(missing, torch.zeros_like(raw), raw)
        logged = torch.sign(value) * torch.log1p(torch.abs(value))
        scaled = ((logged - self.mean) / self.std).clamp(-5.0, 5.0)
        present = (~missing).to(raw.dtype).unsqueeze(-1)
        code = torch.cat([scaled.unsqueeze(-1), self.bins(logged)], dim=-1) * present
        return torch.cat([code, 1.0 - present], dim=-1)


class GapCode(nn.Module):
    """A span of time in microseconds, on a logarithmic grid that needs no fitting.

    Spans beyond the longest that training could show count as that: the grid's later bins have
    weights that nothing ever taught.
    """

    def __init__(self, longest_us: int):
        super().__init__()
        self.longest_us = longest_us
        low, high = (math.log1p(seconds) for seconds in _GAP_GRID_S)
        step = (high - low) / (_GAP_KNOTS - 1)
        self.bins = PiecewiseLinear([low + step * knot for knot in range(_GAP_KNOTS)])
        self.scale = 2.0 / high
        self.size = self.bins.size + 1

    def forward(self, gap_us: Tensor) -> Tensor:
        """(...,) int64 -> (..., size)."""
        seconds = gap_us.clamp(min=0, max=self.longest_us).to(torch.float64) / 1e6
        logged = torch.log1p(seconds).to(torch.float32)
        return torch.cat([(logged * self.scale - 1.0).unsqueeze(-1), self.bins(logged)], dim=-1)


class CalendarCode(nn.Module):
    """Phase within calendar cycles, as sine and cosine of the first two harmonics."""

    periods_us: Tensor

    def __init__(self, cycles: Sequence[str]):
        super().__init__()
        periods = [round(_CYCLE_DAYS[cycle] * DAY_US) for cycle in cycles]
        self.register_buffer("periods_us", torch.tensor(periods, dtype=torch.int64))
        self.size = 4 * len(periods)

    def forward(self, times_us: Tensor) -> Tensor:
        """(...,) int64 -> (..., size); no cycle, no size."""
        if self.size == 0:  # ONNX Runtime takes no arithmetic with an empty constant
            return times_us.unsqueeze(-1)[..., :0].to(torch.float32)
        # Whole microseconds first: a float has no digits left for the phase of a date.
        phase = torch.remainder(times_us.unsqueeze(-1), self.periods_us).to(torch.float64)
        angle = (2.0 * math.pi * phase / self.periods_us).to(torch.float32)
        waves = [angle.sin(), angle.cos(), (2.0 * angle).sin(), (2.0 * angle).cos()]
        return torch.cat(waves, dim=-1)


class EventEmbedding(nn.Module):
    """Events and snapshot tokens as vectors of one width."""

    def __init__(self, tokenizer: Tokenizer, width: int, dropout: float):
        super().__init__()
        self.fields = nn.ModuleList(
            nn.Embedding(FIRST + len(words), width, padding_idx=0)
            for words in tokenizer.vocabulary.values()
        )
        self.numbers = nn.ModuleList(
            NumericCode(s.mean, s.std, s.edges) for s in tokenizer.scales.values()
        )
        self.history_us = tokenizer.history_us
        self.counted_us = [self.history_us // share for share in _COUNTED]
        self.gap, self.recency, self.span = (GapCode(self.history_us) for _ in range(3))
        self.event_calendar = CalendarCode(tokenizer.event_cycles)
        self.snapshot_calendar = CalendarCode(tokenizer.snapshot_cycles)
        numbers = sum(code.size for code in self.numbers)  # type: ignore[misc]
        self.project_event = nn.Linear(numbers + self.gap.size + self.event_calendar.size, width)
        self.project_snapshot = nn.Linear(
            self.recency.size + self.span.size + self.snapshot_calendar.size + len(_COUNTED), width
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        for field in self.fields:
            nn.init.normal_(field.weight[1:], std=0.3)  # type: ignore[index]

    def events(self, categorical: Tensor, numeric: Tensor, times: Tensor) -> Tensor:
        """(B, T, F), (B, T, K), (B, T) -> (B, T, D)."""
        # Not `diff`, which ONNX lacks, nor slices, with which torch.export fixes lengths.
        before = (torch.arange(times.size(1), device=times.device) - 1).clamp(min=0)
        gaps = times - times.index_select(1, before)
        codes = [self.gap(gaps), self.event_calendar(times)]
        for position, code in enumerate(self.numbers):
            codes.append(code(numeric[:, :, position]))
        x = self.project_event(torch.cat(codes, dim=-1))
        for position, field in enumerate(self.fields):
            x = x + field(categorical[:, :, position])
        return self.dropout(self.norm(x))

    def snapshots(self, times: Tensor, ends: Tensor, cutoffs: Tensor) -> Tensor:
        """What a snapshot token knows besides the events: (B, T), (B, S), (B, S) -> (B, S, D).

        The time since the last event and since the first one in the window, the calendar at
        the cutoff, and how many events there were in windows that end there: attention averages
        and a state forgets; neither can count.
        """
        last = times.gather(1, (ends - 1).clamp(min=0))  # (B, S)
        known = ends > 0
        never = torch.full_like(cutoffs, 4 * 365 * 86_400_000_000)  # beyond the grid's end
        recency = torch.where(known, cutoffs - last, never)
        span = torch.where(known, cutoffs - times[:, :1], torch.zeros_like(cutoffs))
        ages = cutoffs.unsqueeze(-1) - times.unsqueeze(1)  # (B, S, T)
        order = torch.arange(times.size(1), device=times.device)
        past = order < ends.unsqueeze(-1)
        counts = torch.stack([(past & (ages <= length)).sum(-1) for length in self.counted_us], -1)
        codes = [
            self.recency(recency),
            self.span(span),
            self.snapshot_calendar(cutoffs),
            torch.log1p(counts.to(torch.float32)) / 3.0,
        ]
        return self.dropout(self.norm(self.project_snapshot(torch.cat(codes, dim=-1))))
