"""Segment: one call per line (JSON Lines), or its warehouse tables as Parquet or CSV.

All six calls become rows. `track` keeps its event's name, `page` and `screen` theirs (or the
call's, if unnamed); identify, alias and group are rows of that name by the system: they carry
identifiers and consent and make nobody active. Traits of an identify are personal data and do not
go into `properties`. `timestamp` is Segment's, already corrected for the device's clock; where it
is missing it is computed as Segment does. Duplicates share `messageId` (`id` in a warehouse).

In a warehouse each table is a file, or a folder, of its name (`identifies`, `pages`, `screens`,
`groups`, `aliases`; others hold tracked events). `tracks` repeats what the events' own tables say
with more, so it comes last; `users` and `accounts` are latest states, no events, and left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis

from seqjourney.errors import DataError
from seqjourney.events.engine import columns_of, read_table
from seqjourney.events.files import find_files, kind_of
from seqjourney.events.records import Paths, open_records
from seqjourney.events.sources import Source
from seqjourney.events.sources.commerce import AMOUNTS, money, spoken
from seqjourney.events.sources.consent_text import ALL_DENIED, of_flags
from seqjourney.events.sources.moments import unreadable, unskewed, utc
from seqjourney.events.sources.nested_json import as_json, json_object

TABLES = {
    "identifies": "identify",
    "pages": "page",
    "screens": "screen",
    "groups": "group",
    "aliases": "alias",
    "tracks": "track",
}
_STATES = ("users", "accounts")
TABLE_FROM = 1 << 40
"""Rows of each further warehouse table are numbered from the next multiple of this on."""
# What stands under `context`: our name -> the path in a call, the column in a warehouse.
_CONTEXT = {
    "page_url": ("page.url", "page_url"),
    "referrer": ("page.referrer", "page_referrer"),
    "utm_source": ("campaign.source", "campaign_source"),
    "utm_medium": ("campaign.medium", "campaign_medium"),
    "utm_campaign": ("campaign.name", "campaign_name"),
    "utm_term": ("campaign.term", "campaign_term"),
    "utm_content": ("campaign.content", "campaign_content"),
    "user_agent": ("userAgent", "user_agent"),
    "session_id": ("sessionId", "session_id"),
    "context_group": ("groupId", "group_id"),
    "context_email": ("traits.email", "traits_email"),
    "context_phone": ("traits.phone", "traits_phone"),
    "device": ("device.id", "device_id"),
    "advertising": ("device.advertisingId", "device_advertising_id"),
    "ad_tracking": ("device.adTrackingEnabled", "device_ad_tracking_enabled"),
    "external": ("externalIds", "external_ids"),
}
PATHS: dict[str, str | Sequence[str]] = {
    "type": "type",
    "event": ("event_text", "event"),
    "name": "name",
    "message": ("messageId", "id"),
    "user": ("userId", "user_id"),
    "anonymous": ("anonymousId", "anonymous_id"),
    "previous": ("previousId", "previous_id"),
    "group": ("groupId", "group_id"),
    "happened": "timestamp",
    "original": ("originalTimestamp", "original_timestamp"),
    "sent": ("sentAt", "sent_at"),
    "received": ("receivedAt", "received_at"),
    "properties": "properties",
    "traits": "traits",
    "traits_email": ("traits.email", "email"),
    "traits_phone": ("traits.phone", "phone"),
    "own_url": ("properties.url", "url"),
    "own_referrer": ("properties.referrer", "referrer"),
    **{key: (f"properties.{key}", key) for key in (*AMOUNTS, "email_id")},
    **{name: (f"context.{path}", f"context_{column}") for name, (path, column) in _CONTEXT.items()},
    "user_agent": ("context.userAgent", "context_user_agent", "context.user_agent"),
}
_CATEGORIES = "context_consent_category_preferences_"
_OTHER = "other:"  # before the name of a warehouse column that is a property
_NO_PROPERTY = re.compile(
    r"(id|uuid|uuid_ts|anonymous_id|user_id|event|event_text|type|channel|received_at|sent_at|"
    r"timestamp|original_timestamp|loaded_at|previous_id|properties|traits|context|integrations|"
    r'rudder_event|context_.*|.*".*)'
)
_SYSTEM = (
    "segment consent preference updated",
    "email bounced",
    "push notification bounced",
    "application crashed",
    "install attributed",
)
_COMPANY = ("email delivered", "push notification received", "order refunded", "refunded order")


def open_source(backend: Any, config: Any) -> Source:
    """Map Segment's calls to raw rows.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    categories = {"categories": "context.consent.categoryPreferences"}
    return open_calls(backend, find_files(config.path), categories, _consent)


def open_calls(
    backend: Any, files: Sequence[Path], more: Paths, consent: Callable[[Any], Any]
) -> Source:
    """Open files of calls after Segment's specification.

    Args:
        backend: from `events.engine.connect`.
        files: of one kind.
        more: further paths, for `consent`.
        consent: wanted paths of each row -> consent as JSON text.
    """
    if kind_of(files[0]) == "json":
        records = open_records(backend, files, PATHS | dict(more))
        return Source(_raw_rows(records.rows, consent), records.files, rejected=records.rejected)
    parts = []
    tables = _by_table(files)
    for place, (table, members) in enumerate(tables.items()):
        paths = PATHS | dict(more) | _others(columns_of(read_table(backend, members)))
        rows = open_records(backend, members, paths).rows
        if table in TABLES:
            rows = rows.mutate(type=ibis.literal(TABLES[table]))
        rows = rows.mutate(source_row=rows.source_row + place * TABLE_FROM)
        parts.append(_raw_rows(rows, consent))
    rows = ibis.union(*parts) if len(parts) > 1 else parts[0]
    read = tuple(file for members in tables.values() for file in members)
    return Source(rows, read, record_of=lambda row: row % TABLE_FROM)


def _by_table(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Group warehouse files by table, `tracks` last; all tables of events are one."""
    tables: dict[str, list[Path]] = {}
    for file in files:
        names = [re.sub(r"[-_.]?\d*$", "", n.lower()) for n in (_stem(file), file.parent.name)]
        table = next((name for name in names if name in (*TABLES, *_STATES)), "")
        tables.setdefault(table, []).append(file)
    kept = {table: members for table, members in tables.items() if table not in _STATES}
    if not kept:
        raise DataError(f"{files[0]} holds the latest state of users or accounts, no events.")
    return dict(sorted(kept.items(), key=lambda entry: entry[0] == "tracks"))


def _stem(file: Path) -> str:
    return file.name.split(".", 1)[0]


def _others(columns: Sequence[str]) -> dict[str, str]:
    """Return the paths of warehouse columns that are properties or consent categories."""
    return {
        _OTHER + column: f'"{column}"'
        for column in columns
        if column.startswith(_CATEGORIES) or not _NO_PROPERTY.fullmatch(column)
    }


def _raw_rows(rows: Any, consent: Callable[[Any], Any]) -> Any:
    kind = ibis.coalesce(_text(rows.type).lower(), ibis.cases((rows.event.notnull(), "track")))
    rows = rows.mutate(kind=kind, consent=consent(rows))
    text = {name: _text(rows[name]) for name in PATHS if name not in ("properties", "traits")}
    kind, tracked, visited = rows.kind, rows.kind == "track", rows.kind.isin(["page", "screen"])
    event = ibis.cases(
        (tracked, text["event"]),
        (visited, ibis.coalesce(text["name"], kind)),
        else_=ibis.coalesce(kind, text["event"]),
    )
    track_name = ibis.cases((tracked, text["event"]))
    received = utc(rows.received)
    computed = unskewed(utc(rows.original), utc(rows.sent), received)
    happened = ibis.coalesce(utc(rows.happened), computed)
    return rows.select(
        source_row=rows.source_row,
        event=event,
        timestamp=happened,
        unreadable_timestamp=unreadable(
            ibis.coalesce(text["happened"], text["original"]), happened
        ),
        known_at=received,
        unreadable_known_at=unreadable(rows.received, received),
        event_id=text["message"],
        **_identifiers(kind, text),
        session_id=text["session_id"],
        actor=_actor(kind, track_name),
        channel=_channel(track_name, text["email_id"]),
        page_url=ibis.coalesce(text["page_url"], ibis.cases((kind == "page", text["own_url"]))),
        referrer=ibis.coalesce(
            text["referrer"], ibis.cases((kind == "page", text["own_referrer"]))
        ),
        **{name: text[name] for name in _CONTEXT if name.startswith("utm_")},
        user_agent=text["user_agent"],
        **money(track_name, text),
        message_id=ibis.cases((tracked, text["email_id"])),
        consent=rows.consent,
        properties=_properties(rows, kind),
    )


def _text(column: Any) -> Any:
    """Return a column as text; an empty one is missing."""
    return column.cast("string").nullif("")


def _identifiers(kind: Any, text: Mapping[str, Any]) -> dict[str, Any]:
    identified = kind == "identify"
    advertising = ibis.cases((text["ad_tracking"].lower() == "true", text["advertising"]))
    columns = {
        "id_user": text["user"],
        "id_anonymous": text["anonymous"],
        "id_device": ibis.coalesce(text["device"], advertising),
        "previous_id": ibis.cases((kind == "alias", text["previous"])),
        "group_id": ibis.coalesce(text["group"], text["context_group"]),
        "id_external": _external(text["external"], r'[^"\\]*', but=("user_id", "email", "phone")),
    }
    for name in ("email", "phone"):
        columns[f"id_{name}"] = ibis.coalesce(
            text[f"context_{name}"],
            ibis.cases((identified, text[f"traits_{name}"])),
            _external(text["external"], name),
        )
    return columns


def _external(ids: Any, kind: str, but: Sequence[str] = ()) -> Any:
    """Return the first id of a type among `[{"id": ..., "type": ...}, ...]`.

    Args:
        ids: JSON text.
        kind: a type, or a pattern for one.
        but: types that are passed over.
    """
    for passed in but:
        ids = ids.re_replace(rf'\{{[^{{}}]*"type"\s*:\s*"{passed}"[^{{}}]*\}}', "")
    entry = ids.re_extract(rf'\{{[^{{}}]*"type"\s*:\s*"{kind}"[^{{}}]*\}}', 0)
    return entry.re_extract(r'"id"\s*:\s*"([^"\\]*)"', 1).nullif("")


def _actor(kind: Any, track_name: Any) -> Any:
    name = spoken(track_name)
    return ibis.cases(
        (kind.isin(["track", "page", "screen"]) & name.isin(_COMPANY), "company"),
        (name.isin(_SYSTEM), "system"),
        (kind.isin(["track", "page", "screen"]), "customer"),
        else_="system",
    )


def _channel(track_name: Any, email_id: Any) -> Any:
    """Name the channel of the e-mail and mobile specifications' events; of others nothing."""
    name = spoken(track_name)
    email = name.startswith("email ") | (name == "unsubscribed")
    return ibis.cases(
        (email & email_id.notnull(), "email"),
        (name.startswith("push notification "), "mobile_push"),
    )


def _properties(rows: Any, kind: Any) -> Any:
    """Return what a call says beside the common fields; of persons' traits nothing."""
    said = rows.properties.cast("string")
    others = {
        column.removeprefix(_OTHER): rows[column]
        for column in rows.columns
        if column.startswith(_OTHER) and not column.startswith(_OTHER + _CATEGORIES)
    }
    if others:
        written = json_object({key: as_json(column) for key, column in others.items()})
        said = ibis.coalesce(said, written.nullif("{}"))
    group = ibis.coalesce(rows.traits.cast("string"), said)
    return ibis.cases((kind.isin(["track", "page", "screen"]), said), (kind == "group", group))


def _consent(rows: Any) -> Any:
    """Read the consent object: a missing one says nothing, an empty one refuses everything.

    Segment would also read a category that an object lacks as denied. That is not followed: other
    sources ask about other categories, and each would refuse what only another asks.
    """
    stated = of_flags(rows.categories.cast("string"))
    flags = {
        column.removeprefix(_OTHER + _CATEGORIES): as_json(_state(rows[column]))
        for column in rows.columns
        if column.startswith(_OTHER + _CATEGORIES)
    }
    if flags:
        stated = ibis.coalesce(stated, json_object(flags).nullif("{}"))
    return stated.re_replace(r"^\{\s*\}$", ALL_DENIED)


def _state(flag: Any) -> Any:
    flag = flag.cast("string").lower()
    return ibis.cases(
        (flag == "true", "granted"), (flag == "false", "denied"), (flag.notnull(), "unknown")
    )
