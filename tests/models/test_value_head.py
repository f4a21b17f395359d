"""The head of a sum task: scipy's likelihood, a log-normal's mean, and the start that data give."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from random_histories import draw, network_config, tokenizer
from scipy.stats import lognorm

from seqjourney.errors import DataError
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.models.value_head import ValueHead

HEAD = ValueHead(0.07, 3.0, 1.2)


def raw_outputs(members: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(members, 4, 5, 3, generator=torch.Generator().manual_seed(seed)) * 2


def trained_on(values: list[float]) -> Any:
    snapshots = pd.DataFrame({"value": values, "label": [value > 0 for value in values]})
    return SimpleNamespace(of=lambda split: SimpleNamespace(snapshots=snapshots))


def spreads(raw: torch.Tensor) -> np.ndarray:
    return HEAD.least + (HEAD.most - HEAD.least) / (1 + np.exp(-raw[..., 2].double().numpy()))


def test_the_loss_is_the_likelihood_of_buyers_amounts():
    raw = raw_outputs()
    random = np.random.default_rng(0)
    values = np.where(random.random((4, 5)) < 0.4, 0.0, random.lognormal(3, 1, (4, 5)))
    values[0, 0] = -7.0  # more sent back than bought: no buyer
    weights = random.integers(0, 3, (4, 5)).astype(float)
    sigma, mu = spreads(raw), raw[..., 1].double().numpy()
    density = lognorm.logpdf(np.maximum(values, 1e-9), sigma, scale=np.exp(mu))
    losses = np.where(values > 0, -density, 0.0)
    expected = (losses * weights).sum() / (3 * weights.sum())
    found = HEAD.amount_loss(raw, torch.tensor(values).float(), torch.tensor(weights).float())
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_amount_is_the_mean_of_the_members_log_normals():
    raw = raw_outputs()
    sigma, mu = spreads(raw), raw[..., 1].double().numpy()
    means = lognorm.mean(sigma, scale=np.exp(mu)).mean(axis=0)
    found = HEAD(raw)
    assert found.shape == (4, 5, 2)
    np.testing.assert_allclose(found[..., 1].exp(), means, rtol=1e-4)
    np.testing.assert_allclose(found[..., 0], raw[..., 0].mean(0), rtol=1e-6)


@pytest.mark.parametrize("deviation", [0.0, 0.02, 1.2, 4.0])
def test_sigma_stays_within_its_bounds_and_starts_where_the_data_are(deviation: float):
    head = ValueHead(0.3, 2.0, deviation)
    wild = torch.tensor([[0.0, 0.0, -50.0], [0.0, 0.0, 50.0]])
    np.testing.assert_allclose(head.sigma(wild), [head.least, head.most], rtol=1e-5)
    start = float(head.sigma(torch.tensor(head.first_bias())))
    assert start == pytest.approx(deviation, rel=0.05) or deviation < 0.05
    # A fixed price is no reason for an endless likelihood, nor for a gradient that is none.
    raw = torch.zeros(1, 1, 1, 3, requires_grad=True)
    loss = head.amount_loss(raw, torch.full((1, 1), 9.99), torch.ones(1, 1))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(raw.grad).all()


def test_the_scale_is_that_of_positive_amounts():
    found = ValueHead.of(trained_on([0.0, -3.0, 1.0, np.e**2]))
    assert found.saved() == {"base_rate": 0.5, "scale": {"mean": 1.0, "deviation": 1.0}}
    with pytest.raises(DataError, match="brings in anything"):
        ValueHead.of(trained_on([0.0, -1.0]))


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_fresh_network_answers_the_base_rate_and_the_mean_amount(kind: str):
    torch.manual_seed(0)
    config = network_config(kind, members=2)
    model = JourneyModel(config, tokenizer(), HEAD).eval()
    found = model(*draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)).detach()
    assert found.shape == (3, 4, 2)
    assert float(torch.sigmoid(found[..., 0]).mean()) == pytest.approx(0.07, abs=0.01)
    assert float(found[..., 1].mean()) == pytest.approx(3.0 + 1.2**2 / 2, abs=0.1)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_binary_head_has_one_output(kind: str):
    config = network_config(kind)
    torch.manual_seed(0)
    plain = JourneyModel(config, tokenizer(), BinaryHead(0.3)).eval()
    inputs = draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)
    assert plain.members[0].head[-1].out_features == 1
    found = plain(*inputs)
    assert found.shape == (3, 4)
    torch.testing.assert_close(found, plain.members[0](*inputs), rtol=0, atol=0)


def test_a_scripted_network_answers_the_same(tmp_path: Path):
    torch.manual_seed(0)
    model = JourneyModel(network_config("gru", members=2), tokenizer(), HEAD).eval()
    for member in model.members:
        torch.nn.init.normal_(member.head[-1].weight, std=0.5)
    torch.jit.save(torch.jit.script(model), str(tmp_path / "m.pt"))
    again = torch.jit.load(str(tmp_path / "m.pt"))
    inputs = draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)
    with torch.inference_mode():
        torch.testing.assert_close(again(*inputs), model(*inputs), rtol=1e-5, atol=1e-5)
