"""The layers in numpy are those of the torch model, whatever fields it has."""

from typing import Any

import numpy as np
import pytest
import torch

from seqjourney.config import GRUConfig, TransformerConfig, parse
from seqjourney.errors import DataError
from seqjourney.models.embedding import EventEmbedding
from seqjourney.models.head import BinaryHead
from seqjourney.models.model import JourneyModel
from seqjourney.sequences.tokenizer import NumericScale, Tokenizer
from seqjourney.serving.stream_layers import Embedding, LayerNorm, gelu
from seqjourney.serving.stream_network import Network, rehearse

DAY_US = 86_400_000_000
SCALES = {
    "value": NumericScale(1.3, 0.7, (-2.0, 0.0, 0.5, 4.0)),
    "constant": NumericScale(2.0, 1.0, (2.0,)),
    "empty": NumericScale(0.0, 1.0, ()),
    "items": NumericScale(0.4, 2.0, tuple(np.linspace(0, 3, 17).tolist())),
}
FIELDS: dict[str, dict[str, Any]] = {
    "all": {"scales": SCALES, "cycles": ("day", "week", "year")},
    "no numbers": {"scales": {}, "cycles": ("week",)},
    "no cycles": {"scales": {"value": SCALES["value"]}, "cycles": ()},
}


def tokenizer(name: str) -> Tokenizer:
    return Tokenizer(
        fitted_until="2023-06-01T00:00:00+00:00",
        fitted_tokens=100,
        vocabulary={"event": ["a", "b"], "channel": [], "country": ["x"] * 9},
        scales=FIELDS[name]["scales"],
        label_only_events=(),
        event_cycles=FIELDS[name]["cycles"],
        snapshot_cycles=FIELDS[name]["cycles"][:1],
        history_us=90 * DAY_US,
    )


@pytest.mark.parametrize("name", FIELDS)
def test_the_embedding_is_that_of_the_model(name: str):
    torch.manual_seed(0)
    words = tokenizer(name)
    theirs = EventEmbedding(words, 16, 0.2).eval()
    ours = Embedding(theirs)
    random = np.random.default_rng(0)
    n = 400
    categorical = np.stack([random.integers(0, most, n) for most in (5, 3, 12)], axis=1)
    spread = 10.0 ** random.uniform(-3, 9, (n, len(words.scales)))
    numeric = (spread * random.choice([-1, 0, 1], spread.shape)).astype(np.float32)
    numeric[random.random(numeric.shape) < 0.3] = np.nan
    gaps = (10 ** random.uniform(0, 15, n)).astype(np.int64) * random.choice([-1, 0, 1], n)
    times = 1_600_000_000_000_000 + random.integers(0, 10**14, n)
    with torch.inference_mode():
        pairs = torch.from_numpy(np.stack([times - gaps, times], axis=1))
        twice = [torch.from_numpy(x)[:, None].expand(-1, 2, -1) for x in (categorical, numeric)]
        expected = theirs.events(*twice, pairs)[:, 1].numpy()
    np.testing.assert_allclose(ours.events(categorical, numeric, times, gaps), expected, atol=2e-5)

    window = np.sort(1_600_000_000_000_000 + random.integers(0, 10**14, (n, 6)), axis=1)
    cutoffs = window[:, -1] + (10 ** random.uniform(0, 15, n)).astype(np.int64)
    with torch.inference_mode():
        tensors = (torch.from_numpy(window), torch.full((n, 1), 6), torch.from_numpy(cutoffs))
        expected = theirs.snapshots(tensors[0], tensors[1], tensors[2][:, None])[:, 0].numpy()
    ages = cutoffs[:, None] - window
    counts = (ages[:, None] <= ours.counted_us[:, None]).sum(-1)
    found = ours.snapshots(cutoffs - window[:, -1], cutoffs - window[:, 0], cutoffs, counts)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_norm_and_activation_are_torchs():
    layer = torch.nn.LayerNorm(7)
    torch.nn.init.normal_(layer.weight)
    x = torch.randn(50, 7) * 5
    with torch.inference_mode():
        np.testing.assert_allclose(LayerNorm(layer)(x.numpy()), layer(x).numpy(), atol=1e-5)
        expected = torch.nn.functional.gelu(x).numpy()
    np.testing.assert_allclose(gelu(x.numpy()), expected, atol=1e-5)
    assert gelu(x.numpy()).dtype == np.float32


@pytest.mark.parametrize("kind", ["gru", "transformer"])
@pytest.mark.parametrize("name", FIELDS)
def test_a_network_that_answers_otherwise_than_its_steps_is_refused(name: str, kind: str):
    torch.manual_seed(0)
    schema = GRUConfig if kind == "gru" else TransformerConfig
    words = tokenizer(name)
    model = JourneyModel(
        parse(schema, {"kind": kind, "name": kind, "width": 16, "layers": 2}, kind),
        words,
        BinaryHead(0.3),
    ).eval()
    torch.nn.init.normal_(model.members[0].head[-1].weight, std=1.0)
    network = Network(model, words, 512)
    rehearse(network, model, words, 512)
    with torch.no_grad():
        model.members[0].embedding.norm.weight.mul_(1.1)
    with pytest.raises(DataError, match="another version"):
        rehearse(network, model, words, 512)


def test_the_fingerprint_is_of_weights_tokenizer_and_context():
    words = tokenizer("all")
    config = parse(GRUConfig, {"kind": "gru", "name": "gru", "width": 8}, "gru")
    torch.manual_seed(0)
    model = JourneyModel(config, words, BinaryHead(0.3)).eval()
    first = Network(model, words, 512).fingerprint
    assert Network(model, words, 512).fingerprint == first
    assert Network(model, words, 256).fingerprint != first
    assert Network(model, tokenizer("no cycles"), 512).fingerprint != first
    with torch.no_grad():
        model.members[0].head[-1].bias.add_(1e-6)
    assert Network(model, words, 512).fingerprint != first
