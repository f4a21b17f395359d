"""Statements of all identifiers of a customer → one time line, by the strictest reading.

The rules, in the order in which they apply:

1. A denial under any identifier of the merged customer counts for the whole customer, from its
   moment on (inclusive).
2. It is lifted by a later grant of the same speaker, or by a later personal grant: a choice of
   somebody who was signed in, under whatever identifier. A cookie elsewhere that grants lifts
   nothing: a device speaks for itself, a person for all their devices.
3. `unknown` (asked again, expired, no answer yet) ends a grant of the same speaker but lifts no
   denial: a refusal stands until it is taken back.
4. While no denial stands, the customer has granted if any speaker's grant stands.

At one moment denied wins over granted, and granted over unknown.
"""

from __future__ import annotations

from typing import Any

import ibis


def timeline(statements: Any) -> Any:
    """Join statements into intervals per customer and purpose.

    Args:
        statements: Ibis table, see `stated.SCHEMA`.

    Returns:
        Ibis table `customer_id`, `purpose`, `since`, `until` (exclusive; null: still so), `state`,
        `known_at` (of what was said at `since`). Before the first interval nothing is known.
    """
    standing = _standing(statements)
    keys = ["customer_id", "purpose"]
    starts = standing.select(
        *keys, at="since", denials="denial", grants="grant", known_at="known_at"
    )
    ends = standing.filter(standing.ends.notnull()).select(
        *keys,
        at="ends",
        denials=-standing.denial,
        grants=-standing.grant,
        known_at=ibis.null(standing.known_at.type()),  # what ends it starts a statement of its own
    )
    points = starts.union(ends)
    points = points.group_by(*keys, "at").aggregate(
        denials=points.denials.sum(), grants=points.grants.sum(), known_at=points.known_at.max()
    )
    so_far = ibis.window(group_by=keys, order_by="at", rows=(None, 0))
    points = points.mutate(
        denials=points.denials.sum().over(so_far), grants=points.grants.sum().over(so_far)
    )
    points = points.mutate(
        state=ibis.cases(
            (points.denials > 0, "denied"), (points.grants > 0, "granted"), else_="unknown"
        )
    )
    in_order = ibis.window(group_by=keys, order_by="at")
    points = points.mutate(before=points.state.lag().over(in_order))
    changes = points.filter(points.before.isnull() | (points.before != points.state))
    return changes.select(
        *keys,
        since="at",
        until=changes["at"].lead().over(in_order),
        state="state",
        known_at="known_at",
    )


def _standing(statements: Any) -> Any:
    """Add to each statement what it is (`denial`, `grant`: 1 or 0) and when it `ends`."""
    none = ibis.null(statements.since.type())
    denied, granted = (statements.state == state for state in ("denied", "granted"))
    marked = statements.mutate(
        denial=denied.ifelse(1, 0).cast("int64"),
        grant=granted.ifelse(1, 0).cast("int64"),
        # A grant at the moment of a denial does not lift it: it must not come after it in order.
        place=denied.ifelse(1, 0).cast("int64"),
        granted_at=granted.ifelse(statements.since, none),
        personal_at=(granted & statements.personal).ifelse(statements.since, none),
    )
    own = ["customer_id", "purpose", "speaker"]
    later = ibis.window(group_by=own, order_by="since", rows=(1, None))
    anyone = ibis.window(
        group_by=["customer_id", "purpose"],
        order_by=["since", "place", "speaker"],
        rows=(1, None),
    )
    lifted = ibis.least(
        ibis.coalesce(marked.granted_at.min().over(later), marked.personal_at.min().over(anyone)),
        ibis.coalesce(marked.personal_at.min().over(anyone), marked.granted_at.min().over(later)),
    )
    replaced = marked.since.min().over(later)
    return marked.mutate(ends=(marked.denial == 1).ifelse(lifted, replaced))
