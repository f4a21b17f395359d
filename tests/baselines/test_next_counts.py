"""Counts of what follows what, by hand."""

from pathlib import Path

import numpy as np
import pytest

from chains import as_histories, chain, next_task
from seqjourney.baselines.next_counts import NextCounts
from seqjourney.config import NextCountsConfig, TrainerConfig, parse
from seqjourney.evaluation.next_ranks import expected, hit, rank_values
from seqjourney.sequences.next_cases import NextData, build_next_data

# The last two of each history are left out: training sees ab, ab, ac, bc.
HISTORIES = [["a", "b", "c", "a", "b"], ["a", "b", "c", "c"], ["a", "c", "b", "c"]]
ROLES = [["train", "train", "train", "history", "validation"], ["train", "train", "test", "test"],
         ["train", "train", "history", "test"]]  # fmt: skip


def data() -> NextData:
    return build_next_data(as_histories(HISTORIES, ROLES), next_task(split="given", given="fold"))


def fitted(kind: str, data: NextData, **settings) -> NextCounts:
    baseline = NextCounts(parse(NextCountsConfig, {"kind": kind, "name": kind} | settings, kind))
    baseline.fit(data, TrainerConfig(), 0, Path())
    return baseline


def score(baseline: NextCounts, data: NextData, customer: str, end: int) -> dict[str, float]:
    test = data.of("test")
    rows = test.snapshots
    row = np.flatnonzero((rows["customer_id"] == customer) & (rows["end"] == end))[0]
    scores = np.concatenate(list(baseline.scores(test)))[row]
    return dict(zip(data.tokenizer.vocabulary["item"], scores, strict=True))


def test_popularity_is_how_often_a_value_came_next():
    asked = data()
    found = score(fitted("popularity", asked), asked, "c0001", 2)
    assert found["b"] == pytest.approx(found["c"]) and found["a"] == 0  # b, c, b, c came; a never


def test_markov_backs_off_to_popularity():
    asked = data()
    markov = fitted("markov", asked)
    after_b = score(markov, asked, "c0001", 2)  # b was followed by c once
    assert after_b["c"] == pytest.approx(1 / 2 + 1 / 2 * 1 / 2)
    assert after_b["b"] == pytest.approx(1 / 2 * 1 / 2)
    assert sum(after_b.values()) == pytest.approx(1)
    after_c = score(markov, asked, "c0001", 3)  # nothing was seen to follow c
    assert after_c["b"] == after_c["c"] == pytest.approx(1 / 2)


def test_rules_weigh_by_distance_and_age():
    asked = data()
    rules = fitted("rules", asked, decays=[0.5], norms=[0.0])
    found = score(rules, asked, "c0001", 2)  # history a, b: b is the last, a one further back
    # After a: b twice and c once at distance 1, c once at distance 2. After b: c once.
    assert found["b"] == pytest.approx(0.5 * 2, abs=1e-5)
    assert found["c"] == pytest.approx(1 + 0.5 * (1 + 1 / 2), abs=1e-5)
    assert rules.chosen_ == {"decay": 0.5, "norm": 0.0}


def test_recent_repeats_the_latest_values_first():
    asked = data()
    found = score(fitted("recent", asked), asked, "c0001", 3)  # a, b, c
    assert found["c"] > found["b"] > found["a"]


def test_markov_beats_popularity_on_a_chain_and_rules_choose_on_validation():
    asked = build_next_data(chain(400), next_task())
    test = asked.of("test")

    def accuracy(kind: str) -> float:
        return expected(rank_values(test, fitted(kind, asked).scores(test)), hit(1)).mean()

    assert accuracy("markov") > accuracy("popularity") + 0.3
    assert fitted("rules", asked).chosen_["decay"] == 0.2  # only the last value matters
