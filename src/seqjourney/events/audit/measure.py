"""Prepared data → a few small tables, each computed by the columnar engine in one go.

Nothing here judges; `checks` does. The log is only ever aggregated: what comes back has at most a
row per hour, month, frequent event or customer-size, however many events there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd

from seqjourney.events import engine
from seqjourney.events.audit.names import harmless_names
from seqjourney.events.consent.enforcement import latest_states
from seqjourney.events.consent.intervals import timeline
from seqjourney.events.consent.stated import FILE, read_statements

DAYS_PER_MONTH = 30.4375
MOST_NAMED = 20  # events that are told apart; the rest is "other"
# Upper edges of the late-arrival curve, in microseconds.
DELAYS = {
    "at once": 0, "1 minute": 60, "1 hour": 3600, "6 hours": 21_600, "24 hours": 86_400,
    "72 hours": 259_200, "7 days": 604_800, "30 days": 2_592_000,
}  # fmt: skip
_COUNT_BANDS = ((1, "1"), (2, "2"), (3, "3"), (4, "4"), (5, "5"), (10, "6–10"), (20, "11–20"),
                (50, "21–50"), (np.inf, "51+"))  # fmt: skip
_GRACE_DAYS = 2  # a month that starts or ends this close to the data's edge counts as whole


@dataclass(frozen=True)
class Calendar:
    """When there was something: months (`month, events, customers, whole`) and silences."""

    months: pd.DataFrame
    first: pd.Timestamp
    last: pd.Timestamp
    silences: pd.DataFrame
    """`start, end, days` of every stretch of a day or more without an event, longest first."""
    days: int
    empty_days: int

    @property
    def whole(self) -> pd.DataFrame:
        """Months that the data cover from end to end."""
        return self.months[self.months["whole"]]

    @property
    def history_months(self) -> float:
        """Return the length of the history; silences of a month or more do not count."""
        span = (self.last - self.first).total_seconds() / 86400
        silent = self.silences["days"][self.silences["days"] > 30].sum()
        return float(span - silent) / DAYS_PER_MONTH

    @property
    def monthly_customers(self) -> float:
        """Return the mean of the last twelve whole months; of all months where none is whole."""
        months = self.whole if len(self.whole) else self.months
        return float(months["customers"].tail(12).mean())


def per_customer_month(backend: Any, log: Any) -> Any:
    """Count each customer's events per month, once, for all that needs customers."""
    months = log.group_by("customer_id", month=log.timestamp.truncate("M")).aggregate(
        events=log.count(), own=(log.actor == "customer").sum()
    )
    return backend.create_table("customer_months", months)


def calendar(log: Any, customer_months: Any) -> Calendar:
    """Find the months and the silences of a log."""
    own = customer_months.own > 0
    months = (
        customer_months.group_by("month")
        .aggregate(events=customer_months.events.sum(), customers=own.sum())
        .to_pandas()
    )
    hours = (
        log.group_by(hour=log.timestamp.truncate("h"))
        .aggregate(first=log.timestamp.min(), last=log.timestamp.max())
        .order_by("hour")
        .to_pandas()
    )
    opened, closed = (pd.to_datetime(hours[name], utc=True) for name in ("first", "last"))
    first, last = opened.min(), closed.max()
    silences = pd.DataFrame({"start": closed.iloc[:-1].array, "end": opened.iloc[1:].array})
    silences["days"] = (silences["end"] - silences["start"]).dt.total_seconds() / 86400
    silences = silences[silences["days"] >= 1].sort_values("days", ascending=False)
    days = (last.normalize() - first.normalize()).days + 1
    busy = int(hours["hour"].dt.normalize().nunique())
    return Calendar(
        _all_months(months, first, last), first, last, silences.reset_index(drop=True), days,
        days - busy,
    )  # fmt: skip


def _all_months(months: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """Add the months without events, and whether the data cover a month from end to end."""
    start = first.normalize().replace(day=1)
    every = pd.date_range(start, last, freq="MS", tz="UTC", name="month")
    months["month"] = pd.to_datetime(months["month"], utc=True)
    filled = months.set_index("month").reindex(every, fill_value=0).astype("int64").reset_index()
    grace = pd.Timedelta(days=_GRACE_DAYS)
    after = filled["month"] + pd.offsets.MonthBegin(1)
    filled["whole"] = (filled["month"] + grace >= first) & (after - grace <= last)
    return filled


@dataclass(frozen=True)
class Customers:
    """How many there are, and how little is known of some."""

    customers: int
    events: int
    single_event: int
    events_per_customer: dict[str, int]


def customers(customer_months: Any) -> Customers:
    """Count customers by their number of events."""
    each = customer_months.group_by("customer_id").aggregate(n=customer_months.events.sum())
    bands = _by_band(each, each.n)
    total = each.aggregate(customers=each.count(), events=each.n.sum()).to_pandas().iloc[0]
    return Customers(int(total["customers"]), int(total["events"]), bands.get("1", 0), bands)


def _by_band(each: Any, number: Any) -> dict[str, int]:
    """Count rows by bands of a number, from the lowest band to the last that anyone is in."""
    band = ibis.cases(
        *((number <= edge, name) for edge, name in _COUNT_BANDS[:-1]), else_=_COUNT_BANDS[-1][1]
    )
    found = each.group_by(band=band).aggregate(n=each.count()).to_pandas()
    counts = dict(zip(found["band"], found["n"], strict=True))
    names = [name for _, name in _COUNT_BANDS]
    last = max((place for place, name in enumerate(names) if name in counts), default=-1)
    return {name: int(counts.get(name, 0)) for name in names[: last + 1]}


@dataclass(frozen=True)
class Late:
    """How long it took until the company knew: shares known by then, quantiles in hours."""

    known_by: dict[str, float]
    quantiles: dict[str, float]

    def later_than(self, hours: int) -> float:
        """Return the share of events that were known later than 24 or 72 hours."""
        return 1 - self.known_by[f"{hours} hours"]


def late(log: Any) -> Late | None:
    """Measure `known_at - timestamp`; None when the data never tell the two apart."""
    rows = log.select(delay=log.known_at.delta(log.timestamp, unit="microsecond"))
    counted = rows.aggregate(
        events=rows.count(),
        longest=rows.delay.max(),
        **{name: (rows.delay <= edge * 1_000_000).sum() for name, edge in DELAYS.items()},
        quantiles=rows.delay.quantile([0.5, 0.9, 0.99]),
    )
    found = counted.to_pandas().iloc[0]
    if found["longest"] == 0:
        return None
    by = {name: float(found[name] / found["events"]) for name in DELAYS}
    delays = dict(zip(("p50", "p90", "p99"), found["quantiles"], strict=True))
    delays["longest"] = found["longest"]
    hours = {name: float(delay) / 3.6e9 for name, delay in delays.items()}
    return Late(by, hours)


def repeats(parts: list[Any]) -> int:
    """Count events that repeat another of the same customer, name and microsecond.

    Bucket by bucket: a customer lies in one, so that memory stays small.
    """
    total = 0
    for part in parts:
        same = part.group_by("customer_id", "timestamp", "event").aggregate(n=part.count())
        found = same.filter(same.n > 1)
        total += int((found.n - 1).sum().fill_null(0).to_pandas())
    return total


@dataclass(frozen=True)
class EventTypes:
    """How many names there are, and the most frequent (raw name, events)."""

    number: int
    frequent: list[tuple[str, int]]


def event_types(log: Any) -> EventTypes:
    """Count event names; only the most frequent come back."""
    counts = log.group_by("event").aggregate(n=log.count())
    frequent = counts.order_by(ibis.desc("n"), "event").limit(MOST_NAMED).to_pandas()
    number = int(counts.count().to_pandas())
    return EventTypes(number, list(zip(frequent["event"], map(int, frequent["n"]), strict=True)))


@dataclass(frozen=True)
class Identity:
    """Identifiers per customer, and the share of events with one that names a person."""

    by_type: dict[str, int]
    per_customer: dict[str, int]
    mean: float
    most: int
    strong_share: float
    single_weak: int
    """Customers with one event and no strong identifier: visits that nobody could attach."""


def identity(
    backend: Any, prepared: Path, customer_months: Any, personal: Sequence[str]
) -> Identity | None:
    """Measure the identity graph of a log; None where there is none.

    `personal` are the identifier types that name a person; others point at a device or a browser.
    """
    file = prepared / "identity" / "identifiers.parquet"
    if not file.exists():
        return None
    each = customer_months.group_by("customer_id").aggregate(events=customer_months.events.sum())
    found = engine.read_parquet(backend, file)
    found = found.semi_join(each, "customer_id")
    types = found.group_by("identifier_type").aggregate(n=found.count())
    types = types.order_by(ibis.desc("n"), "identifier_type").to_pandas()
    shown = harmless_names(types["identifier_type"])
    by_type = dict(zip(shown.values(), map(int, types["n"]), strict=True))
    strong = found.identifier_type.isin(list(personal))
    owned = found.group_by("customer_id").aggregate(n=found.count(), strong=strong.any())
    joined = each.left_join(owned, "customer_id")
    joined = joined.select(each.customer_id, each.events, "n", "strong")
    joined = joined.mutate(n=joined.n.fill_null(0), strong=joined.strong.fill_null(False))
    total = joined.aggregate(
        events=joined.events.sum(),
        strong=joined.events.sum(where=joined.strong).fill_null(0),
        mean=joined.n.mean(),
        most=joined.n.max(),
        single_weak=((joined.events == 1) & ~joined.strong).sum(),
    ).to_pandas().iloc[0]  # fmt: skip
    return Identity(
        by_type,
        _by_band(joined.filter(joined.n > 0), joined.filter(joined.n > 0).n),
        float(total["mean"]),
        int(total["most"]),
        float(total["strong"] / total["events"]),
        int(total["single_weak"]),
    )


def consent_states(
    backend: Any, prepared: Path, customer_months: Any
) -> dict[str, dict[str, float]] | None:
    """Return per purpose the share of customers who granted, denied, or said nothing as of today.

    The reading is that of `events.consent`: the strictest of what all of a customer's devices say.
    """
    if not (prepared / FILE).exists():
        return None
    known = customer_months.select("customer_id").distinct()
    now = latest_states(timeline(read_statements(backend, prepared)))
    now = now.semi_join(known, "customer_id")
    counts = now.group_by("purpose", "state").aggregate(n=now.count()).to_pandas()
    everyone = int(known.count().to_pandas())
    shown = harmless_names(sorted(counts["purpose"].unique()))
    shares: dict[str, dict[str, float]] = {}
    for purpose, rows in counts.groupby("purpose"):
        by_state = dict(zip(rows["state"], rows["n"] / everyone, strict=True))
        granted, denied = (float(by_state.get(state, 0)) for state in ("granted", "denied"))
        shares[shown[str(purpose)]] = {
            "granted": granted, "denied": denied, "unknown": max(0.0, 1 - granted - denied),
        }  # fmt: skip
    return shares
