"""From identifiers and links to customers: one id each, and since when an identifier was theirs.

`resolve` is a function of the *set* of identifiers and links. Neither their order, nor repetition,
nor how they were split into loads matters (add those up with `observed.merge_observed`): what ties
is decided by content. The way through: strings become numbers (`graph`), shared identifiers lose
their links (`sharing`), the rest is merged within the rules (`merging`), the earliest identifier of
a customer gives its id, and a spanning tree tells since when the others were known to be its
(`timing`).

A customer keeps its id when identifiers join it; when two customers merge, the elder's id stays.
It changes only by a decision (`separate`, `together`), by other rules, or when its earliest
identifier turns out to have hung on one that several customers use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from seqjourney.events.identity.graph import ENDS, Array, Graph, earliest, moments, number
from seqjourney.events.identity.merging import FOLLOWED, SEPARATE, TOO_MANY, merge
from seqjourney.events.identity.rules import IdentityRules
from seqjourney.events.identity.sharing import Sharing, find_shared, persons
from seqjourney.events.identity.timing import known_since

LIMIT_WORDS = "per customer"
"""How the rule of a link ends that was refused for a unique type or a limit."""
_ID_DIGITS = 20


@dataclass(frozen=True)
class Resolution:
    """Whose every identifier is, and what was not merged."""

    assignment: pa.Table
    """`identifier_type, identifier, customer_id, linked_at`: since when the identifier was known to
    be this customer's, null where that was so from its own start; further `first_known` and
    `links`, the number of links that were followed from it. In no particular order."""
    refused: pa.Table
    """Links between two customers that were not followed: `type_a, identifier_a, type_b,
    identifier_b, first_known, rule`, the rule in words."""
    shared: pa.Table
    """Identifiers that several customers use: `identifier_type, identifier, customer_id, others`,
    the number of stronger identifiers that they were seen with."""
    summary: dict[str, Any]
    """Counts: `strategy, identifiers, links, customers, of_one_identifier, largest, linked_later,
    shared, refused` (by rule), `decisions_unseen`."""


def resolve(identifiers: pa.Table, links: pa.Table, rules: IdentityRules) -> Resolution:
    """Decide which identifiers are one customer.

    Args:
        identifiers: `identifier_type, identifier, first_known`.
        links: `type_a, identifier_a, type_b, identifier_b, first_known`, and perhaps `rule`:
            links with the rule `probabilistic` are followed after all others.
        rules: what may be merged.

    Raises:
        DataError: a type that the rules do not know, or an identifier or a time that is missing.
    """
    given = links.num_rows
    if rules.strategy != "full":
        links = links.slice(0, 0)
    graph = number(identifiers, links, rules)
    person = persons(graph)
    sharing = find_shared(graph, rules, person)
    merged = merge(graph, rules, sharing.usable, person)
    followed = sharing.usable & (merged.verdict == FOLLOWED)
    customer, count = merged.customer, merged.count
    anchor = earliest(graph, customer, count, np.arange(graph.size))
    ids = customer_ids(graph, anchor)
    if rules.shared == "apart" and sharing.shared.any():
        # An identifier that leaves still names the customer whose id it gave, or every tablet that
        # is found to be shared would rename its owner. It gets an id of another kind itself.
        leaves = np.flatnonzero(sharing.shared & (person == np.arange(graph.size)))
        leaves = leaves[~np.isin(leaves, person[person != np.arange(graph.size)])]
        customer = customer.astype(np.int64)
        customer[leaves] = count + np.arange(len(leaves))
        ids += customer_ids(graph, leaves, prefix="shared ")
        count += len(leaves)
        followed &= customer[graph.a] == customer[graph.b]
        anchor = earliest(graph, customer, count, np.arange(graph.size))
    linked_at = _linked_at(graph, anchor, followed)
    found = pa.array(ids, pa.string()).take(pa.array(customer))
    degree = np.bincount(graph.a[followed], minlength=graph.size)
    degree += np.bincount(graph.b[followed], minlength=graph.size)
    assignment = pa.table(
        {
            "identifier_type": _type_names(graph, graph.kind),
            "identifier": graph.value,
            "customer_id": found,
            "linked_at": linked_at,
            "first_known": moments(graph.first, np.zeros(graph.size, bool)),
            "links": degree.astype(np.int32),
        }
    )
    refused = _refused(graph, rules, sharing, merged.verdict, customer)
    shared = np.flatnonzero(sharing.shared)
    held = np.bincount(customer, minlength=count)
    return Resolution(
        assignment,
        refused,
        assignment.select(["identifier_type", "identifier", "customer_id"])
        .take(pa.array(shared))
        .append_column("others", pa.array(sharing.stronger[shared])),
        {
            "strategy": rules.strategy,
            "identifiers": graph.size,
            "links": given,
            "customers": int((held > 0).sum()),
            "of_one_identifier": int((held == 1).sum()),
            "largest": int(held.max(initial=0)),
            "linked_later": graph.size - linked_at.null_count,
            "shared": len(shared),
            "refused": _counts(refused["rule"]),
            "decisions_unseen": graph.unseen_decisions,
        },
    )


def customer_ids(graph: Graph, anchors: Array, prefix: str = "") -> list[str]:
    """Return an id for each anchor: `c` and the start of the SHA-256 of its `type:value`."""
    kinds = graph.kind[anchors].tolist()
    values = graph.value.take(pa.array(anchors)).to_pylist()
    heads = [f"{prefix}{name}:" for name in graph.types]
    # One hash a customer, half a microsecond each: the engine takes as long.
    return [
        "c" + hashlib.sha256((heads[kind] + value).encode()).hexdigest()[:_ID_DIGITS]
        for kind, value in zip(kinds, values, strict=True)
    ]


def _linked_at(graph: Graph, anchor: Array, followed: Array) -> pa.Array:
    """Return since when each identifier was known to be its customer's; null: from its start."""
    a, b, known = graph.a[followed], graph.b[followed], graph.known[followed]
    left, right = (np.minimum(*graph.together), np.maximum(*graph.together))
    if len(left):  # a decision holds since both were known, which no link can precede
        decided = np.unique(left * graph.size + right)
        kept = ~np.isin(np.minimum(a, b) * graph.size + np.maximum(a, b), decided)
        left, right = decided // graph.size, decided % graph.size
        a, b = np.concatenate([a[kept], left]), np.concatenate([b[kept], right])
        later = np.maximum(graph.first[left], graph.first[right])
        known = np.concatenate([known[kept], later])
    since = known_since(graph.size, a, b, known, anchor[anchor >= 0])
    return moments(since, since <= graph.first)


def _refused(
    graph: Graph, rules: IdentityRules, sharing: Sharing, verdict: Array, customer: Array
) -> pa.Table:
    """Return the links between two customers, with the rule that kept them from being followed."""
    words = {SEPARATE: "kept apart by identity.separate"}
    shared = TOO_MANY + len(graph.types)
    for kind, name in enumerate(graph.types):
        most = rules.most(name)
        allowed = "one" if most == 1 else f"at most {most}"
        words[TOO_MANY + kind] = f"{allowed} {name} {LIMIT_WORDS}"
        words[shared + kind] = f"{name} used by several customers"
    of_shared = sharing.shared[graph.a] | sharing.shared[graph.b]
    at_fault = np.where(sharing.shared[graph.b], graph.kind[graph.b], graph.kind[graph.a])
    verdict = np.where(of_shared & (verdict == FOLLOWED), shared + at_fault, verdict)
    verdict[sharing.apart] = SEPARATE
    links = np.flatnonzero(customer[graph.a] != customer[graph.b])
    codes = sorted(words)
    texts = pa.array([words[code] for code in codes])
    columns: dict[str, Any] = {}
    for (type_column, column), end in zip(ENDS, (graph.a[links], graph.b[links]), strict=True):
        columns[type_column] = _type_names(graph, graph.kind[end])
        columns[column] = graph.value.take(pa.array(end))
    columns["first_known"] = moments(graph.known[links], np.zeros(len(links), bool))
    columns["rule"] = texts.take(pa.array(np.searchsorted(codes, verdict[links])))
    return pa.table(columns)


def _type_names(graph: Graph, kind: Array) -> pa.Array:
    return pa.array(graph.types, pa.string()).take(pa.array(kind))


def _counts(rules: pa.ChunkedArray) -> dict[str, int]:
    found = rules.value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(found, key=lambda r: r["values"])}
