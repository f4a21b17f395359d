"""Merges that a person should look at: what may be wrong although no rule was broken.

Each finding says what was seen, at which customer or identifier, and how much of it. What turns out
wrong is mended in the rules: `separate` for two people in one customer, `together` for one person
in two, `blocked` for a value that identifies nobody, `limits` for a type that holds too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from seqjourney.events.identity.graph import ENDS
from seqjourney.events.identity.resolve import LIMIT_WORDS, Resolution
from seqjourney.events.identity.rules import IdentityRules

COLUMNS = ("reason", "customer_id", "identifier_type", "identifier", "count", "size", "since")
_SIZES = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Suspects:
    """What to look at, the worst first."""

    findings: pd.DataFrame
    """`reason, customer_id, identifier_type, identifier, count, size, since`: what `count` counts
    stands in the reason, `size` is the customer's number of identifiers, `since` a moment or none;
    at most so many of each reason as were asked for."""
    totals: dict[str, int]
    """How many there are of each reason, shown or not."""
    sizes: dict[str, int]
    """So many identifiers (`5-9`) → how many customers hold them."""


def suspicious(
    resolution: Resolution,
    rules: IdentityRules,
    *,
    share_of_limit: float = 0.5,
    refusals: int = 3,
    owners: int = 3,
    hub: int = 10,
    late: timedelta = timedelta(days=180),
    most: int = 100,
) -> Suspects:
    """List merges worth a look.

    Args:
        resolution: what `resolve` found.
        rules: those it followed.
        share_of_limit: a customer that holds more than this share of a type's limit is listed, if
            it holds three or more.
        refusals: so many links refused for a unique type or a limit make a customer suspicious.
        owners: so many stronger identifiers seen with a shared one make it no family's.
        hub: so many links from an identifier that is of no unique type.
        late: an identifier that joined its customer so long after it was first known.
        most: findings of each reason that are kept, the worst first.
    """
    assignment = resolution.assignment
    size = assignment.group_by("customer_id").aggregate([("identifier", "count")])
    size = size.rename_columns(["customer_id", "size"])
    parts = [
        *_many(assignment, rules, share_of_limit),
        _hubs(assignment, rules, hub),
        _late(assignment, late),
        _refusals(resolution, refusals),
        _owners(resolution, owners),
    ]
    shown, totals = [], {}
    for reason, found in parts:
        if found.num_rows:
            totals[reason] = found.num_rows
            order = [("count", "descending"), ("customer_id", "ascending")]
            order += [(c, "ascending") for c in ("identifier",) if c in found.column_names]
            table = found.take(pc.sort_indices(found, order)[:most]).to_pandas()
            shown.append(table.assign(reason=reason))
    findings = pd.concat(shown, ignore_index=True) if shown else pd.DataFrame()
    wanted = size.filter(
        pc.is_in(size["customer_id"], pa.array(findings.get("customer_id", []), pa.string()))
    )
    sizes = dict(zip(*(column.to_pylist() for column in wanted.columns), strict=True))
    findings = findings.reindex(columns=list(COLUMNS))
    findings["size"] = findings["customer_id"].map(sizes).astype("int64")
    findings["count"] = findings["count"].astype("int64")
    return Suspects(findings, totals, by_size(size["size"]))


def _many(assignment: pa.Table, rules: IdentityRules, share: float) -> list[tuple[str, pa.Table]]:
    """Find customers with many identifiers of one type."""
    keys = ["customer_id", "identifier_type"]
    held = assignment.group_by(keys).aggregate([("identifier", "count")])
    held = held.rename_columns([*keys, "count"])
    found = []
    for name in rules.priority:
        most = rules.most(name)
        if name not in rules.unique:
            of_type = pc.equal(held["identifier_type"], name)
            many = pc.greater(held["count"], max(2, int(share * most)))
            found.append(
                (f"many of one type: {name} (limit {most})", held.filter(pc.and_(of_type, many)))
            )
    return found


def _hubs(assignment: pa.Table, rules: IdentityRules, hub: int) -> tuple[str, pa.Table]:
    """Find identifiers, other than unique ones, from which many links were followed."""
    ordinary = pc.invert(pc.is_in(assignment["identifier_type"], pa.array(rules.unique)))
    found = assignment.filter(pc.and_(ordinary, pc.greater_equal(assignment["links"], hub)))
    columns = ["customer_id", "identifier_type", "identifier", "links"]
    return "joins many identifiers", found.select(columns).rename_columns([*columns[:3], "count"])


def _late(assignment: pa.Table, late: timedelta) -> tuple[str, pa.Table]:
    """Find identifiers that joined long after they were first known."""
    waited = pc.subtract(
        assignment["linked_at"].cast(pa.int64()), assignment["first_known"].cast(pa.int64())
    )
    found = assignment.append_column("count", pc.divide(waited, 86_400_000_000))
    found = found.filter(pc.greater_equal(waited, late // timedelta(microseconds=1)))
    columns = ["customer_id", "identifier_type", "identifier", "count", "linked_at"]
    return "joined late (days)", found.select(columns).rename_columns([*columns[:4], "since"])


def _refusals(resolution: Resolution, refusals: int) -> tuple[str, pa.Table]:
    """Find customers to whom others were often seen to belong, yet a limit forbade it."""
    refused = resolution.refused
    limits = pc.ends_with(refused["rule"], LIMIT_WORDS)
    refused = refused.filter(limits)
    ends = []
    for type_column, column in ENDS:
        names = {type_column: "identifier_type", column: "identifier", "first_known": "since"}
        ends.append(refused.select(list(names)).rename_columns(list(names.values())))
    keys = ["identifier_type", "identifier"]
    both = pa.concat_tables(ends)
    if both.num_rows:
        whose = resolution.assignment.select([*keys, "customer_id"])
        both = both.join(whose, keys)
    else:
        both = both.append_column("customer_id", pa.array([], pa.string()))
    found = both.group_by("customer_id").aggregate([("since", "count"), ("since", "min")])
    found = found.rename_columns(["customer_id", "count", "since"])
    return "links refused often", found.filter(pc.greater_equal(found["count"], refusals))


def _owners(resolution: Resolution, owners: int) -> tuple[str, pa.Table]:
    """Find shared identifiers that look like no family's, but like a kiosk or a placeholder."""
    shared = resolution.shared
    found = shared.filter(pc.greater_equal(shared["others"], owners))
    columns = ["customer_id", "identifier_type", "identifier", "others"]
    return "used by many customers", found.select(columns).rename_columns([*columns[:3], "count"])


def by_size(sizes: pa.ChunkedArray) -> dict[str, int]:
    """Count customers by their number of identifiers, in bands such as `5-9`."""
    ends = [*(size - 1 for size in _SIZES[1:]), None]
    counts = {}
    for low, high in zip(_SIZES, ends, strict=True):
        inside = pc.greater_equal(sizes, low)
        if high is not None:
            inside = pc.and_(inside, pc.less_equal(sizes, high))
        name = str(low) if high == low else f"{low}-{high}" if high else f"{low}+"
        counts[name] = int(pc.sum(inside).as_py() or 0)
    return counts
