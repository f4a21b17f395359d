"""The questions that features ask the columnar engine, as portable Ibis expressions.

Each takes prepared events and cutoffs and returns an aggregate keyed by `row`, the snapshot's
number; snapshots without events have no row in the answer. The heart of each is one range join on
`known_at <= cutoff`; there is no loop over customers or cutoffs. Ages are whole microseconds from
`delta`, which is equal on every engine; sums of floats are equal to rounding. Answers are long
(one row per snapshot, kind and age) and `features.py` lays them out: a conditional aggregate per
feature took the engine three times as long.

`totals`: counts, recency, money, numbers.  `by_kind`: counts and recency per event or channel.
`latest`: last events, categories, numbers.  `gaps`: regularity of the target events.
`active_periods`: days (or quarters of a short horizon) on which the customer was active.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from seqjourney.baselines.feature_spec import FeatureSpec

_EPOCH = ibis.timestamp("1970-01-01", timezone="UTC")


def prepare(events: ir.Table, customers: ir.Table, spec: FeatureSpec) -> ir.Table:
    """Keep the events of `customers`, with codes instead of names.

    `order` numbers a customer's events in the order in which they became known, so that the
    events known at a cutoff are a prefix: what stood before an event was known before it.
    """
    # Not `semi_join`: Ibis (12.0) would run later windows after the join with the cutoffs.
    t = events.filter(events.customer_id.isin(customers.customer_id))
    if spec.excluded:
        t = t.filter(~t.event.isin(spec.excluded))
    columns: dict[str, Any] = {
        "own": t.actor == "customer",
        "target": t.event.isin(spec.target) if spec.target else ibis.literal(False),
        **{f"code_{i}": code(t[f], v) for i, (f, v) in enumerate(spec.categories.items())},
        **{f"number_{i}": t[name] for i, name in enumerate(spec.numeric)},
    }
    if spec.events:
        columns["event_code"] = code(t.event, spec.events)
    if spec.channels:
        columns["channel_code"] = code(t.channel, spec.channels)
    if spec.has_value:
        columns["value"] = t.value
    in_order = ibis.window(group_by=t.customer_id, order_by=[t.known_at, t.timestamp, t.event_id])
    return t.select(
        "customer_id", "known_at", "timestamp", order=ibis.row_number().over(in_order), **columns
    )


def code(column: ir.Value, values: Sequence[str]) -> ir.IntegerValue:
    """Return each value's position in `values`, -1 for others and for missing ones."""
    if not values:
        return ibis.literal(-1)
    return ibis.cases(*((column == v, i) for i, v in enumerate(values)), else_=-1)


def known(events: ir.Table, cutoffs: ir.Table, columns: Sequence[str]) -> ir.Table:
    """Pair every cutoff with what was known at it; an event at the cutoff belongs to the past."""
    pairs = events.join(
        cutoffs,
        [events.customer_id == cutoffs.customer_id, events.known_at <= cutoffs.cutoff],
    )
    return pairs.select(
        cutoffs.row,
        *(events[name] for name in columns),
        age_us=cutoffs.cutoff.delta(events.timestamp, unit="microsecond"),
    )


def _with_age_bin(pairs: ir.Table, spec: FeatureSpec) -> ir.Table:
    """Number each age by the shortest window that reaches it; beyond all windows comes `ever`."""
    bins = ((pairs.age_us < length, k) for k, length in enumerate(spec.windows.values()))
    return pairs.mutate(age_bin=ibis.cases(*bins, else_=len(spec.windows)))


def totals(prepared: ir.Table, cutoffs: ir.Table, spec: FeatureSpec) -> ir.Table:
    """Ask per (row, age_bin) for counts, ages, money and numbers."""
    numbers = [f"number_{i}" for i in range(len(spec.numeric))]
    numbers += ["value"] if spec.has_value else []
    pairs = _with_age_bin(known(prepared, cutoffs, ["own", "target", *numbers]), spec)
    columns = {
        "count_all": pairs.count(),
        "count_own": pairs.count(where=pairs.own),
        "count_target": pairs.count(where=pairs.target),
        "youngest_all": pairs.age_us.min(),
        "youngest_own": pairs.age_us.min(where=pairs.own),
        "youngest_target": pairs.age_us.min(where=pairs.target),
        "oldest": pairs.age_us.max(),
    }
    for name in numbers:
        columns |= {f"{name}_sum": pairs[name].sum(), f"{name}_count": pairs[name].count()}
    if spec.has_value:
        columns["value_max"] = pairs.value.max()
    return _aggregate(pairs, ["row", "age_bin"], columns)


def by_kind(prepared: ir.Table, cutoffs: ir.Table, spec: FeatureSpec, column: str) -> ir.Table:
    """Ask per (row, kind, age_bin) for counts and ages; `column` holds the codes of the kinds."""
    some = prepared.filter(prepared[column] >= 0)
    pairs = _with_age_bin(known(some, cutoffs, [column]), spec).rename(kind=column)
    columns = {"count": pairs.count(), "youngest": pairs.age_us.min()}
    return _aggregate(pairs, ["row", "kind", "age_bin"], columns)


def _aggregate(pairs: ir.Table, by: Sequence[str], columns: Mapping[str, ir.Value]) -> ir.Table:
    floats = {name: value.cast("float64") for name, value in columns.items()}
    return pairs.group_by(by).aggregate(**floats)


def latest(prepared: ir.Table, cutoffs: ir.Table, spec: FeatureSpec) -> ir.Table:
    """Ask for the codes of the last three events and categories, and for the last numbers.

    Each event is the latest one from when it was known until the next one was, so that every
    cutoff meets a single row.
    """
    customer = prepared.customer_id
    in_order = ibis.window(group_by=customer, order_by=prepared.order)
    so_far = ibis.window(group_by=customer, order_by=prepared.order, preceding=None, following=0)
    numbers = [f"number_{i}" for i in range(len(spec.numeric))]
    numbers += ["value"] if spec.has_value else []
    # The event at which a number last stood; the number is fetched from there.
    stands = {name: ibis.cases((prepared[name].notnull(), prepared.order)) for name in numbers}
    states = prepared.mutate(
        until=prepared.known_at.lead(1).over(in_order),
        event_2=prepared.code_0.lag(1).over(in_order).fill_null(-1),
        event_3=prepared.code_0.lag(2).over(in_order).fill_null(-1),
        **{f"{name}_at": order.max().over(so_far) for name, order in stands.items()},
    )
    for name in numbers:
        there = ibis.window(group_by=[states.customer_id, states[f"{name}_at"]])
        states = states.mutate(**{f"{name}_last": states[name].max().over(there)})
    columns = [f"code_{i}" for i in range(len(spec.categories))]
    columns += ["event_2", "event_3", *(f"{name}_last" for name in numbers)]
    return states.join(
        cutoffs,
        [
            states.customer_id == cutoffs.customer_id,
            states.known_at <= cutoffs.cutoff,
            states.until.isnull() | (states.until > cutoffs.cutoff),
        ],
    ).select(cutoffs.row, *(states[name].cast("float64").name(name) for name in columns))


def gaps(prepared: ir.Table, cutoffs: ir.Table, spec: FeatureSpec) -> ir.Table:
    """Ask for mean, deviation and last of the gaps between target events."""
    pairs = known(prepared.filter(prepared.target), cutoffs, ["order"])
    # Ordered anew for every cutoff: an event learned of late changes the gaps from then on only.
    in_order = ibis.window(group_by=pairs.row, order_by=[pairs.age_us.desc(), pairs.order])
    gap = (pairs.age_us.lag(1).over(in_order) - pairs.age_us) / spec.unit_us
    pairs = pairs.mutate(gap=gap, newest=pairs.order.lead(1).over(in_order).isnull())
    return _aggregate(pairs, ["row"], _gap_features(pairs))


def periods_with_events(events: ir.Table, unit_us: int) -> ir.Table:
    """Return each customer's periods with an event: numbers counted from 1970, and `known_at`."""
    since_us = events.timestamp.delta(_EPOCH, unit="microsecond")
    numbered = events.mutate(period=(since_us / unit_us).floor().cast("int64"))
    # A period counts from the moment at which its first event was known.
    return numbered.group_by("customer_id", "period").aggregate(known_at=numbered.known_at.min())


def active_periods(prepared: ir.Table, cutoffs: ir.Table, spec: FeatureSpec) -> ir.Table:
    """Ask for counts per window of the periods with an own event, and the gaps between them."""
    periods = periods_with_events(prepared.filter(prepared.own), spec.unit_us)
    pairs = periods.join(
        cutoffs,
        [periods.customer_id == cutoffs.customer_id, periods.known_at <= cutoffs.cutoff],
    ).select(
        cutoffs.row,
        periods.period,
        age_us=cutoffs.cutoff.delta(_EPOCH, unit="microsecond") - periods.period * spec.unit_us,
    )
    in_order = ibis.window(group_by=pairs.row, order_by=pairs.period)
    gap = (pairs.period - pairs.period.lag(1).over(in_order)).cast("float64")
    pairs = pairs.mutate(gap=gap, newest=pairs.period.lead(1).over(in_order).isnull())
    counts = {
        f"count_{k}": pairs.count(where=pairs.age_us < length)
        for k, length in enumerate(spec.windows.values())
    }
    counts[f"count_{len(spec.windows)}"] = pairs.count()
    return _aggregate(pairs, ["row"], counts | _gap_features(pairs))


def _gap_features(pairs: ir.Table) -> dict[str, ir.Value]:
    return {
        "gap_mean": pairs.gap.mean(),
        "gap_deviation": pairs.gap.std(how="sample"),
        "gap_last": pairs.gap.max(where=pairs.newest),
    }
