"""PostHog's event export (Parquet or JSON Lines), with the persons export as links.

`properties` is an object in JSON Lines and JSON text in Parquet. PostHog has corrected device
clocks already. A `distinct_id` may be a cookie or a user: it is always taken as an anonymous id,
and as the user's too where the event says so (`$user_id`, `$is_identified`, or an identify call).
`person_id` is what PostHog believed when the event came in and is never rewritten; a later merge
shows only in the persons export, whose rows therefore come along as system events `$person` that
link a distinct id to a person from the time at which that mapping was written, not earlier.

Identify, alias, merge, group and `$set` calls are rows by the system. Visitors counted without a
cookie share one sentinel id, which is dropped. IP addresses and the person's own properties
(`$set`) are cut out of the event's. Money follows PostHog's e-commerce names (see `commerce`); the
options name other paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import ibis
from pydantic import Field

from seqjourney.config import Strict, parse
from seqjourney.config.data import MoneyPart, SourceConfig
from seqjourney.events.files import find_files
from seqjourney.events.records import Records, open_records
from seqjourney.events.rejects import Reject
from seqjourney.events.sources import Source
from seqjourney.events.sources.commerce import AMOUNTS, REFUNDS, money, positive, spoken
from seqjourney.events.sources.moments import UTC_MICROSECONDS, unreadable, utc
from seqjourney.events.sources.nested_json import require_columns
from seqjourney.events.sources.personal_data import without_members

CLICK_IDS = (
    "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "msclkid", "fbclid", "ttclid", "twclid",
    "li_fat_id", "igshid", "rdt_cid", "epik", "qclid", "sccid", "irclid", "mc_cid", "_kx",
)  # fmt: skip
UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
LINKS = ("$identify", "$create_alias", "$merge_dangerously")
SYSTEM = (*LINKS, "$groupidentify", "$set", "$opt_in")
PERSONAL = ("$ip", "$set", "$set_once")
PERSON = "$person"
NOBODY = "$posthog_cookieless"
PERSONS_FROM = 1 << 40
"""Rows of the persons export are numbered from here on, behind every event's."""
PATHS = {
    "event_id": "uuid",
    "event": "event",
    "distinct_id": "distinct_id",
    "person_id": "person_id",
    "happened": "timestamp",
    "ingested": ("created_at", "_inserted_at", "inserted_at", "bq_ingested_timestamp"),
    "properties": "properties",
    "user": 'properties."$user_id"',
    "identified": 'properties."$is_identified"',
    "former": 'properties."$anon_distinct_id"',
    "aliased": "properties.alias",
    "device": 'properties."$device_id"',
    "session": 'properties."$session_id"',
    "group": ('properties."$group_0"', 'properties."$group_key"'),
    "page_url": 'properties."$current_url"',
    "referrer": 'properties."$referrer"',
    "user_agent": ('properties."$raw_user_agent"', 'properties."$user_agent"'),
    "email": ('properties."$set".email', "person_properties.email", 'properties."$set_once".email'),
    "phone": ('properties."$set".phone', "person_properties.phone", 'properties."$set_once".phone'),
    **{name: f"properties.{name}" for name in (*UTM, *CLICK_IDS, *AMOUNTS)},
}
PERSON_PATHS = {
    "distinct_id": "distinct_id",
    "person_id": "person_id",
    "written": ("_inserted_at", "inserted_at"),
    "deleted": "is_deleted",
    "email": "properties.email",
    "phone": "properties.phone",
}


class PostHogOptions(Strict):
    """What an export leaves to its owner to say."""

    persons: str | None = None
    """File, folder or glob of the persons export; without it later merges are not known."""
    money: dict[MoneyPart, str] = Field(default_factory=dict)
    """Where the company's own events hold amounts: `{total: properties.amount, currency: ...}`.
    Unset: PostHog's e-commerce events, such as `Order Completed`."""


def open_source(backend: Any, config: SourceConfig) -> Source:
    """Map PostHog's events, and the persons export if the options name one, to raw rows.

    Raises:
        ConfigError: an option is unknown or wrong.
        DataError: no such file, or files of something else.
    """
    options = parse(PostHogOptions, config.options, f"data.sources.{config.label}.options")
    files = find_files(config.path)
    require_columns(backend, files, ("event", "distinct_id", "timestamp"), "a PostHog export")
    paths = PATHS | {f"own_{part}": path for part, path in options.money.items()}
    events = open_records(backend, files, paths)
    rows = _events(events.rows, options)
    if options.persons is None:
        return Source(rows, events.files, rejected=events.rejected)
    files = find_files(options.persons)
    require_columns(backend, files, ("distinct_id", "person_id"), "a PostHog persons export")
    persons = open_records(backend, files, PERSON_PATHS)
    return Source(
        rows.union(_persons(persons.rows, rows)),
        (*events.files, *persons.files),
        rejected=_all_rejected(events, persons),
        record_of=lambda row: row % PERSONS_FROM,
    )


def _all_rejected(*exports: Records) -> Any:
    def rejected(backend: Any) -> Iterator[Reject]:
        for records in exports:
            yield from records.rejected(backend)

    return rejected


def _events(rows: Any, options: PostHogOptions) -> Any:
    distinct = rows.distinct_id.nullif(NOBODY)
    links = rows.event.isin(LINKS)
    is_user = links | (rows.identified.cast("string").lower() == "true").fill_null(False)
    former = ibis.cases(
        (rows.event == "$identify", rows.former), (links, ibis.coalesce(rows.aliased, rows.former))
    )
    standard = {name: rows[name] for name in AMOUNTS}
    amounts = _own_money(rows, options) if options.money else money(rows.event, standard)
    happened, ingested = utc(rows.happened), utc(rows.ingested)
    return rows.select(
        source_row=rows.source_row,
        event=rows.event,
        timestamp=happened,
        unreadable_timestamp=unreadable(rows.happened, happened),
        known_at=ingested,
        unreadable_known_at=unreadable(rows.ingested, ingested),
        event_id=rows.event_id.cast("string"),
        id_user=ibis.coalesce(rows.user, ibis.cases((is_user, distinct))),
        id_anonymous=distinct,
        id_device=rows.device,
        id_external=rows.person_id.cast("string"),
        id_email=rows.email,
        id_phone=rows.phone,
        previous_id=former,
        group_id=rows.group,
        session_id=rows.session,
        actor=ibis.cases(
            (rows.event.isin(SYSTEM), "system"),
            (spoken(rows.event).isin(REFUNDS), "company"),
            else_="customer",
        ),
        page_url=rows.page_url,
        referrer=rows.referrer.nullif("$direct"),
        **{name: rows[name] for name in UTM},
        click_id=ibis.cases(*((rows[name].nullif("").notnull(), name) for name in CLICK_IDS)),
        user_agent=rows.user_agent,
        **amounts,
        consent=ibis.cases((rows.event == "$opt_in", '{"capturing":"granted"}')),
        properties=without_members(rows.properties.cast("string"), *PERSONAL),
    )


def _own_money(rows: Any, options: PostHogOptions) -> dict[str, Any]:
    columns = {"order_id": rows.order_id}
    for part in get_args(MoneyPart):
        name = "currency" if part == "currency" else f"money_{part}"
        amount = rows[f"own_{part}"] if part in options.money else ibis.null("string")
        amount = amount.cast("string").strip().nullif("")
        columns[name] = positive(amount) if part == "refund" else amount
    return columns


def _persons(rows: Any, events: Any) -> Any:
    """Return a row of the events' columns for each distinct id of the persons export."""
    # The mapping's own time is the only honest one: `created_at` is the person's, which may lie
    # long before the merge. Without it the mapping counts from the last event on.
    latest = ibis.coalesce(events.known_at, events.timestamp).max().as_scalar()
    written = ibis.coalesce(utc(rows.written), latest).cast(UTC_MICROSECONDS)
    deleted = (rows.deleted.cast("string").lower() == "true").fill_null(False)
    known = {
        "source_row": rows.source_row + PERSONS_FROM,
        "event": ibis.literal(PERSON),
        "timestamp": written,
        "known_at": written,
        "event_id": ibis.literal(f"{PERSON} ") + rows.distinct_id + " " + rows.person_id,
        "id_anonymous": rows.distinct_id.nullif(NOBODY),
        # A deleted person is nobody's link any more.
        "id_external": ibis.cases((~deleted, rows.person_id)),
        "id_email": ibis.cases((~deleted, rows.email)),
        "id_phone": ibis.cases((~deleted, rows.phone)),
        "actor": ibis.literal("system"),
    }
    return rows.select(
        **{
            name: known[name].cast(kind) if name in known else ibis.null(kind)
            for name, kind in events.schema().items()
        }
    )
