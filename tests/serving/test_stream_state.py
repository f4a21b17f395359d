"""Bytes of a customer's state: damaged ones are refused, and none is ever run."""

import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.errors import DataError
from seqjourney.sequences.batching import window_start
from seqjourney.serving.stream_gru import GRUSteps
from seqjourney.serving.stream_state import State, StateFormat, open_windows

CONTEXT = 8


class Numbers:
    """A backbone whose memory is three numbers."""

    def numbers(self, length: int) -> int:
        return 3

    def pack(self, memory: np.ndarray, length: int) -> np.ndarray:
        return memory

    def unpack(self, numbers: np.ndarray, length: int) -> np.ndarray:
        return numbers.copy()


FORM = StateFormat(b"m" * 16, [Numbers(), Numbers()], CONTEXT)


def state(count: int = 11) -> State:
    starts = open_windows(count, CONTEXT)
    windows = tuple([np.full(3, s, np.float32), np.arange(3, dtype=np.float32)] for s in starts)
    times = 1_680_000_000_000_000 + np.arange(count - starts.start, dtype=np.int64) * 1000
    return State(count, int(times[-1]), (-1, int(times[0]), -1), (7, 2**64 - 1), times, windows)


BLOB = FORM.pack(state())


@given(context=st.integers(2, 9), count=st.integers(0, 60))
def test_open_windows_are_the_current_one_and_all_that_follow_it(context: int, count: int):
    starts = list(open_windows(count, context))
    half = context // 2
    assert starts[:1] == ([int(window_start(np.array(count), context))] if count else [])
    later = {int(window_start(np.array(n), context)) for n in range(count, count + 3 * context)}
    assert set(starts) == {s for s in later if s < count}
    assert len(starts) <= (context + half - 1) // half


def test_what_is_packed_is_unpacked():
    found, expected = FORM.unpack(BLOB), state()
    assert (found.count, found.known, found.said) == (11, expected.known, expected.said)
    assert found.ids == expected.ids
    np.testing.assert_array_equal(found.times, expected.times)
    assert len(found.windows) == 2
    for ours, theirs in zip(found.windows, expected.windows, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert FORM.pack(FORM.unpack(FORM.pack(State()))) == FORM.pack(State())


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(place: int, change: int):
    broken = bytearray(BLOB)
    broken[place] ^= change
    with pytest.raises(DataError, match=r"state"):
        FORM.unpack(bytes(broken))


@given(st.integers(0, len(BLOB) - 1))
def test_bytes_cut_short_are_refused(length: int):
    with pytest.raises(DataError, match="state"):
        FORM.unpack(BLOB[:length])


@given(st.integers(20, len(BLOB) - 5), st.binary(min_size=1, max_size=12))
def test_parts_that_do_not_fit_are_refused_or_read_even_under_a_right_checksum(
    place: int, content: bytes
):
    body = bytearray(BLOB[:-4])
    body[place : place + len(content)] = content
    forged = bytes(body) + zlib.crc32(bytes(body)).to_bytes(4, "little")
    try:
        found = FORM.unpack(forged)
    except DataError:
        return
    assert len(found.times) <= CONTEXT and len(found.windows) <= 2


def test_bytes_of_pickle_are_refused_and_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
            return (Path(tmp_path / "pwned").touch, ())

    with pytest.raises(DataError, match="no customer's state"):
        FORM.unpack(pickle.dumps(Evil()) + bytes(200))
    assert not (tmp_path / "pwned").exists()


def test_a_state_of_another_model_is_refused_by_its_fingerprint():
    with pytest.raises(DataError, match="another model"):
        StateFormat(b"n" * 16, [Numbers(), Numbers()], CONTEXT).unpack(BLOB)


def test_a_gru_state_after_its_step_does_not_hold_on_to_the_whole_batch():
    import torch

    from seqjourney.models.gru import GRUBackbone

    steps = GRUSteps(GRUBackbone(4, 1, 0.0))
    events = torch.randn(50, 4).numpy()
    after = steps.step(events, [steps.fresh()] * 50, [0] * 50, np.zeros(50, np.int64))
    assert all(memory.base is None or memory.base.size == memory.size for memory in after)
