"""How right the customers are: the found grouping of identifiers (or events) against the true one.

Everything is counted exactly from the table of (true person, found customer) pairs, never from
pairs of items: n items cost n log n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

Labels = Sequence[Any] | np.ndarray[Any, Any] | pd.Series


def cluster_quality(true: Labels, found: Labels) -> dict[str, float]:
    """Compare a found grouping with the true one.

    Args:
        true: per item, the person whose it is.
        found: per item, the customer to whom it was given.

    Returns:
        `pairwise_precision`: of all pairs of items in one customer, the share of one person;
        `pairwise_recall`: of all pairs of one person, the share in one customer; `pairwise_f1`.
        `bcubed_precision`: averaged over items, the share of its customer's items that are its
        person's; `bcubed_recall`: of its person's items that are in its customer; `bcubed_f1`.
        `overmerged_customers_share`: customers that hold items of two or more persons.
        `fragmentation`: mean number of customers that a person is spread over (1 is right).
        A share of nothing is 1: who claims nothing claims nothing wrong.

    Raises:
        ValueError: different lengths, no items, or a label that is missing.
    """
    if len(true) != len(found):
        raise ValueError(f"{len(true)} true labels for {len(found)} found ones")
    if not len(true):
        raise ValueError("no items to compare")
    person, customer = (_codes(labels) for labels in (true, found))
    persons, customers = int(person.max()) + 1, int(customer.max()) + 1
    cell, together = np.unique(person * customers + customer, return_counts=True)
    of_person, of_customer = np.bincount(person), np.bincount(customer)
    in_person, in_customer = of_person[cell // customers], of_customer[cell % customers]
    both = _pairs(together)
    pairwise = _precision_recall(
        (both, _pairs(of_customer)), (both, _pairs(of_person))
    )  # products of counts stay exact below 3 billion items
    agreed = together.astype(np.float64) ** 2
    bcubed = _precision_recall(
        (float((agreed / in_customer).sum()), len(person)),
        (float((agreed / in_person).sum()), len(person)),
    )
    names = ("precision", "recall", "f1")
    return {
        **{f"pairwise_{name}": value for name, value in zip(names, pairwise, strict=True)},
        **{f"bcubed_{name}": value for name, value in zip(names, bcubed, strict=True)},
        "overmerged_customers_share": float((np.bincount(cell % customers) > 1).mean()),
        "fragmentation": len(cell) / persons,
    }


def _codes(labels: Labels) -> np.ndarray[Any, Any]:
    codes, _ = pd.factorize(pd.Series(labels))
    if (codes < 0).any():
        raise ValueError("a label is missing; leave out items whose person is not known")
    return codes.astype(np.int64)


def _pairs(counts: np.ndarray[Any, Any]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _precision_recall(
    precision: tuple[float, float], recall: tuple[float, float]
) -> tuple[float, float, float]:
    """Return precision, recall and their harmonic mean from parts and wholes."""
    p, r = (part / whole if whole else 1.0 for part, whole in (precision, recall))
    return p, r, 2 * p * r / (p + r) if p + r else 0.0
