"""The review file: what the plan does not know or what breaks it, for a person to decide.

`write_review` puts findings into YAML, the user edits `canonical` and sets `accept: true`, and
`accepted` adds the decisions to the plan. A file that nobody edited decides nothing; writing it
again keeps what was decided.
"""

from __future__ import annotations

from pathlib import Path

from seqjourney.config import parse
from seqjourney.errors import ConfigError
from seqjourney.events.taxonomy.documents import read_yaml, to_yaml
from seqjourney.events.taxonomy.findings import Findings
from seqjourney.events.taxonomy.mapping import lookup, rules
from seqjourney.events.taxonomy.names import fold, shown
from seqjourney.events.taxonomy.plan import Event, TrackingPlan, check, merge
from seqjourney.events.taxonomy.review_content import Proposal, Review, draft
from seqjourney.files import replacing_file

_HEADER = """\
# Event names that the tracking plan does not know, and events that break it.
#
# To map a name: set 'canonical' to the event that it is and 'accept' to true, then prepare again
# with this file as the review. Canonical names read object, then action in the past tense, such as
# order_completed. What you do not accept keeps its own name; nothing is ever dropped.
# 'suspects' are names that carry data (* stands for it); one entry maps all names of that form.
# Prepare writes this file anew and keeps your decisions.

"""


def write_review(
    path: Path, findings: Findings, plan: TrackingPlan, *, earlier: Path | None = None
) -> Review:
    """Write the review file, whole or not at all.

    Args:
        path: the file.
        findings: what `examine` found.
        plan: the plan, for warnings about its names.
        earlier: the review whose decisions are kept; unset means the one that `path` holds.

    Returns:
        What was written.

    Raises:
        ConfigError: the earlier review cannot be read; it is left as it is.
    """
    before = read_review(path if earlier is None else earlier)
    review = draft(findings, plan)
    review = review.model_copy(
        update={
            "unmapped": _with_decisions(review.unmapped, before.unmapped),
            "suspects": _with_decisions(review.suspects, before.suspects),
        }
    )
    content = review.model_dump(mode="json")
    with replacing_file(path) as partial:
        partial.write_text(_HEADER + to_yaml(content), encoding="utf-8")
    return review


def read_review(path: Path) -> Review:
    """Read a review file; one that does not exist is empty.

    Raises:
        ConfigError: it is not YAML or has an unknown key; names the line or the key.
    """
    return parse(Review, read_yaml(path), str(path)) if path.exists() else Review()


def accepted(path: Path, plan: TrackingPlan) -> TrackingPlan:
    """Return a plan with what the user of a review accepted.

    Args:
        path: the review file; one that does not exist decides nothing.
        plan: gives `canonical` its meaning: a raw name stands for the event that it maps to.

    Returns:
        `plan` with the accepted names in it; the same plan where nothing was accepted.

    Raises:
        ConfigError: an accepted entry has no usable canonical name, or entries contradict each
            other. Names the entry, and how to mend it.
    """
    review = read_review(path)
    chosen = [entry for entry in (*review.unmapped, *review.suspects) if entry.accept]
    for entry in chosen:
        if not any(c.isalnum() for c in entry.canonical) or "*" in entry.canonical:
            raise ConfigError(
                f"{path}: the entry '{shown(entry.name)}' is accepted, but its canonical name "
                f"'{shown(entry.canonical)}' is none; write one such as 'order_completed'."
            )
    targets = {entry.name: fold(entry.canonical) for entry in chosen}
    found = rules(plan)
    raw: dict[str, list[str]] = {}
    for entry in chosen:
        target = _follow(fold(entry.canonical), targets, path)
        target = lookup(found, None, target) or target
        raw.setdefault(target, [])
        if entry.name != target:
            raw[target].append(entry.name)
    additions = TrackingPlan(events={name: Event(raw=tuple(names)) for name, names in raw.items()})
    check(additions, str(path))
    return merge(plan, additions) if chosen else plan


def _follow(target: str, targets: dict[str, str], path: Path) -> str:
    """An accepted name may be mapped to another accepted one; return where that leads."""
    seen = [target]
    while targets.get(target, target) != target:
        target = targets[target]
        if target in seen:
            circle = " → ".join([*seen, target])
            raise ConfigError(f"{path}: accepted names go in a circle: {circle}; change one.")
        seen.append(target)
    return target


def _with_decisions(
    new: tuple[Proposal, ...], before: tuple[Proposal, ...]
) -> tuple[Proposal, ...]:
    """Keep what was decided; decided entries that are mapped by now go to the end."""
    decided = {entry.name: entry for entry in before if entry.decided}
    kept = []
    for entry in new:
        old = decided.pop(entry.name, None)
        if old is not None:
            entry = entry.model_copy(update={"canonical": old.canonical, "accept": old.accept})
        kept.append(entry)
    return (*kept, *decided.values())
