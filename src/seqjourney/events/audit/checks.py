"""Figures → rows of the audit: pass, warn, fail or not applicable, each with what to do.

One function per row, about the data as a whole here and about one task in `task_checks`. A row says
what was found, what is asked for and by whom, and what to do, in words that need no glossary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqjourney.events.audit.drift import Step
from seqjourney.events.audit.measure import Calendar, Customers, EventTypes, Identity, Late
from seqjourney.events.audit.names import harmless_names
from seqjourney.events.audit.rows import Row, absent, listed, percent, row, within
from seqjourney.events.audit.thresholds import (
    EVENT_TYPES,
    PASS,
    SILENCE_DAYS,
    THRESHOLDS,
    WARN,
)
from seqjourney.events.channels import agents

RECENT_STEPS = 3  # months whose drift can fail the audit


def history(found: Calendar) -> Row:
    """How long a history is there?"""
    months = found.history_months
    return row(
        "history", "Months of history", months,
        f"{months:.1f} months, {found.first:%Y-%m-%d} to {found.last:%Y-%m-%d}",
        "Load older exports, or wait: a year shows every season once.",
    )  # fmt: skip


def active_customers(found: Calendar) -> Row:
    """How many customers do something in a month?"""
    number = found.monthly_customers
    months = len(found.whole.tail(12))
    over = f"mean of the last {months} whole months" if months > 1 else "in the only whole month"
    if not months:
        over = "mean of incomplete months"
    return row(
        "active_customers", "Customers active in a month", number, f"{number:,.0f} ({over})",
        "Models train on fewer, but effects must be large to be seen: read the holdout table.",
    )  # fmt: skip


def event_types(found: EventTypes) -> Row:
    """Are there enough, and not too many, kinds of event?"""
    least, most = EVENT_TYPES
    few = found.number < least
    advice = (
        "Add sources that say what customers do between two outcomes, such as visits or e-mail."
        if few
        else "Names probably hold ids or dates: map them with a tracking plan."
    )
    return row(
        "event_types", "Different events", found.number, f"{found.number:,}", advice,
        status=PASS if least <= found.number <= most else WARN,
    )  # fmt: skip


def gaps(found: Calendar) -> Row:
    """Was the data ever silent?"""
    longest = float(found.silences["days"].max()) if len(found.silences) else 0.0
    empty = f"{found.empty_days:,} of {found.days:,} days without events"
    if not longest:
        return row("gaps", "Silences", 0, empty, "")
    worst = found.silences.iloc[0]
    several = int((found.silences["days"] >= SILENCE_DAYS).sum())
    status = THRESHOLDS["gaps"].judge(longest)
    if status == PASS and (found.empty_days or longest >= SILENCE_DAYS):
        status = WARN
    return row(
        "gaps", "Silences", longest,
        f"{empty}; longest silence {longest:.1f} days, from {worst['start']:%Y-%m-%d} to "
        f"{worst['end']:%Y-%m-%d}" + (f"; {several} of 7 days or more" if several > 1 else ""),
        "Closed, or was tracking broken? If broken, load what is missing or keep these days out "
        "of label windows." if longest >= SILENCE_DAYS else
        "Check that these are days on which the business was closed.",
        status=status,
    )  # fmt: skip


def quarantined_reasons(rows: Mapping[str, Any]) -> dict[str, int]:
    """Return reason -> rows, most first; reasons of several sources carry the source's name."""
    flat: dict[str, int] = {}
    for name, entry in dict(rows.get("quarantined") or {}).items():
        if isinstance(entry, Mapping):
            flat |= {f"{name}: {reason}": int(n) for reason, n in entry.items()}
        else:
            flat[name] = int(entry)
    shown = harmless_names(flat)
    return {shown[name]: n for name, n in sorted(flat.items(), key=lambda item: -item[1])}


def quarantined(rows: Mapping[str, Any]) -> Row:
    """How many rows could not be used, and why?

    Rows of automated agents could be: they are kept aside by choice, and counted apart.
    """
    reasons, total = quarantined_reasons(rows), max(1, int(rows["in"]))
    machines = {why: n for why, n in reasons.items() if why.split(": ")[-1] == agents.PROBLEM}
    reasons = {why: n for why, n in reasons.items() if why not in machines}
    aside = percent(sum(machines.values()) / total)
    share = sum(reasons.values()) / total
    each = [f"{reason} {percent(n / total)}" for reason, n in reasons.items()]
    return row(
        "quarantined", "Rows that could not be used", share,
        f"{percent(share)} of {total:,} rows"
        + (f": {listed(each)}" if each else "")
        + (f"; kept aside by choice and not counted: automated agents {aside}"
           if machines else ""),
        "Open quarantine.parquet, mend the most frequent reason at its source, prepare again.",
    )  # fmt: skip


def duplicates(rows: Mapping[str, Any], repeats: int, has_event_id: bool) -> Row:
    """How many rows came twice, and how many still look so?"""
    dropped, total = int(rows.get("duplicates") or 0), max(1, int(rows["in"]))
    share = max(dropped / total, repeats / max(1, int(rows["events"])))
    removed = f"{percent(dropped / total)} of rows repeated an id and were removed"
    if not has_event_id:
        removed = "no event id, so none could be removed"
    return row(
        "duplicates", "Duplicates", share,
        f"{removed}; {percent(repeats / max(1, int(rows['events'])))} of events repeat another of "
        "the same customer, name and instant",
        "Find out what sends events twice" + ("." if has_event_id else
                                              ", and give data.event_id a column to tell by."),
    )  # fmt: skip


def late(found: Late | None) -> Row:
    """How long after it happened did the company know?"""
    name = "Late arrivals"
    if found is None:
        return absent(
            "late", name, "the data do not say when each event became known",
            "If events arrive late in production, give data.known_at their load time: a model "
            "trained without it sees more than it will later.",
        )  # fmt: skip
    q = found.quantiles
    return row(
        "late", name, found.later_than(72),
        f"{percent(found.later_than(72))} known later than 72 hours, "
        f"{percent(found.later_than(24))} later than 24; half {within(q['p50'])}, 99 % "
        f"{within(q['p99'])}, the last {within(q['longest'])}",
        "Speed up the slow source, or score after it has arrived; cutoffs already count only "
        "what was known.",
    )  # fmt: skip


_NO_IDENTITY = "one column names the customer; there is no identity graph"


def identity(found: Identity | None) -> Row:
    """Is it known who did it?"""
    name = "Events of identified customers"
    if found is None:
        return absent("identity", name, _NO_IDENTITY, "Nothing, if that column names a person.")
    types = [f"{kind} {n:,}" for kind, n in found.by_type.items()]
    return row(
        "identity", name, found.strong_share,
        f"{percent(found.strong_share)} of events belong to a customer with a user id, e-mail or "
        f"the like; identifiers: {listed(types)}",
        "Send the user id with every event after login, and link cookies to it at login.",
    )  # fmt: skip


def fragmentation(customers: Customers, found: Identity | None) -> Row:
    """Is one person several customers?"""
    share = customers.single_event / max(1, customers.customers)
    text = f"{percent(share)} of {customers.customers:,} customers have a single event"
    if found is not None:
        weak = found.single_weak / max(1, customers.customers)
        text += (
            f", {percent(weak)} also without a strong identifier; {found.mean:.1f} identifiers per "
            f"customer, at most {found.most:,}"
        )
    return row(
        "fragmentation", "Customers seen only once", share, text,
        "Are these one-off visitors, or one person under many ids? Connect more identifiers.",
    )  # fmt: skip


def mapped(manifest: Mapping[str, Any]) -> Row:
    """Does the tracking plan cover what happens?"""
    name, about = "Events covered by the tracking plan", manifest.get("taxonomy")
    if about is None and "sources" in manifest:
        return absent(
            "mapped", name, "not counted again since a customer was erased", "Prepare again."
        )
    if not about or not about.get("rows"):
        return absent(
            "mapped", name, "no tracking plan was used: names stand as the source wrote them",
            "With several sources, write a tracking plan, so that one action has one name.",
        )  # fmt: skip
    share = about["mapped_rows"] / about["rows"]
    return row(
        "mapped", name, share,
        f"{percent(share)} of events, {about['mapped_names']:,} of {about['names']:,} names",
        "Open taxonomy_review.yaml, map the names with the most volume, prepare again.",
    )  # fmt: skip


def consent(found: Mapping[str, Mapping[str, float]] | None, needed: str | None = None) -> Row:
    """Is it known whether customers agreed?

    The purpose that the data config needs decides, or else the one that is known least.
    """
    name = "Customers whose consent is known"
    if not found:
        return absent(
            "consent", name, "the data carry no consent",
            "Make sure that you may use them; name a consent column if there is one.",
        )  # fmt: skip
    judged = [found[needed]] if needed is not None and needed in found else list(found.values())
    least = min(1 - states["unknown"] for states in judged)
    each = [
        f"{purpose}: known {percent(1 - s['unknown'])}, granted {percent(s['granted'])}"
        for purpose, s in sorted(found.items(), key=lambda item: -item[1]["unknown"])
    ]
    return row(
        "consent", name, least, listed(each),
        "Ask, or treat unknown as denied; the consent policy of the data config decides.",
    )  # fmt: skip


def drift(key_name: str, found: Mapping[str, Sequence[Step]]) -> Row:
    """Did the events, or a numeric field, change from month to month more than chance allows?"""
    steps = [(field, step) for field, each in found.items() for step in each]
    if not steps:
        return absent(
            "drift", key_name, "needs two whole months with 100 events each, and something to "
            "compare", "Nothing; it will be measured when there is more history.",
        )  # fmt: skip
    field, worst = max(steps, key=lambda pair: pair[1].real)
    recent = max((s.real for each in found.values() for s in each[-RECENT_STEPS:]), default=0.0)
    limit = THRESHOLDS["drift"]
    status = limit.judge(recent)
    if status == PASS and worst.real >= limit.passes:
        status = WARN
    if worst.real == 0:
        text = f"nothing beyond chance in {len(steps)} comparisons of a month with the one before"
    else:
        text = (
            f"largest PSI {worst.psi:.2f} in {worst.month}, {field} ({worst.moved}); at most "
            f"{recent:.2f} in the last {RECENT_STEPS} months"
        )
    return row(
        "drift", key_name, worst.real, text,
        "Ask what changed then: a release, a campaign or broken tracking. Train on months after it "
        "where you can.",
        status=status,
    )  # fmt: skip
