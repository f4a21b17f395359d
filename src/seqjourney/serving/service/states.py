"""Where a service keeps its customers: in this process, or in a Redis that workers share.

In Redis a customer is one key, `seqjourney:<fingerprint of the model>:<customer_id>`, with the
bytes of `Stream.dump`. An update reads the key, takes events in, and writes only if nobody has
written since; else it begins again. Since every event has an id and a state remembers the last
ones, an update that is tried again, here or by the sender, counts no event twice.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from seqjourney.serving.service.requests import Event, Refused
from seqjourney.serving.service.settings import ServeConfig
from seqjourney.serving.stream import Scored, Stream

_MODELS = "seqjourney:models"
"""A set with the fingerprint of each model that has states here, so that erasure finds them all."""
_SECONDS = 2.0  # until a Redis that is silent counts as unreachable
_ATTEMPTS = 30
_LONGEST_PAUSE = 0.05  # seconds
# Written whole and only over what was read: KEYS[1] the customer; ARGV: SHA-1 of the bytes read (or
# nothing), the new bytes, milliseconds until they expire (or nothing).
_WRITE = """
local now = redis.call('GET', KEYS[1])
if (now and redis.sha1hex(now) or '') ~= ARGV[1] then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""


class States(Protocol):
    """Customers that one thread updates and asks about."""

    stream: Stream

    def update_many(self, events: Sequence[Event]) -> list[Scored]:
        """Take in events; see `Stream.update_many`."""
        ...

    def score(self, customer: str, at: datetime | str | None) -> Scored:
        """Score a customer at a moment; see `Stream.score`."""
        ...

    def forget(self, customer: str) -> bool:
        """Drop a customer, and say whether there was anything."""
        ...

    def problem(self) -> str | None:
        """Say why nothing can be served now; any thread may ask."""
        ...


class InMemory:
    """Customers of this process; they go with it.

    A model that should have been retrained is opened here and in Redis nonetheless: erasing must
    go on, and `standing` refuses the rest.
    """

    def __init__(self, config: ServeConfig, on_forgotten: Callable[[int], Any] = lambda _: None):
        self.stream = Stream(config.run, most_customers=config.most_in_memory, overdue="allow")
        self._on_forgotten = on_forgotten
        self.score = self.stream.score
        self.forget = self.stream.forget

    def update_many(self, events: Sequence[Event]) -> list[Scored]:
        """Take in events; see `Stream.update_many`. Customers beyond the bound are forgotten."""
        before = self.stream.forgotten
        scored = self.stream.update_many(events)
        self._on_forgotten(self.stream.forgotten - before)
        return scored

    def problem(self) -> str | None:
        """Memory is always there."""
        return None


class InRedis:
    """Customers that any number of processes update at once."""

    def __init__(self, config: ServeConfig, on_conflict: Callable[[int], Any] = lambda _: None):
        self._read: dict[str, bytes] = {}  # what this turn has read and changed
        self.stream = Stream(config.run, states=self._read, overdue="allow")
        self._on_conflict = on_conflict
        self._expire_ms = "" if config.expire_days is None else int(config.expire_days * 86_400_000)
        place = urlsplit(config.states)
        # Without the password that the address may carry.
        self._place = f"{place.hostname}:{place.port or 6379}" if place.hostname else place.path
        # A connection that broke while nobody used it is opened once again; see the header for why
        # doing something twice is safe.
        self._redis: Any = redis.Redis.from_url(
            config.states,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )

    def update_many(self, events: Sequence[Event]) -> list[Scored]:
        """Take in events; see `Stream.update_many`. Each customer's are written at once."""
        answers: dict[int, Scored] = {}
        waiting = list(range(len(events)))
        for attempt in range(_ATTEMPTS):
            turn = [events[position] for position in waiting]
            before = self._fetch({customer for customer, _ in turn})
            answers.update(zip(waiting, self.stream.update_many(turn), strict=True))
            beaten = self._write(before)
            waiting = [position for position in waiting if events[position][0] in beaten]
            if not waiting:
                return [answers[position] for position in range(len(events))]
            self._on_conflict(len(beaten))
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.001 * 2**attempt)))
        raise Refused(
            503, "too many updates of one customer at once; send it again.", "conflict", 1
        )

    def score(self, customer: str, at: datetime | str | None) -> Scored:
        """Score a customer at a moment; see `Stream.score`."""
        self._fetch([customer])
        return self.stream.score(customer, at)

    def forget(self, customer: str) -> bool:
        """Drop a customer, of this model and of every other that has kept states here."""

        def erase() -> int:
            models = {name.decode() for name in self._redis.smembers(_MODELS)}
            models.add(self.stream.fingerprint)
            return int(self._redis.delete(*(_key(model, customer) for model in sorted(models))))

        return bool(self._asked(erase))

    def problem(self) -> str | None:
        """Say why Redis does not answer."""
        try:
            self._asked(self._redis.ping)
        except Refused as refused:
            return refused.message
        return None

    def _fetch(self, customers: Iterable[str]) -> Mapping[str, bytes]:
        """Let the stream see these customers as Redis has them, and return them."""
        names = sorted(customers)
        keys = [_key(self.stream.fingerprint, name) for name in names]
        found = zip(names, self._asked(lambda: self._redis.mget(keys)), strict=True)
        before = {name: blob for name, blob in found if blob is not None}
        self._read.clear()
        self._read.update(before)
        return before

    def _write(self, before: Mapping[str, bytes]) -> set[str]:
        """Write who has changed, and return those whom somebody else changed meanwhile."""
        changed = [
            (name, blob) for name, blob in self._read.items() if blob is not before.get(name)
        ]
        if not changed:
            return set()
        pipe = self._redis.pipeline(transaction=False)
        pipe.sadd(_MODELS, self.stream.fingerprint)
        for name, blob in changed:
            old = before.get(name)
            seen = "" if old is None else hashlib.sha1(old, usedforsecurity=False).hexdigest()
            key = _key(self.stream.fingerprint, name)
            pipe.eval(_WRITE, 1, key, seen, blob, self._expire_ms)
        _, *written = self._asked(partial(_execute, pipe))
        return {name for (name, _), done in zip(changed, written, strict=True) if not done}

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (redis.RedisError, OSError) as error:
            raise Unreachable(f"Redis at {self._place} cannot be used now: {error}") from error


def _execute(pipe: Any) -> list[Any]:
    results = list(pipe.execute(raise_on_error=False))
    for result in results:
        if isinstance(result, Exception):  # as Redis says it, without the command that failed
            raise result
    return results


class Unreachable(Refused):
    """Redis does not answer, or answers with an error."""

    def __init__(self, message: str):
        super().__init__(503, " ".join(message.split()).rstrip(".") + ".", "redis", 1)


def _key(fingerprint: str, customer: str) -> str:
    return f"seqjourney:{fingerprint}:{customer}"
