"""The smallest effect that a holdout could detect: a two-proportion test, turned round.

Somebody will ask whether acting on the predictions paid. A holdout answers only if the effect is
larger than what chance alone produces; this says how large, before anybody is contacted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

POWER, ALPHA = 0.80, 0.05


@dataclass(frozen=True)
class Holdout:
    """A planned A/B test of one task; `change` is None where no change could be detected."""

    task: str
    share: float
    held_out: int
    contacted: int
    base_rate: float
    change: float | None

    @property
    def relative(self) -> float | None:
        """Return the size of the change as a share of the base rate."""
        return None if self.change is None else abs(self.change) / self.base_rate


def power_of(base_rate: float, change: float, held_out: int, contacted: int) -> float:
    """Return the chance that a two-sided test at `ALPHA` finds a change of a rate.

    The statistic is pooled under no change and unpooled under the change, as in Fleiss, Levin and
    Paik (2003); the far tail of the two-sided test is ignored.
    """
    other = base_rate + change
    pooled = (held_out * base_rate + contacted * other) / (held_out + contacted)
    none = np.sqrt(pooled * (1 - pooled) * (1 / held_out + 1 / contacted))
    some = np.sqrt(base_rate * (1 - base_rate) / held_out + other * (1 - other) / contacted)
    reach = abs(change) - norm.ppf(1 - ALPHA / 2) * none
    return float(norm.cdf(reach / some)) if some > 0 else float(reach > 0)


def smallest_change(
    base_rate: float, held_out: int, contacted: int, direction: int = 1
) -> float | None:
    """Return the smallest change of a rate that the test finds with `POWER`.

    Args:
        base_rate: the rate among those held out.
        held_out: customers who are left alone.
        contacted: customers who are acted upon.
        direction: 1 looks for a rise (conversions), -1 for a fall (customers who leave).

    Returns:
        The signed change, or None when even a rate of 0 or 1 would go unnoticed.
    """
    room = 1 - base_rate if direction > 0 else base_rate
    if min(held_out, contacted) < 1 or room <= 0:
        return None

    def missing(size: float) -> float:
        return power_of(base_rate, direction * size, held_out, contacted) - POWER

    if missing(room) < 0:
        return None
    return direction * float(brentq(missing, 1e-9, room, xtol=1e-10))


def plan(
    task: str, base_rate: float, customers: int, shares: Sequence[float], direction: int
) -> list[Holdout]:
    """Plan one A/B test per share of customers held out."""
    plans = []
    for share in shares:
        held_out = round(share * customers)
        contacted = customers - held_out
        change = smallest_change(base_rate, held_out, contacted, direction)
        plans.append(Holdout(task, share, held_out, contacted, base_rate, change))
    return plans
