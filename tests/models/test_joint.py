"""What a head beside the main one may change, and what it may not."""

from typing import Any

import numpy as np
import pytest
import torch
from random_histories import draw, network_config, tokenizer

from seqjourney.models.head import BinaryHead
from seqjourney.models.joint import JointModel, JointTraining, Lesson
from seqjourney.models.model import JourneyModel
from seqjourney.models.training import JourneyTraining
from seqjourney.models.value_head import ValueHead
from seqjourney.sequences.batching import Batch

CONFIG = network_config("gru", members=2, dropout=0.0)


def batch_of(rows: torch.Tensor) -> Batch:
    inputs = draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)
    labels = (torch.arange(12).reshape(3, 4) % 2).float()
    return Batch(*inputs, labels, torch.ones(3, 4), rows, torch.zeros(3, 4))


def models() -> tuple[JourneyModel, JourneyModel]:
    torch.manual_seed(0)
    main = JourneyModel(CONFIG, tokenizer(), BinaryHead(0.3))
    return main, JourneyModel(CONFIG, tokenizer(), ValueHead(0.3, 2.0, 1.0))


def gradients(training: Any, batch: Batch, model: JourneyModel) -> list[torch.Tensor]:
    training.log = lambda *_, **__: None
    model.zero_grad()
    training.training_step(batch, 0).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def joint(weight: float, asked: np.ndarray) -> tuple[JointTraining, JourneyModel]:
    main, other = models()
    targets = (np.ones(12, np.float32), asked, np.full(12, 9, np.float32))
    lesson = Lesson("worth", weight, targets, batches=1)
    return JointTraining(JointModel(main, [other]), CONFIG, 12.0, [lesson]), main


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_head_of_weight_0_leaves_the_main_tasks_gradient_as_alone(weight: float):
    batch = batch_of(torch.arange(12).reshape(3, 4))
    main, _ = models()
    alone = gradients(JourneyTraining(main, CONFIG, 12.0), batch, main)
    training, main = joint(weight, np.ones(12, np.float32))
    together = gradients(training, batch, main)
    assert len(together) == len(alone) > 10
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(alone, together, strict=True)]
    assert all(same) if weight == 0 else not all(same)


def test_snapshots_that_a_task_does_not_ask_teach_its_head_nothing():
    asked = (np.arange(12) < 4).astype(np.float32)
    nothing_asked = batch_of(torch.arange(4, 16).clamp(max=11).reshape(3, 4))
    main, _ = models()
    alone = gradients(JourneyTraining(main, CONFIG, 12.0), nothing_asked, main)
    training, main = joint(1.0, asked)
    for mine, own in zip(gradients(training, nothing_asked, main), alone, strict=True):
        torch.testing.assert_close(mine, own)
    heads = [p.grad for p in training.model.others[0].members[0].head.parameters()]
    assert all(not grad.any() for grad in heads)


def test_padding_asks_nobody():
    rows = torch.full((3, 4), -1)
    rows[0, 0] = 5
    training, _ = joint(1.0, np.ones(12, np.float32))
    assert training.lessons[0](batch_of(rows)).weights.sum() == 1


def test_the_average_of_the_weights_shares_what_the_model_shares():
    averaged: Any = joint(1.0, np.ones(12, np.float32))[0].averaged.module
    assert averaged.others[0].members[1].backbone is averaged.members[1].backbone
