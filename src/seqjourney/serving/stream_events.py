"""One event as a dictionary → the token that training would have made of it.

The rules are those of `events.cleaning` for a frame's rows, in plain Python: a live event must not
pay for a query engine. `tests/serving/test_stream_events.py` holds the two against each other. Of
the times that the engine reads, zones by name (other than UTC and GMT) and spellings that no sender
means (`2023-03-05 12:`, offsets of a day) are refused here.

What arrives has happened and is known. A time that lies a little ahead, as of a clock that runs
fast, counts as now: else the customer could not be asked about before. One that lies further ahead
is refused: a frame's row of that time would not be seen before it has come either.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from seqjourney.config import DataConfig, nearest
from seqjourney.errors import DataError
from seqjourney.events.cleaning import LARGEST_AMOUNT, LARGEST_FLOAT32
from seqjourney.events.consent.policy import STATES
from seqjourney.sequences.tokenizer import FIRST, MISSING, UNKNOWN, Tokenizer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAST_US = 5 * 60_000_000  # so far a sender's clock may run ahead
_MICROSECOND = timedelta(microseconds=1)
_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0}
_EARLIEST: datetime = DataConfig.model_fields["earliest"].default
_BLANKS = " \t\n\r\v\f"  # the engine cuts these; `str.strip` would cut more
_OFFSET = r"[+-]\d\d(?::?\d\d)?"
_WRITTEN = re.compile(
    r"(\d{4})([-/])(\d\d?)\2(\d\d?)"
    rf"(?:[T ](\d\d?):(\d\d?)(?:(?<=:\d\d) *(Z|{_OFFSET})"  # no seconds
    rf"|:(\d\d?)(?:\.(\d*))?(Z| (?i:UTC|GMT)|{_OFFSET}(?::\d\d)?)?)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One event, read and checked."""

    categories: list[int]  # one id per categorical field
    numbers: list[float]  # one per numeric field, NaN where missing
    time: int  # microseconds UTC, when it happened
    known: int  # microseconds UTC, when the company could know
    identity: int | None  # hash of its event_id
    said: int | None  # position in `consent.policy.STATES`
    counts: bool  # False: it speaks of consent at most, and becomes no token


class EventReader:
    """Reads events for one model."""

    def __init__(self, tokenizer: Tokenizer, reading: Mapping[str, Any], *, needs_consent: bool):
        self._ids = {
            field: {word: FIRST + position for position, word in enumerate(words)}
            for field, words in tokenizer.vocabulary.items()
        }
        self._numeric = tokenizer.numeric_fields
        self._needed = ["timestamp", *self._ids, *self._numeric]
        self._label_only = frozenset(tokenizer.label_only_events)
        self._scale = _UNITS.get(reading.get("timestamp_unit") or "")
        zone = reading.get("timezone")
        self._zone = ZoneInfo(str(zone)) if zone is not None else UTC
        self._earliest = _microseconds(_EARLIEST)
        self._needs_consent = needs_consent

    def read(self, event: Mapping[str, Any]) -> Token:
        """Read one event.

        Args:
            event: `timestamp`, `event`, every field of the model (None where it is missing), and
                optionally `known_at`, `event_id` and `consent`. Further keys are not looked at.

        Raises:
            DataError: a key is missing or its value cannot be used; the message names it.
        """
        for key in self._needed:
            if key not in event:
                hint = nearest(key, [str(given) for given in event])
                raise DataError(f"the event has no '{key}' (None where it is missing).{hint}")
        name = text_of("event", event["event"])
        if name is None:
            raise DataError("'event' is empty; give the event's name.")
        categories = []
        for field, ids in self._ids.items():
            word = name if field == "event" else text_of(field, event[field])
            categories.append(MISSING if word is None else ids.get(word, UNKNOWN))
        happened = self._moment("timestamp", event["timestamp"])
        known = happened
        if not _absent(event.get("known_at")):
            known = max(happened, self._moment("known_at", event["known_at"]))
        return Token(
            categories=categories,
            numbers=[_number(field, event[field]) for field in self._numeric],
            time=happened,
            known=known,
            identity=_identity(event["event_id"]) if "event_id" in event else None,
            said=_said(event.get("consent")) if self._needs_consent else None,
            counts=name not in self._label_only,
        )

    def _moment(self, key: str, value: Any) -> int:
        """Read a time as microseconds since 1970; text without an offset is in the model's zone."""
        if self._scale is not None and not isinstance(value, datetime):
            number = _number(key, value)
            if number != number:
                raise DataError(f"'{key}' is empty; give a time.")
            moment = round(number * self._scale)
        else:
            moment = _microseconds(parse_moment(key, value), self._zone)
        if key == "timestamp" and moment < self._earliest:
            raise DataError(f"'{key}' is {value!r}, before {_EARLIEST:%Y-%m-%d}; is it a time?")
        now = int(time.time() * 1e6)
        if moment > now + _FAST_US:
            raise DataError(f"'{key}' is {value!r}, in the future; look at the sender's clock.")
        return min(moment, now)


def parse_moment(key: str, value: Any) -> datetime:
    """Read text as the engine does (much of ISO 8601) or a datetime, with or without an offset."""
    if isinstance(value, str):
        try:
            return _written(value.strip(_BLANKS))
        except (ValueError, OverflowError):
            pass
    elif isinstance(value, datetime) and not _absent(value):
        return value
    hint = ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        hint = " (the model was trained on times that are no numbers)"
    raise DataError(f"'{key}' is {value!r}, which is no time; write 2024-05-31T12:00Z.{hint}")


def microseconds_at(key: str, value: datetime | str) -> int:
    """Read the moment that a question is about: UTC unless it has an offset."""
    return _microseconds(parse_moment(key, value))


def moment_of(microseconds: int) -> datetime:
    """Return microseconds since 1970 as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def _written(text: str) -> datetime:
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year, _, month, day, hour, minute, bare, second, fraction, offset = found.groups("")
    ends_day = hour == "24" and not int(minute + second + fraction)
    if offset.strip().upper() in ("UTC", "GMT"):
        offset = "Z"
    moment = datetime.fromisoformat(
        f"{year}-{month:0>2}-{day:0>2}T{'' if ends_day else hour:0>2}:{minute:0>2}:{second:0>2}"
        f".{fraction[:6]:0<6}{bare}{offset}"
    )
    return moment + timedelta(days=ends_day)


def _microseconds(moment: datetime, zone: Any = UTC) -> int:
    readings = [moment]
    if moment.tzinfo is None:
        # Two where the clock repeats an hour or skips one: the engine takes the later.
        readings = [moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    return max(int((reading - EPOCH) // _MICROSECOND) for reading in readings)


def _absent(value: Any) -> bool:
    """Whether a cell is empty; None, NaN, NaT and NA are how dictionaries and frames say so."""
    if value is None:
        return True
    if isinstance(value, float):
        return value != value
    return type(value).__name__ in ("NaTType", "NAType")


def text_of(key: str, value: Any) -> str | None:
    """Read a name: text without surrounding blanks, None where it is missing."""
    if isinstance(value, str):
        return value.strip(_BLANKS) or None
    if _absent(value):
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(value)
    if isinstance(value, float):  # data frames turn a nullable integer id into 12345.0
        return str(int(value)) if value.is_integer() else str(value)
    raise DataError(f"'{key}' is {value!r}; a name or an id must be text.")


def _number(key: str, value: Any) -> float:
    """Read a number, NaN where it is missing."""
    if isinstance(value, str):
        value = value.strip(_BLANKS) or None
    if _absent(value):
        return float("nan")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, str) and not value.isascii():
        number = float("nan")  # digits of other scripts, which the engine does not read
    if not abs(number) <= (LARGEST_AMOUNT if key == "value" else LARGEST_FLOAT32):
        raise DataError(f"'{key}' is {value!r}, which is no number that can be used.")
    return number


def _identity(value: Any) -> int:
    text = text_of("event_id", value)
    if text is None:
        raise DataError("'event_id' is empty; give the event's id, or leave the key out.")
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _said(value: Any) -> int | None:
    if _absent(value):
        return None
    if value not in STATES:
        raise DataError(f"'consent' is {value!r}; write {', '.join(STATES)}, or nothing.")
    return STATES.index(value)
