"""Since when an identifier was known to be its customer's: the minimax over all paths."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from identity_cases import customers, observe, rows

from seqjourney.events.identity.graph import MOMENT
from seqjourney.events.identity.resolve import resolve
from seqjourney.events.identity.rules import IdentityRules
from seqjourney.events.identity.timing import known_since

LARGE = 1_700_000_000_000_000


def bottleneck(size, links):
    """Floyd and Warshall's algorithm with (min, max) in place of (min, +)."""
    best = np.full((size, size), np.inf)
    for (a, b), at in links.items():
        best[a, b] = best[b, a] = at
    for middle in range(size):
        best = np.minimum(best, np.maximum(best[:, middle, None], best[None, middle, :]))
    return best


@settings(max_examples=100)
@given(size=st.integers(1, 12), data=st.data())
def test_the_moment_is_the_smallest_largest_link_on_any_path(size, data):
    pairs = [(a, b) for a in range(size) for b in range(a)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    links = {pair: LARGE + data.draw(st.integers(-5, 5)) for pair in chosen}
    ends = np.array(list(links), np.int64).reshape(-1, 2)
    known = np.array(list(links.values()), np.int64)
    best = bottleneck(size, links)
    starts = [min(np.flatnonzero(np.isfinite(row)), default=v) for v, row in enumerate(best)]
    starts = [min(v, start) for v, start in enumerate(starts)]
    found = known_since(size, ends[:, 0], ends[:, 1], known, np.unique(starts))
    for vertex, start in enumerate(starts):
        never = np.iinfo(np.int64).min
        assert found[vertex] == (never if vertex == start else best[vertex, start])


def test_long_chains_are_followed_to_their_end():
    count = 5_000
    a, b = np.arange(count - 1), np.arange(1, count)
    known = np.random.default_rng(0).permutation(count - 1)
    found = known_since(count, a, b, known, np.array([0]))
    assert (found[1:] == np.maximum.accumulate(known)).all()


@settings(max_examples=40)
@given(seen=rows())
def test_no_event_is_joined_before_the_identifiers_were_seen_together(seen):
    """At each moment, resolving what was known by then joins what `linked_at` says by then."""
    loose = IdentityRules(
        unique=(), personal=(), limits=dict.fromkeys(IdentityRules().priority, 10**6)
    )
    whole = resolve(*observe(seen), loose)
    whose, at = customers(whole), whole.assignment["linked_at"].cast(pa.int64()).to_pylist()
    first = whole.assignment["first_known"].cast(pa.int64()).to_pylist()
    joined = {
        one: max(start, since if since is not None else start)
        for one, since, start in zip(whose, at, first, strict=True)
    }
    for moment in range(0, 41, 4):
        then = customers(resolve(*observe([row for row in seen if row["at"] <= moment]), loose))
        for one, customer in then.items():
            assert (customer == whose[one]) == (joined[one] <= moment)


def test_times_are_utc_microseconds():
    found = resolve(*observe([{"user": "u", "device": "d", "at": 3}]), IdentityRules()).assignment
    assert found.schema.field("linked_at").type == found.schema.field("first_known").type == MOMENT
