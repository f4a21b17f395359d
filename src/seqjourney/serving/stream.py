"""`seqjourney.Stream`: the score of a customer, up to date after every event.

Each customer's state is kept, so that an event costs the same however long the history is, and a
score may be asked for at any moment: time that passes without events changes it. Scores equal
those of `seqjourney.load(...).score` over the whole history. Read `Stream.update_many` first;
`stream_events` reads an event, `stream_network` takes it in, `stream_state` is what is kept.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqjourney.errors import ConfigError, DataError
from seqjourney.events.consent.policy import STATES
from seqjourney.events.ledger import Overdue
from seqjourney.models.network import NetworkPredictor, scores_and_amounts
from seqjourney.serving.loading import Exported, load
from seqjourney.serving.next_scorer import NextScorer
from seqjourney.serving.stream_events import EventReader, Token, microseconds_at, moment_of, text_of
from seqjourney.serving.stream_network import Network, rehearse
from seqjourney.serving.stream_state import NEVER, REMEMBERED_IDS, State, StateFormat
from seqjourney.serving.stream_storage import AsBytes, InMemory

_UNKNOWN, _GRANTED, _DENIED = (STATES.index(s) for s in ("unknown", "granted", "denied"))


@dataclass(frozen=True, slots=True)
class Scored:
    """One answer, with the names of a row of `Scorer.score`."""

    customer_id: str
    cutoff: datetime
    """UTC: the moment that the score is about."""
    score: float
    """Log-odds; NaN for a customer of whom nothing is known, or who may not be scored."""
    probability: float
    """Calibrated; NaN like the score."""
    withheld: str | None = None
    """Why the customer may not be scored, where the model's data needed consent."""
    expected_value: float | None = None
    """Of a task that sums; NaN like the score."""
    by_horizon: Mapping[str, float] | None = None
    """Of a task with several horizons: the probability by `7d` and so on, the last one
    `probability`; NaN like the score."""


class Stream:
    """Live scores of many customers with one trained network.

    One lock guards all states: threads may share a stream, and take turns. Processes may share
    states through a mapping of theirs as long as each customer's events go to one process.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        states: MutableMapping[str, bytes] | None = None,
        most_customers: int | None = None,
        overdue: Overdue = "refuse",
    ):
        """Open a GRU or a transformer.

        Args:
            path: a run directory or an exported TorchScript file.
            states: where the customers' states are kept as bytes, by customer id; it may be
                shared or outlive the process. Unset means in memory.
            most_customers: in memory, how many customers at most; beyond, the one unused for
                longest is forgotten and would start from nothing.
            overdue: what to do with a model that should have been retrained by now because a
                customer was erased; see `seqjourney.load`.

        Raises:
            DataError: as `seqjourney.load`.
            ConfigError: the model is no network, or two places are given for the states.
        """
        if states is not None and most_customers is not None:
            raise ConfigError(
                "most_customers bounds states in memory; with states=... leave it out."
            )
        if most_customers is not None and most_customers < 1:
            raise ConfigError(f"most_customers is {most_customers}; it must be 1 at least.")
        scorer = load(path, overdue)
        if isinstance(scorer, NextScorer):
            raise ConfigError(
                f"{path}: a run of a next task, which does not stream yet; seqjourney.load and "
                "scripts/score.py answer with it."
            )
        module, context = _network_of(scorer.model, path)
        self._network = Network(module, scorer.tokenizer, context)
        rehearse(self._network, module, scorer.tokenizer, context)
        self.scorer, self.fingerprint = scorer, self._network.fingerprint.hex()
        self._calibrator, self._consent = scorer.calibrator, scorer.consent
        self._values = scorer.value_calibrator
        asks = self._consent.purpose is not None
        self._reader = EventReader(scorer.tokenizer, scorer.reading, needs_consent=asks)
        self._form = StateFormat(self._network.fingerprint, self._network.backbones, context)
        self._states: MutableMapping[str, State] = (
            InMemory(most_customers) if states is None else AsBytes(states, self._form)
        )
        self._lock = threading.RLock()

    @property
    def forgotten(self) -> int:
        """How many customers went because of `most_customers`; they start from nothing."""
        return self._states.forgotten if isinstance(self._states, InMemory) else 0

    def update(self, customer_id: str, event: Mapping[str, Any]) -> Scored:
        """Take in an event and score its customer at the moment it became known.

        Args:
            customer_id: whose event it is.
            event: `timestamp`, `event`, every field of the model (None where it is missing), and
                optionally `known_at`, `event_id` and `consent`. Categories that training never
                saw are fine.

        An event that arrives out of order, with a `known_at` (or without one, a `timestamp`)
        before the customer's last one, counts as known a microsecond after that: it arrives now,
        and no earlier score knew of it. `Scored.cutoff` says the moment. A time up to five minutes
        ahead of this machine's clock counts as now; one further ahead cannot be used yet. An event
        whose `event_id` is among the customer's last 256 changes nothing.

        Raises:
            DataError: the event cannot be used; nothing has changed.
        """
        return self.update_many([(customer_id, event)])[0]

    def update_many(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Scored]:
        """Take in many events, with the results of `update` one by one, in the same order.

        Raises:
            DataError: an event cannot be used; none has been taken in.
        """
        given = list(events)
        customers, tokens = [], []
        for position, (customer_id, event) in enumerate(given):
            try:
                customers.append(_checked(customer_id))
                tokens.append(self._reader.read(event))
            except DataError as error:
                if len(given) == 1:
                    raise
                raise DataError(f"event {position} of {len(given)}: {error}") from None
        results: list[Scored | None] = [None] * len(given)
        with self._lock:
            for turn in _turns(customers):
                for position, scored in zip(turn, self._take(turn, customers, tokens), strict=True):
                    results[position] = scored
        return [scored for scored in results if scored is not None]

    def score(self, customer_id: str, at: datetime | str | None = None) -> Scored:
        """Score a customer at a moment; nothing changes.

        Args:
            customer_id: who is asked about.
            at: the moment, UTC unless it has an offset. None means when the customer's last event
                became known; what the score is by now is asked with `datetime.now(UTC)`.

        Raises:
            DataError: the moment lies before the last event, or is none.
        """
        customer = _checked(customer_id)
        cutoff = None if at is None else microseconds_at("at", at)
        with self._lock:
            state = self._states.get(customer) or State()
        if cutoff is None:
            cutoff = state.known if state.known != NEVER else int(time.time() * 1e6)
        if cutoff < state.known:
            raise DataError(
                f"at={at!r} is before {moment_of(state.known).isoformat()}, when the customer's "
                "last event became known: a stream keeps the present only. Score the past with "
                "seqjourney.load(...).score."
            )
        return self._answer([customer], [state], [cutoff])[0]

    def dump(self, customer_id: str) -> bytes:
        """Return a customer's state as bytes for `restore`, of this model or its exported file.

        Raises:
            DataError: nothing is known of the customer.
        """
        with self._lock:
            state = self._states.get(_checked(customer_id))
        if state is None:
            raise DataError(f"nothing is known of customer '{customer_id}'.")
        return self._form.pack(state)

    def restore(self, customer_id: str, blob: bytes) -> None:
        """Put a customer where `dump` was taken, whatever is known of them now.

        Raises:
            DataError: the bytes are damaged, or of another model.
        """
        state = self._form.unpack(blob)
        with self._lock:
            self._states[_checked(customer_id)] = state

    def forget(self, customer_id: str) -> bool:
        """Drop all that is kept of a customer, and say whether there was anything."""
        with self._lock:
            try:
                del self._states[_checked(customer_id)]  # unread: it may be damaged
            except KeyError:
                return False
            return True

    def _take(
        self, turn: Sequence[int], customers: Sequence[str], tokens: Sequence[Token]
    ) -> list[Scored]:
        """Take in one event of each of several customers, and score them."""
        theirs = [customers[position] for position in turn]
        states = [self._states.get(customer) or State() for customer in theirs]
        before = list(states)
        stepping = []
        for place, position in enumerate(turn):
            state, token = states[place], tokens[position]
            if token.identity is not None and token.identity in state.ids:
                continue  # the same event again
            states[place] = _noted(state, token)
            if token.counts:
                stepping.append(place)
        if stepping:
            grown = self._network.step(
                [states[place] for place in stepping],
                [tokens[turn[place]] for place in stepping],
            )
            for place, state in zip(stepping, grown, strict=True):
                states[place] = state
        # Answers first: whatever could fail has then not failed, and states change together.
        scored = self._answer(theirs, states, [state.known for state in states])
        for customer, old, state in zip(theirs, before, states, strict=True):
            if state is not old:
                self._states[customer] = state
        return scored

    def _answer(
        self, customers: Sequence[str], states: Sequence[State], cutoffs: Sequence[int]
    ) -> list[Scored]:
        withheld = [self._withheld(state) for state in states]
        asked = [i for i, state in enumerate(states) if state.count and withheld[i] is None]
        scores = np.full(len(states), np.nan)
        amounts = np.full(len(states), np.nan)
        horizons = self.scorer.horizon_calibrator
        names = list(horizons.curves) if horizons is not None else []
        by_horizon = np.full((len(states), len(names)), np.nan) if names else None
        if asked:
            answers = self._network.answer([states[i] for i in asked], [cutoffs[i] for i in asked])
            if by_horizon is not None:
                by_horizon[asked] = answers
                scores[asked] = answers[:, -1]
            elif self._values is None:
                scores[asked] = answers
            else:
                scores[asked], amounts[asked] = scores_and_amounts(answers)
        probabilities = self._calibrator(scores)
        expected: Sequence[float | None] = [None] * len(states)
        if self._values is not None:
            expected = self._values(amounts, probabilities).tolist()
        each: Sequence[Mapping[str, float] | None] = [None] * len(states)
        if horizons is not None and by_horizon is not None:
            curves = horizons(by_horizon)
            probabilities = curves[:, -1]
            each = [dict(zip(names, curve, strict=True)) for curve in curves.tolist()]
        rows = zip(customers, cutoffs, scores, probabilities, withheld, expected, each, strict=True)
        return [
            Scored(customer, moment_of(cutoff), float(score), float(probability), why, value, by)
            for customer, cutoff, score, probability, why, value, by in rows
        ]

    def _withheld(self, state: State) -> str | None:
        """Say why a customer may not be scored, by the rule of `Scorer.withheld`."""
        if self._consent.purpose is None:
            return None
        unknown, granted, denied = (state.said[i] for i in (_UNKNOWN, _GRANTED, _DENIED))
        if denied != NEVER and denied >= granted:
            return "consent denied"
        if self._consent.unknown == "withhold" and (granted == NEVER or unknown > granted):
            return "consent unknown"
        return None


def _noted(state: State, token: Token) -> State:
    """Note when an event became known, its id and what it says of consent."""
    known = token.known
    last = int(state.times[-1]) if state.count else NEVER
    if (known, token.time) < (state.known, last):
        known = state.known + 1
    said = list(state.said)
    if token.said is not None:
        said[token.said] = max(said[token.said], token.time)
    ids = state.ids
    if token.identity is not None:
        ids = (*ids[-REMEMBERED_IDS + 1 :], token.identity)
    return replace(state, known=known, said=(said[0], said[1], said[2]), ids=ids)


def _turns(customers: Sequence[str]) -> Iterator[list[int]]:
    """Group positions so that each turn has a customer once and everybody's order is kept."""
    turns: list[list[int]] = []
    seen: Counter[str] = Counter()
    for position, customer in enumerate(customers):
        if seen[customer] == len(turns):
            turns.append([])
        turns[seen[customer]].append(position)
        seen[customer] += 1
    return iter(turns)


def _checked(customer_id: Any) -> str:
    text = text_of("customer_id", customer_id)
    if text is None:
        raise DataError("'customer_id' is empty; say whose event it is.")
    return text


def _network_of(model: Any, path: str | Path) -> tuple[Any, int]:
    """Return the module and the context of a scorer's model."""
    if isinstance(model, NetworkPredictor):
        return model.model, model.config.context
    if isinstance(model, Exported) and isinstance(model.module, torch.jit.ScriptModule):
        return model.module, model.context
    raise ConfigError(
        f"{path} cannot stream: it must be a run of a network (gru, transformer) or its "
        "TorchScript file. seqjourney.load scores with any model."
    )
