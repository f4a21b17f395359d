"""How well a score orders snapshots: AUC, average precision, and the top of the list.

Sorting happens once per model (`rank`); a `Curve` then holds, for R weightings of the same n rows
at once, how much weight lies above each row, and every metric is a function Curve -> (R,). With
the bootstrap's counts as weights the R replicates cost R cumulative sums and no further sort.

Shapes: label, score (n,); weights (R, n); steps (R, G) with G the number of distinct scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DEPTHS_PERCENT = (1, 5, 10, 20)
RECALLS_PERCENT = (50, 80)


@dataclass(frozen=True)
class Ranking:
    """n snapshots, the highest score first; `ends` (G,) marks the last row of each tied group."""

    order: np.ndarray
    label: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Curve:
    """Cumulative weight down the list: of all rows (`flagged`) and of positives (`found`), (R, n).

    The `*_steps` arrays (R, G) hold the same at the end of each tied group: the only depths at
    which a threshold on the score can cut.
    """

    flagged: np.ndarray
    found: np.ndarray
    flagged_steps: np.ndarray
    found_steps: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Weight of all rows, (R,)."""
        return self.flagged[:, -1]

    @property
    def positives(self) -> np.ndarray:
        """Weight of the positive rows, (R,)."""
        return self.found[:, -1]


def tiebreak(customer_id: Sequence[str] | np.ndarray, cutoff_us: np.ndarray) -> np.ndarray:
    """Hash each snapshot to a fixed uint64 that orders equal scores, the same for all models.

    Without it the order of ties would be the order of the file, which is often sorted by
    something that knows the label.
    """
    keys = (f"{c}|{t}".encode() for c, t in zip(customer_id, cutoff_us.tolist(), strict=True))
    digests = b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, dtype="<u8")


def rank(label: np.ndarray, score: np.ndarray, ties: np.ndarray | None = None) -> Ranking:
    """Order rows by descending score, equal scores by `ties` (default: as they come)."""
    score = np.asarray(score, dtype=np.float64)
    ties = np.arange(len(score)) if ties is None else ties
    order = np.lexsort((ties, -score))
    ordered = score[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return Ranking(order, np.asarray(label, dtype=np.float64)[order], ends)


def accumulate(ranking: Ranking, weights: np.ndarray) -> Curve:
    """Accumulate weights (R, n), given in the rows' original order, down the ranked list."""
    ordered = np.take(np.atleast_2d(weights), ranking.order, axis=1).astype(np.float64, copy=False)
    flagged = np.cumsum(ordered, axis=1)
    found = np.cumsum(ordered * ranking.label, axis=1)
    if len(ranking.ends) == len(ranking.order):
        return Curve(flagged, found, flagged, found)
    return Curve(flagged, found, flagged[:, ranking.ends], found[:, ranking.ends])


def roc_auc(curve: Curve) -> np.ndarray:
    """P(score of a positive > score of a negative) + 0.5 P(equal)."""
    found = curve.found_steps
    missed = curve.flagged_steps - found
    # Each group's negatives lie below all positives of earlier groups and tie with its own.
    above = found - np.diff(found, axis=1, prepend=0.0) / 2
    won = np.einsum("rg,rg->r", np.diff(missed, axis=1, prepend=0.0), above)
    return _ratio(won, curve.positives * (curve.total - curve.positives))


def gini(curve: Curve) -> np.ndarray:
    """2 AUC - 1: the gain curve's area over the diagonal, as a share of the perfect ranking's."""
    return 2 * roc_auc(curve) - 1


def average_precision(curve: Curve) -> np.ndarray:
    """sum_k (R_k - R_{k-1}) P_k over distinct scores: a step, not a trapezoid (as scikit-learn)."""
    precision = _ratio(curve.found_steps, curve.flagged_steps, empty=0.0)
    gained = np.diff(curve.found_steps, axis=1, prepend=0.0)
    return _ratio(np.einsum("rg,rg->r", gained, precision), curve.positives)


def base_rate(curve: Curve) -> np.ndarray:
    """Share of positives: what a random order achieves as precision and average precision."""
    return _ratio(curve.positives, curve.total)


def found_at(curve: Curve, shares: Sequence[float]) -> np.ndarray:
    """Weight of positives among the top `shares` of all weight, (R, K).

    The row on the boundary counts with the fraction that fits, so that a depth of 10 % means
    10 % exactly, for any n and any weights.
    """
    depths = np.outer(curve.total, np.asarray(shares, dtype=np.float64))
    rows = zip(depths, curve.flagged, curve.found, strict=True)
    return np.stack(
        [np.interp(d, np.append(0.0, x), np.append(0.0, y)) for d, x, y in rows]
    )  # (R, K)


def precision_at(curve: Curve, share: float) -> np.ndarray:
    """Share of positives among the top `share` of the list."""
    return _ratio(found_at(curve, [share])[:, 0], share * curve.total)


def recall_at(curve: Curve, share: float) -> np.ndarray:
    """Share of all positives that the top `share` of the list contains."""
    return _ratio(found_at(curve, [share])[:, 0], curve.positives)


def lift_at(curve: Curve, share: float) -> np.ndarray:
    """precision@share / base rate; its maximum is min(1 / base rate, 1 / share)."""
    return _ratio(precision_at(curve, share), base_rate(curve))


def precision_at_recall(curve: Curve, recall: float) -> np.ndarray:
    """Precision at the highest threshold that finds at least `recall` of the positives.

    Not the best precision among lower thresholds, which would reward luck further down.
    """
    wanted = recall * curve.positives * (1 - 1e-12)  # forgive the last bit of a sum
    step = (curve.found_steps < wanted[:, None]).sum(axis=1)
    step = np.minimum(step, curve.found_steps.shape[1] - 1)
    rows = np.arange(len(step))
    return _ratio(curve.found_steps[rows, step], curve.flagged_steps[rows, step])


def tie_mass(ranking: Ranking, weight: np.ndarray, share: float) -> float:
    """Share of all weight whose score equals the score at depth `share`.

    Near zero the list is cut between different scores; large values mean that the hash, not the
    model, chose who is above the line.
    """
    flagged = np.cumsum(weight[ranking.order])
    bounds = np.append(0.0, flagged[ranking.ends])
    step = int(np.searchsorted(bounds, share * flagged[-1] * (1 - 1e-12), side="left"))
    step = min(max(step, 1), len(bounds) - 1)
    first = 0 if step == 1 else int(ranking.ends[step - 2]) + 1
    if int(ranking.ends[step - 1]) == first:
        return 0.0
    return float((bounds[step] - bounds[step - 1]) / flagged[-1])


def ranking_metrics(curve: Curve) -> dict[str, np.ndarray]:
    """Every ranking metric of the report, each (R,)."""
    auc, precision, base = roc_auc(curve), average_precision(curve), base_rate(curve)
    metrics = {
        "roc_auc": auc,
        "average_precision": precision,
        "average_precision_over_base": _ratio(precision, base),
    }
    shares = [depth / 100 for depth in DEPTHS_PERCENT]
    found = found_at(curve, shares)
    for column, depth in enumerate(DEPTHS_PERCENT):
        at = _ratio(found[:, column], shares[column] * curve.total)
        metrics[f"precision_at_{depth}"] = at
        metrics[f"recall_at_{depth}"] = _ratio(found[:, column], curve.positives)
        metrics[f"lift_at_{depth}"] = _ratio(at, base)
    for recall in RECALLS_PERCENT:
        metrics[f"precision_at_recall_{recall}"] = precision_at_recall(curve, recall / 100)
    metrics["gini"] = 2 * auc - 1
    return metrics


def _ratio(above: np.ndarray, below: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """above / below, and `empty` where there is nothing to divide by."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), empty)
    return np.divide(above, below, out=out, where=below > 0)
