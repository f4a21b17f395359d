"""The head of a sum task: scipy's likelihood, a log-normal's mean, and the start that data give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from random_histories import draw, network_config, tokenizer
from scipy.stats import lognorm

from seqjourney.errors import DataError
from seqjourney.models.model import JourneyModel
from seqjourney.models.value_head import ValueAnswers, ValueScale, amount_loss

SCALE = ValueScale(3.0, 1.2)


def raw_outputs(members: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(members, 4, 5, 3, generator=torch.Generator().manual_seed(seed)) * 2


def spreads(answers: ValueAnswers, raw: torch.Tensor) -> np.ndarray:
    least, most = SCALE.bounds
    return least + (most - least) / (1 + np.exp(-raw[..., 2].double().numpy()))


def test_the_loss_is_the_likelihood_of_buyers_amounts():
    answers, raw = ValueAnswers(SCALE), raw_outputs()
    random = np.random.default_rng(0)
    values = np.where(random.random((4, 5)) < 0.4, 0.0, random.lognormal(3, 1, (4, 5)))
    values[0, 0] = -7.0  # more sent back than bought: no buyer
    weights = random.integers(0, 3, (4, 5)).astype(float)
    sigma, mu = spreads(answers, raw), raw[..., 1].double().numpy()
    density = lognorm.logpdf(np.maximum(values, 1e-9), sigma, scale=np.exp(mu))
    losses = np.where(values > 0, -density, 0.0)
    expected = (losses * weights).sum() / (3 * weights.sum())
    found = amount_loss(raw, torch.tensor(values).float(), torch.tensor(weights).float(), answers)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_amount_is_the_mean_of_the_members_log_normals():
    answers, raw = ValueAnswers(SCALE), raw_outputs()
    sigma, mu = spreads(answers, raw), raw[..., 1].double().numpy()
    means = lognorm.mean(sigma, scale=np.exp(mu)).mean(axis=0)
    found = answers(raw)
    assert found.shape == (4, 5, 2)
    np.testing.assert_allclose(found[..., 1].exp(), means, rtol=1e-4)
    np.testing.assert_allclose(found[..., 0], raw[..., 0].mean(0), rtol=1e-6)


@pytest.mark.parametrize("deviation", [0.0, 0.02, 1.2, 4.0])
def test_sigma_stays_within_its_bounds_and_starts_where_the_data_are(deviation: float):
    scale = ValueScale(2.0, deviation)
    answers = ValueAnswers(scale)
    wild = torch.tensor([[0.0, 0.0, -50.0], [0.0, 0.0, 50.0]])
    least, most = scale.bounds
    np.testing.assert_allclose(answers.sigma(wild), [least, most], rtol=1e-5)
    start = float(answers.sigma(torch.tensor([0.0, *scale.first_bias()])))
    assert start == pytest.approx(deviation, rel=0.05) or deviation < 0.05
    # A fixed price is no reason for an endless likelihood, nor for a gradient that is none.
    raw = torch.zeros(1, 1, 1, 3, requires_grad=True)
    loss = amount_loss(raw, torch.full((1, 1), 9.99), torch.ones(1, 1), answers)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(raw.grad).all()


def test_the_scale_is_that_of_positive_amounts():
    values = np.array([0.0, -3.0, 1.0, np.e**2])
    assert ValueScale.of(values) == ValueScale(1.0, 1.0)
    with pytest.raises(DataError, match="brings in anything"):
        ValueScale.of(np.array([0.0, -1.0]))


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_fresh_network_answers_the_base_rate_and_the_mean_amount(kind: str):
    torch.manual_seed(0)
    config = network_config(kind, members=2)
    model = JourneyModel(config, tokenizer(), 0.07, SCALE).eval()
    found = model(*draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)).detach()
    assert found.shape == (3, 4, 2)
    assert float(torch.sigmoid(found[..., 0]).mean()) == pytest.approx(0.07, abs=0.01)
    assert float(found[..., 1].mean()) == pytest.approx(3.0 + 1.2**2 / 2, abs=0.1)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_without_a_scale_nothing_has_changed(kind: str):
    config = network_config(kind)
    torch.manual_seed(0)
    plain = JourneyModel(config, tokenizer(), 0.3).eval()
    inputs = draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)
    assert plain.members[0].head[-1].out_features == 1
    found = plain(*inputs)
    assert found.shape == (3, 4)
    torch.testing.assert_close(found, plain.members[0](*inputs), rtol=0, atol=0)


def test_a_scripted_network_answers_the_same(tmp_path: Path):
    torch.manual_seed(0)
    model = JourneyModel(network_config("gru", members=2), tokenizer(), 0.3, SCALE).eval()
    for member in model.members:
        torch.nn.init.normal_(member.head[-1].weight, std=0.5)
    torch.jit.save(torch.jit.script(model), str(tmp_path / "m.pt"))
    again = torch.jit.load(str(tmp_path / "m.pt"))
    inputs = draw(np.random.default_rng(0), tokenizer(), 3, 10, 4)
    with torch.inference_mode():
        torch.testing.assert_close(again(*inputs), model(*inputs), rtol=1e-5, atol=1e-5)
