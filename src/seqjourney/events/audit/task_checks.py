"""Rows about one task: enough outcomes, enough history, recency, base rate, holdout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from seqjourney.events.audit.measure import Calendar
from seqjourney.events.audit.power import Holdout
from seqjourney.events.audit.rows import Row, absent, percent, row
from seqjourney.events.audit.tasks import TaskFacts
from seqjourney.events.audit.thresholds import NOT_APPLICABLE, PASS, THRESHOLDS, WARN

_SURE = 4.0  # standard errors between the extremes of many cutoffs
_MOST_TIMES = 1e6  # a rate against one of zero
_LEAST_SNAPSHOTS = 100  # a cutoff with fewer says little about the base rate


def no_task() -> list[Row]:
    """Say that nothing was asked of the data yet."""
    why = "no task was cut on this data"
    advice = "Name a target and a horizon: python scripts/train.py data=... 'task.target=[...]'"
    return [absent("outcomes", "Customers with and without the outcome", why, advice)]


def task_rows(facts: TaskFacts, calendar: Calendar, holdouts: Sequence[Holdout]) -> list[Row]:
    """Return the rows of one task, in the order of reading."""
    rows = [outcomes(facts), window(facts, calendar), recency(facts), base_rate(facts)]
    return rows + ([holdout(facts, holdouts)] if holdouts else [])


def outcomes(facts: TaskFacts) -> Row:
    """Are there enough customers of both kinds in every split?"""
    least = min(min(o.with_outcome, o.without) for o in facts.outcomes.values())
    each = [
        f"{split} {o.with_outcome:,} with, {o.without:,} without"
        for split, o in facts.outcomes.items()
    ]
    return row(
        "outcomes", "Customers with and without the outcome", least, "; ".join(each),
        "Choose a more frequent target, a longer horizon or more cutoffs, or gather more data.",
        task=facts.task.name,
    )  # fmt: skip


def window(facts: TaskFacts, calendar: Calendar) -> Row:
    """Is the history long against the horizon, and against who counts?"""
    horizon = facts.task.horizon
    span = calendar.last - calendar.first
    times = span.total_seconds() / horizon.total_seconds()
    return row(
        "window", "History against the horizon", times,
        f"{times:.1f} times the horizon of {length(horizon)}",
        "Shorten the horizon, or load older exports.", task=facts.task.name,
    )  # fmt: skip


def length(time: timedelta) -> str:
    """Print a horizon in days, hours or minutes."""
    for unit, one in (("day", timedelta(days=1)), ("hour", timedelta(hours=1))):
        if time >= one and time % one == timedelta(0):
            number = time // one
            return f"{number} {unit}" + ("s" if number != 1 else "")
    return f"{time.total_seconds() / 60:g} minutes"


def recency(facts: TaskFacts) -> Row:
    """How much of the answer is told by the days since the last event alone?"""
    name, task = "What recency alone tells", facts.task.name
    if facts.recency_auc is None:
        return absent(
            "recency", name, "training and validation hold one class only", "Widen the task.", task
        )
    auc = facts.recency_auc
    strength = max(auc, 1 - auc)
    return row(
        "recency", name, strength,
        f"AUC {auc:.2f} of days since the last event (0.5: nothing, 1: everything), training and "
        "validation" + ("" if auc >= 0.5 else "; the reverse order ranks better"),
        "A simple rule already ranks well here: ask every model to beat it, and check that the "
        "eligibility does not settle the label.",
        task=task,
    )  # fmt: skip


def base_rate(facts: TaskFacts) -> Row:
    """Does the share with the outcome stay the same over the cutoffs?"""
    name, task = "Base rate over time", facts.task.name
    rates = facts.base_rates[facts.base_rates["snapshots"] >= _LEAST_SNAPSHOTS]
    if len(rates) < 2:
        why = f"needs two cutoffs with {_LEAST_SNAPSHOTS} customers each"
        return absent("base_rate", name, why, "Add cutoffs.", task)
    ordered = rates.sort_values(["rate", "cutoff"])
    low, high = ordered.iloc[0], ordered.iloc[-1]
    ratio = float(high["rate"] / low["rate"]) if low["rate"] > 0 else _MOST_TIMES
    pooled = facts.base_rate
    spread = math.sqrt(pooled * (1 - pooled) * (1 / low["snapshots"] + 1 / high["snapshots"]))
    by_chance = high["rate"] - low["rate"] <= _SURE * spread
    found = (
        f"{percent(low['rate'])} on {low['cutoff']:%Y-%m-%d} to {percent(high['rate'])} on "
        f"{high['cutoff']:%Y-%m-%d}; {percent(pooled)} over training and validation"
        + (", no more than chance gives" if by_chance else "")
    )
    return row(
        "base_rate", name, min(ratio, _MOST_TIMES), found,
        "Probabilities will be off when the rate moves: recalibrate often, and look at each "
        "cutoff in the report.", task=task, status=PASS if by_chance else None,
    )  # fmt: skip


def holdout(facts: TaskFacts, plans: Sequence[Holdout]) -> Row:
    """What could the first planned holdout detect?"""
    name, task = "Smallest effect a holdout could detect", facts.task.name
    first = plans[0]
    if first.relative is None or first.change is None:
        limit = THRESHOLDS["holdout"]
        advice = "Hold out more customers, or measure over several months together."
        return Row(
            "holdout", name, WARN if first.held_out else NOT_APPLICABLE, None,
            f"none: holding out {100 * first.share:g} % leaves {first.held_out:,} customers",
            limit.asked, limit.source.name, limit.source.url, advice, task,
        )  # fmt: skip
    best = min(plans, key=lambda plan: plan.relative if plan.relative is not None else 9e9)
    advice = "Measure over several months together, or hold out more"
    if best is not first and best.relative is not None:
        advice += (
            f": {100 * best.share:g} % held out would show a change of {percent(best.relative)}"
        )
    return row(
        "holdout", name, first.relative,
        f"{effect(first)} with {100 * first.share:g} % of {first.held_out + first.contacted:,} "
        "monthly customers held out",
        advice + ".", task=task,
    )  # fmt: skip


def share_of(relative: float) -> str:
    """Print a change as a share of the base rate; beyond that rate, as so many times it."""
    return f"{percent(relative)} of it" if relative <= 1 else f"{relative:.1f} times it"


def effect(plan: Holdout) -> str:
    """Print a change in points and as a share of the base rate."""
    if plan.change is None or plan.relative is None:
        return "none"
    way = "rise" if plan.change > 0 else "fall"
    return (
        f"a {way} of {100 * abs(plan.change):.1f} points from {percent(plan.base_rate)} "
        f"({share_of(plan.relative)})"
    )
