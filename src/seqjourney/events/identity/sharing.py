"""Which identifiers several customers use: a family's tablet, a shop's terminal, a reused e-mail.

Look up from an identifier through ever stronger ones. It is *shared* when that leads to
two identifiers of a unique type (a device on which two users signed in, or on which two users'
e-mail addresses were typed), to two customers who are each known by a personal identifier of one
type (two e-mail addresses that nothing else joins), or to more identifiers of a type than one
customer may have. A shared identifier cannot tell whose anything is, so no others are linked
through it. This is decided from all observed links at once and so depends on no order. The limits
of merging alone would not do: whose a cookie on the tablet becomes would be luck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.events.identity.graph import OBSERVED, Array, Graph, ranks
from seqjourney.events.identity.merging import merge
from seqjourney.events.identity.rules import IdentityRules

_NOBODY = -1


@dataclass(frozen=True)
class Sharing:
    """What is shared, and what is left of the links."""

    shared: Array
    """(V,) whether several customers use the identifier."""
    stronger: Array
    """(V,) number of stronger identifiers that it was seen with."""
    usable: Array
    """(L,) whether the link says anything about whose its ends are."""
    apart: Array
    """(L,) whether the link joins a pair that the user keeps separate."""


def find_shared(graph: Graph, rules: IdentityRules, person: Array) -> Sharing:
    """Find shared identifiers, and the links that remain usable.

    A shared identifier keeps one link: the earliest to a stronger one that is not shared itself.

    Args:
        graph: identifiers and links.
        rules: which types are unique or personal, and the limits of the others.
        person: (V,) one vertex for all that manual merges join, else the vertex itself.
    """
    apart = _separated(graph)
    upward = (graph.kind[graph.a] < graph.kind[graph.b]) & (graph.ground == OBSERVED) & ~apart
    a, b = graph.a[upward], graph.b[upward]
    most = [rules.most(name) for name in graph.types]
    shared = np.zeros(graph.size, bool)
    # Per type of which there may be one: (V,) whom an identifier leads to, so far as looked.
    owners = {kind: np.full(graph.size, _NOBODY) for kind in range(len(most)) if most[kind] == 1}
    for kind, name in enumerate(graph.types):
        if name not in rules.personal and graph.types[kind - 1] in rules.personal:
            owners |= _known_customers(graph, rules, person, shared, upward, kind)
        here = graph.kind[b] == kind
        above, below = a[here], b[here]
        for stronger in range(kind):
            if most[stronger] > 1:
                of_type = graph.kind[above] == stronger
                ends = _once_a_person(person[above[of_type]], below[of_type], graph)
                shared |= np.bincount(ends, minlength=graph.size) > most[stronger]
        mine = np.flatnonzero(graph.kind == kind)
        for owner in owners.values():
            led_to = owner[above]
            owned = led_to != _NOBODY
            low = np.full(graph.size, graph.size)
            high = np.full(graph.size, _NOBODY)
            np.minimum.at(low, below[owned], led_to[owned])
            np.maximum.at(high, below[owned], led_to[owned])
            owner[mine] = high[mine]
            shared[mine] |= low[mine] < high[mine]
        if kind in owners and most[kind] == 1:
            owners[kind][mine] = person[mine]
        for owner in owners.values():
            owner[mine[shared[mine]]] = _NOBODY
    usable = ~(apart | shared[graph.a] | shared[graph.b])
    usable[_first_links(graph, shared, upward)] = True
    return Sharing(shared, np.bincount(b, minlength=graph.size), usable, apart)


def persons(graph: Graph) -> Array:
    """Return per vertex one that stands for all that manual merges join it with."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    person = np.arange(graph.size)
    left, right = graph.together
    joined, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    if len(joined):
        pairs = ends.reshape(2, -1)
        edges = coo_array((np.ones(len(left), bool), (pairs[0], pairs[1])), (len(joined),) * 2)
        count, label = connected_components(edges, directed=False)
        lowest = np.full(count, graph.size)
        np.minimum.at(lowest, label, joined)
        person[joined] = lowest[label]
    return person


def _known_customers(
    graph: Graph, rules: IdentityRules, person: Array, shared: Array, upward: Array, kinds: int
) -> dict[int, Array]:
    """Return per personal type: (V,) the customer that a personal identifier leads to.

    Customers as personal identifiers alone make them, of those only that hold the type.
    """
    usable = upward & (graph.kind[graph.b] < kinds) & ~shared[graph.a] & ~shared[graph.b]
    known = merge(graph, rules, usable, person)
    mine = np.flatnonzero((graph.kind < kinds) & ~shared)
    owners = {}
    for kind in range(kinds):
        holds = np.zeros(known.count, bool)
        holds[known.customer[mine[graph.kind[mine] == kind]]] = True
        owners[kind] = np.full(graph.size, _NOBODY)
        theirs = mine[holds[known.customer[mine]]]
        owners[kind][theirs] = known.customer[theirs]
    return owners


def _separated(graph: Graph) -> Array:
    """Find the links between two identifiers that the user keeps apart."""
    left, right = graph.separate
    if not len(left):
        return np.zeros(len(graph.a), bool)
    pairs = np.concatenate([left * graph.size + right, right * graph.size + left])
    return np.isin(graph.a * graph.size + graph.b, pairs)


def _once_a_person(person: Array, below: Array, graph: Graph) -> Array:
    """Return `below` once per person; links are distinct unless a manual merge joins their ends."""
    if not len(graph.together[0]):
        return below
    return np.unique(person * graph.size + below) % graph.size


def _first_links(graph: Graph, shared: Array, upward: Array) -> Array:
    """Return the earliest link of each shared identifier to a stronger one that is not shared."""
    links = np.flatnonzero(upward & shared[graph.b] & ~shared[graph.a])
    if not len(links):
        return links
    below = graph.b[links]
    order = np.lexsort((ranks(graph, graph.a[links]), graph.known[links], below))
    below = below[order]
    return links[order[np.flatnonzero(np.diff(below, prepend=-1))]]
