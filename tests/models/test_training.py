"""Training learns, stops, repeats itself exactly, and goes on exactly where it was killed."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from random_histories import network_config, tokenizer
from trained import Killed, same, weights

from seqjourney.config import LoggerConfig, TrainerConfig
from seqjourney.models.head import BinaryHead, weighted_loss
from seqjourney.models.learning import epochs_of
from seqjourney.models.model import JourneyModel
from seqjourney.models.network import NetworkPredictor
from seqjourney.models.training import Averaged, JourneyTraining, _follow
from seqjourney.sequences.task_data import TaskData

STEPS_AN_EPOCH = 3


def train(
    data: TaskData,
    folder: Path,
    *,
    kind: str = "gru",
    seed: int = 0,
    model: dict[str, Any] | None = None,
    logger: LoggerConfig | None = None,
    **trainer: Any,
) -> NetworkPredictor:
    config = network_config(kind, context=32, warmup_steps=2, **(model or {}))
    network = NetworkPredictor(config, logger)
    settings = {"max_epochs": 3, "threads": 1, "accelerator": "cpu", "progress": False}
    network.fit(data, TrainerConfig(**(settings | trainer)), seed, folder)
    return network


def before_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[JourneyTraining], None]) -> None:
    original = JourneyTraining.training_step

    def training_step(self: JourneyTraining, batch: Any, batch_idx: int) -> Any:
        loss = original(self, batch, batch_idx)  # dropout has drawn its numbers
        act(self)
        return loss

    monkeypatch.setattr(JourneyTraining, "training_step", training_step)


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, error: type[BaseException]) -> None:
    def act(training: JourneyTraining) -> None:
        if training.trainer.global_step == step:
            raise error

    before_step(monkeypatch, act)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(
    kind: str, small_data: TaskData, tmp_path: Path
):
    first = train(small_data, tmp_path / "a", kind=kind)
    assert same(weights(first), weights(train(small_data, tmp_path / "b", kind=kind, workers=1)))
    other = weights(train(small_data, tmp_path / "c", kind=kind, seed=1))
    assert not same(weights(first), other)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("every", "killed_at"),
    [(1, 1), (1, 3), (2, 5), (2, 6), (1, 8)],
    ids=["in epoch 1", "after epoch 1", "in epoch 2", "after epoch 2", "in the last epoch"],
)
def test_a_killed_run_resumes_to_bit_identical_weights(
    every: int,
    killed_at: int,
    workers: int,
    small_data: TaskData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    whole = train(small_data, tmp_path / "whole")
    assert whole.chosen_["steps"] == whole.chosen_["epochs"] * STEPS_AN_EPOCH
    options = {"checkpoint_every_steps": every, "workers": workers}
    kill_at(monkeypatch, killed_at, Killed)
    with pytest.raises(Killed):
        train(small_data, tmp_path / "killed", **options)
    assert (tmp_path / "killed/checkpoints/latest.ckpt").exists()
    monkeypatch.undo()
    started = []
    before_step(monkeypatch, lambda training: started.append(training.trainer.global_step))
    resumed = train(small_data, tmp_path / "killed", resume=True, **options)
    assert 0 < started[0] <= killed_at
    assert same(weights(resumed), weights(whole))
    assert resumed.validation_score_ == whole.validation_score_
    assert resumed.chosen_ == whole.chosen_


def test_ctrl_c_stays_an_interruption_that_can_be_resumed(
    small_data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import signal

    before = signal.getsignal(signal.SIGINT)
    kill_at(monkeypatch, 4, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        train(small_data, tmp_path / "run", checkpoint_every_steps=1)
    assert signal.getsignal(signal.SIGINT) == before
    monkeypatch.undo()
    resumed = train(small_data, tmp_path / "run", checkpoint_every_steps=1, resume=True)
    assert same(weights(resumed), weights(train(small_data, tmp_path / "whole")))


def test_two_processes_train_one_sane_model(small_data: TaskData, tmp_path: Path):
    network = train(small_data, tmp_path, devices=2, max_epochs=2)
    assert network.chosen_["steps"] == network.chosen_["epochs"] * -(-STEPS_AN_EPOCH // 2)
    scores = torch.from_numpy(network.score(small_data.of("test")))
    assert torch.isfinite(scores).all()
    rate = small_data.of("train").snapshots["label"].mean()
    assert abs(float(torch.sigmoid(scores).mean()) - rate) < 0.1
    assert 0 < network.validation_score_ < 1


def test_bfloat16_trains_to_nearly_the_same_scores(small_data: TaskData, tmp_path: Path):
    full = train(small_data, tmp_path / "full")
    short = train(small_data, tmp_path / "short", precision="bf16-mixed")
    assert not same(weights(full), weights(short))
    test = small_data.of("test")
    assert abs(full.score(test) - short.score(test)).max() < 0.1


def test_training_stops_when_validation_no_longer_improves(small_data: TaskData, tmp_path: Path):
    network = train(small_data, tmp_path, max_epochs=50, patience=2, model={"learning_rate": 1e-9})
    assert network.chosen_["epochs"] == 1
    epochs = pd.read_csv(tmp_path / "logs/metrics.csv")["epoch"]
    assert epochs.max() == 2  # the first one, and two that were no better


def test_the_best_epochs_weights_are_kept_and_not_the_last_ones(
    small_data: TaskData, tmp_path: Path
):
    long = train(small_data, tmp_path, max_epochs=30, patience=30, model={"learning_rate": 0.1})
    curve = pd.read_csv(tmp_path / "logs/metrics.csv")["validation_average_precision"].dropna()
    assert len(curve) == 30
    assert long.validation_score_ == pytest.approx(curve.max())
    assert curve.iloc[-1] < curve.max()
    from sklearn.metrics import average_precision_score

    validation = small_data.of("validation")
    found = average_precision_score(validation.snapshots["label"], long.score(validation))
    assert found == pytest.approx(long.validation_score_, abs=1e-6)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_network_learns_a_single_batch_by_heart(kind: str, small_data: TaskData):
    network = NetworkPredictor(network_config(kind, context=32))
    network.tokenizer = small_data.tokenizer
    train_data = small_data.of("train")
    few = replace(train_data, snapshots=train_data.snapshots.iloc[:40].reset_index(drop=True))
    batch = network.first_batch(few, 40)
    torch.manual_seed(0)
    model = JourneyModel(network_config(kind, dropout=0.0), small_data.tokenizer, BinaryHead(0.3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = weighted_loss(model.each(*batch.inputs), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.3
    assert losses[-1] < 0.02


def test_curves_are_written_and_checkpoints_hold_them_together(
    small_data: TaskData, tmp_path: Path
):
    train(small_data, tmp_path)
    curves = pd.read_csv(tmp_path / "logs/metrics.csv")
    for column in ("train_loss", "validation_average_precision", "validation_loss"):
        assert curves[column].notna().sum() == 3, column


def test_the_gradients_norm_is_clipped(
    small_data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    norms: list[float] = []

    def on_before_optimizer_step(self: JourneyTraining, optimizer: Any) -> None:
        norms.append(float(_norm(self)))

    def _norm(module: JourneyTraining) -> torch.Tensor:
        grads = [p.grad for p in module.model.parameters() if p.grad is not None]
        return torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))

    clipped: list[float] = []
    original = JourneyTraining.configure_gradient_clipping

    def configure_gradient_clipping(self: JourneyTraining, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        clipped.append(float(_norm(self)))

    monkeypatch.setattr(JourneyTraining, "on_before_optimizer_step", on_before_optimizer_step)
    monkeypatch.setattr(JourneyTraining, "configure_gradient_clipping", configure_gradient_clipping)
    train(small_data, tmp_path, gradient_clip=0.001, max_epochs=1)
    assert min(norms) > 0.01
    assert max(clipped) < 0.0011


def test_the_average_is_torchs_to_the_bit_also_when_resumed():
    from functools import partial

    from torch.optim.swa_utils import AveragedModel

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7))
    ours = Averaged(model, 0.9)
    theirs = AveragedModel(model, multi_avg_fn=partial(_follow, 0.9))
    for step in range(6):
        for weight in model.parameters():
            torch.nn.init.normal_(weight)
        if step == 3:
            resumed = Averaged(model, 0.9)
            resumed.load_state_dict(ours.state_dict())
            ours = resumed
        for average in (ours, theirs):
            average.update_parameters(model)
    found, wanted = ours.state_dict(), theirs.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not torch.equal(found["module.0.weight"], model[0].weight)


def test_members_learn_as_they_would_alone():
    """Each member's gradient is that of its own loss, whatever the number of members."""
    from random_histories import draw

    from seqjourney.sequences.batching import Batch

    torch.manual_seed(0)
    config = network_config("gru", members=2, dropout=0.0)
    model = JourneyModel(config, tokenizer(), BinaryHead(0.3))
    import numpy as np

    inputs = draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)
    labels = (torch.arange(12).reshape(3, 4) % 2).float()
    rows, nothing = torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4)
    batch = Batch(*inputs, labels, torch.ones(3, 4), rows, nothing)
    training = JourneyTraining(model, config, batch_weight=12.0)
    training.log = lambda *_, **__: None  # type: ignore[method-assign]
    training.training_step(batch, 0).backward()
    for member in model.members:
        together = [p.grad.clone() for p in member.parameters()]
        member.zero_grad()
        weighted_loss(member(*inputs), batch).backward()
        for mine, alone in zip(together, member.parameters(), strict=True):
            torch.testing.assert_close(mine, alone.grad)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs the wandb extra")
def test_weights_and_biases_runs_without_network_or_account(
    small_data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    train(small_data, tmp_path / "run", logger=LoggerConfig(wandb=True), max_epochs=1)
    wandb.finish()
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))


def test_lightning_runs_what_was_asked(
    small_data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: dict[str, Any] = {}
    original = pl.Trainer.__init__

    def init(self: pl.Trainer, **settings: Any) -> None:
        asked.update(settings)
        original(self, **settings)

    monkeypatch.setattr(pl.Trainer, "__init__", init)
    train(small_data, tmp_path, max_epochs=2, limit_batches=1, gradient_clip=0.7)
    assert asked["max_epochs"] == 2
    assert asked["gradient_clip_val"] == 0.7
    assert asked["limit_train_batches"] == asked["limit_val_batches"] == 1


@pytest.mark.parametrize(
    ("settings", "batches", "expected"),
    [
        ({}, 2, (60, 8)),  # unless asked for, epochs are what was said
        ({"least_steps": 2400}, 40, (60, 8)),
        ({"least_steps": 2400}, 12, (200, 27)),
        ({"least_steps": 2400}, 0, (2400, 320)),
        ({"least_steps": 2400, "limit_batches": 3}, 12, (60, 8)),
    ],
)
def test_small_data_gets_as_many_steps_as_asked_for(settings, batches, expected):
    assert epochs_of(TrainerConfig(**settings), batches) == expected
