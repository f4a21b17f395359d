"""Look at mapped rows once, for all that a person should see: synonyms and violations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from seqjourney.events.taxonomy import evidence, synonyms, violations
from seqjourney.events.taxonomy.mapping import resolve
from seqjourney.events.taxonomy.plan import TrackingPlan


@dataclass(frozen=True)
class Findings:
    """What there is to review."""

    resolved: pd.DataFrame
    """Raw names with what became of them (see `mapping.resolve`)."""
    candidates: pd.DataFrame
    """Likely synonyms (see `synonyms.candidates`)."""
    violations: pd.DataFrame
    """What breaks the plan (see `violations.find`)."""


def examine(
    rows: Any,
    plan: TrackingPlan,
    names: pd.DataFrame,
    *,
    by: str = "customer_id",
    order: tuple[str, ...] = ("timestamp", "source", "event_id"),
    per_event: int = 20_000,
) -> Findings:
    """Look for synonyms and violations in rows that have canonical names.

    Args:
        rows: Ibis table with canonical `event`, and where there are any `properties` (JSON text)
            with `event_id` or `source_row`.
        plan: the plan that named them.
        names: `mapping.read_names` of the raw rows.
        by: column whose rows form one sequence: a customer or a session.
        order: columns that order a sequence; those that `rows` lacks are left out.
        per_event: violations are counted in about so many rows of each event, and scaled up.
    """
    resolved = resolve(names, plan)
    compared = synonyms.events(resolved, plan)
    keys = evidence.key_shares(rows, compared[compared["rows"] > 0], plan)
    pairs = evidence.neighbours(rows, compared, by=by, order=order)
    found = synonyms.candidates(compared, keys, pairs)
    broken = _violations(rows, plan, compared, per_event)
    return Findings(resolved, found, broken)


def _violations(
    rows: Any, plan: TrackingPlan, compared: pd.DataFrame, per_event: int
) -> pd.DataFrame:
    """Find what breaks the plan in a sample; `rows` is scaled up to the event's volume."""
    if "properties" not in rows.columns:
        return violations.find(rows, plan)
    occurring = compared[(compared["rows"] > 0) & compared["mapped"].astype(bool)]
    sampled = evidence.sample(rows, occurring, per_event=per_event)
    found = violations.find(sampled, plan)
    volume = found["event"].map(dict(zip(occurring["event"], occurring["rows"], strict=True)))
    scaled = (found["share"] * volume.astype(float)).round().astype("int64")
    return found.assign(rows=scaled)
