import numpy as np
import pytest

from seqjourney.evaluation.bootstrap import Resampling, difference, estimate, replicate_weights
from seqjourney.evaluation.ranking import accumulate, average_precision, rank


def weights_of(resampling, **options):
    return np.concatenate(list(replicate_weights(resampling, **options)))


def test_all_snapshots_of_a_customer_move_together():
    customer = np.array([0, 0, 0, 1, 2, 2])
    weights = weights_of(Resampling(customer, np.ones(6), replicates=50))
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 4], weights[:, 5])
    # As many customers are drawn as there are.
    np.testing.assert_array_equal(weights[:, [0, 3, 4]].sum(axis=1), 3)


def test_the_chunk_size_changes_nothing_and_the_seed_does():
    resampling = Resampling(np.arange(40), np.full(40, 0.5), replicates=17, seed=3)
    whole = weights_of(resampling)
    np.testing.assert_array_equal(whole, weights_of(resampling, chunk_elements=120))
    other = weights_of(Resampling(np.arange(40), np.full(40, 0.5), replicates=17, seed=4))
    assert not np.array_equal(whole, other)


def test_memory_is_bounded_by_the_chunk():
    chunks = replicate_weights(Resampling(np.arange(1000), np.ones(1000)), chunk_elements=10_000)
    assert next(chunks).shape == (10, 1000)


def test_the_standard_error_of_a_mean_is_the_textbook_one_for_clusters():
    # Five identical snapshots per customer carry the information of one.
    draw = np.random.default_rng(0)
    value = draw.normal(size=200)
    rows, customer = np.repeat(value, 5), np.repeat(np.arange(200), 5)
    weights = weights_of(Resampling(customer, np.ones(1000), replicates=2000))
    means = weights @ rows / weights.sum(axis=1)
    assert means.std() == pytest.approx(value.std() / np.sqrt(200), rel=0.08)


def test_a_model_minus_itself_is_exactly_zero_and_pairing_narrows():
    draw = np.random.default_rng(1)
    label = (draw.random(500) < 0.3).astype(int)
    a = label + draw.normal(size=500)
    b = a + 0.05 * draw.normal(size=500)
    weights = weights_of(Resampling(np.arange(500), np.ones(500), replicates=300))

    def measured(score):
        ranking = rank(label, score)
        value = average_precision(accumulate(ranking, np.ones(500)))[0]
        return estimate(value, average_precision(accumulate(ranking, weights)))

    first, second = measured(a), measured(b)
    zero = difference(first, first)
    assert (zero.value, zero.low, zero.high) == (0, 0, 0)
    gap = difference(first, second)
    assert gap.high - gap.low < 0.5 * (first.high - first.low)
    assert first.low < first.value < first.high


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    draw = np.random.default_rng(2)
    covered = 0
    for trial in range(150):
        value = draw.exponential(size=120)
        weights = weights_of(Resampling(np.arange(120), np.ones(120), 200, seed=trial))
        e = estimate(value.mean(), weights @ value / 120)
        covered += e.low <= 1.0 <= e.high
    assert 0.86 <= covered / 150 <= 0.99


def test_recentring_puts_the_value_inside_and_never_below_zero():
    replicates = np.random.default_rng(3).normal(0.05, 0.01, 1000)
    e = estimate(0.02, replicates, recentre=True)
    assert 0 <= e.low < 0.02 < e.high


def test_too_few_usable_replicates_give_no_interval():
    e = estimate(0.5, np.array([np.nan, np.nan, np.nan, 0.4]))
    assert e.value == 0.5
    assert np.isnan(e.low)
    assert np.isnan(e.high)
