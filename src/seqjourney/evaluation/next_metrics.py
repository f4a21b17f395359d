"""Metrics of `next` tasks with their intervals over customers.

The bootstrap draws customers (or sessions, where a history is one): questions of one history are
not independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from seqjourney.evaluation.bootstrap import Estimate, Resampling, estimate, replicate_weights
from seqjourney.evaluation.next_ranks import Gain, discounted, expected, hit, reciprocal

_KINDS = {"hit": hit, "ndcg": discounted, "mrr": reciprocal}


def gains(at: Sequence[int] = (1, 5, 10, 20)) -> dict[str, Gain]:
    """Return metrics by name: `hit@10`, `ndcg@10`, `mrr@20`, ...; `hit@1` is the accuracy."""
    return {f"{name}@{k}": kind(k) for k in at for name, kind in _KINDS.items()}


def next_metrics(
    ranks: pd.DataFrame, metrics: dict[str, Gain], *, replicates: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Return the weighted mean of each metric over the rows of one ranking.

    All models see the same replicates, so that `bootstrap.difference` of two is paired.
    """
    customer, _ = pd.factorize(ranks["customer_id"], sort=True)
    weight = ranks["weight"].to_numpy(np.float64)
    found = {name: expected(ranks, gain) for name, gain in metrics.items()}
    # A customer's rows move together: sums per customer are all that a replicate needs.
    columns = np.stack(
        [np.bincount(customer, w) for w in (weight, *(weight * v for v in found.values()))], axis=1
    )
    draws = Resampling(np.arange(len(columns)), np.ones(len(columns)), replicates, seed)
    sums = np.concatenate([weights @ columns for weights in replicate_weights(draws)])
    return {
        name: estimate(
            float(np.average(values, weights=weight)), sums[:, position + 1] / sums[:, 0]
        )
        for position, (name, values) in enumerate(found.items())
    }
