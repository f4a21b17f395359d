"""The tracking plan: which raw names and properties mean which canonical event.

A plan is a YAML file:

    extends: builtin:ecommerce        # or another file, beside this one
    events:
      order_completed:                # object, then action in the past tense, in snake_case
        description: A customer paid.
        from: [purchase, Order Completed, web_shop/done, "order_*_ok"]
        actor: customer
        properties:
          order_id: {type: string, required: true, from: [transaction_id]}
          currency: {type: string, values: [EUR, USD]}

`from` names match when letters and digits agree, so case, spaces and punctuation do not matter;
`source/name` matches in one source only, and `*` stands for anything. No event is ever dropped:
a name that no entry matches keeps its folded form. Read `read_plan`, then `merge`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from seqjourney.config import nearest, parse
from seqjourney.errors import ConfigError
from seqjourney.events.taxonomy.documents import parse_yaml, read_yaml
from seqjourney.events.taxonomy.names import fold, match_key, pattern_key, shown

_BUILTIN = "builtin:"
_LEAST_LETTERS = 2  # of a pattern: `*` alone would claim everything


def _nothing_as(empty: object) -> BeforeValidator:
    """A key with nothing after it means the default, not null."""
    return BeforeValidator(lambda value: empty if value is None else value)


Names = Annotated[tuple[str, ...], _nothing_as(())]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Property(_Strict):
    """What one property of an event must look like."""

    type: Literal["string", "number", "integer", "boolean", "time"] = "string"
    """`time`: ISO 8601 text, or whole seconds, milliseconds or microseconds since 1970."""
    required: bool = False
    raw: Names = Field((), alias="from")
    """Further raw keys that may hold it; its own name always does."""
    values: Names = ()
    """The values that are allowed; none given means any."""


class Event(_Strict):
    """One canonical event."""

    description: str = ""
    raw: Names = Field((), alias="from")
    """Raw names, `source/name`, or patterns with `*`; the canonical name itself always counts."""
    actor: Literal["customer", "company", "system"] | None = None
    """Who does it, where the source does not say."""
    properties: Annotated[dict[str, Annotated[Property, _nothing_as({})]], _nothing_as({})] = {}


class TrackingPlan(_Strict):
    """Canonical events by name. An empty plan maps nothing and keeps folded names."""

    extends: str | None = None
    """A plan that this one adds to: `builtin:ecommerce` or a path relative to this file."""
    unmapped: Literal["keep"] = "keep"
    """Names outside the plan stay, folded; nothing is dropped."""
    events: Annotated[dict[str, Annotated[Event, _nothing_as({})]], _nothing_as({})] = {}


def read_plan(path: str | Path) -> TrackingPlan:
    """Read a plan and all that it extends.

    Args:
        path: a YAML file, or `builtin:ecommerce`.

    Returns:
        One plan with everything in it (`extends` is None).

    Raises:
        ConfigError: a file is missing or malformed, a key is unknown, two events claim one name,
            or names or files refer to each other in a circle. Says where, and how to mend it.
    """
    return _read(str(path), ())


def _read(path: str, below: tuple[str, ...]) -> TrackingPlan:
    place = path if path.startswith(_BUILTIN) else str(Path(path).expanduser().resolve())
    if place in below:
        circle = " → ".join([*below[below.index(place) :], place])
        raise ConfigError(f"{below[0]}: 'extends' goes in a circle: {circle}. Remove one of them.")
    if path.startswith(_BUILTIN):
        content = parse_yaml(_builtin(path.removeprefix(_BUILTIN)), path)
    else:
        content = read_yaml(Path(path).expanduser())
    plan = parse(TrackingPlan, content, path)
    check(plan, path)
    if plan.extends is None:
        return plan
    parent = plan.extends
    if not parent.startswith(_BUILTIN) and not path.startswith(_BUILTIN):
        parent = str(Path(path).expanduser().parent / Path(parent).expanduser())
    return merge(_read(parent, (*below, place)), plan)


def _builtin(name: str) -> str:
    folder = resources.files("seqjourney.events.taxonomy")
    known = [f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")]
    if name not in known:
        raise ConfigError(f"no built-in plan '{shown(name)}'.{nearest(name, known)}")
    return (folder / f"{name}.yaml").read_text(encoding="utf-8")


def entries(plan: TrackingPlan) -> Iterator[tuple[str, str, str]]:
    """Yield (canonical name, entry, key) of every name that the plan claims, its own first.

    The key is what two claims of one name have in common: the match key of an exact name, the
    folded text of a pattern.
    """
    for name, event in plan.events.items():
        yield name, name, match_key(name)
        for entry in event.raw:
            yield name, entry, _key(entry)


def _key(entry: str) -> str:
    return pattern_key(entry) if "*" in entry else match_key(entry)


def check(plan: TrackingPlan, where: str) -> None:
    """Refuse a plan whose names contradict each other; `extends` is not followed.

    Raises:
        ConfigError: names the key, and how to mend it.
    """
    for name, event in plan.events.items():
        if fold(name) != name:
            raise ConfigError(f"{where}: events.{shown(name)}: write it '{fold(name)}'.")
        for field in event.properties:
            if fold(field) != field:
                place = f"events.{name}.properties.{shown(field)}"
                raise ConfigError(f"{where}: {place}: write it '{fold(field)}'.")
    own = {match_key(name): name for name in plan.events}
    if len(own) < len(plan.events):
        name = next(n for n in plan.events if own[match_key(n)] != n)
        raise ConfigError(f"{where}: '{name}' and '{own[match_key(name)]}' are one name.")
    claimed_by: dict[str, str] = dict(own)
    renamed: dict[str, str] = {}
    for name, entry, key in entries(plan):
        place = f"{where}: events.{name}.from: '{shown(entry)}'"
        if sum(c.isalnum() for c in key) < (_LEAST_LETTERS if "*" in entry else 1):
            raise ConfigError(f"{place} names nothing in particular; write more of the name.")
        owner = claimed_by.setdefault(key, name)
        if owner == name:
            continue
        if key not in own:
            raise ConfigError(
                f"{place} is claimed by '{owner}' too; leave it in one of the two "
                "(or qualify it with its source, 'source/name')."
            )
        renamed[owner] = name
        if circle := _circle(renamed, owner):
            raise ConfigError(
                f"{where}: an alias cycle, {circle}: each is a raw name of the next. Keep one "
                "of them as the event and the others in its 'from'."
            )
    if renamed:
        old, new = next(iter(renamed.items()))
        raise ConfigError(
            f"{where}: events.{new}.from: '{old}' is an event of its own; move what it maps "
            f"into '{new}' and remove the event, or remove it from this list."
        )


def _circle(renamed: dict[str, str], start: str) -> str | None:
    path = [start]
    while (after := renamed.get(path[-1])) is not None:
        path.append(after)
        if after == start:
            return " → ".join(path)
        if after in path[:-1]:
            return None  # runs into a circle that does not hold the start
    return None


def merge(base: TrackingPlan, top: TrackingPlan) -> TrackingPlan:
    """Lay one checked plan over another: what `top` says counts.

    An event in both keeps all names and properties of both. A name that `top` claims is taken
    away from the event of `base` that had it. A `top` event that lists an event of `base` among
    its raw names takes that event over, with all its names and properties.
    """
    events = dict(base.events)
    by_key = {match_key(name): name for name in base.events}
    for name, event in top.events.items():
        for entry in event.raw:
            old = by_key.get(match_key(entry))
            if old is not None and old in events and old != name and old not in top.events:
                event = _united(events.pop(old), event)
        events[name] = _united(events[name], event) if name in events else event
    claims = {key: name for name, _, key in entries(top)}
    for name, event in events.items():
        kept = tuple(e for e in event.raw if claims.get(_key(e), name) == name)
        events[name] = event.model_copy(update={"raw": kept})
    return TrackingPlan(events=events)


def _united(old: Event, new: Event) -> Event:
    return Event(
        description=new.description or old.description,
        raw=tuple(dict.fromkeys([*new.raw, *old.raw])),
        actor=new.actor or old.actor,
        properties={**old.properties, **new.properties},
    )


def to_mapping(plan: TrackingPlan) -> dict[str, Any]:
    """Return the plan as plain containers that `read_plan` understands."""
    return plan.model_dump(by_alias=True, exclude_defaults=True, mode="json")
