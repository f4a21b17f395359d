"""Customer-level bootstrap: how much would every number move with other customers?

Snapshots of one customer share habits and often the outcome, so customers are drawn with
replacement and all their snapshots move together. A replicate is a weighting of the rows: the
number of times its customer was drawn, times the row's own weight. All models see the same
replicates, hence the difference of two models is paired and its interval is as narrow as the
data allow (Efron & Tibshirani, 1993, ch. 8 and 13).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
# 2 million float64 are 16 MB per array; a metric holds a handful of such arrays at a time.
CHUNK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Resampling:
    """Who is drawn: `customer` (n,) integer codes 0..C-1 and `weight` (n,), per snapshot."""

    customer: np.ndarray
    weight: np.ndarray
    replicates: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Estimate:
    """A value, its percentile interval, and the replicates (R,) that differences need."""

    value: float
    low: float
    high: float
    replicates: np.ndarray


def replicate_weights(
    resampling: Resampling, chunk_elements: int = CHUNK_ELEMENTS
) -> Iterator[np.ndarray]:
    """Yield the replicates' row weights in chunks (r, n) of bounded memory.

    Replicate i has its own generator, so the chunk size never changes a number.
    """
    rows = len(resampling.customer)
    customers = int(resampling.customer.max()) + 1
    size = max(1, chunk_elements // max(rows, 1))
    for first in range(0, resampling.replicates, size):
        chunk = range(first, min(first + size, resampling.replicates))
        weights = np.empty((len(chunk), rows))
        for position, replicate in enumerate(chunk):
            draw = np.random.default_rng([resampling.seed, replicate])
            counts = np.bincount(draw.integers(0, customers, customers), minlength=customers)
            np.multiply(counts[resampling.customer], resampling.weight, out=weights[position])
        yield weights


def estimate(value: float, replicates: np.ndarray, *, recentre: bool = False) -> Estimate:
    """Percentile interval of the replicates around the value from all customers.

    `recentre` is for means of absolute values such as ECE: resampling adds noise to every bin and
    the absolute value turns noise into bias, so the replicates lie above the value. Their
    interval is moved back by that bias and kept at zero or more.
    """
    replicates = np.asarray(replicates, dtype=np.float64)
    usable = replicates[np.isfinite(replicates)]
    # A replicate without positives has no AUC; when half are like that an interval says nothing.
    if not np.isfinite(value) or 2 * len(usable) < len(replicates) or len(usable) < 2:
        return Estimate(float(value), float("nan"), float("nan"), replicates)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(usable, [tail, 1 - tail])
    if recentre:
        bias = max(0.0, float(np.median(usable)) - value)
        low, high = max(0.0, low - bias), high - bias
    return Estimate(float(value), float(low), float(high), replicates)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b, paired: both estimates must come from the same replicates."""
    return estimate(a.value - b.value, a.replicates - b.replicates)
