"""An HTTP request → events that can be taken in, or a refusal that says what to mend.

Everything that a sender could get wrong is found here, before a request joins the others: limits
while the body is read, then JSON, then each event by the rules of the model's reader.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from seqjourney.config import nearest
from seqjourney.errors import DataError
from seqjourney.serving.service.settings import Limits
from seqjourney.serving.stream_events import EventReader, text_of
from seqjourney.serving.stream_state import REMEMBERED_IDS

Event = tuple[str, dict[str, Any]]
_DEEPEST = 8  # levels of JSON; ours has three, what else an event carries may have a few


class Refused(Exception):
    """A request that is not served: an HTTP status, one sentence, and a word for the metrics."""

    def __init__(self, status: int, message: str, reason: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.message, self.reason = status, message, reason
        self.retry_after = retry_after


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read a JSON body, and stop reading as soon as it is too large or too slow."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "send JSON, with the header Content-Type: application/json.", "body")
    too_large = Refused(
        413, f"the body has more than {limits.body_bytes} bytes; send fewer events.", "body"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        message = f"the body took longer than {limits.body_seconds:g} seconds to arrive."
        raise Refused(408, message, "body") from None
    except ClientDisconnect:
        raise Refused(400, "the body ended too early.", "body") from None
    return bytes(body)


def events_of(body: bytes, limits: Limits, reader: EventReader) -> list[Event]:
    """Read `{"events": [{"customer_id": ..., ...}, ...]}` and check every event.

    An event without an `event_id` gets one: whatever is tried again for it inside the service
    then counts it once.

    Raises:
        Refused: the body or an event cannot be used; the message names it.
    """
    content = _parsed(body)
    if not isinstance(content, dict) or not isinstance(content.get("events"), list):
        given = [str(key) for key in content] if isinstance(content, dict) else []
        hint = nearest("events", given)
        raise Refused(
            422, f'the body must be {{"events": [{{"customer_id": ..., ...}}]}}.{hint}', "event"
        )
    for key in content:
        if key != "events":
            raise Refused(422, f"unknown key {_shown(key)} beside 'events'.", "event")
    given_events = content["events"]
    if not 1 <= len(given_events) <= limits.events:
        raise Refused(
            422,
            f"a request carries 1 to {limits.events} events; this one has {len(given_events)}.",
            "event",
        )
    events = []
    for position, event in enumerate(given_events):
        try:
            events.append(_checked(event, reader))
        except DataError as error:
            raise Refused(422, f"events[{position}]: {error}", "event") from None
    customer, most = Counter(customer for customer, _ in events).most_common(1)[0]
    if most > REMEMBERED_IDS:
        raise Refused(
            422,
            f"customer {_shown(customer)} has {most} events in one request; send "
            f"{REMEMBERED_IDS} at most, so that each is known again if you must repeat it.",
            "event",
        )
    return events


def customer_of(value: Any) -> str:
    """Read a customer's id.

    Raises:
        DataError: there is none, or it is no text.
    """
    customer = text_of("customer_id", value)
    if customer is None:
        raise DataError("'customer_id' is empty; say whose event it is.")
    try:
        customer.encode()
    except UnicodeEncodeError:
        raise DataError(f"'customer_id' is {_shown(customer)}, which is no text.") from None
    return customer


def _checked(event: Any, reader: EventReader) -> Event:
    if not isinstance(event, dict):
        raise DataError("an event is an object with customer_id, timestamp, event and so on.")
    if "customer_id" not in event:
        hint = nearest("customer_id", list(event))
        raise DataError(f"the event has no 'customer_id'.{hint}")
    customer = customer_of(event["customer_id"])
    event.setdefault("event_id", uuid.uuid4().hex)
    try:
        reader.read(event)
    except (OverflowError, ValueError) as error:  # a date at the edge of the calendar
        raise DataError(f"a value cannot be used ({error}).") from None
    return customer, event


def _parsed(body: bytes) -> Any:
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        problem = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise Refused(400, f"the body is not valid JSON: {problem}.", "body") from None
    if _deeper_than(content, _DEEPEST):
        raise Refused(400, f"the body is nested more than {_DEEPEST} levels deep.", "body")
    return content


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON; write null for a missing number")


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inside = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(_deeper_than(part, levels - 1) for part in inside)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "...")
