"""The rules of identity in plain Python over sets: slow, and written to be read beside the docs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa
from identity_cases import Identifier

from seqjourney.events.identity.graph import MOMENT
from seqjourney.events.identity.rules import IdentityRules, split


@dataclass
class Answer:
    """Customers as sets, what is shared, and since when each identifier was its customer's."""

    groups: set[frozenset[Identifier]]
    shared: set[Identifier]
    since: dict[Identifier, int | None]


def answer(identifiers: pa.Table, links: pa.Table, rules: IdentityRules) -> Answer:
    """Resolve one by one."""
    first: dict[Identifier, int] = {}
    for kind, value, at in _rows(identifiers, 2):
        first[kind, value] = min(at, first.get((kind, value), at))
    edges: dict[tuple[Identifier, Identifier], int] = {}
    for kind_a, a, kind_b, b, at in _rows(links, 4):
        ends = sorted([(kind_a, a), (kind_b, b)], key=lambda x: (rules.strength(x[0]), x[1]))
        edges[ends[0], ends[1]] = min(at, edges.get((ends[0], ends[1]), at))
    person = {x: {x} for x in first}
    for pair in rules.together:
        one, other = map(split, pair)
        if one in first and other in first and person[one] is not person[other]:
            person[one] |= person[other]
            for member in list(person[other]):
                person[member] = person[one]
    apart = {frozenset(map(split, pair)) for pair in rules.separate}
    up = {x: [a for (a, b) in edges if b == x and rules.strength(a[0]) < rules.strength(x[0])]
          for x in first}  # fmt: skip
    up = {x: [a for a in above if frozenset((a, x)) not in apart] for x, above in up.items()}
    shared = _shared(first, edges, rules, person, apart, up)

    usable = {e for e in edges if not set(e) & shared and frozenset(e) not in apart}
    for x in shared:
        own = [(edges[a, x], rules.strength(a[0]), a[1], a) for a in up[x] if a not in shared]
        if own:
            usable.add((min(own)[3], x))
    parts, followed = _grow({e: edges[e] for e in usable}, first, rules, person, apart)
    if rules.shared == "apart":
        leaving = {x for x in shared if len(person[x]) == 1}
        parts = [part - leaving for part in parts] + [{x} for x in leaving]
        followed = {e for e in followed if not set(e) & leaving}
    since = {}
    times = {e: edges[e] for e in followed}
    for pair in rules.together:
        one, other = map(split, pair)
        if one in first and other in first:
            times[one, other] = max(first[one], first[other])
    for part in filter(None, parts):
        start = min(part, key=lambda x: (first[x], rules.strength(x[0]), x[1]))
        best = {x: (first[x] if x == start else 10**9) for x in part}
        for _ in part:
            for (a, b), at in times.items():
                if a in part and b in part:
                    best[b] = min(best[b], max(best[a] if a != start else 0, at))
                    best[a] = min(best[a], max(best[b] if b != start else 0, at))
        since |= {x: None if best[x] <= first[x] else best[x] for x in part}
    return Answer({frozenset(part) for part in parts if part}, shared, since)


def _shared(first, edges, rules, person, apart, up):
    """Go from strong to weak types; `reach` holds whom an identifier leads to, per type."""
    shared: set[Identifier] = set()
    reach: dict[str, dict[Identifier, set[int]]] = {
        name: {} for name in rules.priority if rules.most(name) == 1
    }
    known = False
    for name in rules.priority:
        if name not in rules.personal and not known:
            known = True
            inner = {
                (a, b): at
                for (a, b), at in edges.items()
                if a[0] in rules.personal and b[0] in rules.personal and a in up[b]
                and not {a, b} & shared
            }  # fmt: skip
            parts, _ = _grow(inner, first, rules, person, apart)
            for kind in rules.personal if name != rules.priority[0] else ():
                if kind in rules.priority:
                    reach[kind] = {
                        x: {number}
                        for number, part in enumerate(parts)
                        if any(y[0] == kind and y not in shared for y in part)
                        for x in part
                        if x[0] in rules.personal and x not in shared
                    }
        for x in [x for x in first if x[0] == name]:
            for kind in rules.priority[: rules.strength(name)]:
                touched = {id(person[a]) for a in up[x] if a[0] == kind}
                if len(touched) > rules.most(kind) > 1:
                    shared.add(x)
            for found in reach.values():
                led = set().union(*(found.get(a, set()) for a in up[x]))
                if len(led) > 1:
                    shared.add(x)
                found[x] = led
            if name in reach and rules.most(name) == 1:
                reach[name][x] = {id(person[x])}
        for found in reach.values():
            for x in shared:
                found[x] = set()
    return shared


def _grow(edges, first, rules, person, apart):
    """Join the ends of links in the order of content, if the result breaks no rule."""
    part_of = {x: person[x] | set() for x in first}
    for x in first:
        for member in person[x]:
            part_of[member] = part_of[x]
    followed = set()

    def order(edge):
        (ka, a), (kb, b) = edge
        return edges[edge], (rules.strength(ka), a), (rules.strength(kb), b)

    for a, b in sorted(edges, key=order):
        if part_of[a] is not part_of[b]:
            both = part_of[a] | part_of[b]
            count = Counter(kind for kind, _ in {(x[0], id(person[x])) for x in both})
            if any(count[kind] > rules.most(kind) for kind in count):
                continue
            if any(frozenset(pair) in apart for pair in combinations(both, 2)):
                continue
            for x in both:
                part_of[x] = both
        followed.add((a, b))
    return list({id(part): part for part in part_of.values()}.values()), followed


def _rows(table: pa.Table, texts: int):
    columns = [table.column(i).to_pylist() for i in range(texts)]
    return zip(
        *columns, table["first_known"].cast(MOMENT).cast(pa.int64()).to_pylist(), strict=True
    )
