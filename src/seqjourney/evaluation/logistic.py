"""Logistic regression of a label on one number, for many weightings of the same rows at once.

Two things need it: the calibrator that turns scores into probabilities, and the calibration slope
and intercept that judge probabilities. Newton's method with step halving.
"""

from __future__ import annotations

import numpy as np

MAX_STEPS = 50
LARGE_STEP, SMALL_STEP = 0.5, 1e-5


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def fit_logistic(
    x: np.ndarray, label: np.ndarray, weights: np.ndarray, ridge: float = 0.0
) -> np.ndarray:
    """Maximise sum_i w_i log P(y_i | a + b x_i) - ridge/2 * sum(w) * b^2 -> (R, 2) of (a, b).

    x, label (n,); weights (R, n). Rows whose fit does not converge (one class, no spread in x, or
    perfect separation without a ridge) are NaN.
    """
    weights = np.atleast_2d(weights).astype(np.float64, copy=False)
    x, label = np.asarray(x, np.float64), np.asarray(label, np.float64)
    if np.ptp(x) == 0:
        return np.full((len(weights), 2), np.nan)
    start = np.zeros((1, 2))
    if len(weights) > 1:
        # All replicates share the rows, so the pooled fit is a start two or three steps away.
        pooled = fit_logistic(x, label, weights.mean(axis=0, keepdims=True), ridge)
        start = pooled if np.isfinite(pooled).all() else start
    out = np.repeat(start, len(weights), axis=0)
    penalty = ridge * weights.sum(axis=1)
    active = np.arange(len(weights))
    for _ in range(MAX_STEPS):
        w, p = weights[active], penalty[active]
        step = _newton_step(out[active], x, label, w, p)
        lost = ~np.isfinite(step).all(axis=1)  # no spread among the rows that count
        if lost.any():
            out[active[lost]] = np.nan
            active, step, w, p = active[~lost], step[~lost], w[~lost], p[~lost]
            if not len(active):
                return out
        size = np.abs(step).max(axis=1)
        # Near the optimum Newton's step always improves; only far from it can it overshoot.
        if not (size < LARGE_STEP).all():
            step *= _damping(out[active], step, x, label, w, p)[:, None]
        out[active] -= step
        # The error left after a step is of the order of its square.
        active = active[~(size < SMALL_STEP)]
        if not len(active):
            return out
    out[active] = np.nan
    return out


def _damping(
    beta: np.ndarray,
    step: np.ndarray,
    x: np.ndarray,
    label: np.ndarray,
    weights: np.ndarray,
    penalty: np.ndarray,
) -> np.ndarray:
    """Halve each row's step until the loss does not grow -> (R,)."""
    before = _loss(beta, x, label, weights, penalty)
    scale = np.ones(len(beta))
    for _ in range(12):
        after = _loss(beta - scale[:, None] * step, x, label, weights, penalty)
        worse = ~(after <= before + 1e-9 * np.abs(before))
        if not worse.any():
            break
        scale[worse] /= 2
    return scale


def _newton_step(
    beta: np.ndarray, x: np.ndarray, label: np.ndarray, weights: np.ndarray, penalty: np.ndarray
) -> np.ndarray:
    p = sigmoid(beta[:, :1] + beta[:, 1:] * x)  # (R, n)
    slack = weights * (p - label)
    gradient = np.stack([slack.sum(1), slack @ x + penalty * beta[:, 1]], axis=1)
    v = weights * p * (1 - p)
    h00, h01, h11 = v.sum(1), v @ x, v @ (x * x) + penalty
    determinant = h00 * h11 - h01 * h01
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack(
            [
                (h11 * gradient[:, 0] - h01 * gradient[:, 1]) / determinant,
                (h00 * gradient[:, 1] - h01 * gradient[:, 0]) / determinant,
            ],
            axis=1,
        )


def _loss(
    beta: np.ndarray, x: np.ndarray, label: np.ndarray, weights: np.ndarray, penalty: np.ndarray
) -> np.ndarray:
    eta = beta[:, :1] + beta[:, 1:] * x
    nll = np.maximum(eta, 0) - eta * label + np.log1p(np.exp(-np.abs(eta)))
    return np.einsum("rn,rn->r", weights, nll) + 0.5 * penalty * beta[:, 1] ** 2
