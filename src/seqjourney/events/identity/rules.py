"""What may be merged: the rules by which identifiers become customers, as configuration.

An identifier is a type and a value (`email`, `3f0c...`); written in one word it is `type:value`.
This module knows no other of ours, so that any configuration can hold these rules.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DEFAULT_LIMITS = {"email": 5, "phone": 5, "external": 20, "device": 20, "anonymous": 100}
OTHER_LIMIT = 100
DEFAULT_BLOCKED = (
    "",
    r"^[0-]*$",  # 0, 0000-0000, the advertising id of those who opted out
    "-1",
    "null",
    "none",
    "nil",
    "nan",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "anonymous",
    "guest",
    "visitor",
    "default",
    "void",
    "test",
    "false",
    "true",
    r"\(not set\)",
    r"\[object object\]",
    "9774d56d682e549c",  # the id that a whole generation of Android devices had in common
)
_TYPE = r"^[a-z][a-z0-9_]*$"
# What DuckDB, Spark and Python read alike; the first two know no look-around or back-reference.
_NOT_PORTABLE = re.compile(r"\(\?(?!:)|\\[1-9]|\\[ZzGpP]")

Pair = tuple[str, str]


class IdentityRules(BaseModel):
    """How identifiers become customers; the defaults suit most companies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: Literal["full", "user_id", "none"] = "full"
    """`full`: identifiers that are linked are one customer. `user_id`: an event belongs to the
    strongest identifier it carries, and identifiers are never linked. `none`: an event belongs to
    the weakest (the cookie or device that sent it). The last two exist to be compared with."""
    priority: tuple[str, ...] = ("user", "email", "phone", "external", "device", "anonymous")
    """Identifier types, strongest first; rows carry them in columns `id_<type>`."""
    unique: tuple[str, ...] = ("user",)
    """Types of which one customer has only one: two user ids never become one customer."""
    personal: tuple[str, ...] = ("user", "email", "phone")
    """Types that stand for a person, the strongest ones. Any other (a device, a cookie) may join a
    user id and an e-mail, but never two customers who are each known by an e-mail of their own:
    it is then shared. A link between personal identifiers themselves may."""
    limits: dict[str, int] = Field(default_factory=dict)
    """Most identifiers of a type per customer. A type that is not named keeps its default: email
    and phone 5, external and device 20, anonymous and all others 100."""
    shared: Literal["apart", "first_owner"] = "apart"
    """Whose an identifier is that several customers use (a family's tablet), when an event carries
    no other. `apart`: nobody's, it becomes a customer of its own. `first_owner`: theirs who were
    first seen with it. Either way it links no other identifiers with one another."""
    blocked: tuple[str, ...] = DEFAULT_BLOCKED
    """Values that identify nobody, whatever their type: whole values or regular expressions for
    whole values, in any case. Setting this replaces the default list."""
    also_blocked: tuple[str, ...] = ()
    """Further such values; adds to `blocked`."""
    separate: tuple[Pair, ...] = ()
    """Un-merge: pairs of identifiers, `[user:7, device:abc]`, that are never one customer."""
    together: tuple[Pair, ...] = ()
    """Manual merge: pairs of identifiers that are one person whatever the rules say. Those of one
    type count as one, so that two user ids of the same person can be joined."""

    @field_validator("priority")
    @classmethod
    def _check_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if not types:
            raise ValueError("at least one identifier type is needed")
        for name in types:
            if not re.fullmatch(_TYPE, name):
                raise ValueError(f"'{name}' is no identifier type; write it like 'loyalty_card'")
            if types.count(name) > 1:
                raise ValueError(f"'{name}' stands twice")
        return types

    @field_validator("blocked", "also_blocked")
    @classmethod
    def _check_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"'{pattern}' is no regular expression ({error}); "
                    f"as a plain value it is written '{re.escape(pattern)}'"
                ) from None
            if _NOT_PORTABLE.search(pattern):
                raise ValueError(
                    f"'{pattern}' uses what not every engine knows (look-around, "
                    "back-references, inline flags); matching ignores case anyway"
                )
        return patterns

    @field_validator("separate", "together")
    @classmethod
    def _check_pairs(cls, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        for pair in pairs:
            for written in pair:
                if not all(split(written)):
                    raise ValueError(f"'{written}' must be written type:value, such as user:42")
            if pair[0] == pair[1]:
                raise ValueError(f"'{pair[0]}' is paired with itself")
        return pairs

    @model_validator(mode="after")
    def _check_known(self) -> IdentityRules:
        named = {
            "unique": self.unique if "unique" in self.model_fields_set else (),
            "personal": self.personal if "personal" in self.model_fields_set else (),
            "limits": tuple(self.limits),
            "separate": tuple(split(w)[0] for pair in self.separate for w in pair),
            "together": tuple(split(w)[0] for pair in self.together for w in pair),
        }
        for key, types in named.items():
            for name in types:
                if name not in self.priority:
                    raise ValueError(
                        f"{key} names the identifier type '{name}', which priority does not; "
                        f"it has {', '.join(self.priority)}"
                    )
        kinds = [name in self.personal for name in self.priority]
        if kinds != sorted(kinds, reverse=True):
            raise ValueError(
                f"the personal types ({', '.join(self.personal)}) must come first in priority "
                f"({', '.join(self.priority)})"
            )
        for name, most in self.limits.items():
            if most < 1:
                raise ValueError(f"limits.{name} must be 1 or more, not {most}")
            if most > 1 and name in self.unique:
                raise ValueError(f"'{name}' is unique, yet limits.{name} allows {most}")
        for pair in self.separate:
            first, second = (self.together_class(written) for written in pair)
            if first == second:
                raise ValueError(f"{pair[0]} and {pair[1]} are kept separate and merged together")
        return self

    def strength(self, name: str) -> int:
        """Return the rank of a type, 0 for the strongest."""
        return self.priority.index(name)

    def most(self, name: str) -> int:
        """Return how many identifiers of a type one customer may have."""
        if name in self.unique:
            return 1
        return self.limits.get(name, DEFAULT_LIMITS.get(name, OTHER_LIMIT))

    def together_class(self, written: str) -> str:
        """Return the first in alphabetical order of all that decisions join with an identifier."""
        found, waiting = {written}, [written]
        while waiting:
            one = waiting.pop()
            for pair in self.together:
                if one in pair:
                    other = pair[1] if pair[0] == one else pair[0]
                    if other not in found:
                        found.add(other)
                        waiting.append(other)
        return min(found)


def split(written: str) -> Pair:
    """Return the type and the value of `type:value`; both empty when it is not written so."""
    name, colon, value = written.partition(":")
    return (name, value) if colon and value else ("", "")
