"""Identifiers and links as numbers: every identifier a vertex, every distinct link an edge.

The numbers follow the order of the input, so nothing that decides may depend on them: what ties is
decided by content, through `ranks`. All arrays over vertices have shape (V,), over links (L,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqjourney.errors import DataError
from seqjourney.events.identity.rules import IdentityRules, split

IDENTIFIER = ("identifier_type", "identifier")
ENDS = (("type_a", "identifier_a"), ("type_b", "identifier_b"))
OBSERVED, PROBABLE = 0, 1
"""What a link rests on: rows that carry both ends, or their likeness (`rule: probabilistic`)."""
PROBABILISTIC = "probabilistic"
MOMENT = pa.timestamp("us", "UTC")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Graph:
    """Vertices and links, each once."""

    types: tuple[str, ...]
    kind: Array
    """(V,) strength of the identifier's type: 0 is the strongest."""
    value: pa.Array
    """(V,) the identifier's text."""
    first: Array
    """(V,) when it was first known, microseconds since 1970."""
    a: Array
    """(L,) the stronger end; of two of one type the one whose text comes first."""
    b: Array
    known: Array
    """(L,) when the link was first known, microseconds since 1970."""
    ground: Array
    """(L,) OBSERVED or PROBABLE."""
    together: tuple[Array, Array]
    """Ends of the manual merges."""
    separate: tuple[Array, Array]
    """Ends of the pairs that are kept apart."""
    unseen_decisions: int
    """Decisions that name an identifier which the data do not have."""

    @property
    def size(self) -> int:
        """Number of vertices."""
        return len(self.kind)


def number(identifiers: pa.Table, links: pa.Table, rules: IdentityRules) -> Graph:
    """Give every identifier a number and drop what repeats.

    Raises:
        DataError: a type that the rules do not know, or an identifier or a time that is missing.
    """
    grounds = _grounds(links)
    sides = [_side(identifiers, *IDENTIFIER, rules)]
    sides += [_side(links, *end, rules) for end in ENDS]
    chunks = [chunk for _, text in sides for chunk in text.chunks]
    encoded = pa.chunked_array(chunks, pa.string()).dictionary_encode()
    codes = [chunk.indices.to_numpy() for chunk in encoded.chunks]  # into one dictionary
    distinct = encoded.chunk(0).dictionary if codes else pa.array([], pa.string())
    code = np.concatenate([np.empty(0, np.int64), *codes])
    of_row = np.concatenate([kind for kind, _ in sides])
    # A vertex is a type and a text. Nearly every text has one type: its number is the vertex's.
    kind = np.zeros(len(distinct), np.int8)
    kind[code] = of_row
    other = np.flatnonzero(kind[code] != of_row)
    if len(other):
        types = len(rules.priority)
        more, place = np.unique(code[other] * types + of_row[other], return_inverse=True)
        code[other] = len(distinct) + place
        kind = np.concatenate([kind, (more % types).astype(np.int8)])
        distinct = pa.concat_arrays([distinct, distinct.take(pa.array(more // types))])
    size, value = len(kind), distinct
    own, left, right = np.split(code, np.cumsum([len(kinds) for kinds, _ in sides])[:-1])
    known = _microseconds(links, "first_known")
    first = np.full(size, np.iinfo(np.int64).max)
    np.minimum.at(first, own, _microseconds(identifiers, "first_known"))
    for end in (left, right):
        np.minimum.at(first, end, known)
    a, b = _stronger_first(left, right, kind, value)
    a, b, known, grounds = _distinct(a, b, known, grounds, size)
    together, separate, unseen = _decisions(rules, kind, value)
    return Graph(
        rules.priority, kind, value, first, a, b, known, grounds, together, separate, unseen
    )


def ranks(graph: Graph, vertices: Array) -> Array:
    """Return each vertex's place in the order of content: strength of the type, then text."""
    distinct, back = np.unique(vertices, return_inverse=True)
    table = {"kind": graph.kind[distinct], "value": graph.value.take(pa.array(distinct))}
    keys = [("kind", "ascending"), ("value", "ascending")]
    order = pc.sort_indices(pa.table(table), keys).to_numpy()
    place = np.empty(len(distinct), np.int64)
    place[order] = np.arange(len(distinct))
    return place[back]


def earliest(graph: Graph, groups: Array, count: int, vertices: Array) -> Array:
    """Return per group its earliest known vertex, ties by content; -1 for an empty group.

    Args:
        graph: the identifiers.
        groups: the group of each of `vertices`, 0 to `count` - 1.
        count: number of groups.
        vertices: the candidates.
    """
    best = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(best, groups, graph.first[vertices])
    keep = graph.first[vertices] == best[groups]
    groups, vertices = groups[keep], vertices[keep]
    strongest = np.full(count, np.iinfo(np.int8).max, np.int8)
    np.minimum.at(strongest, groups, graph.kind[vertices])
    keep = graph.kind[vertices] == strongest[groups]
    groups, vertices = groups[keep], vertices[keep]
    found = np.full(count, -1, np.int64)
    tied = np.bincount(groups, minlength=count)[groups] > 1
    found[groups[~tied]] = vertices[~tied]
    if tied.any():
        groups, vertices = groups[tied], vertices[tied]
        order = np.lexsort((ranks(graph, vertices), groups))[::-1]
        found[groups[order]] = vertices[order]  # the last written is the first in order
    return found


def _side(table: pa.Table, type_column: str, column: str, rules: IdentityRules) -> Any:
    """Return the kinds and the texts of one column of identifiers."""
    kind = pc.index_in(table[type_column], pa.array(rules.priority)).combine_chunks()
    if kind.null_count:
        wrong = pc.unique(table[type_column].filter(pc.is_null(kind))).to_pylist()[0]
        raise DataError(
            f"an identifier has the type '{wrong}', which identity.priority does not name; "
            f"it has {', '.join(rules.priority)}."
        )
    texts = table[column].cast(pa.string())
    if texts.null_count:
        raise DataError(f"column '{column}' holds {texts.null_count:,} nulls; leave such rows out.")
    return kind.to_numpy(), texts


def _microseconds(table: pa.Table, column: str) -> Array:
    moments = table[column].cast(MOMENT)
    if moments.null_count:
        raise DataError(f"column '{column}' holds {moments.null_count:,} nulls; times are needed.")
    found: Array = moments.cast(pa.int64()).to_numpy()
    return found


def _grounds(links: pa.Table) -> Array:
    if "rule" not in links.column_names:
        return np.full(links.num_rows, OBSERVED, np.int8)
    probable = pc.equal(links["rule"], PROBABILISTIC).fill_null(False)
    return np.where(probable.to_numpy(zero_copy_only=False), PROBABLE, OBSERVED).astype(np.int8)


def _stronger_first(a: Array, b: Array, kind: Array, value: pa.Array) -> tuple[Array, Array]:
    turn = kind[a] > kind[b]
    same = np.flatnonzero((kind[a] == kind[b]) & (a != b))
    if len(same):
        left, right = (value.take(pa.array(end[same])) for end in (a, b))
        turn[same] = pc.greater(left, right).to_numpy(zero_copy_only=False)
    return np.where(turn, b, a), np.where(turn, a, b)


def _distinct(
    a: Array, b: Array, known: Array, ground: Array, size: int
) -> tuple[Array, Array, Array, Array]:
    """Join repeated links: the earliest time, the better ground; drop links to oneself.

    A link that is both observed and probable is observed, at the time of its observation.
    """
    keep = a != b
    if not keep.all():
        a, b, known, ground = a[keep], b[keep], known[keep], ground[keep]
    key = a * size + b
    if not (np.diff(np.sort(key)) == 0).any():
        return a, b, known, ground
    order = np.lexsort((known, ground, key))
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    first = order[starts]
    return a[first], b[first], known[first], ground[first]


def _decisions(
    rules: IdentityRules, kind: Array, value: pa.Array
) -> tuple[tuple[Array, Array], tuple[Array, Array], int]:
    """Find the numbers of the identifiers that decisions name."""
    pairs = [*rules.together, *rules.separate]
    numbers: dict[str, int] = {}
    if pairs:
        names = sorted({split(written)[1] for pair in pairs for written in pair})
        places = np.flatnonzero(pc.is_in(value, pa.array(names)).to_numpy(zero_copy_only=False))
        texts = value.take(pa.array(places)).to_pylist()
        numbers = {
            f"{rules.priority[kind[place]]}:{text}": int(place)
            for place, text in zip(places, texts, strict=True)
        }

    def ends(chosen: tuple[tuple[str, str], ...]) -> tuple[Array, Array]:
        seen = [[numbers[w] for w in pair] for pair in chosen if all(w in numbers for w in pair)]
        found = np.array(seen, np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    unseen = sum(any(written not in numbers for written in pair) for pair in pairs)
    return ends(rules.together), ends(rules.separate), unseen


def moments(microseconds: Array, missing: Array) -> pa.Array:
    """Return microseconds since 1970 as timestamps, null where missing."""
    return pa.array(microseconds, pa.int64(), mask=missing).cast(MOMENT)
