"""Cleaned rows that carry `consent` → the choices of each customer, changes only.

Sources repeat a consent state on every call. What counts is the choice behind it: a run of equal
states of one speaker is one choice, made at the run's first moment and known from the earliest
moment at which any of its rows was. A speaker is a device (a cookie, a phone), or the customer
where the row names no device; a choice is `personal` when its row also says who the person is.
`intervals` needs both to decide which denials a later grant lifts.

Everything is Ibis; only the distinct consent texts, of which there are few, are read in Python.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis
import pandas as pd

from seqjourney.errors import DataError
from seqjourney.events import engine
from seqjourney.events.cleaning import UTC_MICROSECONDS
from seqjourney.events.consent.policy import EVERY, STATES, ConsentPolicy
from seqjourney.events.identity.rules import IdentityRules

SCHEMA = {
    "customer_id": "string",
    "purpose": "string",
    "state": "string",
    "since": UTC_MICROSECONDS,
    "known_at": UTC_MICROSECONDS,
    "speaker": "string",
    "personal": "boolean",
}
FILE = "consent.parquet"
PERSONAL: tuple[str, ...] = IdentityRules().personal
"""Identifier types that name a person; every other type names a device."""


def statements(rows: Any, policy: ConsentPolicy, personal: Sequence[str] = PERSONAL) -> Any:
    """Reduce cleaned rows to the consent choices that they express.

    Args:
        rows: Ibis table with `customer_id`, `timestamp`, `known_at`, and where there are any
            `consent` (JSON text, category → granted, denied or unknown; null says nothing) and
            identifiers `id_<type>`. Rows that consent later withholds belong in it too.
        policy: maps categories to purposes.
        personal: identifier types that name a person (`identity.personal`).

    Returns:
        Ibis table with the columns of `SCHEMA`, of every purpose. Ordered when written: see
        `FILE` in the prepared folder. `speaker` is a short hash of the device, or `customer`.

    Raises:
        DataError: a consent text is not what connectors write.
    """
    if "consent" not in rows.columns:
        return ibis.memtable(pd.DataFrame(columns=list(SCHEMA)), schema=SCHEMA)
    spoken = rows.filter(rows.consent.notnull())
    spoken = spoken.select(
        "customer_id",
        "consent",
        "timestamp",
        "known_at",
        speaker=_speaker(spoken, personal),
        personal=_is_personal(spoken, personal),
    )
    by_speaker = spoken.group_by("customer_id", "speaker").aggregate(
        since=spoken.timestamp.min(),
        known_at=spoken.known_at.min(),
        personal_since=spoken.personal.ifelse(
            spoken.timestamp, ibis.null(spoken.timestamp.type())
        ).min(),
        lowest=spoken.consent.min(),
        highest=spoken.consent.max(),
    )
    # Nearly every speaker says the same all along: one aggregation answers for them, and only
    # the few who changed their mind are sorted.
    same = by_speaker.lowest == by_speaker.highest
    steady = by_speaker.filter(same).select(
        "customer_id",
        "speaker",
        "since",
        "known_at",
        consent="lowest",
        personal=ibis._.personal_since.fill_null(ibis._.since + ibis.interval(days=1))
        == ibis._.since,
    )
    changing = spoken.semi_join(by_speaker.filter(~same), ["customer_id", "speaker"])
    changing = changing.select(
        "customer_id", "speaker", "known_at", "consent", "personal", since="timestamp"
    )
    meanings = _meanings(spoken, policy)
    columns = ["customer_id", "purpose", "rank", "since", "known_at", "speaker", "personal"]
    chosen = steady.inner_join(meanings, "consent").select(*columns)
    chosen = chosen.union(_runs(changing.inner_join(meanings, "consent").select(*columns)))
    device = chosen.speaker != "customer"
    return chosen.select(
        "customer_id",
        "purpose",
        "since",
        "known_at",
        "personal",
        state=ibis.cases(*((chosen["rank"] == i, s) for i, s in enumerate(STATES))),
        speaker=device.ifelse(chosen.speaker.hexdigest("md5").left(16), chosen.speaker),
    ).select(*SCHEMA)


def read_statements(backend: Any, prepared: Path) -> Any:
    """Open the consent statements of prepared data; none where no source states any."""
    if not (prepared / FILE).exists():
        return ibis.memtable(pd.DataFrame(columns=list(SCHEMA)), schema=SCHEMA)
    return engine.read_parquet(backend, prepared / FILE)


def _devices(rows: Any, personal: Sequence[str]) -> list[str]:
    named = [column.removeprefix("id_") for column in rows.columns if column.startswith("id_")]
    return sorted(name for name in named if name not in personal)


def _speaker(rows: Any, personal: Sequence[str]) -> Any:
    devices = _devices(rows, personal)
    return ibis.coalesce(*(f"{name}:" + rows[f"id_{name}"] for name in devices), "customer")


def _is_personal(rows: Any, personal: Sequence[str]) -> Any:
    """Whether a row says who the person is; one that names no device is about the person."""
    devices = _devices(rows, personal)
    if not devices:
        return ibis.literal(True)
    named = [rows[f"id_{name}"].notnull() for name in personal if f"id_{name}" in rows.columns]
    return ibis.or_(_speaker(rows, personal) == "customer", *named)


def _meanings(spoken: Any, policy: ConsentPolicy) -> Any:
    """Table of what each distinct consent text says: `consent`, `purpose`, `rank`."""
    texts = spoken.select("consent").distinct().to_pandas()["consent"]
    said = {text: _read(text) for text in texts}
    named = {name for categories in said.values() for name in categories} - {EVERY}
    every = {policy.purposes.get(name, name) for name in named} | set(policy.purposes.values())
    every |= {policy.purpose} if policy.purpose else set()
    rows = [
        (text, purpose, STATES.index(state))
        for text, categories in said.items()
        for purpose, state in policy.of_categories(categories, every or {EVERY}).items()
    ]
    frame = pd.DataFrame(rows, columns=["consent", "purpose", "rank"])
    schema = {"consent": "string", "purpose": "string", "rank": "int64"}
    return ibis.memtable(frame, schema=schema)


def _read(text: str) -> dict[str, str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not all(
        isinstance(state, str) and state in STATES for state in content.values()
    ):
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise DataError(
            f"consent {shown!r} cannot be read. It must be a JSON object from category to "
            f'{", ".join(STATES)}, such as {{"analytics": "granted"}}.'
        )
    return content


def _runs(said: Any) -> Any:
    """Turn each run of equal states of one speaker into one choice."""
    keys = ["customer_id", "purpose", "speaker"]
    said = said.group_by(*keys, "since", "rank").aggregate(
        known_at=said.known_at.min(), personal=said.personal.any()
    )
    # At one moment only the strictest counts.
    strictest = ibis.row_number().over(
        ibis.window(group_by=[*keys, "since"], order_by=ibis.desc("rank"))
    )
    said = said.mutate(place=strictest)
    said = said.filter(said.place == 0)
    in_order = ibis.window(group_by=keys, order_by="since")
    said = said.mutate(before=said["rank"].lag().over(in_order))
    said = said.mutate(starts=said.before.isnull() | (said.before != said["rank"]))
    so_far = ibis.window(group_by=keys, order_by="since", rows=(None, 0))
    said = said.mutate(run=said.starts.cast("int64").sum().over(so_far))
    said = said.mutate(known_at=said.known_at.min().over(ibis.window(group_by=[*keys, "run"])))
    return said.filter(said.starts).select(
        "customer_id", "purpose", "rank", "since", "known_at", "speaker", "personal"
    )
