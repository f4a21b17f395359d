"""AP, AUC and ECE of finished runs, or the Gini of amounts, on the same resampled customers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from seqjourney.evaluation.bootstrap import Estimate, Resampling, estimate, replicate_weights

Measure = tuple[float, np.ndarray]
"""A metric's value, and its value on every replicate of the customers."""


def replicated(
    runs: Sequence[Path], split: str, replicates: int
) -> tuple[Any, list[dict[str, Measure]]]:
    """Measure runs of one task on a split.

    Returns:
        Its snapshots; and for each run, in order, `ap`, `auc` and `ece`, or of a task that asks
        for an amount, `gini`, which is normalised.
    """
    from seqjourney.evaluation.predictions import join_runs, read_predictions

    frames = [read_predictions(run) for run in runs]
    with redirect_stdout(io.StringIO()):  # says that runs share a name
        (joined,) = join_runs(frames)
    name_of = {run: name for name, run in joined.runs.items()}
    asked = joined.split(split)
    found = _estimated(asked, replicates)
    return asked.snapshots, [found[name_of[frame["run"].iloc[0]]] for frame in frames]


def _estimated(asked: Any, replicates: int) -> dict[str, dict[str, Measure]]:
    """Measure each model of a split, by its name."""
    import pandas as pd

    from seqjourney.evaluation.probability import ece
    from seqjourney.evaluation.ranking import accumulate, average_precision, rank, roc_auc, tiebreak
    from seqjourney.evaluation.value import measure_values

    if asked.expected:
        judged, _ = measure_values(asked, replicates, seed=0)
        ginis = {name: found["normalised_gini"] for name, found in judged.items()}
        return {name: {"gini": (one.value, one.replicates)} for name, one in ginis.items()}
    snapshots = asked.snapshots
    label = snapshots["label"].to_numpy(np.float64)
    weight = snapshots["weight"].to_numpy(np.float64)
    cutoff_us = snapshots["cutoff"].to_numpy("datetime64[us]").astype(np.int64)
    ties = tiebreak(snapshots["customer_id"].to_numpy(object), cutoff_us)
    rankings = {name: rank(label, score, ties) for name, score in asked.scores.items()}

    def measure(weights: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        found = {}
        for name, ranking in rankings.items():
            curve = accumulate(ranking, weights)
            found[name] = {
                "ap": average_precision(curve),
                "auc": roc_auc(curve),
                "ece": ece(label, asked.probabilities[name], weights),
            }
        return found

    point = measure(weight[None])
    customers = pd.factorize(snapshots["customer_id"])[0]
    draws = Resampling(customers, weight, replicates, seed=0)
    chunks = [measure(weights) for weights in replicate_weights(draws)]
    return {
        name: {
            metric: (float(value[0]), np.concatenate([chunk[name][metric] for chunk in chunks]))
            for metric, value in metrics.items()
        }
        for name, metrics in point.items()
    }


def mean_of(of_seeds: Sequence[Measure], *, recentre: bool = False) -> Estimate:
    """Average over seeds, replicate by replicate: one model, trained several times."""
    value = float(np.mean([value for value, _ in of_seeds]))
    return estimate(value, np.mean([drawn for _, drawn in of_seeds], axis=0), recentre=recentre)
