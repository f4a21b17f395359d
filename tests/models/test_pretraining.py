"""Pretraining learns what comes next, repeats itself exactly, and sees nothing of the future."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_histories import network_config, tokenizer
from trained import Killed, same, weights

from seqjourney.config import TrainerConfig
from seqjourney.errors import ConfigError
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.models.network import NetworkPredictor
from seqjourney.models.next_network import NextNetworkPredictor
from seqjourney.models.pretraining import NextEvents, Pretraining, pretrain
from seqjourney.models.training import JourneyTraining
from seqjourney.sequences.task_data import TaskData

TRAINER = {"max_epochs": 2, "threads": 1, "accelerator": "cpu", "progress": False}


def train(data: TaskData, folder: Path, epochs: int = 2, kind: str = "gru", **trainer: Any):
    config = network_config(
        kind, context=32, warmup_steps=2, members=2, batch_tokens=1024, pretrain_epochs=epochs
    )
    network = NetworkPredictor(config)
    network.fit(data, TrainerConfig(**(TRAINER | trainer)), 0, folder)
    return network


def next_events(members: int = 1) -> NextEvents:
    config = network_config("gru", members=members)
    return NextEvents(JourneyModel(config, tokenizer(), BinaryHead(0.3)), config, tokenizer())


def test_the_loss_is_the_likelihood_of_what_came_and_when():
    network = next_events()
    size = network.heads[0][-1].out_features  # type: ignore[index,union-attr]
    answers = torch.randn(1, 3, size, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([[3, 4, 1, 0], [0, 0, 0, 0], [1, 2, 3, 1]])
    came = torch.tensor([True, False, True])
    wait_s = [3600.0, 86400.0, 0.0]
    wait_us = torch.tensor([int(s * 1e6) for s in wait_s])
    found = network.losses(answers, classes, came, wait_us)[0]
    bounds = [math.expm1(k) for k in network.knots.tolist()]
    for question in range(3):
        *fields, hazards = answers[0, question].double().split(
            [*network.classes, len(bounds) + 1]
        )  # fmt: skip
        chance = torch.sigmoid(hazards)
        step = sum(bound <= wait_s[question] for bound in bounds)
        expected = -torch.log(1 - chance[:step]).sum()
        if came[question]:
            expected = expected - torch.log(chance[step])
            for field, truth in zip(fields, classes[question], strict=True):
                expected = expected - torch.log_softmax(field, -1)[truth]
        torch.testing.assert_close(found[question].double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_it_learns_what_comes_next_and_leaves_the_tasks_head_alone(
    kind: str, small_data: TaskData, tmp_path: Path
):
    config = network_config(
        kind, context=32, warmup_steps=2, learning_rate=0.01, pretrain_epochs=12, batch_tokens=1024
    )
    torch.manual_seed(0)
    model = JourneyModel(config, small_data.tokenizer, BinaryHead(0.3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = pretrain(model, config, small_data, TrainerConfig(**TRAINER), 0, tmp_path)
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert {name.split(".")[2] for name in changed} == {"embedding", "backbone"}
    curve = np.genfromtxt(
        tmp_path / "pretraining/logs/metrics.csv", delimiter=",", names=True
    )["validation_loss"]  # fmt: skip
    curve = curve[~np.isnan(curve)]
    assert found["loss"] == pytest.approx(curve.min())
    # Event, channel, country and the numbers are drawn evenly: when, and how much, can be learned.
    assert curve.min() < curve[0] - 1.0


def test_pretraining_changes_what_training_starts_from_and_repeats_itself(
    small_data: TaskData, tmp_path: Path
):
    plain = train(small_data, tmp_path / "plain", epochs=0)
    first = train(small_data, tmp_path / "a")
    assert not same(weights(plain), weights(first))
    assert same(weights(first), weights(train(small_data, tmp_path / "b", workers=1)))
    assert first.chosen_["pretraining"]["epochs"] == 2
    assert "pretraining" not in plain.chosen_


def test_nothing_that_became_known_after_training_changes_it(small_data: TaskData, tmp_path: Path):
    config = network_config("gru", context=32, pretrain_epochs=1)
    store = small_data.store
    until = max(small_data.of("train").snapshots["cutoff"]).value // 1000
    late = store.times[:, 1] > until
    categorical, numeric = np.array(store.categorical), np.array(store.numeric)
    categorical[late], numeric[late] = -1, 99.0
    later = np.array(store.times) + np.where(late, 86_400_000_000, 0)[:, None]
    blind = replace(store, categorical=categorical, numeric=numeric, times=later)
    found = []
    for name, data in (("a", small_data), ("b", replace(small_data, store=blind))):
        torch.manual_seed(0)
        model = JourneyModel(config, data.tokenizer, BinaryHead(0.3))
        pretrain(model, config, data, TrainerConfig(**TRAINER), 0, tmp_path / name)
        found.append(model.state_dict())
    assert same(*found)


@pytest.mark.parametrize(
    ("killed", "step"), [(Pretraining, 2), (Pretraining, 3), (JourneyTraining, 0),
                         (JourneyTraining, 2)],
    ids=["in pretraining", "in its second epoch", "before training", "in training"],
)  # fmt: skip
def test_a_killed_run_resumes_to_bit_identical_weights(
    killed: type, step: int, small_data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = train(small_data, tmp_path / "whole")
    original = killed.training_step  # type: ignore[attr-defined]
    steps = []

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = original(self, batch, batch_idx)
        steps.append(self.trainer.global_step)
        if not resuming and self.trainer.global_step == step:
            raise Killed
        return loss

    resuming = False
    monkeypatch.setattr(killed, "training_step", training_step)
    with pytest.raises(Killed):
        train(small_data, tmp_path / "run", checkpoint_every_steps=1)
    assert list((tmp_path / "run/checkpoints").rglob("latest.ckpt"))
    resuming = True
    steps.clear()
    resumed = train(small_data, tmp_path / "run", checkpoint_every_steps=1, resume=True)
    assert steps[0] <= step
    assert resumed.chosen_ == whole.chosen_
    assert same(weights(resumed), weights(whole))
    assert resumed.chosen_ == whole.chosen_


def test_next_tasks_refuse_it():
    with pytest.raises(ConfigError, match="pretrain_epochs"):
        NextNetworkPredictor(network_config("gru", pretrain_epochs=1))
