"""Consent enforced: which events may be in the log, and which snapshots may train or be scored.

An event is judged by the consent in force when it happened, with all that is known today. A
snapshot is judged by what was known at its cutoff, and before training and evaluation also by the
customer's latest state: who has withdrawn since is not trained on any more.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd

from seqjourney.config.types import nearest
from seqjourney.errors import ConfigError
from seqjourney.events.cleaning import UTC_MICROSECONDS as _MOMENT
from seqjourney.events.consent.intervals import timeline
from seqjourney.events.consent.policy import (
    DENIED,
    UNKNOWN,
    UNSTATED,
    WITHDRAWN,
    ConsentPolicy,
)
from seqjourney.events.consent.stated import FILE, read_statements

_NEVER = datetime(9999, 12, 31, tzinfo=UTC)


def check_purpose(statements: Any, policy: ConsentPolicy) -> None:
    """Refuse a purpose that no statement speaks of: a typo would withhold all or nothing.

    Raises:
        ConfigError: names the purposes that there are.
    """
    found = statements.select("purpose").distinct().to_pandas()["purpose"].tolist()
    if policy.purpose is not None and found and policy.purpose not in found:
        raise ConfigError(
            f"consent.purpose: no source speaks of '{policy.purpose}' (case matters)."
            f"{nearest(policy.purpose, found)} Sources' own categories become purposes through "
            "consent.purposes, such as {C0002: " + policy.purpose + "}."
        )


def enforce(events: Any, intervals: Any, policy: ConsentPolicy) -> Any:
    """Mark the events that consent does not cover.

    Args:
        events: Ibis table with `customer_id` and `timestamp`.
        intervals: from `timeline`.
        policy: the purpose that is needed, and what silence means.

    Returns:
        `events` with a further column `withheld`: null, `consent denied` or `consent unknown`.
    """
    if policy.purpose is None:
        return events.mutate(withheld=ibis.null("string"))
    wanted = intervals.filter(intervals.purpose == policy.purpose)
    if policy.unknown == "allow":
        wanted = wanted.filter(wanted.state == "denied")  # few: everything else passes
    wanted = wanted.select(
        consent_customer="customer_id",
        consent_since="since",
        consent_until=wanted.until.fill_null(ibis.literal(_NEVER, wanted.until.type())),
        consent_state="state",
    )
    judged = events.left_join(
        wanted,
        [
            events.customer_id == wanted.consent_customer,
            events.timestamp >= wanted.consent_since,
            events.timestamp < wanted.consent_until,
        ],
    )
    return judged.select(*events.columns, withheld=_reason(judged.consent_state, policy))


def _reason(state: Any, policy: ConsentPolicy, denied: str = DENIED, unknown: str = UNKNOWN) -> Any:
    cases = [(state == "denied", denied)]
    if policy.unknown == "withhold":
        cases.append((state.isnull() | (state == "unknown"), unknown))
    return ibis.cases(*cases)


def allowed_snapshots(
    snapshots: Any, statements: Any, policy: ConsentPolicy, *, latest: bool = True
) -> Any:
    """Mark the snapshots that consent does not cover.

    Args:
        snapshots: Ibis table with `customer_id` and `cutoff`.
        statements: see `stated.SCHEMA`; not the time line, which knows more than a cutoff did.
        policy: the purpose that is needed, and what silence means.
        latest: also ask for the customer's latest state, as training and evaluation must. Scoring
            asks at the latest moment anyway.

    Returns:
        `snapshots` with a further column `withheld`: null or the reason.
    """
    if policy.purpose is None:
        return snapshots.mutate(withheld=ibis.null("string"))
    said = statements.filter(statements.purpose == policy.purpose)
    asked = snapshots.select("customer_id", "cutoff").distinct()
    known = _known_states(asked, said)
    judged = snapshots.left_join(known, ["customer_id", "cutoff"])
    judged = judged.select(*snapshots.columns, at_cutoff=judged.state)
    reason = _reason(judged.at_cutoff, policy)
    if not latest:
        return judged.select(*snapshots.columns, withheld=reason)
    now = latest_states(timeline(said)).select("customer_id", now="state")
    both = judged.left_join(now, "customer_id")
    both = both.select(*snapshots.columns, "at_cutoff", "now")
    withheld = ibis.coalesce(
        _reason(both.at_cutoff, policy), _reason(both.now, policy, WITHDRAWN, UNSTATED)
    )
    return both.select(*snapshots.columns, withheld=withheld)


def keep_allowed(
    backend: Any,
    snapshots: pd.DataFrame,
    prepared: Path,
    policy: ConsentPolicy,
    *,
    latest: bool = True,
) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Leave out the snapshots of a frame that consent does not cover; see `allowed_snapshots`.

    Args:
        backend: from `events.engine.connect`.
        snapshots: with `customer_id`, `cutoff` and perhaps `split`.
        prepared: the folder whose consent statements count.
        policy: the purpose that is needed, and what silence means.
        latest: as in `allowed_snapshots`.

    Returns:
        The snapshots that may be used, in their order; and how many were left out, by split (``""``
        without one) and reason.
    """
    if policy.purpose is None:
        return snapshots, {}
    keys = ["customer_id", "cutoff"]
    asked = ibis.memtable(
        snapshots[keys].drop_duplicates(), schema={"customer_id": "string", "cutoff": _MOMENT}
    )
    marked = allowed_snapshots(asked, read_statements(backend, prepared), policy, latest=latest)
    withheld = snapshots[keys].merge(backend.to_pyarrow(marked).to_pandas(), on=keys, how="left")
    reason = withheld["withheld"].to_numpy(dtype=object)
    out = withheld["withheld"].notna().to_numpy()
    splits = snapshots["split"].to_numpy() if "split" in snapshots else np.full(len(out), "")
    counts: dict[str, dict[str, int]] = {}
    for (split, why), rows in pd.DataFrame({"split": splits[out], "why": reason[out]}).groupby(
        ["split", "why"], sort=False
    ):
        counts.setdefault(str(split), {})[str(why)] = len(rows)
    return snapshots[~out].reset_index(drop=True), counts


def _known_states(asked: Any, said: Any) -> Any:
    """State of each customer at each cutoff by the statements known then (rules: `intervals`)."""
    said = said.select("state", "since", "known_at", "speaker", "personal", who="customer_id")
    pairs = asked.join(said, [asked.customer_id == said.who, said.known_at <= asked.cutoff])
    # What is known at a cutoff happened before it: cleaning sees to known_at >= timestamp.
    by_speaker = pairs.group_by("customer_id", "cutoff", "speaker").aggregate(
        denied=pairs.since.max(where=pairs.state == "denied"),
        granted=pairs.since.max(where=pairs.state == "granted"),
        unknown=pairs.since.max(where=pairs.state == "unknown"),
        personal=pairs.since.max(where=(pairs.state == "granted") & pairs.personal),
    )
    by_speaker = by_speaker.mutate(
        personal=by_speaker.personal.max().over(group_by=["customer_id", "cutoff"])
    )
    row = by_speaker
    denies = (row.denied.notnull() & ~_after(row.granted, row.denied)) & ~_after(
        row.personal, row.denied
    )
    grants = (
        row.granted.notnull() & ~_after(row.denied, row.granted) & ~_after(row.unknown, row.granted)
    )
    by_speaker = by_speaker.mutate(denies=denies, grants=grants)
    states = by_speaker.group_by("customer_id", "cutoff").aggregate(
        denies=by_speaker.denies.any(), grants=by_speaker.grants.any()
    )
    return states.select(
        "customer_id",
        "cutoff",
        state=ibis.cases((states.denies, "denied"), (states.grants, "granted"), else_="unknown"),
    )


def _after(later: Any, earlier: Any) -> Any:
    return (later > earlier).fill_null(False)


def latest_states(intervals: Any) -> Any:
    """Return `customer_id`, `purpose` and `state` as of today, from a time line."""
    return intervals.filter(intervals.until.isnull()).select("customer_id", "purpose", "state")


def describe_consent(statements: Any, policy: ConsentPolicy, prepared: Path) -> dict[str, Any]:
    """Describe the consent that a log or a run rests on, for its manifest or run.json."""
    states = latest_states(timeline(statements))
    counts = states.group_by("purpose", "state").aggregate(customers=states.count()).to_pandas()
    file = prepared / FILE
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.exists() else None
    return {
        "enforced": policy.purpose is not None,
        "policy": policy.model_dump(mode="json"),
        "customers": {
            str(purpose): {str(r.state): int(r.customers) for r in part.itertuples()}
            for purpose, part in counts.sort_values(["purpose", "state"]).groupby("purpose")
        },
        "statements": digest,
    }
