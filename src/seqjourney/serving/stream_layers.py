"""The layers of a trained network in numpy, one token at a time.

Torch spends most of a single token's time on starting its some two hundred small operations; numpy
starts them several times as fast. These classes read the weights of a trained or an exported
`models.model.Member` and answer as it does: `tests/serving/test_stream_layers.py` holds them
against it, and every `Stream` does when it opens a model (`stream_network.rehearse`).

Shapes: R rows (windows or snapshots), F categorical and K numeric fields, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import erf

_HALF = np.float32(0.5)
_ROOT_HALF = np.float32(math.sqrt(0.5))
_EPSILON = np.float32(1e-5)  # of torch's LayerNorm


def array(tensor: Any) -> np.ndarray:
    """Return a torch tensor as a numpy array of its own."""
    return np.array(tensor.detach().cpu().numpy())


class Linear:
    """y = x W' + b, of a part of the outputs where `rows` says which."""

    def __init__(self, weight: Any, bias: Any, rows: slice = slice(None)):
        self.weight = np.ascontiguousarray(array(weight)[rows].T)
        self.bias = array(bias)[rows]

    @classmethod
    def of(cls, layer: Any) -> Linear:
        """Read an `nn.Linear`."""
        return cls(layer.weight, layer.bias)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(R, in) -> (R, out)."""
        return x @ self.weight + self.bias


class LayerNorm:
    """Zero mean and unit variance over the width, then scale and shift."""

    def __init__(self, layer: Any):
        self.weight, self.bias = array(layer.weight), array(layer.bias)
        self._share = np.float32(1.0 / len(self.weight))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(R, D) -> (R, D)."""
        x = x - np.add.reduce(x, -1, keepdims=True) * self._share
        variance = np.add.reduce(x * x, -1, keepdims=True) * self._share
        return x / np.sqrt(variance + _EPSILON) * self.weight + self.bias


def gelu(x: np.ndarray) -> np.ndarray:
    """Return x times the normal distribution function of x."""
    return x * (_HALF + _HALF * erf(x * _ROOT_HALF))


class _Bins:
    """See `embedding.PiecewiseLinear`."""

    def __init__(self, edges: np.ndarray, widths: np.ndarray):
        self.edges, self.widths = edges, widths

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum((x - self.edges) / self.widths, 0), 1)


class _Gap:
    """See `embedding.GapCode`."""

    def __init__(self, code: Any):
        self.longest_us, self.scale = code.longest_us, np.float32(code.scale)
        self.bins = _Bins(array(code.bins.edges), array(code.bins.widths))

    def __call__(self, gap_us: np.ndarray) -> np.ndarray:
        """(R,) int64 -> (R, size)."""
        seconds = np.minimum(np.maximum(gap_us, 0), self.longest_us) / 1e6
        logged = np.log1p(seconds).astype(np.float32)[:, None]
        return np.concatenate([logged * self.scale - np.float32(1), self.bins(logged)], 1)


class _Calendar:
    """See `embedding.CalendarCode`."""

    def __init__(self, code: Any):
        self.periods_us = array(code.periods_us)

    def __call__(self, times_us: np.ndarray) -> np.ndarray:
        """(R,) int64 -> (R, size)."""
        phase = np.remainder(times_us[:, None], self.periods_us).astype(np.float64)
        angle = (2.0 * math.pi * phase / self.periods_us).astype(np.float32)
        twice = angle * np.float32(2)
        return np.concatenate([np.sin(angle), np.cos(angle), np.sin(twice), np.cos(twice)], 1)


class _Numbers:
    """All numeric fields at once: see `embedding.NumericCode`.

    Torch writes each field's code beside the last one's; here all fields' scaled values come
    first, then all bins, then what is missing. `order` says which of torch's columns each is.
    """

    def __init__(self, codes: Sequence[Any]):
        sizes = [len(code.bins.edges) for code in codes]
        self.mean = np.array([float(code.mean) for code in codes], np.float32)
        self.std = np.array([float(code.std) for code in codes], np.float32)
        self.field = np.repeat(np.arange(len(codes)), sizes)  # of each bin
        empty = np.zeros(0, np.float32)
        self.bins = _Bins(
            np.concatenate([empty, *(array(code.bins.edges) for code in codes)]),
            np.concatenate([empty, *(array(code.bins.widths) for code in codes)]),
        )
        starts = np.cumsum([0, *(size + 2 for size in sizes)])[:-1].astype(np.int64)
        within = [start + 1 + np.arange(size) for start, size in zip(starts, sizes, strict=True)]
        lasts = starts + np.array(sizes, np.int64) + 1
        self.order = np.concatenate([starts, *within, lasts]).astype(np.int64)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """(R, K) float32, NaN where missing -> (R, size)."""
        missing = np.isnan(raw)
        value = np.where(missing, np.float32(0), raw)
        logged = np.sign(value) * np.log1p(np.abs(value))
        scaled = np.minimum(np.maximum((logged - self.mean) / self.std, -5), 5)
        code = np.concatenate([scaled, self.bins(logged[:, self.field])], 1)
        absent = missing.astype(np.float32)
        present = np.float32(1) - absent
        code *= np.concatenate([present, present[:, self.field]], 1)
        return np.concatenate([code, absent], 1)


class Embedding:
    """See `embedding.EventEmbedding`."""

    def __init__(self, module: Any):
        self.fields = [array(field.weight) for field in module.fields.children()]
        self.gap, self.recency, self.span = map(_Gap, (module.gap, module.recency, module.span))
        self.event_calendar = _Calendar(module.event_calendar)
        self.snapshot_calendar = _Calendar(module.snapshot_calendar)
        self.counted_us = np.array(module.counted_us, np.int64)
        self.numbers = _Numbers(list(module.numbers.children()))
        self.project_event = Linear.of(module.project_event)
        self.project_snapshot = Linear.of(module.project_snapshot)
        self.norm = LayerNorm(module.norm)
        first = len(self.project_event.weight) - len(self.numbers.order)
        order = np.concatenate([np.arange(first), first + self.numbers.order])
        self.project_event.weight = self.project_event.weight[order]

    def events(
        self, categorical: np.ndarray, numeric: np.ndarray, times: np.ndarray, gaps: np.ndarray
    ) -> np.ndarray:
        """Return one event a row as a vector.

        Args:
            categorical: (R, F) int64 ids.
            numeric: (R, K) float32, NaN where missing.
            times: (R,) int64 microseconds UTC.
            gaps: (R,) int64 microseconds since the event before; 0 for a window's first.

        Returns:
            (R, D) float32.
        """
        codes = [self.gap(gaps), self.event_calendar(times), self.numbers(numeric)]
        x = self.project_event(np.concatenate(codes, 1))
        for position, weight in enumerate(self.fields):
            x += weight[categorical[:, position]]
        return self.norm(x)

    def snapshots(
        self, recency: np.ndarray, span: np.ndarray, cutoffs: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Return one snapshot token a row: (R,) int64, but of counts (R, windows) -> (R, D).

        Args:
            recency: microseconds since the last event.
            span: microseconds since the window's first event.
            cutoffs: microseconds UTC.
            counts: how many of the window's events are not older than each of `counted_us`.
        """
        codes = [
            self.recency(recency),
            self.span(span),
            self.snapshot_calendar(cutoffs),
            np.log1p(counts.astype(np.float32)) / np.float32(3),
        ]
        return self.norm(self.project_snapshot(np.concatenate(codes, 1)))


class Head:
    """Answer and snapshot token side by side -> log-odds; of some tasks, several numbers."""

    def __init__(self, module: Any):
        layers = list(module.children())
        self.first, self.last = Linear.of(layers[0]), Linear.of(layers[-1])

    def __call__(self, answers: np.ndarray, snapshots: np.ndarray) -> np.ndarray:
        """(R, D), (R, D) -> (R, 1, or what `Head.outputs` says)."""
        return self.last(gelu(self.first(np.concatenate([answers, snapshots], 1))))
