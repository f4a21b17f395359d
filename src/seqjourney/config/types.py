"""What all configuration models share: strictness, durations, moments, time zones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

_MOST_NAMED = 30  # in a message
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _duration(value: object) -> object:
    """Read `30d` as 30 days; leave anything else to pydantic (ISO 8601 such as `P30D`)."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", value)):
        return timedelta(**{_UNITS[match[2]]: float(match[1])})
    if isinstance(value, bool | int | float):
        raise ValueError(f"a duration needs a unit: write '{value}d' for {value} days")
    return value


def _utc(value: object) -> object:
    """Read a date or time; one without an offset is UTC."""
    if hasattr(value, "year") and not isinstance(value, datetime):
        value = str(value)  # YAML reads 2011-01-15 as a date
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be a date or time, such as 2024-05-31") from None
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


def span_name(length: timedelta) -> str:
    """Return `7d`, `6h`, `90m` or `45s`: the largest unit that divides a duration."""
    for unit in "dhm":
        one = timedelta(**{_UNITS[unit]: 1})
        if length % one == timedelta(0):
            return f"{length // one}{unit}"
    return f"{length.total_seconds():g}s"


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration must be longer than nothing")
    return value


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("a time span must not be negative")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)]
Span = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_not_negative)]
"""As `Duration`; `0d` is one too."""
Moment = Annotated[datetime, BeforeValidator(_utc)]


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"no such time zone.{nearest(value, available_timezones())}")
    return value


Zone = Annotated[str, AfterValidator(_zone)]


def shaped(pattern: str, words: str) -> AfterValidator:
    """Return a check that text has a form; `words` say in plain English which."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME_WORDS = "a name for folders: letters, digits, '_', '.' and '-', first a letter or digit"
Name = Annotated[str, shaped(_NAME, _NAME_WORDS)]
NameOrNothing = Annotated[str, shaped(f"({_NAME})?", _NAME_WORDS)]


class Strict(BaseModel):
    """A model that refuses unknown keys and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest known word, or a list of the known ones."""
    known = sorted(known)
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if match:
        return f" Did you mean '{match[0]}'?"
    shown = [name if len(name) <= 60 else name[:57] + "..." for name in known[:_MOST_NAMED]]
    more = f" and {len(known) - len(shown):,} more" if len(known) > len(shown) else ""
    return f" Known: {', '.join(shown)}{more}."
