"""Since when an identifier was known to be its customer's.

Between an identifier and its customer's earliest one there may be several paths of links; a path is
known when its last link is. The earliest such moment is the largest link on the path through the
minimum spanning tree (bottleneck path), so one tree and one pass from the earliest identifier
outwards answer for all identifiers at once.
"""

from __future__ import annotations

import numpy as np

from seqjourney.events.identity.graph import Array


def known_since(size: int, a: Array, b: Array, known: Array, start: Array) -> Array:
    """Return per vertex the earliest moment at which a path from its start was known.

    Args:
        size: number of vertices V.
        a: (L,) ends of the followed links, each pair once.
        b: (L,) their other ends.
        known: (L,) when each link was known.
        start: the vertices from which paths begin, one in each component.

    Returns:
        (V,) the moment; the smallest integer for the starts themselves.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    since = np.full(size, np.iinfo(np.int64).min)
    if not len(a):
        return since
    zero = int(known.min()) - 1  # in a sparse matrix, 0 would be no edge
    weights = (known - zero).astype(np.float64)  # exact: microseconds of 285 years
    ends = a.astype(np.int32), b.astype(np.int32)
    tree = minimum_spanning_tree(coo_array((weights, ends), (size, size)).tocsr()).tocoo()
    # One vertex beyond the others leads to every start, so that one search visits them all.
    outer = np.full(len(start), size, np.int32)
    low = np.concatenate([tree.row.astype(np.int32), outer])
    high = np.concatenate([tree.col.astype(np.int32), start.astype(np.int32)])
    rooted = coo_array((np.ones(len(low)), (low, high)), (size + 1, size + 1)).tocsr()
    _, parent = breadth_first_order(rooted, size, directed=False)
    child = np.where(parent[tree.row] == tree.col, tree.row, tree.col)
    up = np.arange(size)
    up[child] = parent[child]
    step = np.zeros(size, np.int64)
    step[child] = tree.data.astype(np.int64)
    # Each round doubles how far up the tree a vertex has looked.
    active = np.flatnonzero(up != up[up])
    while len(active):
        above = up[active]
        step[active] = np.maximum(step[active], step[above])
        up[active] = up[above]
        active = active[up[active] != up[up[active]]]
    since[step > 0] = step[step > 0] + zero
    return since
