"""Customers who buy and leave as BG/NBD and Pareto/NBD say, purchase by purchase."""

import numpy as np

from seqjourney.baselines.purchase_counts import BGNBD, History, ParetoNBD


def simulate(
    model: BGNBD | ParetoNBD, age: np.ndarray, horizon: float, seed: int = 0
) -> tuple[History, np.ndarray, np.ndarray]:
    """Return histories, purchases in (T, T + horizon] and all purchase times, of n customers.

    Args:
        model: how they behave.
        age: (n,) T, the time since the first purchase.
        horizon: how long after T they are watched.
        seed: of the draws.

    Returns:
        Histories (n,); later purchases (n,); times (n, k), the first at 0, NaN where there is none.
    """
    random = np.random.default_rng(seed)
    n = len(age)
    rate = random.gamma(model.r, 1 / model.alpha, n)
    if isinstance(model, BGNBD):
        leaving, end = random.beta(model.a, model.b, n), np.full(n, np.inf)
    else:
        leaving, end = np.zeros(n), random.exponential(1 / random.gamma(model.s, 1 / model.beta, n))
    now, stays = np.zeros(n), np.ones(n, bool)
    times = [now]
    while stays.any():
        now = now + random.exponential(1 / rate)
        stays &= now <= np.minimum(age + horizon, end)
        times.append(np.where(stays, now, np.nan))
        stays &= random.random(n) > leaving
    times = np.stack(times, axis=1)
    before = times <= age[:, None]
    recency = np.where(before, times, 0.0).max(axis=1)
    history = History(before.sum(axis=1) - 1.0, recency, age)
    return history, (times > age[:, None]).sum(axis=1), times
