"""What a stream keeps of one customer, and how that becomes bytes.

A customer's tokens fall into the windows of batch scoring (`sequences.batching`): the current one,
and those that begin while it fills and take over when it is full. Which windows are open follows
from the number of tokens alone, so bytes need not say it.

Bytes: magic, fingerprint of the model, counts and times (`_HEADER`), the last event ids, the times
of the current window's events, the memories of the open windows, and a checksum. Plain numbers,
little-endian: reading them runs nothing.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqjourney.errors import DataError
from seqjourney.sequences.batching import window_start

REMEMBERED_IDS = 256
"""An event whose id is among a customer's last so many is the same event again."""
NEVER = -1
_MAGIC = b"SJS1"
_HEADER = struct.Struct("<4s16sqqqqqI")  # magic, fingerprint, count, known, said, ids
_CHECKSUM = struct.Struct("<I")
_LATEST = 2**53  # microseconds: the year 2255


@dataclass(slots=True)
class State:
    """One customer; never changed, only replaced."""

    count: int = 0  # tokens so far
    known: int = NEVER  # microseconds UTC, when the last event became known
    said: tuple[int, int, int] = (NEVER, NEVER, NEVER)
    """When each state of `consent.policy.STATES` was last stated."""
    ids: tuple[int, ...] = ()  # hashes of the last event ids
    times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """When the events of the current window happened."""
    windows: tuple[list[Any], ...] = ()
    """Of each open window, the current one first, the memory of each member."""


def open_windows(count: int, context: int) -> range:
    """Return where the open windows of so many tokens begin, the current one first."""
    return range(int(window_start(np.array(count), context)), count, context // 2)


class StateFormat:
    """State ↔ bytes, for one model."""

    def __init__(self, fingerprint: bytes, backbones: list[Any], context: int):
        self._fingerprint, self._backbones, self._context = fingerprint, backbones, context

    def pack(self, state: State) -> bytes:
        """Return a state as bytes that `unpack` reads, with the same model alone."""
        parts = [
            _HEADER.pack(
                _MAGIC, self._fingerprint, state.count, state.known, *state.said, len(state.ids)
            ),
            struct.pack(f"<{len(state.ids)}Q", *state.ids),
            state.times.astype("<i8").tobytes(),
        ]
        starts = open_windows(state.count, self._context)
        for start, memories in zip(starts, state.windows, strict=True):
            for backbone, memory in zip(self._backbones, memories, strict=True):
                numbers = backbone.pack(memory, state.count - start)
                parts.append(numbers.astype("<f4").tobytes())
        body = b"".join(parts)
        return body + _CHECKSUM.pack(zlib.crc32(body))

    def unpack(self, blob: bytes) -> State:
        """Read a state.

        Raises:
            DataError: the bytes are no state, damaged, or of another model.
        """
        body = bytes(blob[: -_CHECKSUM.size])
        if len(body) < _HEADER.size or body[:4] != _MAGIC:
            raise DataError("these bytes are no customer's state of this version.")
        if blob[-_CHECKSUM.size :] != _CHECKSUM.pack(zlib.crc32(body)):
            raise DataError("the customer's state is damaged (its checksum is wrong).")
        _, fingerprint, count, known, *said, ids = _HEADER.unpack_from(body)
        if fingerprint != self._fingerprint:
            raise DataError(
                f"the customer's state was made by another model ({fingerprint.hex()[:8]}) than "
                f"this one ({self._fingerprint.hex()[:8]}); forget it and stream the customer's "
                "events again."
            )
        unfit = DataError("the customer's state is damaged (its parts do not fit together).")
        moments = (known, *said)
        if count < 0 or ids > REMEMBERED_IDS or not all(NEVER <= m < _LATEST for m in moments):
            raise unfit
        starts = open_windows(count, self._context)
        held = count - starts.start
        sizes = [
            (backbone.numbers(count - start), count - start, backbone)
            for start in starts
            for backbone in self._backbones
        ]
        if len(body) != _HEADER.size + 8 * (ids + held) + 4 * sum(n for n, _, _ in sizes):
            raise unfit
        at = _HEADER.size
        recent = struct.unpack_from(f"<{ids}Q", body, at)
        times = np.frombuffer(body, "<i8", held, at + 8 * ids).astype(np.int64)
        at += 8 * (ids + held)
        memories: list[Any] = []
        for numbers, length, backbone in sizes:
            values = np.frombuffer(body, "<f4", numbers, at).astype(np.float32)
            memories.append(backbone.unpack(values, length))
            at += 4 * numbers
        members = len(self._backbones)
        windows = tuple(memories[i : i + members] for i in range(0, len(memories), members))
        return State(count, known, (said[0], said[1], said[2]), recent, times, windows)
