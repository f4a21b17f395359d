"""Which event names probably mean the same, by three kinds of evidence.

- name: the cosine of what their words stand for (`tap_cta` and `click_button` are one), or of
  their letters in threes, for typing errors. Names of different known actions (added, removed)
  keep a quarter of it.
- properties: the weighted Jaccard similarity of the shares of rows in which each key stands; keys
  that most events have weigh little.
- context: the cosine of what comes before and after, weighted by positive pointwise mutual
  information. Names that are all but settled count as one there, and so do the two compared.

The score is `0.5 name + 0.2 properties + 0.3 context`, over the kinds that are known (an event
without properties, or rarely seen, lacks one). A name without any word that `words` knows
(`evt_17`) says little: unlike names then weigh 0.2 only. Two more readings lower it. A pair whose
one follows the other more often than either follows itself is a sequence, not a pair of synonyms:
its properties and context count the less, the stronger that is. Different known actions halve it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from seqjourney.events.taxonomy.names import template
from seqjourney.events.taxonomy.plan import TrackingPlan
from seqjourney.events.taxonomy.words import concepts, is_known

COLUMNS = (
    "event",
    "candidate",
    "candidate_mapped",
    "score",
    "name_score",
    "property_score",
    "context_score",
    "rows",
    "candidate_rows",
)
WEIGHTS = (0.5, 0.2, 0.3)
MOST_NAMES = 1000
_OTHER_ACTION_NAME, _OTHER_ACTION_SCORE = 0.25, 0.5
_OPAQUE_NAME, _ALIKE = 0.2, 0.5
_TYPING = 0.9  # what letters in threes count for, against words
_LEAST_PAIRS = 20  # neighbours that an event must have for its context to be known
_SETTLED = 0.65  # a score from which a pair counts as one in the context of others
_DOUBTFUL = 5.0  # pairs: a count of this many keeps half of its information


def events(resolved: pd.DataFrame, plan: TrackingPlan) -> pd.DataFrame:
    """Return the events that are worth comparing, one row each.

    Args:
        resolved: raw names with `event`, `rows` and `mapped` (see `mapping.resolve`).
        plan: its events that do not occur are compared too, with 0 rows.

    Returns:
        Data frame with `event`, `rows`, `mapped`: all of the plan, and the most frequent unmapped
        names that do not carry data (see `names.template`).
    """
    counted = resolved.groupby("event", sort=True).agg(
        rows=("rows", "sum"), mapped=("mapped", "max")
    )
    unseen = pd.DataFrame({"rows": 0, "mapped": True}, index=pd.Index(sorted(plan.events)))
    counted = pd.concat([counted, unseen[~unseen.index.isin(counted.index)]])
    plain = [template(str(event)) is None for event in counted.index]
    counted = counted[counted["mapped"].astype(bool) | np.array(plain, dtype=bool)]
    counted = counted.rename_axis("event").reset_index()
    counted = counted.sort_values(["rows", "event"], ascending=[False, True])
    mapped = counted["mapped"].astype(bool)
    return pd.concat([counted[mapped], counted[~mapped].head(MOST_NAMES)], ignore_index=True)


def candidates(
    compared: pd.DataFrame,
    keys: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    least_score: float = 0.45,
    most: int = 3,
) -> pd.DataFrame:
    """Propose for each unmapped event the events that it probably is.

    Args:
        compared: what `events` returned.
        keys: `event`, `key`, `share` (see `evidence.key_shares`); may be empty.
        pairs: `event`, `next`, `rows` (see `evidence.neighbours`); may be empty.
        least_score: pairs below it are not proposed.
        most: proposals per event.

    Returns:
        Data frame with `event`, `candidate` (of the plan, or a more frequent unmapped one),
        `candidate_mapped`, `score`, the three scores (NaN where unknown), `rows` and
        `candidate_rows`; the best first.
    """
    names = [str(event) for event in compared["event"]]
    if len(names) < 2 or bool(compared["mapped"].all()):
        return pd.DataFrame(columns=list(COLUMNS))
    by_name, other_action, opaque = name_similarity(names)
    by_keys = property_similarity(names, keys)
    mapped = compared["mapped"].to_numpy(bool)
    rows = compared["rows"].to_numpy(np.int64)
    # Only a name that is listed before (by volume) is proposed for an unmapped one, so that no
    # two are proposed for each other.
    place = np.arange(len(names))
    allowed = ~mapped[:, None] & (mapped[None, :] | (place[None, :] < place[:, None]))
    groups = place
    for _ in range(2):  # two tools may name everything differently: settle the plain ones first
        by_context, apart = context_similarity(names, pairs, groups)
        scores = _combine(by_name, opaque, by_keys, by_context, apart)
        scores = np.where(other_action, _OTHER_ACTION_SCORE * scores, scores)
        scores = np.where(allowed, scores, -1.0)
        best = scores.argmax(axis=1)
        groups = _roots(np.where(scores[place, best] >= _SETTLED, best, place))
    scores = np.where(scores >= least_score, scores, -1.0)
    found: list[tuple[Any, ...]] = []
    for i in np.flatnonzero(~mapped):
        for j in np.argsort(-scores[i], kind="stable")[:most]:
            if scores[i, j] < 0:
                break
            evidence = (by_name[i, j], by_keys[i, j], by_context[i, j])
            found.append((names[i], names[j], mapped[j], scores[i, j], *evidence, rows[i], rows[j]))
    table = pd.DataFrame(found, columns=list(COLUMNS))
    return table.sort_values(
        ["score", "rows", "event", "candidate"],
        ascending=[False, False, True, True],
        ignore_index=True,
    )


def _roots(parent: Any) -> Any:
    """Follow each event to the one that it is a synonym of; mapped ones have no parent."""
    while (parent[parent] != parent).any():
        parent = parent[parent]
    return parent


def _combine(name: Any, opaque: Any, keys: Any, context: Any, apart: Any) -> Any:
    """Weigh the kinds of evidence that are known; NaN is unknown."""
    plain_name, of_keys, of_context = WEIGHTS
    of_name = np.where(opaque & (name < _ALIKE), _OPAQUE_NAME, plain_name)
    known = of_name + of_keys * ~np.isnan(keys) + of_context * ~np.isnan(context)
    use = of_keys * np.nan_to_num(keys) + of_context * np.nan_to_num(context)
    return (of_name * name + apart * use) / known


def name_similarity(names: list[str]) -> tuple[Any, Any, Any]:
    """Compare folded names by their words and letters.

    Returns:
        (N, N) similarities in [0, 1]; (N, N) whether two names have different known actions; and
        (N, N) whether one of two has no known word.
    """
    read = [concepts(name.split("_")) for name in names]
    by_words = _cosine(_weighted([words for words, _ in read]))
    threes = [_threes(name.replace("_", "")) for name in names]
    by_letters = _cosine(_weighted(threes))
    same_letters = by_letters > 1 - 1e-9
    by_letters = np.where(same_letters, 1.0, _TYPING * np.where(by_letters > 0.6, by_letters, 0.0))
    ids = {action: i for i, action in enumerate(sorted({a for _, a in read if a is not None}))}
    action = np.array([-1 if a is None else ids[a] for _, a in read])
    known = (action[:, None] >= 0) & (action[None, :] >= 0)
    other = known & (action[:, None] != action[None, :])
    similar = np.maximum(by_words, by_letters)
    says_nothing = np.array([not any(is_known(word) for word in name.split("_")) for name in names])
    opaque = says_nothing[:, None] | says_nothing[None, :]
    return np.where(other, _OTHER_ACTION_NAME * similar, similar), other, opaque


def _threes(text: str) -> list[str]:
    padded = f"^{text}$"
    return [padded[i : i + 3] for i in range(len(padded) - 2)]


def _weighted(bags: list[list[str]]) -> Any:
    """Return (N, words) counts times inverse document frequency; rare words tell more."""
    vocabulary = {word: i for i, word in enumerate(sorted({w for bag in bags for w in bag}))}
    counts = np.zeros((len(bags), len(vocabulary)), dtype=np.float32)
    for i, bag in enumerate(bags):
        for word in bag:
            counts[i, vocabulary[word]] = 1
    seen_in = counts.sum(axis=0)
    return counts * (1 + np.log(len(bags) / np.maximum(seen_in, 1)) / 2)


def _cosine(vectors: Any) -> Any:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return np.clip(unit @ unit.T, 0, 1).astype(np.float64)


def property_similarity(names: list[str], keys: pd.DataFrame) -> Any:
    """Return (N, N) weighted Jaccard similarities of property keys; NaN where one has none."""
    place = {name: i for i, name in enumerate(names)}
    known = keys[keys["event"].isin(place.keys())]
    columns = {key: i for i, key in enumerate(sorted(set(known["key"])))}
    shares = np.zeros((len(names), len(columns)))
    for event, key, share in known[["event", "key", "share"]].itertuples(index=False):
        shares[place[event], columns[key]] = share
    has = shares.sum(axis=1) > 0
    seen_in = (shares > 0).sum(axis=0)
    weight = np.log((1 + has.sum()) / np.maximum(seen_in, 1))
    similar = np.full((len(names), len(names)), np.nan)
    for i in np.flatnonzero(has):
        both = np.minimum(shares[i], shares) @ weight
        either = np.maximum(shares[i], shares) @ weight
        row = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
        similar[i] = np.where(has, row, np.nan)
    return similar


def context_similarity(
    names: list[str], pairs: pd.DataFrame, groups: Any | None = None
) -> tuple[Any, Any]:
    """Compare events by what stands around them.

    Args:
        names: the events.
        pairs: `event`, `next`, `rows`.
        groups: (N,) for each event, the event that stands for it as a neighbour; else itself.

    Returns:
        (N, N) cosines in [0, 1], NaN where one of two has too few neighbours; and (N, N) factors
        in (0, 1]: 1 over how much more often one follows the other than either follows itself.
    """
    place = {name: i for i, name in enumerate(names)}
    groups = np.arange(len(names)) if groups is None else groups
    counts = np.zeros((len(names), len(names)))
    for event, after, rows in pairs[["event", "next", "rows"]].itertuples(index=False):
        if event in place and after in place:
            counts[place[event], place[after]] += rows
    halves = [_information(_grouped(c, groups)) for c in (counts, counts.T)]  # after; before
    positive = [np.maximum(half, 0) for half in halves]
    dots = sum(_merged_dot(half, groups) for half in positive)
    lengths = sum(_merged_squares(half, groups) for half in positive)
    product = np.sqrt(lengths * lengths.T)
    similar = np.divide(dots, product, out=np.zeros_like(dots), where=product > 0)
    enough = counts.sum(axis=0) + counts.sum(axis=1) >= _LEAST_PAIRS
    similar = np.where(enough[:, None] & enough[None, :], np.clip(similar, 0, 1), np.nan)
    follows = np.maximum(*(half[:, groups] for half in halves))
    follows = np.maximum(follows, follows.T)
    itself = np.maximum(np.diag(follows), 0)
    excess = follows - np.maximum(itself[:, None], itself[None, :])
    return similar, np.exp(-np.maximum(excess, 0))


def _grouped(counts: Any, groups: Any) -> Any:
    """Add each column to that of its group: (N, N), empty columns for those that moved."""
    moved = np.zeros_like(counts)
    np.add.at(moved.T, groups, counts.T)
    return moved


def _information(counts: Any) -> Any:
    """Pointwise mutual information of neighbours, the less the fewer were seen."""
    total = max(counts.sum(), 1.0)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / total
    seen = (counts > 0) & (expected > 0)
    ratio = np.divide(counts, expected, out=np.ones_like(counts), where=seen)
    return np.log(ratio) * counts / (counts + _DOUBTFUL)


def _merged_dot(vectors: Any, groups: Any) -> Any:
    """(N, N) dot products of rows i and j, where their own columns are one: the larger value."""
    own = vectors[np.arange(len(groups)), groups][:, None]  # (N, 1): row i, column of i
    across = vectors[:, groups]  # (N, N): row i, column of j
    same = groups[:, None] == groups[None, :]
    apart = own * across.T + across * own.T
    one = np.maximum(own, across) * np.maximum(across.T, own.T)
    return vectors @ vectors.T + np.where(same, 0, one - apart)


def _merged_squares(vectors: Any, groups: Any) -> Any:
    """(N, N) squared lengths of row i, where the columns of i and j are one: the larger value."""
    own = vectors[np.arange(len(groups)), groups][:, None]
    across = vectors[:, groups]
    same = groups[:, None] == groups[None, :]
    merged = np.where(same, 0, np.maximum(own, across) ** 2 - own**2 - across**2)
    return (vectors**2).sum(axis=1)[:, None] + merged
