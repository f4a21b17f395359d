"""The bounded queue in front of a stream, and the one thread that empties it.

While a batch is being answered the next one gathers, so that a busy service takes in many requests
at the price of one, and an idle one waits for nobody. A request beyond the bound is refused at
once: the sender can wait, and those who wait already are not slowed down.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from seqjourney.serving.service.metrics import Metrics
from seqjourney.serving.service.requests import Event, Refused
from seqjourney.serving.service.states import States, Unreachable
from seqjourney.serving.stream_state import REMEMBERED_IDS

_TOGETHER = 1000  # events of a batch, about


@dataclass(frozen=True)
class Job:
    """One request: events to take in, or something else to be done when its turn comes."""

    events: Sequence[Event] = ()
    other: Callable[[], Any] | None = None
    answer: Future[Any] = field(default_factory=Future)


class Queue:
    """Requests in the order in which they came."""

    def __init__(self, states: States, most_waiting: int, metrics: Metrics):
        self._states, self._metrics = states, metrics
        self._jobs: queue.Queue[Job | None] = queue.Queue(most_waiting)
        self._held: Job | None = None  # taken from the queue, and left for the next batch
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="seqjourney-stream", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, then end."""
        self._jobs.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether anybody answers."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> Future[Any]:
        """Let a request wait for its turn.

        Raises:
            Refused: too many wait already.
        """
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Refused(503, "too many requests wait; send it again.", "full", 1) from None
        self._metrics.waiting.inc()
        return job.answer

    def _run(self) -> None:
        while batch := self._next():
            taken = [job for job in batch if job.answer.set_running_or_notify_cancel()]
            self._take_in([job for job in taken if job.events])
            for job in taken:
                if job.other is not None:
                    _settle(job, job.other)

    def _next(self) -> list[Job]:
        """Wait for a job, and return it with those that wait behind it; nothing at the end.

        A batch has no more events of a customer than a state remembers ids: all of them can be
        told apart if it has to be written again. Something other than events ends it, so that
        what came later, such as an event of a customer to be erased, is taken in later.
        """
        batch: list[Job] = []
        of_customer: Counter[str] = Counter()
        while of_customer.total() < _TOGETHER and not self._ended:
            job, self._held = self._held, None
            if job is None:
                try:
                    job = self._jobs.get(block=not batch)
                except queue.Empty:
                    break
                if job is None:
                    self._ended = True
                    break
                self._metrics.waiting.dec()
            new = Counter(customer for customer, _ in job.events)
            if batch and any(of_customer[one] + n > REMEMBERED_IDS for one, n in new.items()):
                self._held = job
                break
            of_customer += new
            batch.append(job)
            if job.other is not None:
                break
        return batch

    def _take_in(self, jobs: Sequence[Job]) -> None:
        """Take in all events at once, or where that fails request by request."""
        if len(jobs) > 1:
            try:
                scored = self._states.update_many([event for job in jobs for event in job.events])
            except Unreachable as error:
                for job in jobs:
                    job.answer.set_exception(error)
                return
            except Exception:
                pass  # one request's fault must not be the others'
            else:
                for job in jobs:
                    job.answer.set_result(scored[: len(job.events)])
                    del scored[: len(job.events)]
                return
        for job in jobs:
            _settle(job, partial(self._states.update_many, job.events))


def _settle(job: Job, answer: Callable[[], Any]) -> None:
    try:
        job.answer.set_result(answer())
    except Exception as error:
        job.answer.set_exception(error)
