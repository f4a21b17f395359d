"""Amplitude: its export of one event per line, gzipped by the hour, or the same columns typed.

`event_time` is Amplitude's, already corrected for the device's clock (the device's upload time
against the server's); where it is missing the same is computed. All times are UTC, though written
without saying so. `known_at` is `server_upload_time`. Duplicates share `$insert_id`; events sent
without one have Amplitude's `uuid`.

Revenue is `$revenue`, or `$price` times `$quantity`, of an event's properties; the copies that
Amplitude adds of a revenue event once it is verified (or not) carry no money. User properties are a
profile of the person and do not go into `properties`. The export holds no consent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis

from seqjourney.events.files import find_files
from seqjourney.events.records import open_records
from seqjourney.events.sources import Source
from seqjourney.events.sources.commerce import positive
from seqjourney.events.sources.moments import unreadable, unskewed, utc

_COMPUTED = (
    "verified_revenue",
    "unverified_revenue",
    "[Amplitude] Revenue (Verified)",
    "[Amplitude] Revenue (Unverified)",
)
_SYSTEM = ("$identify", "$groupidentify", "session_end", "[Amplitude] End Session", *_COMPUTED)
_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
PATHS: dict[str, str | Sequence[str]] = {
    "event": "event_type",
    "insert_id": ('"$insert_id"', "insert_id", "_insert_id"),
    "uuid": "uuid",
    "happened": "event_time",
    "client_event": "client_event_time",
    "client_upload": "client_upload_time",
    "received": "server_received_time",
    "uploaded": "server_upload_time",
    "user": "user_id",
    "device": "device_id",
    "amplitude": "amplitude_id",
    "email": "user_properties.email",
    "phone": "user_properties.phone",
    "session": "session_id",
    "groups": "groups",
    "properties": "event_properties",
    "page_url": (
        'event_properties."[Amplitude] Page URL"',
        'event_properties."[Amplitude] Page Location"',
    ),
    "referrer": ("event_properties.referrer", 'event_properties."[Amplitude] Referrer"'),
    **{name: f"event_properties.{name}" for name in _UTM},
    "revenue": 'event_properties."$revenue"',
    "price": 'event_properties."$price"',
    "quantity": 'event_properties."$quantity"',
    "revenue_type": 'event_properties."$revenueType"',
    "currency": 'event_properties."$currency"',
}


def open_source(backend: Any, config: Any) -> Source:
    """Map Amplitude's exported events to raw rows.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    records = open_records(backend, find_files(config.path), PATHS)
    return Source(_raw_rows(records.rows), records.files, rejected=records.rejected)


def _raw_rows(rows: Any) -> Any:
    text = {name: rows[name].cast("string").nullif("") for name in PATHS}
    received = utc(rows.received)
    computed = unskewed(utc(rows.client_event), utc(rows.client_upload), received)
    happened = ibis.coalesce(utc(rows.happened), computed)
    uploaded = utc(rows.uploaded)
    known_at = ibis.coalesce(uploaded, received)
    return rows.select(
        source_row=rows.source_row,
        event=text["event"],
        timestamp=happened,
        unreadable_timestamp=unreadable(
            ibis.coalesce(text["happened"], text["client_event"]), happened
        ),
        known_at=known_at,
        unreadable_known_at=ibis.coalesce(
            unreadable(rows.uploaded, uploaded), unreadable(rows.received, known_at)
        ),
        event_id=ibis.coalesce(text["insert_id"], text["uuid"]),
        id_user=text["user"],
        id_device=text["device"],
        id_external=text["amplitude"],
        id_email=text["email"],
        id_phone=text["phone"],
        group_id=text["groups"].re_extract(r':\s*\[?\s*"([^"\\]+)"', 1).nullif(""),
        session_id=text["session"].nullif("-1"),  # an event outside any session
        actor=text["event"].isin(_SYSTEM).fill_null(False).ifelse("system", "customer"),
        page_url=text["page_url"],
        referrer=text["referrer"],
        **{name: text[name] for name in _UTM},
        **_money(text),
        properties=text["properties"],
    )


def _money(text: dict[str, Any]) -> dict[str, Any]:
    price, quantity = (text[name].try_cast("float64") for name in ("price", "quantity"))
    product = (price * ibis.coalesce(quantity, 1)).cast("string")
    # A price that is no number is passed on, for cleaning to report.
    amount = ibis.coalesce(text["revenue"], product, text["price"])
    amount = ibis.cases((~text["event"].isin(_COMPUTED), amount))
    kind = text["revenue_type"].lower()
    refund = (kind == "refund").fill_null(False) | amount.startswith("-")
    tax = (kind == "tax").fill_null(False)
    return {
        "money_net": ibis.cases((~refund & ~tax, amount)),
        "money_tax": ibis.cases((tax & ~refund, amount)),
        "money_refund": ibis.cases((refund, positive(amount))),
        "currency": ibis.cases((amount.notnull(), text["currency"].upper())),
    }
