"""Which curve turns scores into probabilities: a choice by cross-validation within validation.

Each curve is fitted on four fifths of the validation customers and judged by its log loss on the
fifth that is left, five times; a customer's snapshots are never on both sides. A curve with more
freedom is taken only where it is clearly better than the simpler one: by more than one standard
error of their paired difference over customers. The chosen curve is then fitted on all of
validation. The test has no part in it.
"""

from __future__ import annotations

import numpy as np

from seqjourney.evaluation.calibration import CALIBRATORS, Calibrator, PlattCalibrator
from seqjourney.evaluation.probability import EPSILON

FOLDS = 5
# Studies that check calibration ask for this many of either outcome (Vergouwe et al., 2005); with
# fewer, neither can the choice of a curve be checked nor its error be told from chance.
MIN_OUTCOMES = 100


def choose_calibrator(
    score: np.ndarray, label: np.ndarray, weight: np.ndarray, customer: np.ndarray
) -> tuple[Calibrator, dict[str, dict[str, float]]]:
    """Return the calibrator, fitted on all rows, and how the kinds compared.

    Args:
        score: of validation snapshots, like the others (n,).
        label: 0 or 1.
        weight: of each snapshot.
        customer: whose snapshot it is.

    Returns:
        The calibrator; and by kind its cross-validated `log_loss`, its `gain` over the one that it
        had to beat and the `standard_error` of that gain. Empty where nothing was compared: fewer
        than `MIN_OUTCOMES` snapshots of either outcome, or a score that carries no order.

    Raises:
        DataError: one class only, or scores that are not finite.
    """
    platt = PlattCalibrator.fit(score, label, weight)
    label = np.asarray(label, np.float64)
    weight = np.asarray(weight, np.float64)
    _, who = np.unique(np.asarray(customer, dtype=str), return_inverse=True)
    # Of the sorted ids, so that the order of rows does not matter.
    fold = np.random.default_rng(0).permutation(int(who.max()) + 1)[who] % FOLDS
    rest_has_both = all(
        len(np.unique(label[(fold != held) & (weight > 0)])) == 2 for held in range(FOLDS)
    )
    if platt.note or not enough_outcomes(label, weight) or not rest_has_both:
        return platt, {}
    losses = {}  # of each row, under the curve that has not seen its customer
    for name, kind in CALIBRATORS.items():
        probability = np.empty(len(label))
        for held in range(FOLDS):
            rest, here = fold != held, fold == held
            curve = kind.fit(score[rest], label[rest], weight[rest])
            probability[here] = curve(score[here])
        clipped = np.clip(probability, EPSILON, 1 - EPSILON)
        losses[name] = -np.where(label > 0, np.log(clipped), np.log1p(-clipped))
    best = next(iter(CALIBRATORS))
    compared = {best: {"log_loss": float(np.average(losses[best], weights=weight))}}
    for name in list(CALIBRATORS)[1:]:
        gain, error = _mean_and_error(losses[best] - losses[name], weight, who)
        loss = float(np.average(losses[name], weights=weight))
        compared[name] = {"log_loss": loss, "gain": gain, "standard_error": error}
        if gain > error:
            best = name
    return CALIBRATORS[best].fit(score, label, weight), compared


def enough_outcomes(label: np.ndarray, weight: np.ndarray) -> bool:
    """Whether calibration can be judged on these rows: label, weight (n,)."""
    counted = label[weight > 0]
    positives = int(counted.sum())
    return min(positives, len(counted) - positives) >= MIN_OUTCOMES


def _mean_and_error(values: np.ndarray, weight: np.ndarray, who: np.ndarray) -> tuple[float, float]:
    """Weighted mean of (n,) values and its standard error, rows of one customer together."""
    mean = float(np.average(values, weights=weight))
    away = np.bincount(who, weight * (values - mean))
    return mean, float(np.sqrt((away**2).sum()) / weight.sum())
