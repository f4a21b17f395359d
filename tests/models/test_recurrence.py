"""The layers that training on the CPU has of its own learn as PyTorch's do."""

import numpy as np
import pytest
import torch
from random_histories import draw, network_config, tokenizer
from torch import Tensor, nn

from seqjourney.models.dropout import Dropout
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.models.recurrence import states_of


@pytest.mark.parametrize(("rows", "steps", "width"), [(1, 1, 4), (3, 17, 8), (6, 1, 8)])
def test_states_and_all_gradients_equal_those_of_pytorch(rows: int, steps: int, width: int):
    torch.manual_seed(0)
    layer = nn.GRU(width, width)
    x = torch.randn(steps, rows, width, requires_grad=True)
    start = torch.randn(rows, width, requires_grad=True)
    pull = torch.randn(steps + 1, rows, width)

    def learned(states: Tensor) -> list[Tensor]:
        wanted = [x, start, *layer.parameters()]
        return [states, *torch.autograd.grad((states * pull).sum(), wanted)]

    theirs = torch.cat([start.unsqueeze(0), layer(x, start.unsqueeze(0))[0]])
    for mine, their in zip(learned(states_of(layer, x, start)), learned(theirs), strict=True):
        torch.testing.assert_close(mine, their, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_network_answers_and_learns_alike_in_training_and_evaluation(layers: int):
    """Training takes our layer, evaluation PyTorch's; without dropout they are the same."""
    torch.manual_seed(0)
    config = network_config("gru", layers=layers, members=1, dropout=0.0)
    model = JourneyModel(config, tokenizer(), BinaryHead(0.3))
    inputs = draw(np.random.default_rng(0), tokenizer(), 4, 15, 6)
    found = []
    for training in (True, False):
        answers = model.train(training).each(*inputs)
        pull = torch.linspace(-1, 1, answers.numel()).reshape(answers.shape)
        found.append([answers, *torch.autograd.grad((answers * pull).sum(), model.parameters())])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float):
    torch.manual_seed(0)
    x = torch.ones(1001, 301, requires_grad=True)
    dropped = Dropout(rate)(x)
    share = (dropped == 0).float().mean().item()
    error = (rate * (1 - rate) / x.numel()) ** 0.5
    assert share == pytest.approx(rate, abs=5 * error)
    assert dropped[dropped != 0].unique().tolist() == pytest.approx([1 / (1 - rate)], abs=1e-4)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped.detach())


def test_dropout_treats_neighbours_and_repeats_independently():
    """Four numbers share one random word: what became of one says nothing about the next."""
    torch.manual_seed(0)
    drop = Dropout(0.5)
    first, second = (drop(torch.ones(400_000)) > 0 for _ in range(2))
    assert abs((first == second).double().mean().item() - 0.5) < 0.005
    for distance in (1, 2, 3, 4):
        same = first[distance:] == first[:-distance]
        assert abs(same.double().mean().item() - 0.5) < 0.005, distance
    for place in range(4):
        assert abs(first[place::4].double().mean().item() - 0.5) < 0.01, place


def test_dropout_leaves_evaluation_alone_and_takes_any_shape():
    drop = Dropout(0.3)
    assert drop(torch.ones(0, 4)).shape == (0, 4)
    assert drop(torch.ones(3, 1).expand(3, 5)).shape == (3, 5)
    assert drop(torch.ones(7, dtype=torch.bfloat16)).dtype == torch.bfloat16
    x = torch.randn(7)
    assert drop.eval()(x) is x
    assert Dropout(0.0)(x) is x
