"""A trained network that takes in one event at a time: states and tokens → states → scores.

Read `Network.step` first: it brings the token of each customer to every open window of theirs,
in one pass over many customers. `Network.answer` asks the current windows at a moment.

Shapes: R rows (windows or snapshots), D width, N events of a window.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from scipy.special import expit

from seqjourney.errors import DataError
from seqjourney.models.hazard_head import odds_by_horizon
from seqjourney.sequences.tokenizer import FIRST, Tokenizer
from seqjourney.serving.stream_events import Token
from seqjourney.serving.stream_gru import GRUSteps
from seqjourney.serving.stream_layers import Embedding, Head
from seqjourney.serving.stream_state import State, open_windows
from seqjourney.serving.stream_transformer import TransformerSteps

FORMAT = 1
"""Of what a memory holds; another one means another fingerprint."""
_TOLERANCE = 1e-4


class Backbone(Protocol):
    """One member's backbone."""

    def fresh(self) -> Any:
        """Return the memory of a window without events."""
        ...

    def step(
        self,
        events: np.ndarray,
        memories: Sequence[Any],
        lengths: Sequence[int],
        since_first: np.ndarray,
    ) -> list[Any]:
        """Take in one event a row.

        Args:
            events: (R, D) float32.
            memories: of the windows that get them. They may be used up: go on with those returned.
            lengths: events that each window had before.
            since_first: (R,) int64 microseconds from the window's first event to this one.
        """
        ...

    def answer(
        self,
        snapshots: np.ndarray,
        memories: Sequence[Any],
        recent: Sequence[np.ndarray],
        since_first: np.ndarray,
    ) -> np.ndarray:
        """Answer a snapshot token a row: (R, D) -> (R, D); changes no memory.

        Args:
            snapshots: (R, D) float32.
            memories: of the windows that are looked at.
            recent: per row (N,) bool, the events not older than training could show.
            since_first: (R,) int64 microseconds from the window's first event to the cutoff.
        """
        ...

    def numbers(self, length: int) -> int:
        """Say how many float32 numbers hold the memory of so many events."""
        ...

    def pack(self, memory: Any, length: int) -> np.ndarray:
        """Return a memory as (numbers,) float32."""
        ...

    def unpack(self, numbers: np.ndarray, length: int) -> Any:
        """Inverse of `pack`."""
        ...


@dataclass(frozen=True)
class _Member:
    embedding: Embedding
    backbone: Backbone
    head: Head


class Network:
    """All members of a trained `JourneyModel`, eager or from a TorchScript file."""

    def __init__(self, module: Any, tokenizer: Tokenizer, context: int):
        self._members = [_read_member(member, context) for member in module.members.children()]
        self._context, self._history_us = context, tokenizer.history_us
        self._answers = _answering(module)
        self.fingerprint = _fingerprint(module, tokenizer, context)

    @property
    def backbones(self) -> list[Backbone]:
        """Return each member's backbone."""
        return [member.backbone for member in self._members]

    def step(self, states: Sequence[State], tokens: Sequence[Token]) -> list[State]:
        """Take in one token of each of several customers; the states given stay as they are."""
        owners: list[int] = []  # of each row
        memories: list[list[Any]] = []  # of each row, one per member
        lengths: list[int] = []
        gaps: list[int] = []
        since_first: list[int] = []
        times: list[np.ndarray] = []
        for owner, (state, token) in enumerate(zip(states, tokens, strict=True)):
            open_before = open_windows(state.count, self._context)
            open_now = open_windows(state.count + 1, self._context)
            held = np.append(state.times[open_now.start - open_before.start :], token.time)
            times.append(held)
            kept = dict(zip(open_before, state.windows, strict=True))
            for start in open_now:
                owners.append(owner)
                memories.append(kept.get(start) or [b.fresh() for b in self.backbones])
                lengths.append(state.count - start)
                gaps.append(token.time - int(held[-2]) if state.count > start else 0)
                since_first.append(token.time - int(held[start - open_now.start]))
        categories = np.array([tokens[owner].categories for owner in owners], np.int64)
        numbers = np.array([tokens[owner].numbers for owner in owners], np.float32)
        happened = np.array([tokens[owner].time for owner in owners], np.int64)
        gap, since = np.array(gaps, np.int64), np.array(since_first, np.int64)
        windows: list[list[list[Any]]] = [[] for _ in states]
        after = []
        for position, member in enumerate(self._members):
            events = member.embedding.events(categories, numbers, happened, gap)
            of_member = [memory[position] for memory in memories]
            after.append(member.backbone.step(events, of_member, lengths, since))
        for row, owner in enumerate(owners):
            windows[owner].append([grown[row] for grown in after])
        return [
            State(state.count + 1, state.known, state.said, state.ids, held, tuple(theirs))
            for state, held, theirs in zip(states, times, windows, strict=True)
        ]

    def answer(self, states: Sequence[State], cutoffs: Sequence[int]) -> np.ndarray:
        """Return the log-odds of customers, each with a token at least, at moments. (R,) float64.

        Of a task that sums (R, 2), as `ValueHead`; of one with several horizons (R, K). No state
        is changed. The moments, in microseconds UTC, must not lie before what is known.
        """
        asked = np.array(cutoffs, np.int64)
        first, last = np.array([(s.times[0], s.times[-1]) for s in states], np.int64).T
        ages = [cutoff - state.times for state, cutoff in zip(states, cutoffs, strict=True)]
        recent = [age <= self._history_us for age in ages]
        lengths = self._members[0].embedding.counted_us
        counts = np.stack([(age <= lengths[:, None]).sum(1) for age in ages])
        answers = []
        for position, member in enumerate(self._members):
            snapshots = member.embedding.snapshots(asked - last, asked - first, asked, counts)
            current = [state.windows[0][position] for state in states]
            found = member.backbone.answer(snapshots, current, recent, asked - first)
            answers.append(member.head(found, snapshots))
        return self._answers(np.stack(answers))


def rehearse(network: Network, module: Any, tokenizer: Tokenizer, context: int) -> None:
    """Hold a network against the module that it was read from, on a made-up history.

    Raises:
        DataError: they differ: the file holds a network of another version.
    """
    import torch

    random = np.random.default_rng(0)
    steps = min(context, 9)
    at = 1_700_000_000_000_000 + np.cumsum(random.integers(0, 10**12, steps))
    most = [FIRST + len(words) for words in tokenizer.vocabulary.values()]
    categories = random.integers(1, most, (steps, len(most)))
    numbers = random.normal(0, 20, (steps, len(tokenizer.numeric_fields))).astype(np.float32)
    numbers[::3] = np.nan
    state = State()
    for row, moment in enumerate(at):
        token = Token(
            categories[row].tolist(),
            numbers[row].tolist(),
            int(moment),
            int(moment),
            None,
            None,
            True,
        )
        state = network.step([state], [token])[0]
    cutoff = int(at[-1]) + 10**12
    found = network.answer([state], [cutoff])
    with torch.inference_mode():
        expected = module(
            torch.from_numpy(categories)[None],
            torch.from_numpy(numbers)[None],
            torch.from_numpy(at)[None],
            torch.tensor([[steps]]),
            torch.tensor([[cutoff]]),
        ).numpy()[0]
    if not np.abs(found - expected).max() <= _TOLERANCE:
        raise DataError(
            f"the network answers {expected.flat[0]:.4f} where this version of seqjourney "
            f"reckons {found.flat[0]:.4f}: it was made by another version. Train or export again."
        )


def _answering(module: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return what `JourneyModel.answers` does, of the eager module or its TorchScript."""
    head: Any = getattr(module, "answers", None)  # a file of an earlier version has none
    if hasattr(head, "least"):
        return partial(_value_answers, least=head.least, most=head.most)
    if hasattr(head, "horizons"):
        return lambda raw: odds_by_horizon(_mean(raw))
    return lambda raw: _mean(raw)[:, 0]


def _mean(raw: np.ndarray) -> np.ndarray:
    """(members, R, O) float32 -> (R, O) float64."""
    return np.add.reduce(raw).astype(np.float64) / len(raw)


def _value_answers(raw: np.ndarray, least: float, most: float) -> np.ndarray:
    """See `value_head.ValueHead`: (members, R, 3) -> (R, 2)."""
    raw = raw.astype(np.float64)
    sigma = least + (most - least) * expit(raw[..., 2])
    amount = np.logaddexp.reduce(raw[..., 1] + sigma**2 / 2) - np.log(len(raw))
    return np.stack([raw[..., 0].mean(0), amount], axis=-1)


def _read_member(module: Any, context: int) -> _Member:
    backbone: Backbone
    if "blocks" in dict(module.backbone.named_children()):
        backbone = TransformerSteps(module.backbone, context)
    else:
        backbone = GRUSteps(module.backbone)
    return _Member(Embedding(module.embedding), backbone, Head(module.head))


def _fingerprint(module: Any, tokenizer: Tokenizer, context: int) -> bytes:
    """Return 16 bytes that no other model has; the same for a run and its exported file."""
    digest = hashlib.sha256()
    members = list(module.members.children())
    heads = [[block.heads for block in _blocks(member)] for member in members]
    about = [FORMAT, context, heads, tokenizer.to_dict()]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, weight in sorted(module.named_parameters()):
        digest.update(name.encode() + weight.detach().cpu().numpy().tobytes())
    return digest.digest()[:16]


def _blocks(member: Any) -> list[Any]:
    blocks = dict(member.backbone.named_children()).get("blocks")
    return list(blocks.children()) if blocks is not None else []
