"""Links become customers, except where a rule says no.

Most customers break no rule: connected components find them all at once. Only components that hold
more identifiers of a type than a customer may have, or a pair that is kept separate, are built up
link by link in the order of content (observed before probable, then first known, then strength,
then text: Kruskal's algorithm with a condition), and a link whose merge would break a rule is not
followed. Adding later data adds later links, so what was merged stays merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.events.identity.graph import Array, Graph, ranks
from seqjourney.events.identity.rules import IdentityRules

FOLLOWED, SEPARATE, TOO_MANY = 0, 1, 2
"""What became of a link; TOO_MANY + k: its merge would give a customer too many of type k."""


@dataclass(frozen=True)
class Merged:
    """Customers as numbers, and what became of each link."""

    customer: Array
    """(V,) number of the customer, 0 to `count` - 1."""
    count: int
    verdict: Array
    """(L,) FOLLOWED (unusable links too), or the rule that its merge would have broken."""
    built: int
    """Components that had to be built up link by link."""


def merge(graph: Graph, rules: IdentityRules, usable: Array, person: Array) -> Merged:
    """Join the ends of usable links and of manual merges, within the rules.

    Args:
        graph: identifiers and links.
        rules: limits and decisions.
        usable: (L,) links that may be followed.
        person: (V,) one vertex for all that manual merges join, else the vertex itself.
    """
    count, component = components(
        graph.size,
        np.concatenate([graph.a[usable], graph.together[0]]),
        np.concatenate([graph.b[usable], graph.together[1]]),
    )
    verdict = np.full(len(graph.a), FOLLOWED, np.int16)
    breaking = _breaking(graph, rules, component, count, person)
    if not breaking.any():
        return Merged(component, count, verdict, 0)
    inside = np.flatnonzero(breaking[component])
    links = np.flatnonzero(usable & breaking[component[graph.a]])
    root, verdict[links] = _build_up(graph, rules, inside, links, person)
    component = component.astype(np.int64)
    component[inside] = count + root
    kept, customer = np.unique(component, return_inverse=True)
    return Merged(customer, len(kept), verdict, int(breaking.sum()))


def components(size: int, a: Array, b: Array) -> tuple[int, Array]:
    """Return the number of connected components, and (V,) which one each vertex belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if size == 0:
        return 0, np.empty(0, np.int64)
    ends = a.astype(np.int32), b.astype(np.int32)
    edges = coo_array((np.ones(len(a), np.int8), ends), (size, size)).tocsr()
    count, component = connected_components(edges, directed=False)
    return int(count), component


def _breaking(
    graph: Graph, rules: IdentityRules, component: Array, count: int, person: Array
) -> Array:
    """Find the components that are no customer under the rules."""
    types = len(graph.types)
    cell = component.astype(np.int64) * types + graph.kind
    held = np.bincount(cell, minlength=count * types)
    joined = np.flatnonzero(person != np.arange(graph.size))
    if len(joined):  # those of one person and type count once
        joined = np.unique(np.concatenate([joined, person[joined]]))
        again = person[joined] * types + graph.kind[joined]
        extra = np.ones(len(joined), bool)
        extra[np.unique(again, return_index=True)[1]] = False
        np.subtract.at(held, cell[joined[extra]], 1)
    most = np.array([rules.most(name) for name in graph.types])
    breaking: Array = np.any(held.reshape(count, types) > most, axis=1)
    left, right = graph.separate
    breaking[component[left][component[left] == component[right]]] = True
    return breaking


def _build_up(
    graph: Graph, rules: IdentityRules, vertices: Array, links: Array, person: Array
) -> tuple[Array, Array]:
    """Follow links one by one where no rule forbids it.

    Returns:
        Per vertex the place (within `vertices`) of its customer's root, and per link its verdict.
    """
    place = np.full(graph.size, -1)
    place[vertices] = np.arange(len(vertices))
    a, b = place[graph.a[links]], place[graph.b[links]]
    rank = ranks(graph, vertices)
    order = np.lexsort((rank[b], rank[a], graph.known[links], graph.ground[links]))
    most = [rules.most(name) for name in graph.types]
    types = range(len(most))

    # A manual merge is one vertex from the start, holding one of each type that it has.
    person_place = place[person[vertices]]
    root: list[int] = person_place.tolist()
    held = np.zeros((len(vertices), len(most)), np.int64)
    held[person_place, graph.kind[vertices]] = 1
    holds: list[list[int]] = held.tolist()
    weight: list[int] = np.bincount(person_place, minlength=len(vertices)).tolist()
    enemies: dict[int, set[int]] = {}
    left, right = (place[ends] for ends in graph.separate)
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        if one >= 0 and other >= 0:
            enemies.setdefault(root[one], set()).add(root[other])
            enemies.setdefault(root[other], set()).add(root[one])

    def find(vertex: int) -> int:
        while root[vertex] != vertex:
            root[vertex] = root[root[vertex]]
            vertex = root[vertex]
        return vertex

    verdicts = np.full(len(links), FOLLOWED, np.int16)
    for link, one, other in zip(
        order.tolist(), a[order].tolist(), b[order].tolist(), strict=True
    ):  # only components that break a rule come here
        one, other = find(one), find(other)
        if one == other:
            continue
        if weight[one] < weight[other]:
            one, other = other, one
        if other in enemies.get(one, ()):
            verdicts[link] = SEPARATE
            continue
        mine, theirs = holds[one], holds[other]
        broken = next((k for k in types if mine[k] + theirs[k] > most[k]), None)
        if broken is not None:
            verdicts[link] = TOO_MANY + broken
            continue
        root[other] = one
        weight[one] += weight[other]
        holds[one] = [x + y for x, y in zip(mine, theirs, strict=True)]
        for enemy in enemies.pop(other, ()):
            enemies[enemy].discard(other)
            enemies[enemy].add(one)
            enemies.setdefault(one, set()).add(enemy)
    return np.array([find(vertex) for vertex in range(len(vertices))], np.int64), verdicts
