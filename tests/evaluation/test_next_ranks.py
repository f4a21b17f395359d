"""Ranks and their metrics against brute force, and ties that neither help nor hurt."""

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest

from chains import as_histories, chain, next_task
from seqjourney.errors import DataError
from seqjourney.evaluation.next_metrics import gains, next_metrics
from seqjourney.evaluation.next_ranks import (
    NEVER,
    discounted,
    draw_negatives,
    expected,
    hit,
    rank_values,
    ranks_table,
    read_ranks,
    reciprocal,
    write_ranks,
)
from seqjourney.sequences.next_cases import build_next_data
from seqjourney.sequences.tokenizer import FIRST


def by_hand(gain, scores: np.ndarray, true: int) -> float:
    """The mean over all orders of candidates that sorting by score allows."""
    total, count = 0.0, 0
    for order in permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            total += float(gain(np.array([order.index(true) + 1]))[0])
            count += 1
    return total / count


@pytest.mark.parametrize("gain", [hit(1), hit(3), discounted(3), discounted(10), reciprocal(2)])
def test_metrics_are_means_over_all_orders_of_ties(gain):
    random = np.random.default_rng(0)
    for _ in range(20):
        scores = random.integers(0, 3, 6)
        true = int(random.integers(6))
        above = (scores > scores[true]).sum()
        tied = (scores == scores[true]).sum() - 1
        ranks = pd.DataFrame({"above": [above], "tied": [tied]})
        assert expected(ranks, gain)[0] == pytest.approx(by_hand(gain, scores, true))


def test_a_constant_score_gets_what_chance_gets():
    data = build_next_data(chain(60), next_task()).of("test")
    flat = [np.zeros((len(data.snapshots), data.values))]
    ranks = rank_values(data, flat)
    assert expected(ranks, hit(3)).mean() == pytest.approx(3 / data.values)


def test_a_value_that_the_model_does_not_know_is_never_found():
    data = build_next_data(chain(60), next_task()).of("test")
    labels = data.snapshots["label"].where(data.snapshots.index != 0, 1)
    data = replace(data, snapshots=data.snapshots.assign(label=labels))
    ranks = rank_values(data, [np.zeros((len(data.snapshots), data.values))])
    assert ranks["above"][0] == NEVER
    assert expected(ranks, hit(10**6))[0] == 0 and expected(ranks, hit(10**6))[1] == 1


def random_scores(data, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 6, (len(data.snapshots), data.values)) * 1.0


def test_full_ranks_are_counted_against_all_values_in_any_chunks():
    data = build_next_data(chain(60), next_task()).of("test")
    scores = random_scores(data)
    ranks = rank_values(data, [scores])
    for row, true in enumerate(data.snapshots["label"] - FIRST):
        assert ranks["above"][row] == sum(s > scores[row, true] for s in scores[row])
        assert ranks["tied"][row] == sum(s == scores[row, true] for s in scores[row]) - 1
    pd.testing.assert_frame_equal(rank_values(data, np.array_split(scores, 7)), ranks)


def test_values_that_may_not_come_again_are_no_candidates():
    histories = [["a", "b", "c", "d"], ["b", "c", "d", "a"], ["d", "a", "b", "c"]]
    data = build_next_data(as_histories(histories), next_task(repeats=False)).of("test")
    high = {word: 9.0 - rank for rank, word in enumerate("abcd")}
    columns = data.tokenizer.vocabulary["item"]
    scores = np.tile([high[word] for word in columns], (3, 1))
    # Each has seen all others, so that the true one is alone whatever its score is.
    known = data.snapshots["label"] >= FIRST
    assert known.any() and (rank_values(data, [scores])["above"][known] == 0).all()
    again = replace(data, task=next_task())
    assert (rank_values(again, [scores])["above"][known] > 0).any()
    assert scores.max() == 9.0  # the model's own array is not touched


def test_negatives_are_the_same_each_time_and_never_seen_or_true():
    data = build_next_data(
        chain(50, values=40), next_task(sampled=7, sampled_seed=3, repeats=False)
    ).of("test")
    drawn = draw_negatives(data)
    assert drawn is not None and drawn.shape == (len(data.snapshots), 7)
    np.testing.assert_array_equal(drawn, draw_negatives(data))
    offsets, codes = data.store.offsets, data.store.categorical[:, 0]
    for row, question in enumerate(data.snapshots.itertuples()):
        first = offsets[question.customer_index]
        taken = {*codes[first : first + question.end], question.target}
        assert not taken & set(drawn[row])
    counts = np.bincount(drawn.ravel(), minlength=40)
    assert (counts > 0).sum() > 35


def test_sampled_ranks_count_only_the_drawn_values():
    data = build_next_data(chain(50, values=40), next_task(sampled=7, repeats=False)).of("test")
    drawn, scores = draw_negatives(data), random_scores(data)
    ranks = rank_values(data, np.array_split(scores, 3), drawn)
    ranks = ranks[ranks["ranking"] == "sampled"].reset_index(drop=True)
    words, columns = data.store.dictionaries["item"], data.tokenizer.vocabulary["item"]
    for row, true in enumerate(data.snapshots["label"] - FIRST):
        if true < 0:
            continue
        others = [scores[row, columns.index(words[c])] for c in drawn[row] if words[c] in columns]
        assert ranks["above"][row] == sum(s > scores[row, true] for s in others)
        assert ranks["tied"][row] == sum(s == scores[row, true] for s in others)
    assert (ranks["candidates"] == 8).all()


def test_a_history_of_everything_leaves_nothing_to_draw():
    data = build_next_data(
        as_histories([list("abca"), list("cabc")]), next_task(sampled=2, repeats=False)
    )
    with pytest.raises(DataError, match="holds all 3 values"):
        draw_negatives(data.of("test"))


def test_scores_that_are_not_numbers_or_too_few_are_refused():
    data = build_next_data(chain(20), next_task()).of("test")
    scores = random_scores(data)
    with pytest.raises(DataError, match=r"answered 19 of 20"):
        rank_values(data, [scores[:-1]])
    scores[3, 2] = np.nan
    with pytest.raises(DataError, match="not numbers"):
        rank_values(data, [scores])


def test_ranks_survive_the_file(tmp_path):
    data = build_next_data(chain(30, values=30), next_task(sampled=5, repeats=False)).of("test")
    ranks = rank_values(data, [random_scores(data)], draw_negatives(data))
    table = ranks_table(data, ranks, "random", "random_0")
    write_ranks(table, tmp_path / "ranks.parquet")
    read = read_ranks(tmp_path / "ranks.parquet")
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    assert len(read) == 2 * len(data.snapshots)
    words = data.store.dictionaries["item"]
    assert read["target"][0] == words[data.snapshots["target"][0]]
    with pytest.raises(DataError, match="is missing"):
        read_ranks(tmp_path / "none.parquet")


def test_intervals_draw_histories_and_not_questions():
    """Ten histories that are each all right or all wrong: as uncertain as ten coin tosses."""
    right = np.repeat(np.arange(10) % 2, 50)
    ranks = pd.DataFrame(
        {
            "customer_id": np.repeat([f"c{i}" for i in range(10)], 50),
            "above": np.where(right, 0, 5),
            "tied": 0,
            "weight": 1.0,
        }
    )
    found = next_metrics(ranks, {"hit@1": gains()["hit@1"]}, replicates=500)["hit@1"]
    assert found.value == 0.5 and found.high - found.low > 0.5
