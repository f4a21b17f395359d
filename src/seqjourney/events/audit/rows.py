"""One row of the audit, and the words in which its figures are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqjourney.events.audit.thresholds import NOT_APPLICABLE, PASS, THRESHOLDS

_MOST_LISTED = 4  # reasons, purposes, fields in one sentence


@dataclass(frozen=True)
class Row:
    """One line of the audit; `task` is None for a statement about all of the data."""

    key: str
    name: str
    status: str
    value: float | None
    found: str
    asked: str
    source: str
    source_url: str | None
    advice: str
    """Empty where the check passes."""
    task: str | None = None


def row(
    key: str, name: str, value: float, found: str, advice: str, *,
    status: str | None = None, task: str | None = None,
) -> Row:  # fmt: skip
    """Judge a value against the limit of `key`; a row that passes needs nothing done."""
    limit = THRESHOLDS[key]
    status = status or limit.judge(value)
    return Row(
        key, name, status, float(value), found, limit.asked, limit.source.name, limit.source.url,
        "" if status == PASS else advice, task,
    )  # fmt: skip


def absent(key: str, name: str, why: str, advice: str, task: str | None = None) -> Row:
    """Say that a check has nothing to look at, and why."""
    limit = THRESHOLDS[key]
    source, url = limit.source.name, limit.source.url
    return Row(key, name, NOT_APPLICABLE, None, why, limit.asked, source, url, advice, task)


def percent(share: float) -> str:
    """Print a share; a tiny one that is not zero does not read as zero."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    if 0 < share < 0.0005:
        return "under 0.1 %"
    return "just under 100 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def listed(parts: Sequence[str]) -> str:
    """Join the first few parts; say how many more there are."""
    more = len(parts) - _MOST_LISTED
    return ", ".join(parts[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def within(hours: float) -> str:
    """Print a delay in the unit that a person would use."""
    seconds = 3600 * hours
    if seconds < 0.5:
        return "at once"
    units = (("second", 1, 90), ("minute", 60, 5400), ("hour", 3600, 259_200))
    unit, size = next(((u, s) for u, s, below in units if seconds < below), ("day", 86_400))
    number = round(seconds / size)
    return f"within {number} {unit}" + ("s" if number != 1 else "")
