"""The transformer one event at a time: see `models.transformer` and `stream_network.Backbone`.

What a window remembers is each event's rotated key and value in every layer, so that a new event
costs one look at them and no second reading. Their number is bounded by the context.

Shapes: R rows, L layers, H heads, D width, E = D / H, N events of a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjourney.serving.stream_layers import LayerNorm, Linear, array, gelu

_FIRST_ROOM = 16  # events that a new cache has room for; it doubles when it is full
DAY_US = 86_400_000_000.0


class Cache:
    """Keys (L, H, E, room) and values (L, H, room, E); place 0 is the start token's."""

    __slots__ = ("keys", "values")

    def __init__(self, keys: np.ndarray, values: np.ndarray):
        self.keys, self.values = keys, values


class _Block:
    """See `models.transformer.Block`."""

    def __init__(self, block: Any):
        width = block.qkv.weight.shape[1]
        self.norm_attention = LayerNorm(block.norm_attention)
        self.norm_forward = LayerNorm(block.norm_forward)
        weight, bias = block.qkv.weight, block.qkv.bias
        self.q = Linear(weight, bias, slice(0, width))
        self.kv = Linear(weight, bias, slice(width, None))
        self.out = Linear.of(block.out)
        layers = list(block.feed_forward.children())
        self.wide, self.narrow = Linear.of(layers[0]), Linear.of(layers[-1])

    def finish(self, x: np.ndarray, attended: np.ndarray) -> np.ndarray:
        x = x + self.out(attended)
        return x + self.narrow(gelu(self.wide(self.norm_forward(x))))


class TransformerSteps:
    """See `models.transformer.TransformerBackbone`. A memory is a `Cache` of keys and values."""

    def __init__(self, module: Any, context: int):
        blocks = list(module.blocks.children())
        self._blocks = [_Block(block) for block in blocks]
        self._heads = int(blocks[0].heads)
        self._most = context + 1
        self._norm = LayerNorm(module.norm)
        self._frequencies = array(module.rotary.frequencies).astype(np.float64)
        start = array(module.start)[0]  # (1, D)
        self._width = start.shape[1]
        self._size = self._width // self._heads  # E
        self._scale = np.float32(1 / math.sqrt(self._size))
        # The start token sees itself alone and stands at the window's first time: its keys and
        # values are the same for every window.
        self._start_keys, self._start_values = [], []
        for block in self._blocks:
            k, v = np.split(block.kv(block.norm_attention(start)), 2, axis=1)
            self._start_keys.append(self._split(k)[0])
            self._start_values.append(self._split(v)[0])
            start = block.finish(start, v)

    def fresh(self) -> Cache:
        """Return a cache that holds the start token alone."""
        return self._with_start(_FIRST_ROOM)

    def _with_start(self, room: int) -> Cache:
        shape = len(self._blocks), self._heads
        cache = Cache(
            np.empty((*shape, self._size, room), np.float32),
            np.empty((*shape, room, self._size), np.float32),
        )
        cache.keys[..., 0] = self._start_keys
        cache.values[..., 0, :] = self._start_values
        return cache

    def _with_room(self, cache: Cache, used: int) -> Cache:
        """Return the cache, or a copy of twice its room where it is full."""
        room = cache.keys.shape[-1]
        if used < room:
            return cache
        larger = self._with_start(min(self._most, 2 * room))
        larger.keys[..., :used] = cache.keys
        larger.values[..., :used, :] = cache.values
        return larger

    def _split(self, x: np.ndarray) -> np.ndarray:
        """(R, D) -> (R, H, E)."""
        return x.reshape(len(x), self._heads, self._size)

    def _turn(self, since_first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sine and cosine of the rotation by real time, (R, 1, E / 2) each."""
        turns = (since_first / DAY_US)[:, None] * self._frequencies
        angles = np.remainder(turns, 2.0 * math.pi).astype(np.float32)[:, None]
        return np.sin(angles), np.cos(angles)

    def step(
        self,
        events: np.ndarray,
        memories: Sequence[Cache],
        lengths: Sequence[int],
        since_first: np.ndarray,
    ) -> list[Cache]:
        """Take in one event a row; see `Backbone.step`.

        A cache is written beyond its window's length only, so a step that fails leaves it whole.
        """
        caches = [self._with_room(c, n + 1) for c, n in zip(memories, lengths, strict=True)]
        turn = self._turn(since_first)
        x, final = events, len(self._blocks) - 1
        for layer, block in enumerate(self._blocks):
            seen = block.norm_attention(x)
            kv = block.kv(seen)
            keys = _rotate(self._split(kv[:, : self._width]), turn)
            values = self._split(kv[:, self._width :])
            for row, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
                cache.keys[layer, :, :, length + 1] = keys[row]
                cache.values[layer, :, length + 1] = values[row]
            if layer < final:
                queries = _rotate(self._split(block.q(seen)), turn)
                x = block.finish(x, self._attend(layer, queries, caches, lengths, None))
        return caches

    def answer(
        self,
        snapshots: np.ndarray,
        memories: Sequence[Cache],
        recent: Sequence[np.ndarray],
        since_first: np.ndarray,
    ) -> np.ndarray:
        """Let the snapshot token look at the window; see `Backbone.answer`."""
        turn, x = self._turn(since_first), snapshots
        lengths = [len(seen) - 1 for seen in recent]
        for layer, block in enumerate(self._blocks):
            queries = _rotate(self._split(block.q(block.norm_attention(x))), turn)
            x = block.finish(x, self._attend(layer, queries, memories, lengths, recent))
        return self._norm(x)

    def _attend(
        self,
        layer: int,
        queries: np.ndarray,
        caches: Sequence[Cache],
        lengths: Sequence[int],
        recent: Sequence[np.ndarray] | None,
    ) -> np.ndarray:
        """(R, H, E) queries, each at its own cache's start token and events 0..length -> (R, D)."""
        attended = np.empty((len(queries), self._heads, self._size), np.float32)
        queries = queries * self._scale
        for row, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
            known = length + 2
            weights = queries[row, :, None] @ cache.keys[layer, :, :, :known]  # (H, 1, known)
            if recent is not None and not recent[row].all():
                weights[..., 1:][..., ~recent[row]] = -np.inf
            weights -= np.maximum.reduce(weights, -1, keepdims=True)
            np.exp(weights, out=weights)
            weights /= np.add.reduce(weights, -1, keepdims=True)
            attended[row] = (weights @ cache.values[layer, :, :known])[:, 0]
        return attended.reshape(len(queries), self._width)

    def numbers(self, length: int) -> int:
        """Say how many numbers hold a memory: keys and values of every layer and event."""
        return 2 * len(self._blocks) * self._width * length

    def pack(self, memory: Cache, length: int) -> np.ndarray:
        """Return the events' keys, then their values; the start token's are the model's."""
        keys, values = memory.keys[..., 1 : length + 1], memory.values[..., 1 : length + 1, :]
        return np.concatenate([keys.ravel(), values.ravel()])

    def unpack(self, numbers: np.ndarray, length: int) -> Cache:
        """Inverse of `pack`."""
        room = _FIRST_ROOM
        while room < length + 1:
            room *= 2
        cache = self._with_start(max(min(self._most, room), length + 1))
        keys, values = np.split(numbers, 2)
        shape = len(self._blocks), self._heads
        cache.keys[..., 1 : length + 1] = keys.reshape(*shape, self._size, length)
        cache.values[..., 1 : length + 1, :] = values.reshape(*shape, length, self._size)
        return cache


def _rotate(x: np.ndarray, turn: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(R, H, E) -> the same, pairs of channels turned; see `models.transformer.rotate`."""
    half = x.shape[-1] // 2
    a, b, (sin, cos) = x[..., :half], x[..., half:], turn
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
