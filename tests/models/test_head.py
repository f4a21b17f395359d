"""What every head has in common: it is saved as plain data and starts where its data are."""

from typing import Any

import numpy as np
import pytest
import torch
from random_histories import draw, network_config, tokenizer

from seqjourney.models.hazard_head import HazardHead
from seqjourney.models.head import BinaryHead, Head
from seqjourney.models.model import JourneyModel
from seqjourney.models.network import read_head
from seqjourney.models.value_head import ValueHead
from seqjourney.sequences.batching import Batch

HEADS = [BinaryHead(0.3), ValueHead(0.3, 2.0, 1.0), HazardHead((0.1, 0.25))]
CONFIG = network_config("gru", members=2)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_what_a_head_saves_makes_it_again(head: Head):
    again = read_head(head.saved())
    assert type(again) is type(head)
    assert again.saved() == head.saved()
    assert again.first_bias() == head.first_bias()


def test_files_that_name_what_they_lack_are_read():
    every: dict[str, Any] = {"base_rate": 0.3, "scale": None, "hazards": None}
    scale = {"mean": 2.0, "deviation": 1.0}
    for head, more in zip(HEADS, ({}, {"scale": scale}, {"hazards": [0.1, 0.25]}), strict=True):
        assert read_head(every | more).first_bias() == head.first_bias()


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_loss_is_of_the_outputs_and_customers_are_ranked_by_one_answer(head: Head):
    model = JourneyModel(CONFIG, tokenizer(), head).eval()
    inputs = draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)
    labels = (torch.arange(12).reshape(3, 4) % 2).float()
    rows = torch.zeros(3, 4, dtype=torch.int64)
    batch = Batch(*inputs, labels, torch.ones(3, 4), rows, labels)
    raw = model.each(*inputs)
    answers = model.answers(raw)
    ranked = head.log_odds(answers)
    assert ranked.shape == (3, 4)
    np.testing.assert_array_equal(head.log_odds(answers.detach().numpy()), ranked.detach())
    alone = torch.stack([head.loss(one, batch, CONFIG) for one in raw]).mean()
    torch.testing.assert_close(head.loss(raw, batch, CONFIG), alone)
    assert head.validation_loss(raw, answers, batch, CONFIG) <= alone + 1e-6  # of a mean: convex
