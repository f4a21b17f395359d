"""The precision gate: a threshold that may be acted on, with a certificate, or a plain no.

"You need 80 % precision on your highest-stakes predictions before acting on them": a share that
was seen on a few customers is no such promise. `learn_then_test` finds a score threshold above
which the precision is at least the target, and is wrong about that with at most the probability
1 - confidence (Angelopoulos, Bates, Candès, Jordan & Lei, 2021, "Learn then Test"):

1. The calibration customers are n independent people, one snapshot each (`calibration_rows`).
2. Some of them, drawn by a hash of the id, *learn*: their scores are the thresholds that come into
   question, their labels say where to begin (split fixed-sequence testing).
3. The others *test* one threshold after the other, from there down the list. For each the
   hypothesis is "precision < target"; its p-value is the exact binomial tail, since of m flagged
   independent customers the number with the outcome is binomial. The first p-value above
   1 - confidence ends the walk. As the order was fixed before the testing customers were looked
   at, no correction for many thresholds is needed (Bauer, 1991).

All this holds for customers like those of calibration and for a model that has not seen their
labels. MAPIE (`BinaryClassificationController`) does the same with `split_fixed_sequence` and is
the oracle of the tests; it is not called here because it holds a matrix of thresholds x customers
and, given thresholds that nobody exceeds, has p-values that are NaN. Its `fixed_sequence` takes the
direction of the walk from the calibration labels, and from the wrong end on such thresholds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta, binom, norm, rankdata

from seqjourney.errors import DataError
from seqjourney.evaluation.drift import Reference
from seqjourney.evaluation.logistic import fit_logistic, sigmoid

LEARNING_SHARE = 0.15  # in simulations as good as a tenth, and better than a quarter
FEWEST_LEARNING = 8
"""Learning customers above a threshold: fewer say too little of how many will be flagged."""
MOST_THRESHOLDS = 200
_RIDGE = 1e-3  # finite even where the score separates the learning customers
_FORMAT = 1


@dataclass(frozen=True)
class Finding:
    """What the testing customers say of one threshold, `score >= threshold`.

    `passed` says whether it may be acted on. Where it may not, this is the threshold at which the
    test began; it is None when there were too few customers for any.
    """

    passed: bool
    threshold: float | None
    customers: int
    """Testing customers; the learning ones are not among them."""
    flagged: int
    correct: int
    lower_bound: float
    """Of the precision at this threshold, one-sided, exact (Clopper & Pearson, 1934)."""


@dataclass(frozen=True)
class Certificate:
    """Leave to act on the customers whose score reaches the threshold. Times are ISO 8601, UTC."""

    task: str
    model: str
    run: str
    fingerprint: str
    """Of the model, or where there is none of the predictions file."""
    target: float
    confidence: float
    threshold: float
    customers: int
    flagged: int
    correct: int
    lower_bound: float
    calibrated: tuple[str, str]
    """First and last cutoff of the calibration customers."""
    expires: str
    """The last cutoff that it may be used at."""
    reference: Reference
    """The scores of the calibration customers, for comparison with those at hand."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """Inverse of `to_dict`.

        Raises:
            DataError: it is something else, or of another version.
        """
        try:
            given = dict(values)
            if given.pop("format") != _FORMAT:
                raise ValueError("another format")
            given["reference"] = Reference(**{k: tuple(v) for k, v in given["reference"].items()})
            given["calibrated"] = tuple(given["calibrated"])
            given["threshold"] = float(given["threshold"])
            datetime.fromisoformat(given["expires"])
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"this is not a certificate of the precision gate ({error!r}); write it again with "
                "scripts/evaluate.py."
            ) from None


def calibration_rows(snapshots: pd.DataFrame) -> np.ndarray:
    """Choose one snapshot per customer, of the last validation cutoff -> rows (n,).

    Where the task keeps customers for certification, they answer alone; otherwise all those of
    validation do, who have a say in early stopping, settings and calibrators too.

    Snapshots of one customer are not independent. Taking everybody at one cutoff is what scoring
    will do again; each customer's own last cutoff would not: who was eligible for the last time
    has often just had the outcome. Where every customer has one snapshot only, all count.
    """
    kept = (snapshots["split"] == "certification").any()
    asked = snapshots["split"] == ("certification" if kept else "validation")
    usable = asked & (snapshots["weight"] > 0)
    rows = np.flatnonzero(usable.to_numpy())
    chosen = snapshots.iloc[rows]
    if chosen["customer_id"].duplicated().any():
        rows = rows[(chosen["cutoff"] == chosen["cutoff"].max()).to_numpy()]
    return rows


def learns(customer_id: np.ndarray) -> np.ndarray:
    """Say who learns, for any model the same: a hash of the id is small; (n,) bool."""
    keys = (f"gate {customer}".encode() for customer in customer_id)
    digests = b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, dtype="<u8") < LEARNING_SHARE * 2.0**64


def fewest_flagged(target: float, confidence: float) -> int:
    """Return how many flagged customers it takes when all of them have the outcome."""
    return math.ceil(math.log(1 - confidence) / math.log(target))


def learn_then_test(
    score: np.ndarray,
    label: np.ndarray,
    learning: np.ndarray,
    target: float,
    confidence: float,
) -> Finding:
    """Find the lowest threshold whose precision is certainly at least the target.

    Args:
        score: (n,) one per customer.
        label: (n,) of 0 and 1.
        learning: (n,) bool, who learns; the others test. It may depend on nothing but the id.
        target: precision that is asked for.
        confidence: with which.
    """
    label = np.asarray(label, bool)
    testing = ~learning
    customers = int(testing.sum())
    thresholds = _thresholds(score[learning])
    flagged, _ = _counts(score[learning], label[learning], thresholds)
    # A list too short to be certified even when all are right would end the walk before it began.
    long_enough = (flagged >= FEWEST_LEARNING) & (
        flagged * customers >= fewest_flagged(target, confidence) * learning.sum()
    )
    thresholds, flagged = thresholds[long_enough], flagged[long_enough]
    if not len(thresholds):
        return Finding(False, None, customers, 0, 0, 0.0)
    start = _most_promising(score[learning], label[learning], flagged, target)
    flagged, correct = _counts(score[testing], label[testing], thresholds)
    failed = _p_values(flagged, correct, target)[start:] > 1 - confidence
    steps = int(np.argmax(failed)) if failed.any() else len(failed)
    last = start + max(steps - 1, 0)
    return Finding(
        steps > 0,
        float(thresholds[last]),
        customers,
        int(flagged[last]),
        int(correct[last]),
        lower_bound(int(flagged[last]), int(correct[last]), confidence),
    )


def lower_bound(flagged: int, correct: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson bound of a share."""
    return float(beta.ppf(1 - confidence, correct, flagged - correct + 1)) if correct else 0.0


def flagged_needed(tested: Finding, target: float, confidence: float) -> int | None:
    """Return how many flagged would do at the precision seen; None: not even ten million."""
    if not tested.flagged or tested.correct <= target * tested.flagged:
        return None
    sizes = np.unique(np.geomspace(fewest_flagged(target, confidence), 1e7, 4000).astype(int))
    right = np.floor(sizes * (tested.correct / tested.flagged))
    enough = sizes[_p_values(sizes, right, target) <= 1 - confidence]
    return int(enough[0]) if len(enough) else None


def correct_needed(flagged: int, target: float, confidence: float) -> int:
    """Return how many of the flagged have to be right; they are `fewest_flagged` or more."""
    return int(binom.isf(1 - confidence, flagged, target)) + 1


def _thresholds(score: np.ndarray) -> np.ndarray:
    """Return at most `MOST_THRESHOLDS` distinct scores, descending, denser at the top."""
    distinct = np.unique(score)[::-1]
    if len(distinct) <= MOST_THRESHOLDS:
        return distinct
    places = np.geomspace(1, len(distinct), MOST_THRESHOLDS).round().astype(int)
    return distinct[np.unique(places) - 1]


def _most_promising(
    score: np.ndarray, label: np.ndarray, flagged: np.ndarray, target: float
) -> int:
    """Return the place of the list that is likeliest to pass, by the learning customers (n,).

    Raw precisions of a few customers would lead astray; a logistic regression on the ranks smooths
    them, and does not mind on which scale a model writes its scores. A bad guess costs power only.
    """
    rank = norm.ppf(rankdata(score) / (len(score) + 1))
    intercept, slope = fit_logistic(rank, label, np.ones((1, len(score))), _RIDGE)[0]
    smooth = sigmoid(intercept + slope * rank) if np.isfinite(slope) else label
    precision = np.cumsum(smooth[np.argsort(-score, kind="stable")])[flagged - 1] / flagged
    return int(np.argmax((precision - target) * np.sqrt(flagged)))


def _counts(
    score: np.ndarray, label: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count who reaches each threshold (T,), and who of them has the outcome (T,)."""
    flagged, correct = (
        len(values) - np.searchsorted(np.sort(values), thresholds, side="left")
        for values in (score, score[label])
    )
    return flagged, correct


def _p_values(flagged: np.ndarray, correct: np.ndarray, target: float) -> np.ndarray:
    """P(at least so many correct) if the precision were the target; 1 where nobody is flagged."""
    return np.asarray(binom.sf(np.asarray(correct) - 1, flagged, target))
