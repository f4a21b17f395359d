"""The answer first: is this data ready, for which tasks, and what stands in the way?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqjourney.events.audit.rows import Row, percent
from seqjourney.events.audit.thresholds import FAIL, WARN

# What is wrong when a check fails, in the fewest words; `{n}` is its value, `{share}` as a share.
_PROBLEMS = {
    "history": "only {n:.1f} months of history",
    "active_customers": "only {n:,.0f} customers active in a month",
    "gaps": "a silence of {n:.0f} days",
    "quarantined": "{share} of the rows could not be used",
    "duplicates": "{share} duplicates",
    "late": "{share} of events known later than 72 hours",
    "identity": "only {share} of events have an identified customer",
    "mapped": "only {share} of events covered by the tracking plan",
    "consent": "consent known of only {share} of customers",
    "drift": "{name}",
    "outcomes": "only {n:,.0f} customers of one kind (with or without the outcome) in a split",
    "window": "a history of only {n:.1f} times the horizon",
    "recency": "recency alone all but settles the outcome (AUC {n:.2f})",
}


@dataclass(frozen=True)
class Verdict:
    """`ready` and `not_yet` are task names; `sentence` answers, `more` qualifies."""

    ready: tuple[str, ...]
    not_yet: tuple[str, ...]
    data_ready: bool
    sentence: str
    more: str


def verdict(rows: Sequence[Row], tasks: Sequence[str]) -> Verdict:
    """Read the answer off the rows: one that fails about all of the data stops every task."""
    failing = [row for row in rows if row.status == FAIL]
    of_data = [row for row in failing if row.task is None]
    stopped = {row.task for row in failing}
    ready = tuple(task for task in tasks if task not in stopped and not of_data)
    not_yet = tuple(task for task in tasks if task not in ready)
    if of_data:
        sentence = f"Not ready yet: {_all([_problem(row) for row in of_data])}."
    elif not tasks:
        sentence = "Ready for a first task: nothing about the data itself stands in the way."
    elif not not_yet:
        sentence = f"Ready for {_all(ready)}."
    else:
        start = f"Ready for {_all(ready)}, not yet for" if ready else "Not ready yet for"
        sentence = f"{start} {_all(not_yet)}: {_why(failing, not_yet)}."
    return Verdict(ready, not_yet, not of_data, sentence, _more(rows))


def _why(failing: Sequence[Row], tasks: Sequence[str]) -> str:
    """Name what stops the tasks; with several, each problem says whose it is."""
    each = [
        _problem(row) + (f" for {row.task}" if len(tasks) > 1 else "")
        for task in tasks
        for row in failing
        if row.task == task
    ]
    return _all(each)


def _problem(row: Row) -> str:
    value = 0.0 if row.value is None else row.value
    name = row.name[0].lower() + row.name[1:]
    return _PROBLEMS[row.key].format(n=value, share=percent(value), name=name)


def _more(rows: Sequence[Row]) -> str:
    warned = [row for row in rows if row.status == WARN]
    if not warned:
        return "No warnings."
    # One check may warn for several tasks; it is one thing to look at.
    names = dict.fromkeys(row.name[0].lower() + row.name[1:] for row in warned)
    return f"Look at next: {_all(list(names))}."


def _all(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
