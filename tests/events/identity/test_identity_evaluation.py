"""Quality of a grouping, against counting pairs and items one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.events.identity.evaluation import cluster_quality

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25)


def by_hand(true, found):
    items = range(len(true))
    same_true = {p for p in combinations(items, 2) if true[p[0]] == true[p[1]]}
    same_found = {p for p in combinations(items, 2) if found[p[0]] == found[p[1]]}
    both = len(same_true & same_found)
    pair = [both / len(s) if s else 1.0 for s in (same_found, same_true)]
    mine = [{j for j in items if found[j] == found[i]} for i in items]
    theirs = [{j for j in items if true[j] == true[i]} for i in items]
    cubed = [
        np.mean([len(m & t) / len(m) for m, t in zip(mine, theirs, strict=True)]),
        np.mean([len(m & t) / len(t) for m, t in zip(mine, theirs, strict=True)]),
    ]
    over = [len({t for t, f in zip(true, found, strict=True) if f == c}) > 1 for c in set(found)]
    spread = [len({f for t, f in zip(true, found, strict=True) if t == p}) for p in set(true)]
    result = {"overmerged_customers_share": np.mean(over), "fragmentation": np.mean(spread)}
    for name, (p, r) in {"pairwise": pair, "bcubed": cubed}.items():
        result |= {f"{name}_precision": p, f"{name}_recall": r}
        result[f"{name}_f1"] = 2 * p * r / (p + r) if p + r else 0.0
    return result


@settings(max_examples=100)
@given(pairs=LABELS)
def test_every_figure_is_what_counting_by_hand_gives(pairs):
    true, found = map(list, zip(*pairs, strict=True))
    assert cluster_quality(true, found) == pytest.approx(by_hand(true, found), abs=1e-12)


@given(pairs=LABELS)
def test_names_of_labels_and_order_of_items_do_not_matter(pairs):
    true, found = map(list, zip(*pairs, strict=True))
    names = [f"customer {label}" for label in found]
    expected = cluster_quality(true, found)
    assert cluster_quality(true[::-1], pd.Series(names[::-1])) == pytest.approx(expected)
    assert cluster_quality(np.array(true), np.array(found)) == pytest.approx(expected)


def test_a_known_example():
    # Three persons of 3, 2 and 1 items; the second person's items are torn, one falls to the first.
    quality = cluster_quality(list("aaabbc"), [1, 1, 1, 1, 2, 3])
    assert quality["pairwise_precision"] == 3 / 6 and quality["pairwise_recall"] == 3 / 4
    assert quality["overmerged_customers_share"] == 1 / 3 and quality["fragmentation"] == 4 / 3


def test_who_joins_nothing_has_no_wrong_pair():
    quality = cluster_quality([1, 1, 2], [1, 2, 3])
    assert quality["pairwise_precision"] == 1 and quality["pairwise_recall"] == 0
    assert quality["pairwise_f1"] == 0 and quality["bcubed_precision"] == 1


def test_millions_of_items_in_one_group_do_not_overflow():
    count = 3_000_000
    quality = cluster_quality(np.zeros(count), np.zeros(count))
    assert quality["pairwise_f1"] == quality["bcubed_f1"] == 1


@pytest.mark.parametrize(
    ("true", "found", "message"),
    [([1], [1, 2], "1 true labels for 2"), ([], [], "no items"), ([1, None], [1, 2], "is missing")],
)
def test_labels_that_cannot_be_compared_are_refused(true, found, message):
    with pytest.raises(ValueError, match=message):
        cluster_quality(true, found)
