"""Does one month look like the next? PSI and Jensen-Shannon distance, month against month.

Event mix: the shares of the most frequent events. Numeric fields: the shares of ten bins, whose
edges are the deciles of the whole period (so that every month is cut alike and a step can be
compared with any other), plus one bin for missing values: a field that is no longer sent is drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ibis
import numpy as np
import pandas as pd

from seqjourney.events.audit.names import harmless_names

EVENT_MIX = "mix of events"
FLOOR = 1e-4  # share that an empty bin counts as
_BINS = 10
_LEAST_EVENTS = 100  # in both months of a step
_SURE = 0.99


@dataclass(frozen=True)
class Step:
    """One month against the month before; `chance` is the PSI that chance alone may give."""

    month: str
    psi: float
    distance: float
    chance: float
    moved: str
    """What changed its share most, in words."""

    @property
    def real(self) -> float:
        """Return the PSI, or 0 where chance alone explains it."""
        return self.psi if self.psi > self.chance else 0.0


def psi(before: np.ndarray, after: np.ndarray) -> float:
    """Return the population stability index of two vectors of counts, (B,) and (B,)."""
    a, b = (np.maximum(counts / counts.sum(), FLOOR) for counts in (after, before))
    return float(((a - b) * np.log(a / b)).sum())


def js_distance(before: np.ndarray, after: np.ndarray) -> float:
    """Return the Jensen-Shannon distance of two vectors of counts: 0 is equal, 1 is disjoint."""
    from scipy.spatial.distance import jensenshannon

    return float(np.nan_to_num(jensenshannon(before, after, base=2)))


def chance_psi(bins: int, before: int, after: int) -> float:
    """Return the PSI that samples of these sizes exceed once in a hundred without any drift.

    PSI times the harmonic size is chi-squared with `bins - 1` degrees of freedom (Yurdakul and
    Naranjo, 2020). The sizes are customers, not events: a customer's events resemble each other.
    """
    from scipy.stats import chi2

    if min(before, after) < 1 or bins < 2:
        return 0.0
    return float(chi2.ppf(_SURE, bins - 1) * (1 / before + 1 / after))


def monthly_steps(counts: pd.DataFrame, months: pd.DataFrame) -> list[Step]:
    """Compare consecutive whole months.

    Args:
        counts: one row per month (its index), one column per bin.
        months: `month, customers, whole` as `measure.Calendar` has them.
    """
    steps = []
    for (_, old), (_, new) in zip(months[:-1].iterrows(), months[1:].iterrows(), strict=True):
        here = [m["month"] for m in (old, new)]
        if not (old["whole"] and new["whole"]) or not all(m in counts.index for m in here):
            continue
        before, after = (counts.loc[m].to_numpy(np.float64) for m in here)
        if min(before.sum(), after.sum()) < _LEAST_EVENTS:
            continue
        used = int(((before + after) > 0).sum())
        steps.append(
            Step(
                f"{new['month']:%Y-%m}",
                psi(before, after),
                js_distance(before, after),
                chance_psi(used, int(old["customers"]), int(new["customers"])),
                _moved(list(counts.columns), before, after),
            )
        )
    return steps


def _moved(names: Sequence[Any], before: np.ndarray, after: np.ndarray) -> str:
    old, new = before / before.sum(), after / after.sum()
    place = int(np.argmax(np.abs(new - old)))
    return f"{names[place]} went from {100 * old[place]:.1f} % to {100 * new[place]:.1f} %"


def event_mix(log: Any, frequent: Sequence[str]) -> pd.DataFrame:
    """Count events by month and name; names beyond the frequent ones are "other"."""
    name = log.event.isin(list(frequent)).ifelse(log.event, ibis.null("string"))
    rows = log.group_by(month=log.timestamp.truncate("M"), name=name).aggregate(n=log.count())
    frame = rows.to_pandas()
    frame["month"] = pd.to_datetime(frame["month"], utc=True)
    # Keyed by the raw name: two names may look alike once they are harmless.
    table = frame.pivot_table(
        index="month", columns=frame["name"].fillna("\0other"), values="n", fill_value=0
    )
    shown = harmless_names(c for c in table.columns if c != "\0other")
    table.columns = [shown.get(c, "other events") for c in table.columns]
    return table


def numeric_mix(log: Any, field: str) -> pd.DataFrame | None:
    """Count a numeric field by month and decile; None for a field without values."""
    column = log[field].cast("float64")
    # All deciles in one aggregate, which holds the values once.
    deciles = column.quantile([i / _BINS for i in range(1, _BINS)])
    found = log.aggregate(deciles=deciles, n=column.count()).to_pandas().iloc[0]
    if not found["n"]:
        return None
    edges = np.unique(np.asarray(found["deciles"], np.float64))
    # The lowest bin includes its edge, so that a field that is mostly 0 keeps a bin for it.
    labels = [f"values up to {edges[0]:.4g}"]
    labels += [f"values {low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    labels += [f"values over {edges[-1]:.4g}"]
    place = ibis.cases(*((column <= edge, i) for i, edge in enumerate(edges)), else_=len(edges))
    place = column.isnull().ifelse(-1, place)
    rows = log.group_by(month=log.timestamp.truncate("M"), bin=place).aggregate(n=log.count())
    frame = rows.to_pandas()
    frame["month"] = pd.to_datetime(frame["month"], utc=True)
    table = frame.pivot_table(index="month", columns="bin", values="n", fill_value=0)
    table.columns = ["missing values" if c < 0 else labels[int(c)] for c in table.columns]
    return table


def drift(
    log: Any, frequent: Sequence[str], numeric: Sequence[str], months: pd.DataFrame
) -> dict[str, list[Step]]:
    """Return the steps of the event mix and of each numeric field, by (harmless) name."""
    found = {EVENT_MIX: monthly_steps(event_mix(log, frequent), months)}
    for field, shown in harmless_names(numeric).items():
        counts = numeric_mix(log, field)
        if counts is not None:
            found[shown] = monthly_steps(counts, months)
    return found
