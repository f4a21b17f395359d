"""The floating-point operations that answers need, and those that a device can do a second."""

from __future__ import annotations

import time

import torch

from seqjourney.config import NetworkConfig, TransformerConfig
from seqjourney.models.embedding import EventEmbedding
from seqjourney.models.model import JourneyModel
from seqjourney.sequences.batching import Batch

GEMM = 2048


def real_tokens(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return event tokens (B,) and snapshots (B,) of each window without padding."""
    return (batch.categorical[..., 0] != 0).sum(1), (batch.rows >= 0).sum(1)


def forward_flops(model: JourneyModel, config: NetworkConfig, batch: Batch) -> float:
    """Return the multiplications and additions that the answers to a batch need.

    With width D, E event tokens and S snapshots (real ones), a matrix of n x m costs 2nm a token:
    projection of numbers and time; per GRU layer 12 D^2 a token (three gates on input and state);
    per transformer layer 24 D^2 an event (queries, keys, values, output, feed-forward: 12 D^2
    weights), in the last layer 4 D^2 (keys and values alone), 20 D^2 a snapshot (no keys and
    values), and 4 D for each pair of a token and a key that it sees; head 4 D^2 + 2 D a snapshot.
    """
    d, layers = config.width, config.layers
    known, asked = real_tokens(batch)
    events, snapshots = int(known.sum()), int(asked.sum())
    embedding: EventEmbedding = model.members[0].embedding  # type: ignore[assignment]
    event_features = embedding.project_event.in_features
    snapshot_features = embedding.project_snapshot.in_features
    total = 2.0 * d * (event_features * events + snapshot_features * snapshots)
    total += (4 * d * d + 2 * d) * snapshots
    if isinstance(config, TransformerConfig):
        starts = len(known)  # a start token in front of each window
        pairs = float(((known + 1) * (known + 2) // 2).sum())
        seen = float((batch.ends + 1)[batch.rows >= 0].sum())
        total += (layers - 1) * (24 * d * d * (events + starts) + 4 * d * pairs)
        total += 4 * d * d * (events + starts)
        total += layers * (20 * d * d * snapshots + 4 * d * seen)
    else:
        total += layers * 12 * d * d * (events + snapshots)
    return total * len(model.members)


def flops_per_token(config: TransformerConfig, event_features: int, length: int) -> float:
    """Return the model FLOPs of training on an event token, forward and backward.

    6 N + 12 L H Q T as in PaLM (Chowdhery et al. 2022, appendix B), H Q the width, with what our
    network does not do left out: attention is causal and counts half, 6 L H Q T; N has weights of
    matrices alone, no look-ups; and N and L stop where the event tokens do, which in the last
    layer only become keys and values. Snapshot tokens and start tokens come on top, uncounted.

    Args:
        config: width D and layers.
        event_features: numbers of an event that are projected to the width.
        length: T, events of a window.
    """
    d, layers = config.width, config.layers - 1
    weights = event_features * d + layers * 12 * d * d + 2 * d * d
    return 6.0 * weights + 6.0 * layers * d * length


def gemm_rate(
    size: int = GEMM, repeats: int = 5, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> float:
    """Return the floating-point operations per second of a large square matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    wait_for(device)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, b)
    wait_for(device)
    return 2.0 * size**3 * repeats / (time.perf_counter() - start)


def wait_for(device: str) -> None:
    """Let a device finish what it was given; the CPU always has."""
    if device == "cuda":
        torch.cuda.synchronize()
