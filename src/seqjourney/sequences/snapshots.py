"""Snapshots: which customer is asked what at which cutoff, and what the answer turned out to be.

`cut_snapshots` turns an event log into one row per eligible (customer, cutoff) with its label, and
counts who was left out and why; `cutoffs.py` has fixed when. The columnar engine does all cutoffs
at once; `cutting.py` asks it part by part, as memory is that of a part.
Time rules: an event is known at a cutoff when `known_at <= cutoff`; a label looks at
`cutoff < timestamp <= cutoff + horizon`, and in training and validation at what was known of that
when the next split began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.config import TaskConfig, nearest
from seqjourney.errors import DataError
from seqjourney.events.cleaning import UTC_MICROSECONDS
from seqjourney.sequences.cutoffs import CERTIFICATION, SPLITS

_HISTORY_BANDS = (
    (1, "0 to 1 events"),
    (3, "2 to 3 events"),
    (10, "4 to 10 events"),
    (30, "11 to 30 events"),
    (np.inf, "31 events or more"),
)
_RECENCY_BANDS_DAYS = (
    (7, "0 to 7 days ago"),
    (30, "8 to 30 days ago"),
    (90, "31 to 90 days ago"),
    (180, "91 to 180 days ago"),
    (np.inf, "181 days ago or more"),
)


def cut_snapshots(
    events: Any,
    task: TaskConfig,
    customer_ids: np.ndarray,
    label_only_events: tuple[str, ...] = (),
) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Cut every eligible snapshot of the customers in an event log, or in a part of one.

    Args:
        events: Ibis table of the events, all there are, of some customers.
        task: with explicit cutoffs (see `cutoffs.resolve_cutoffs`).
        customer_ids: (C,) ids in store order.
        label_only_events: events that are no tokens and make nobody eligible.

    Returns:
        The snapshots (columns: see `task_data.TaskData`, and `slice_history`, `slice_recency`),
        ordered by customer, cutoff and split; and per split the number of customers-at-cutoffs
        left out, by reason, of which every one is named.

    A `sum` task also has `value`, float64: what the target events of the window add up to, exact
    to a millionth. Its label says whether that is more than nothing. Of a task with `above` only
    target events of a higher value count, those without one never; compared to a millionth too.
    A `time_to` task has `interval`, int64: the position of the first horizon by which a target
    event has happened; where none has, how many horizons there are. Its label looks at the longest.

    Raises:
        DataError: a customer is not in the store.
    """
    import ibis

    assert task.cutoffs is not None
    # A training label may use only what was known when validation began, and a validation label
    # what was known when the test began; the test looks at all there is.
    settled = [min(task.cutoffs.of("validation")), min(task.cutoffs.of("test")), datetime.max]
    cutoffs = ibis.memtable(
        pd.DataFrame(
            [
                {
                    "split": split,
                    "cutoff": cutoff,
                    "closes": cutoff + task.horizon,
                    "settled": by.replace(tzinfo=UTC),
                }
                for split, by in zip(SPLITS, settled, strict=True)
                for cutoff in task.cutoffs.of(split)
            ]
        ),
        schema={
            "split": "string",
            "cutoff": UTC_MICROSECONDS,
            "closes": UTC_MICROSECONDS,
            "settled": UTC_MICROSECONDS,
        },
    )
    known = _known(events, cutoffs, task, label_only_events)
    target = events.filter(events.event.isin(task.target))
    if isinstance(task.above, float):
        bar = ibis.literal(Decimal(f"{task.above:.6f}")).cast("decimal(38, 6)")
        target = target.filter(_exact(target[task.value]) > bar)
    inside = target.join(
        cutoffs,
        [
            target.timestamp > cutoffs.cutoff,
            target.timestamp <= cutoffs.closes,
            target.known_at <= cutoffs.settled,
        ],
    )
    keys = ["customer_id", "cutoff", "split"]
    if task.above_own:
        inside = inside.join(known.select(*keys, "past"), keys)
        inside = inside.filter(_exact(inside[task.value]) > inside.past)
    found = {"hit": inside.count()}
    if task.kind == "sum":
        found["value"] = _exact(inside[task.value]).sum().cast("float64")
    if task.kind == "time_to":
        found["first"] = inside.timestamp.min()
    hits = inside.group_by(keys).aggregate(**found)
    rows = known.left_join(hits, keys).select(*known.columns, *found)
    frame = rows.to_pandas()
    frame = _place(frame, customer_ids)
    happened = frame.pop("hit").notna().to_numpy()
    if task.kind == "sum":
        frame["value"] = frame["value"].astype(np.float64).fillna(0.0)
        happened = frame["value"].to_numpy() > 0
    if task.horizons is not None:
        frame["interval"] = _interval(frame.pop("first") - frame["cutoff"], task.horizons)
    frame["label"] = (~happened if task.kind == "absence" else happened).astype(np.int8)
    frame["weight"] = 1.0
    return _eligible(frame, task)


def _interval(waited: pd.Series, horizons: Sequence[timedelta]) -> np.ndarray:
    """Return the position of the first horizon that a wait does not exceed; a missing one, none."""
    ends = np.array(horizons, "timedelta64[us]").astype(np.int64)
    us = waited.to_numpy("timedelta64[us]").astype(np.int64)
    return np.where(waited.isna(), len(ends), np.searchsorted(ends, us, side="left"))


def eligible_customers(
    events: Any, task: TaskConfig, cutoff: datetime, label_only_events: tuple[str, ...] = ()
) -> np.ndarray:
    """Return the ids of those whom a task asks about at a cutoff; nobody is held out.

    Args:
        events: Ibis table of the event log.
        task: whose eligibility counts.
        cutoff: with a time zone.
        label_only_events: events that are no tokens and make nobody eligible.
    """
    import ibis

    asked = ibis.memtable(
        pd.DataFrame({"split": ["score"], "cutoff": [cutoff]}),
        schema={"split": "string", "cutoff": UTC_MICROSECONDS},
    )
    everybody = task.model_copy(update={"customer_holdout": 0.0})
    known = _known(events, asked, everybody, label_only_events).to_pandas()
    return _eligible(known, everybody)[0]["customer_id"].to_numpy(object)


def _known(events: Any, cutoffs: Any, task: TaskConfig, label_only: tuple[str, ...]) -> Any:
    """Per customer and cutoff: how many tokens are known, and what eligibility needs."""
    import ibis

    rule = task.eligible
    counts = events.actor == "customer" if rule.events is None else events.event.isin(rule.events)
    own = {}
    if task.above_own:
        own["past"] = events.event.isin(task.target).ifelse(_exact(events[task.value]), ibis.null())
    marked = events.select(
        "customer_id",
        "timestamp",
        "known_at",
        token=~events.event.isin(label_only),
        counts=counts,
        rules_out=events.event.isin(rule.without) if rule.without else ibis.literal(False),
        **own,
    )
    marked = marked.mutate(counts=marked.counts & (marked.token | ibis.literal(bool(rule.events))))
    pairs = marked.join(cutoffs, marked.known_at <= cutoffs.cutoff)
    known = pairs.group_by("customer_id", "cutoff", "split").aggregate(
        end=pairs.token.sum(),
        last_counting=pairs.timestamp.max(where=pairs.counts),
        last_token=pairs.timestamp.max(where=pairs.token),
        ruled_out=pairs.rules_out.any(),
        **({"past": _own_past(pairs.past, task)} if task.above_own else {}),
    )
    return known.mutate(
        held_out=_drawn(known.customer_id, "holdout", task.customer_holdout),
        certifies=_drawn(known.customer_id, "certify", task.certify),
    )


def _drawn(customer_id: Any, purpose: str, share: float) -> Any:
    """A hash of the id, in hex: the same customers are drawn on every run and engine."""
    drawn = (f"{purpose} " + customer_id).hexdigest("md5").left(8)
    return drawn < f"{int(share * 2**32):08x}"


def _exact(money: Any) -> Any:
    """Decimals: floats add up differently on every engine, and 0.1 + 0.2 - 0.3 is no sale."""
    return money.cast("decimal(38, 6)")


def _own_past(values: Any, task: TaskConfig) -> Any:
    """Return the largest or the mean of a customer's earlier values; null without any."""
    if task.above == "largest":
        return values.max()
    # A mean of equal values is that value again, once it is rounded as they are.
    return _exact(values.sum().cast("float64") / values.count())


def _place(frame: pd.DataFrame, customer_ids: np.ndarray) -> pd.DataFrame:
    """Add the customer's position in the store and order the rows by it."""
    index = pd.Index(customer_ids).get_indexer(frame["customer_id"])
    if (index < 0).any():
        lost = frame["customer_id"][index < 0].iloc[0]
        raise DataError(
            f"customer '{lost}' is in the event log but not in the store; prepare again."
        )
    frame.insert(1, "customer_index", index.astype(np.int64))
    frame["end"] = frame["end"].astype(np.int64)
    order = pd.Categorical(frame["split"], SPLITS, ordered=True).codes
    frame = frame.assign(order=order).sort_values(["customer_index", "cutoff", "order"])
    return frame.drop(columns="order").reset_index(drop=True)


def _eligible(
    frame: pd.DataFrame, task: TaskConfig
) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Apply the eligibility rules in order; each row left out counts for its first reason."""
    rule = task.eligible
    what = "event of their own" if rule.events is None else " or ".join(rule.events)
    never = frame["last_counting"].isna().to_numpy()
    reasons = [(never, f"no {what} before the cutoff")]
    if rule.within is not None:
        away = (frame["cutoff"] - frame["last_counting"]).to_numpy() > np.timedelta64(rule.within)
        reasons.append((away, f"no {what} within {_days(rule.within)} before the cutoff"))
    if rule.without:
        reasons.append((frame["ruled_out"].to_numpy(bool), f"{' or '.join(rule.without)} already"))
    if task.above_own:
        events = " or ".join(task.target)
        reasons.append((frame["past"].isna().to_numpy(), f"no value of {events} to go above"))
    if task.customer_holdout:
        held_out = frame["held_out"].to_numpy(bool)
        testing = (frame["split"] == "test").to_numpy()
        reasons.append((held_out & ~testing, "held out for the test"))
        reasons.append((~held_out & testing, "not held out: used in training"))
    left = np.zeros(len(frame), bool)
    excluded: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for mask, reason in reasons:
        counts = frame["split"][mask & ~left].value_counts()
        for split in SPLITS:
            excluded[split][reason] = int(counts.get(split, 0))
        left |= mask
    chosen = frame[~left].reset_index(drop=True)
    chosen["slice_history"] = _bands(chosen["end"], _HISTORY_BANDS)
    recency = (chosen["cutoff"] - chosen["last_token"]).dt.total_seconds() / 86400
    chosen["slice_recency"] = _bands(recency.fillna(np.inf), _RECENCY_BANDS_DAYS)
    certifying = (chosen["split"] == "validation") & chosen["certifies"].astype(bool)
    chosen["split"] = chosen["split"].mask(certifying, CERTIFICATION)
    own = ["past"] if task.above_own else []
    aside = ["last_counting", "last_token", "ruled_out", "held_out", "certifies", *own]
    return chosen.drop(columns=aside), excluded


def _bands(values: pd.Series, bands: Sequence[tuple[float, str]]) -> pd.Series:
    """Name the first band whose upper edge, included, a value does not exceed."""
    edges, names = zip(*bands, strict=True)
    return pd.Series(
        np.array(names)[np.searchsorted(edges, values.to_numpy(float))], dtype="string"
    )


def _days(length: timedelta) -> str:
    return f"{length.days} days" if length >= timedelta(days=2) else str(length)


def check_events(events: Any, task: TaskConfig) -> None:
    """Refuse an event name that never occurs in a log: a typo would make a silent, useless task."""
    names = events.select("event").distinct().to_pandas()["event"].tolist()
    wanted = {
        "target": task.target,
        "eligible.events": task.eligible.events or (),
        "eligible.without": task.eligible.without,
    }
    for key, events_named in wanted.items():
        for event in events_named:
            if event not in names:
                raise DataError(
                    f"task '{task.name}': task.{key} names '{event}', which never occurs."
                    + nearest(event, names)
                )
    if task.kind == "sum" or task.above is not None:
        numeric = [name for name in events.columns if events[name].type().is_floating()]
        if task.value not in numeric:
            raise DataError(
                f"task '{task.name}': task.value names '{task.value}', which is no numeric column "
                f"of the event log ({', '.join(numeric) or 'it has none'})."
                + nearest(task.value, numeric)
            )


def check_classes(labels: Mapping[tuple[str, int], int], task: TaskConfig) -> None:
    """Refuse a split without snapshots, or with one class only.

    Args:
        labels: how many snapshots each (split, label) has.
        task: for messages.
    """
    for split in SPLITS:
        counts = {label: labels[split, label] for label in (0, 1) if labels.get((split, label))}
        if not counts:
            raise DataError(
                f"task '{task.name}': no customer is eligible at any {split} cutoff. "
                "Loosen task.eligible or move task.cutoffs"
                + (", or ask for less in task.certify." if task.certify else ".")
            )
        if len(counts) == 1:
            ((label, count),) = counts.items()
            raise DataError(
                f"task '{task.name}': all {count:,} {split} snapshots have label "
                f"{label}; nothing can be learned or measured. "
                "Change task.horizon, task.target or task.cutoffs."
            )
    if task.certify and not any(split == CERTIFICATION for split, _ in labels):
        raise DataError(
            f"task '{task.name}': task.certify={task.certify:g} keeps no customer of validation "
            "for the gate. Ask for a larger share, or for 0, with which all of them answer it."
        )
