"""How far a probability can be taken at its word: log loss, Brier, calibration error and slope.

Every function is (label (n,), probability (n,), weights (R, n)) -> (R,). Ranking is judged
elsewhere (`ranking.py`); a model may rank well and still promise too much.
"""

from __future__ import annotations

import numpy as np

from seqjourney.evaluation.logistic import fit_logistic

ECE_BINS = 15
# scikit-learn's clip, so that a certain and wrong answer costs 36 and not infinity.
EPSILON = float(np.finfo(np.float64).eps)
# The slope sees logits; a wider clip keeps a single p = 0 from becoming its only leverage.
LOGIT_EPSILON = 1e-6


def log_loss(label: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of -log(probability given to what happened), in nats."""
    p = np.clip(probability, EPSILON, 1 - EPSILON)
    return _mean(-np.where(np.asarray(label) > 0, np.log(p), np.log1p(-p)), weights)


def brier(label: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of (p - y)^2."""
    return _mean((np.asarray(probability) - label) ** 2, weights)


def brier_skill(label: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """1 - Brier / (pi (1 - pi)): 0 for always saying the base rate pi, 1 for perfect."""
    base = _mean(np.asarray(label, np.float64), weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        skill = 1 - brier(label, probability, weights) / (base * (1 - base))
    return np.where((base > 0) & (base < 1), skill, np.nan)


def ece(
    label: np.ndarray, probability: np.ndarray, weights: np.ndarray, bins: int = ECE_BINS
) -> np.ndarray:
    """Expected calibration error over bins of equal mass: sum_b n_b/n |mean y_b - mean p_b|.

    The bins hold exactly 1/bins of the weight each: a row on a boundary is split, and rows with
    the same probability share their mean outcome, so neither file order nor duplication matters.
    Equal-width bins give other values.
    """
    weights = np.atleast_2d(weights)
    order = np.argsort(probability, kind="stable")
    p = np.asarray(probability, np.float64)[order]
    ends = np.flatnonzero(np.append(p[1:] != p[:-1], True))
    ordered = np.take(weights, order, axis=1).astype(np.float64, copy=False)
    mass = np.cumsum(ordered, axis=1)[:, ends]
    excess = np.cumsum(ordered * (np.asarray(label, np.float64)[order] - p), axis=1)[:, ends]
    edges = np.linspace(0, 1, bins + 1)
    out = np.empty(len(weights))
    for row, (x, y) in enumerate(zip(mass, excess, strict=True)):
        at = np.interp(edges * x[-1], np.append(0.0, x), np.append(0.0, y))
        out[row] = np.abs(np.diff(at)).sum() / x[-1] if x[-1] > 0 else np.nan
    return out


def calibration_line(
    label: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope of the logistic regression y ~ a + b logit(p): 0 and 1 when calibrated.

    A slope below 1 means that the probabilities are too extreme, above 1 too timid. (Cox, 1958.)
    """
    p = np.clip(probability, LOGIT_EPSILON, 1 - LOGIT_EPSILON)
    line = fit_logistic(np.log(p) - np.log1p(-p), label, weights)
    return line[:, 0], line[:, 1]


def probability_metrics(
    label: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Every probability metric of the report, each (R,)."""
    intercept, slope = calibration_line(label, probability, weights)
    return {
        "log_loss": log_loss(label, probability, weights),
        "brier": brier(label, probability, weights),
        "brier_skill": brier_skill(label, probability, weights),
        "ece": ece(label, probability, weights),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
    }


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weights = np.atleast_2d(weights)
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, (weights @ values) / total, np.nan)
