"""Ranks of several models on the same test questions → their entry in metrics.json.

Intervals are over customers, and differences to the best count (popularity, Markov, ...) paired:
both models are measured on the same replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.evaluation.bootstrap import Estimate, difference
from seqjourney.evaluation.next_answered import Answered
from seqjourney.evaluation.next_metrics import gains, next_metrics
from seqjourney.evaluation.next_ranks import expected, hit

COUNTS = ("popularity", "recent", "markov", "rules")
HEADLINE = "mrr@20"
COMPARED = ("hit@1", "hit@10", "ndcg@10", "hit@20", HEADLINE)
OF_SLICES = ("hit@1", "hit@10", HEADLINE)
LONGEST = 20
"""How long a list the shares found are told of."""
FEW = 20
"""Up to so many values are told of one by one."""
MOST_CONFUSIONS = 10
_BANDS = (
    (0.5, "head: half of the answers in training"),
    (0.8, "middle: the next 30 %"),
    (1.0, "tail: the last 20 %"),
)
_NEVER = "never an answer in training"


def ranking_results(
    frames: Mapping[str, pd.DataFrame],
    trials: Collection[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Measure all models on the rows of one ranking.

    Args:
        frames: model → rows of `ranks.parquet`, the same questions in the same order for all.
        trials: models that are no results: they stand last, and nothing is compared with them.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        `questions`, `customers`, `random` (the headline metric of a random order), `models` (best
        first), `comparisons` with the best count, and `found_within`, of each model the shares of
        true values within the first 1, 2, ... of its list.
    """
    found = {
        name: next_metrics(frame, gains(), replicates=replicates, seed=seed)
        for name, frame in frames.items()
    }
    order = sorted(found, key=lambda name: (name in trials, -found[name][HEADLINE].value))
    best = next((name for name in order if is_count(name)), None)
    first = next(iter(frames.values()))
    size = int(first["candidates"].max())
    return {
        "questions": len(first),
        "customers": int(first["customer_id"].nunique()),
        "random": float((1 / np.arange(1, min(LONGEST, size) + 1)).sum() / size),
        "models": {name: {m: plain(e) for m, e in found[name].items()} for name in order},
        "comparisons": [
            {"a": name, "b": best, "metric": metric, "difference": d.value,
             "low": d.low, "high": d.high}
            for name in order if best is not None and name != best
            for metric in COMPARED
            if (d := difference(found[name][metric], found[best][metric]))
        ],
        "found_within": {
            name: [float(np.average(expected(frames[name], hit(k)), weights=first["weight"]))
                   for k in range(1, LONGEST + 1)]
            for name in order
        },
    }  # fmt: skip


def is_count(model: str) -> bool:
    """Whether a model of a report is one of the counts that networks are held against."""
    return model.split(" ")[0] in COUNTS


def plain(found: Estimate) -> dict[str, float]:
    """Return an estimate as it stands in metrics.json."""
    return {"value": found.value, "low": found.low, "high": found.high}


def answer_results(
    frames: Mapping[str, pd.DataFrame],
    answered: Mapping[str, Answered | None],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Say for which values models are right, and which they answer with; of the full ranking.

    Args:
        frames: as in `ranking_results`.
        answered: model → what it answered, where the run says it.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        `by_frequency` and, of few values, `by_value`: one entry per group of true values with
        `value`, `questions` and the metrics of each model; `coverage` of the values by model;
        `confusions` by model, the most frequent first. Empty where no run says what it answered.
    """
    told = {name: one for name, one in answered.items() if one is not None}
    if not told:
        return {}
    values = next(iter(told.values())).values
    target = next(iter(frames.values()))["target"]
    group = target.map(dict(zip(values["value"], bands(values), strict=True))).fillna(_NEVER)
    names = [name for _, name in _BANDS] + [_NEVER]

    def each(of: pd.Series, names: Collection[str]) -> list[dict[str, Any]]:
        return [
            {"value": name, "questions": int(rows.sum()), "models": {
                model: {metric: plain(e) for metric, e in next_metrics(
                    frame[rows], {m: gains()[m] for m in OF_SLICES},
                    replicates=replicates, seed=seed).items()}
                for model, frame in frames.items()}}
            for name in names if (rows := (of == name).to_numpy()).any()
        ]  # fmt: skip

    return {
        "by_frequency": each(group, names),
        "by_value": each(target, list(values["value"])) if len(values) <= FEW else [],
        "coverage": {
            name: {
                "values": len(one.values),
                "first": int((one.values["first"] > 0).sum()),
                "listed": int((one.values["listed"] > 0).sum()),
            }
            for name, one in told.items()
        },
        "confusions": {name: confusions(one, len(target)) for name, one in told.items()},
    }


def bands(values: pd.DataFrame) -> np.ndarray:
    """Say how frequent each value was among the answers of training, (V,) of names.

    The most frequent value is always in the head, as a band takes in the value that fills it.
    """
    trained = values["trained"].to_numpy(np.float64)
    order = np.argsort(-trained, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(trained[order])[:-1]]) / max(trained.sum(), 1.0)
    shares, names = np.array([share for share, _ in _BANDS]), [name for _, name in _BANDS]
    place = np.searchsorted(shares[:-1], before, side="right")
    found = np.empty(len(values), object)
    found[order] = np.array(names, object)[place]
    found[trained == 0] = _NEVER
    return found


def confusions(answered: Answered, questions: int) -> list[dict[str, Any]]:
    """Return the most frequent wrong first answers: what came, what was said, how often."""
    pairs = answered.first_answers
    wrong = pairs[pairs["target"] != pairs["answer"]].head(MOST_CONFUSIONS)
    of_target = pairs.groupby("target")["count"].sum().to_dict()
    return [
        {
            "target": target,
            "answer": answer,
            "count": int(count),
            "of_target": float(count / of_target[target]),
            "of_all": float(count / questions),
        }
        for target, answer, count in zip(
            wrong["target"], wrong["answer"], wrong["count"], strict=True
        )
    ]
