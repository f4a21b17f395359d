"""Random rows with identifiers, what they show in plain Python, and resolutions as plain sets."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from seqjourney.events.identity.graph import MOMENT
from seqjourney.events.identity.resolve import Resolution
from seqjourney.events.identity.rules import IdentityRules

TYPES = ("user", "email", "phone", "external", "device", "anonymous")
HOW_MANY = {"user": 4, "email": 4, "device": 4, "anonymous": 6}
Row = dict[str, Any]
Identifier = tuple[str, str]


@st.composite
def rows(draw: Any, most: int = 25, blocked: bool = False) -> list[Row]:
    """Rows of a few identifiers each, from so few that they meet again."""
    values = {
        kind: st.sampled_from(
            [None, *(f"{kind[0]}{n}" for n in range(count)), *(["NULL", "-1", "0-0"] * blocked)]
        )
        for kind, count in HOW_MANY.items()
    }
    row = st.fixed_dictionaries(
        {
            **values,
            "previous_id": st.sampled_from([None, None, "a0", "a5"]),
            "at": st.integers(0, 40),
        }
    )
    return draw(st.lists(row, min_size=1, max_size=most))


def observe(seen: list[Row], rules: IdentityRules | None = None) -> tuple[pa.Table, pa.Table]:
    """Return identifiers and links of rows, worked out one by one."""
    rules = rules or IdentityRules()
    first: dict[Any, list[int]] = defaultdict(list)
    links: dict[Any, list[int]] = defaultdict(list)
    for row in seen:
        held = [(kind, row[kind]) for kind in rules.priority if row.get(kind) is not None]
        previous = [("anonymous", row["previous_id"])] if row.get("previous_id") else []
        for one in [*held, *previous]:
            first[one].append(row["at"])
        for weaker in held[1:]:
            links[(*held[0], *weaker)].append(row["at"])
        if previous and row.get("user"):
            links[("user", row["user"], *previous[0])].append(row["at"])
    return table(first, ("identifier_type", "identifier")), table(
        links, ("type_a", "identifier_a", "type_b", "identifier_b")
    )


def table(found: dict[Any, list[int]], names: tuple[str, ...]) -> pa.Table:
    """Return keys with the earliest of their moments and their number."""
    columns = {
        name: pa.array([key[i] for key in found], pa.string()) for i, name in enumerate(names)
    }
    columns["first_known"] = pa.array([min(v) for v in found.values()], pa.int64()).cast(MOMENT)
    columns["rows"] = pa.array([len(v) for v in found.values()], pa.int64())
    return pa.table(columns)


def links_of(*given: tuple[str, str, int]) -> tuple[pa.Table, pa.Table]:
    """Return identifiers and links from `("user:u1", "device:d", 5)`."""
    first: dict[Any, list[int]] = defaultdict(list)
    links: dict[Any, list[int]] = defaultdict(list)
    for left, right, at in given:
        one, other = tuple(left.split(":")), tuple(right.split(":"))
        first[one].append(at)
        first[other].append(at)
        links[(*one, *other)].append(at)
    return table(first, ("identifier_type", "identifier")), table(
        links, ("type_a", "identifier_a", "type_b", "identifier_b")
    )


def customers(resolution: Resolution) -> dict[Identifier, str]:
    """Return the customer of each identifier."""
    columns = [resolution.assignment[c].to_pylist() for c in ("identifier_type", "identifier")]
    whose = resolution.assignment["customer_id"].to_pylist()
    return dict(zip(zip(*columns, strict=True), whose, strict=True))


def groups(resolution: Resolution) -> set[frozenset[str]]:
    """Return the customers as sets of `type:value`."""
    members: dict[str, set[str]] = defaultdict(set)
    for (kind, value), customer in customers(resolution).items():
        members[customer].add(f"{kind}:{value}")
    return {frozenset(group) for group in members.values()}


def content(resolution: Resolution) -> tuple[Any, ...]:
    """Return all that a resolution says, without the order of its rows."""
    tables = (resolution.assignment, resolution.refused, resolution.shared)
    return (*(sorted(map(repr, t.to_pylist())) for t in tables), resolution.summary)
