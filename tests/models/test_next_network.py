"""The network of `next` tasks: causal, the same answers in any window, and losses that agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_histories import draw, network_config, tokenizer

from chains import chain, next_task
from seqjourney.baselines.next_counts import NextCounts
from seqjourney.config import NextCountsConfig, TrainerConfig
from seqjourney.errors import ConfigError, DataError
from seqjourney.evaluation.next_ranks import expected, hit, rank_values
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import Member
from seqjourney.models.next_head import NextNetwork
from seqjourney.models.next_network import NextNetworkPredictor, longest_span
from seqjourney.sequences.next_cases import NextData, build_next_data
from seqjourney.sequences.tokenizer import DAY_US

KINDS = ["gru", "transformer"]


def network(kind: str, frequency: np.ndarray | None = None, **changes) -> NextNetwork:
    torch.manual_seed(0)
    words = tokenizer(**changes)
    values = len(words.vocabulary["event"])
    return NextNetwork(
        network_config(kind, layers=2),
        words,
        "event",
        np.ones(values) if frequency is None else frequency,
    ).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_later_events_change_no_earlier_answer(kind: str):
    model = network(kind)
    categorical, numeric, times, _, _ = draw(np.random.default_rng(0), tokenizer(), 3, 12, 4)
    ends = torch.arange(1, 13).expand(3, 12)
    cutoffs = times.cummax(1).values
    before = model(categorical, numeric, times, ends, cutoffs)
    after = (categorical.clone(), numeric.clone(), times.clone())
    after[0][:, 7:] = 1
    after[1][:, 7:] = 99.0
    after[2][:, 7:] += 5 * DAY_US
    later = model(*after, ends, torch.maximum(cutoffs, after[2].cummax(1).values))
    torch.testing.assert_close(before[:, :7], later[:, :7])
    assert (before[:, 7:] - later[:, 7:]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_event_reaches_the_answer(kind: str):
    model = network(kind)
    categorical, numeric, times, ends, cutoffs = draw(
        np.random.default_rng(1), tokenizer(), 4, 6, 2
    )
    other = categorical.clone()
    other[:, -1, 0] = torch.where(other[:, -1, 0] == 3, 4, 3)
    a = model(categorical, numeric, times, ends, cutoffs)
    b = model(other, numeric, times, ends, cutoffs)
    assert torch.equal(a[:, 0], b[:, 0])  # knows nothing yet
    assert (a[:, 1] - b[:, 1]).abs().max() > 1e-2


def many_values(count: int, frequency: np.ndarray) -> NextNetwork:
    return network("gru", frequency, vocabulary={"event": [f"v{i:03d}" for i in range(count)]})


def test_the_sampled_loss_estimates_the_full_softmax_without_bias():
    random = np.random.default_rng(0)
    model = many_values(600, random.zipf(1.5, 600).clip(max=500))
    queries, truth = torch.randn(5, 16), torch.tensor([0, 1, 7, 300, 599])
    full = model.loss(queries, truth, None)
    torch.manual_seed(1)
    draws = torch.stack([model.loss(queries, truth, 256) for _ in range(300)])
    true = (queries * model.values()[truth]).sum(-1) + model.preference[truth]
    # exp(loss + true) is the denominator: its mean over draws is the softmax's own.
    estimated = (draws + true).exp().mean(0)
    torch.testing.assert_close(estimated, (full + true).exp(), rtol=0.03, atol=0)
    # Without the correction it would be that of 256 values, not of 600.
    assert ((draws.mean(0) - full).abs() < 0.05).all()


def test_no_more_values_than_negatives_means_the_full_softmax():
    model = many_values(200, np.ones(200))
    queries, truth = torch.randn(3, 16), torch.tensor([0, 1, 2])
    torch.testing.assert_close(model.loss(queries, truth, 256), model.loss(queries, truth, None))


def test_negatives_are_drawn_half_evenly_and_half_as_often_as_they_come():
    model = many_values(4, np.array([999.0, 0, 0, 0]))
    torch.manual_seed(0)
    drawn = torch.bincount(model.draw(20_000), minlength=4) / 20_000
    share = 0.5 * np.array([1000, 1, 1, 1]) / 1003 + 0.125
    np.testing.assert_allclose(drawn.numpy(), share, atol=0.015)
    np.testing.assert_allclose(model.frequency.exp().numpy(), share, rtol=1e-5)


def test_an_untrained_network_starts_near_popularity():
    model = many_values(5, np.array([800.0, 100, 50, 30, 20]))
    chances = torch.softmax(model.scores(torch.zeros(1, 16)), -1)[0]
    np.testing.assert_allclose(chances.detach().numpy()[0], 0.8, atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_embedding_and_backbone_are_those_of_every_other_task(kind: str):
    """A churn network starts from these weights: same names, same shapes."""
    ours = network(kind)
    member = Member(network_config(kind, layers=2), tokenizer(), BinaryHead(0.3))
    shared = {k: v for k, v in ours.state_dict().items() if k.startswith(("embedding", "backbone"))}
    missing, unexpected = member.load_state_dict(shared, strict=False)
    assert not unexpected and all(name.startswith("head") for name in missing)
    assert torch.equal(member.embedding.fields[0].weight, ours.embedding.fields[0].weight)


@pytest.fixture(scope="module")
def chained() -> NextData:
    return build_next_data(chain(300), next_task(negatives=None))


def trained(data: NextData, kind: str, folder: Path, **trainer) -> NextNetworkPredictor:
    config = network_config(
        kind, context=16, learning_rate=0.01, warmup_steps=2, dropout=0.0, average_decay=0.9
    )
    found = NextNetworkPredictor(config)
    settings = {"max_epochs": 8, "threads": 1, "accelerator": "cpu", "progress": False}
    found.fit(data, TrainerConfig(**(settings | trainer)), 0, folder)
    return found


def accuracy(data: NextData, predictor) -> float:
    test = data.of("test")
    return float(expected(rank_values(test, predictor.scores(test)), hit(1)).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns_a_chain_that_popularity_cannot_see(
    kind: str, chained: NextData, tmp_path: Path
):
    network = trained(chained, kind, tmp_path)
    popularity = NextCounts(NextCountsConfig(kind="popularity", name="popularity"))
    popularity.fit(chained, TrainerConfig(), 0, tmp_path)
    assert accuracy(chained, network) > accuracy(chained, popularity) + 0.3
    assert (tmp_path / "logs" / "metrics.csv").exists()

    network.save(tmp_path)
    loaded = NextNetworkPredictor.load(tmp_path)
    test = chained.of("test")
    np.testing.assert_array_equal(
        np.concatenate(list(loaded.scores(test))), np.concatenate(list(network.scores(test)))
    )
    assert loaded.validation_score_ == network.validation_score_ > 0.4


def test_an_answer_does_not_depend_on_what_else_is_asked(chained: NextData, tmp_path: Path):
    network = trained(chained, "transformer", tmp_path, max_epochs=1)
    test = chained.of("test")
    together = network.queries(chained)[(chained.snapshots["split"] == "test").to_numpy()]
    np.testing.assert_allclose(network.queries(test), together, atol=1e-5)
    one = replace(test, snapshots=test.snapshots.iloc[[5]].reset_index(drop=True))
    np.testing.assert_allclose(network.queries(one)[0], together[5], atol=1e-5)


def test_the_same_seed_gives_the_same_weights(chained: NextData, tmp_path: Path):
    data = replace(chained, task=next_task())
    a = trained(data, "gru", tmp_path / "a", max_epochs=1).model
    b = trained(data, "gru", tmp_path / "b", max_epochs=1).model
    assert a is not None and b is not None
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_the_longest_span_is_that_of_a_window():
    data = build_next_data(chain(100), next_task()).of("train")
    longest = int((data.snapshots["end"]).max()) - 1
    assert longest_span(data, 64) == longest * DAY_US
    assert longest_span(data, 4) == 3 * DAY_US


def test_several_members_and_missing_files_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="members=2"):
        NextNetworkPredictor(network_config("gru", members=2))
    with pytest.raises(DataError, match="is missing"):
        NextNetworkPredictor.load(tmp_path)
