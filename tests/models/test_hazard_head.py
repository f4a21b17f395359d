"""The head of a time_to task: the likelihood by hand, curves that never fall, the start of data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from random_histories import draw, network_config, tokenizer

from seqjourney.models.hazard_head import HazardHead, hazard_loss, odds_by_horizon
from seqjourney.models.model import JourneyModel

HEAD = HazardHead((0.1, 0.3, 0.05, 0.5))


def raw_outputs(scale: float = 2.0) -> torch.Tensor:
    return torch.randn(3, 4, 5, 4, generator=torch.Generator().manual_seed(0)) * scale


def test_the_loss_is_the_likelihood_of_the_interval():
    raw = raw_outputs()
    random = np.random.default_rng(0)
    intervals = random.integers(0, 5, (4, 5))
    weights = random.integers(0, 3, (4, 5)).astype(float)
    hazard = 1 / (1 + np.exp(-raw.double().numpy()))
    likelihood = np.zeros((3, 4, 5))
    for (m, b, s), _ in np.ndenumerate(likelihood):
        k = intervals[b, s]
        lived = np.prod(1 - hazard[m, b, s, :k])
        likelihood[m, b, s] = lived * (hazard[m, b, s, k] if k < 4 else 1)
    expected = (-np.log(likelihood) * weights).sum() / (3 * weights.sum())
    found = hazard_loss(raw, torch.tensor(intervals).float(), torch.tensor(weights).float())
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_answers_are_one_less_the_product_of_survivals():
    raw = raw_outputs()
    hazard = 1 / (1 + np.exp(-raw.double().numpy().mean(0)))
    expected = 1 - np.cumprod(1 - hazard, axis=-1)
    found = HEAD(raw)
    assert found.shape == (4, 5, 4)
    np.testing.assert_allclose(torch.sigmoid(found), expected, rtol=1e-5)
    np.testing.assert_allclose(odds_by_horizon(raw.double().numpy().mean(0)), found, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 20.0, 80.0])
def test_no_rounding_lets_an_answer_fall_or_end_anywhere(scale: float):
    found = HEAD(raw_outputs(scale)[:1])
    assert torch.isfinite(found).all()
    assert (found.diff(dim=-1) >= 0).all()
    raw = raw_outputs(scale).requires_grad_()
    loss = hazard_loss(raw, torch.full((4, 5), 2.0), torch.ones(4, 5))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(raw.grad).all()


def test_what_is_padded_or_came_before_teaches_nothing():
    raw = raw_outputs().requires_grad_()
    weights = torch.ones(4, 5)
    weights[:, 3:] = 0
    hazard_loss(raw, torch.ones(4, 5), weights).backward()
    assert (raw.grad[:, :, 3:] == 0).all()
    assert (raw.grad[..., 2:] == 0).all()  # after the event nobody waits any more
    assert (raw.grad[:, :, :3, :2] != 0).all()


def test_rates_are_those_of_the_ones_still_waiting():
    snapshots = pd.DataFrame({"interval": [0, 0, 1, 3, 3, 3, 3, 3]})
    task = SimpleNamespace(by_horizon=lambda: ["7d", "14d", "30d"])
    data: Any = SimpleNamespace(task=task, of=lambda split: SimpleNamespace(snapshots=snapshots))
    found = HazardHead.of(data).rates
    np.testing.assert_allclose(found, [2 / 8, 1 / 6, 1e-4])


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_fresh_network_answers_the_curve_of_training(kind: str, tmp_path: Path):
    torch.manual_seed(0)
    model = JourneyModel(network_config(kind, members=2), tokenizer(), HEAD).eval()
    inputs = draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)
    found = model(*inputs).detach()
    assert found.shape == (3, 4, 4)
    expected = 1 - np.cumprod(1 - np.array(HEAD.rates))
    np.testing.assert_allclose(torch.sigmoid(found).mean((0, 1)), expected, atol=0.02)
    torch.jit.save(torch.jit.script(model), str(tmp_path / "m.pt"))
    again = torch.jit.load(str(tmp_path / "m.pt"))
    with torch.inference_mode():
        torch.testing.assert_close(again(*inputs), found, rtol=1e-5, atol=1e-5)
