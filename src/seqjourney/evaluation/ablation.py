"""What a model loses when it is shown less of a history: is it the order, the times, the past?

A trained network is asked the same questions about poorer histories, without learning anew:
`last_30_days` and the like show only the latest events, `shuffled` deals what happened out anew
among the moments at which something did, `evenly_spaced` keeps the order and takes the times away.
A model that answers as well without a part does not use it. The converse is weaker: a model may
also stumble because it never met such histories.

`train` writes the scores beside the predictions, `evaluate` measures them. Test labels are not
needed for the former, so nothing is chosen by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.errors import DataError
from seqjourney.evaluation.bootstrap import Resampling, difference, estimate, replicate_weights
from seqjourney.evaluation.histories import Histories, as_data, histories_of
from seqjourney.evaluation.ranking import accumulate, average_precision, rank, tiebreak
from seqjourney.files import read_parquet, replacing_file
from seqjourney.sequences.task_data import Predictor, TaskData

FILE = "ablations.parquet"
MOST_SNAPSHOTS = 10_000
_KEY = ["customer_id", "cutoff"]
_DAY_US = 86_400_000_000


def recent(days: int, histories: Histories, _rng: np.random.Generator) -> Histories:
    """Leave out what happened longer before the cutoff."""
    age = histories.cutoff_us[histories.owner] - histories.times[:, 0]
    return histories.keep(age <= days * _DAY_US)


def shuffled(histories: Histories, rng: np.random.Generator) -> Histories:
    """Deal out what happened anew among a history's moments."""
    dealt = np.lexsort((rng.random(len(histories.owner)), histories.owner))
    return replace(
        histories, categorical=histories.categorical[dealt], numeric=histories.numeric[dealt]
    )


def evenly_spaced(histories: Histories, _rng: np.random.Generator) -> Histories:
    """Keep the order; spread the events evenly from the first one to the cutoff."""
    owner = histories.owner
    counts = np.bincount(owner, minlength=len(histories.cutoff_us))
    first = np.cumsum(counts) - counts  # (S,) position of the first token
    place = np.arange(len(owner)) - first[owner]
    start = histories.times[first[owner], 0]
    step = (histories.cutoff_us[owner] - start) // counts[owner]
    moment = start + place * step
    return replace(histories, times=np.stack([moment, moment], axis=1))


VARIANTS: dict[str, Callable[[Histories, np.random.Generator], Histories]] = {
    "last_30_days": partial(recent, 30),
    "last_90_days": partial(recent, 90),
    "last_365_days": partial(recent, 365),
    "shuffled": shuffled,
    "evenly_spaced": evenly_spaced,
}
# In the report's words.
MEANINGS = {
    "last_30_days": "only the last 30 days",
    "last_90_days": "only the last 90 days",
    "last_365_days": "only the last 365 days",
    "shuffled": "what happened, in random order",
    "evenly_spaced": "the order, without the times",
}
# What was taken out, for who reads the figure.
REMOVED = {
    "last_30_days": "all that happened earlier was taken out",
    "last_90_days": "all that happened earlier was taken out",
    "last_365_days": "all that happened earlier was taken out",
    "shuffled": "the order was taken out; the moments at which something happened stayed",
    "evenly_spaced": "the times between events were taken out; all events stand equally far apart",
}


def score_ablations(predictor: Predictor, data: TaskData, context: int, seed: int) -> pd.DataFrame:
    """Score test snapshots with each poorer history; at most `MOST_SNAPSHOTS`, evenly chosen.

    Args:
        predictor: a trained network; it reads the store alone.
        data: the task.
        context: of the network; what it does not see is no part of a history.
        seed: of the shuffling.

    Returns:
        `customer_id`, `cutoff` and one float64 column per variant that changes any history.
    """
    rows = data.of("test").snapshots
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_SNAPSHOTS)).astype(int))
    rows = rows.iloc[chosen].reset_index(drop=True)
    whole = histories_of(data, rows, context)
    scores = rows[_KEY].copy()
    for name, change in VARIANTS.items():
        poorer = change(whole, np.random.default_rng(seed))
        if len(poorer.owner) == len(whole.owner) and name.startswith("last"):
            continue  # nobody's history is as long
        scores[name] = predictor.score(as_data(data, rows, poorer))
    return scores


def write_ablations(scores: pd.DataFrame, folder: Path) -> None:
    """Write `ablations.parquet` into a run directory."""
    with replacing_file(folder / FILE) as partial_file:
        scores.to_parquet(partial_file, index=False)


def ablation_results(
    path: Path, predictions: pd.DataFrame, *, replicates: int, seed: int
) -> dict[str, Any]:
    """Measure a run's ablations; empty where it has none.

    Args:
        path: run directory, or a predictions file in it.
        predictions: of the same run, as `read_predictions` gives them.
        replicates: bootstrap resamples of customers.
        seed: of the resampling.

    Returns:
        `snapshots`, and `variants`: name -> `average_precision` and its paired `difference` to
        the whole history's on the same snapshots, each with value, low and high.

    Raises:
        DataError: the file does not belong to these predictions.
    """
    file = (path if path.is_dir() else path.parent) / FILE
    if not file.is_file():
        return {}
    scores = read_parquet(file)
    test = predictions[predictions["split"] == "test"]
    joined = scores.merge(test, on=_KEY, how="inner", validate="one_to_one")
    if len(joined) != len(scores):
        raise DataError(
            f"{file}: {len(scores) - len(joined):,} of its snapshots are not in the run's "
            "predictions. Train the run again, or delete the file; it is optional."
        )
    if joined["label"].nunique() < 2:
        return {}
    label = joined["label"].to_numpy(np.float64)
    weight = joined["weight"].to_numpy(np.float64)
    cutoff_us = joined["cutoff"].to_numpy("datetime64[us]").astype(np.int64)
    ties = tiebreak(joined["customer_id"].to_numpy(object), cutoff_us)
    variants = [name for name in VARIANTS if name in scores.columns]
    rankings = {name: rank(label, joined[name].to_numpy(), ties) for name in ("score", *variants)}

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {n: average_precision(accumulate(r, weights)) for n, r in rankings.items()}

    point = measure(weight[None])
    draws = Resampling(pd.factorize(joined["customer_id"])[0], weight, replicates, seed)
    chunks = [measure(weights) for weights in replicate_weights(draws)]
    found = {
        name: estimate(float(value[0]), np.concatenate([chunk[name] for chunk in chunks]))
        for name, value in point.items()
    }
    return {
        "snapshots": len(joined),
        "variants": {
            name: {
                "average_precision": _numbers(found[name]),
                "difference": _numbers(difference(found[name], found["score"])),
            }
            for name in variants
        },
    }


def _numbers(entry: Any) -> Mapping[str, float | None]:
    values = {"value": entry.value, "low": entry.low, "high": entry.high}
    return {name: float(v) if np.isfinite(v) else None for name, v in values.items()}
