"""The GRU one event at a time: see `models.gru` for the model and `stream_network.Backbone`.

Shapes: R rows, L layers, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from seqjourney.serving.stream_layers import Linear


class GRUSteps:
    """See `models.gru.GRUBackbone`. A memory is (L, D): the state of each layer."""

    def __init__(self, module: Any):
        self._layers = [
            (
                Linear(layer.weight_ih_l0, layer.bias_ih_l0),
                Linear(layer.weight_hh_l0, layer.bias_hh_l0),
            )
            for layer in module.layers.children()
        ]
        self._width = len(self._layers[0][1].weight)

    def fresh(self) -> np.ndarray:
        """Return zeros: the state before the first event."""
        return np.zeros((len(self._layers), self._width), np.float32)

    def step(
        self,
        events: np.ndarray,
        memories: Sequence[np.ndarray],
        lengths: Sequence[int],
        since_first: np.ndarray,
    ) -> list[np.ndarray]:
        """Take in one event a row; see `Backbone.step`."""
        x, states = events, np.stack(memories)
        after = np.empty_like(states)
        for position in range(len(self._layers)):
            after[:, position] = x = self._cell(position, x, states[:, position])
        return [state.copy() for state in after]  # a view would keep the whole batch alive

    def answer(
        self,
        snapshots: np.ndarray,
        memories: Sequence[np.ndarray],
        recent: Sequence[np.ndarray],
        since_first: np.ndarray,
    ) -> np.ndarray:
        """Step aside with the snapshot token; see `Backbone.answer`."""
        x, states = snapshots, np.stack(memories)
        for position in range(len(self._layers)):
            x = self._cell(position, x, states[:, position])
        return x

    def _cell(self, position: int, x: np.ndarray, state: np.ndarray) -> np.ndarray:
        """(R, D), (R, D) -> (R, D)."""
        given, kept = self._layers[position][0](x), self._layers[position][1](state)
        two = 2 * self._width
        gates = expit(given[:, :two] + kept[:, :two])
        reset, update = gates[:, : self._width], gates[:, self._width :]
        new = np.tanh(given[:, two:] + reset * kept[:, two:])
        return new + update * (state - new)

    def numbers(self, length: int) -> int:
        """Say how many numbers hold a memory: the same for every history."""
        return len(self._layers) * self._width

    def pack(self, memory: np.ndarray, length: int) -> np.ndarray:
        """Return the states in a row."""
        return memory.ravel()

    def unpack(self, numbers: np.ndarray, length: int) -> np.ndarray:
        """Inverse of `pack`."""
        return numbers.reshape(len(self._layers), self._width).copy()
