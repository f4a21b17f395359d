"""mParticle: a batch per line (JSON Lines) of one person's events, as its exports write them.

Each event becomes a row with the identities and the consent of its batch; a batch without events
is a row `batch` by the system, so that what it says of identity and consent is kept. The name is
the one that the event carries (`event_name`, `screen_name`), else its type and what it did
(`commerce_event.purchase`, `push_message.sent`).

There is no idempotency key: `source_message_id`, which the sender sets and a retried batch
repeats, is the event's id; else mParticle's `event_id`; else a hash of the batch's identities and
the event as written. `known_at` is when mParticle received the batch. Advertising ids are taken
only where the device allows it. `total_amount` is what was paid, with tax and shipping.

Consent: GDPR purposes by their names. CCPA's `data_sale_opt_out` says whether the data may be
sold: to have opted out is `denied`. An opt-out event denies everything (`*`); opting in again
makes that unknown, for it takes no purpose's denial back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ibis

from seqjourney.errors import DataError
from seqjourney.events.engine import json_items, json_texts
from seqjourney.events.files import find_files
from seqjourney.events.records import open_records
from seqjourney.events.sources import Source
from seqjourney.events.sources.commerce import net_refund
from seqjourney.events.sources.consent_text import ALL_DENIED, UNREADABLE, checked
from seqjourney.events.sources.moments import of_milliseconds, unreadable

_BATCH = {
    "events": "events",
    "batch_time": "timestamp_unixtime_ms",
    "mpid": "mpid",
    "mp_deviceid": "mp_deviceid",
    "user": ("user_identities.customer_id", "user_identities.customerid"),
    "email": "user_identities.email",
    "phone": "user_identities.mobile_number",
    "ios_idfv": "device_info.ios_idfv",
    "android_uuid": "device_info.android_uuid",
    "amp_id": "device_info.amp_id",
    "ios_ad": "device_info.ios_advertising_id",
    "android_ad": "device_info.android_advertising_id",
    "limit_ads": "device_info.limit_ad_tracking",
    "att": "device_info.att_authorization_status",
    "user_agent": "device_info.http_header_user_agent",
    "gdpr": "consent_state.gdpr",
    "ccpa": "consent_state.ccpa",
}
_EVENT = {
    "kind": ("event_type",),
    "event_name": ("data", "event_name"),
    "screen_name": ("data", "screen_name"),
    "happened": ("data", "timestamp_unixtime_ms"),
    "message": ("data", "source_message_id"),
    "event_id": ("data", "event_id"),
    "session_uuid": ("data", "session_uuid"),
    "session_id": ("data", "session_id"),
    "attributes": ("data", "custom_attributes"),
    "product_action": ("data", "product_action"),
    "action": ("data", "product_action", "action"),
    "total": ("data", "product_action", "total_amount"),
    "tax": ("data", "product_action", "tax_amount"),
    "shipping": ("data", "product_action", "shipping_amount"),
    "promotion": ("data", "promotion_action", "action"),
    "impressions": ("data", "product_impressions"),
    "currency": ("data", "currency_code"),
    "transition": ("data", "application_transition_type"),
    "push": ("data", "push_message_type"),
    "profile": ("data", "profile_event_type"),
    "opted_out": ("data", "is_opted_out"),
}
_CUSTOMERS = (
    "custom_event",
    "commerce_event",
    "screen_view",
    "session_start",
    "first_run",
    "application_state_transition",
)
# Everything of a purpose but whether it was consented to.
_CONSENT_DETAILS = (
    r'"(?:document|location|hardware_id|regulation|timestamp_unixtime_ms)"\s*:\s*'
    r'(?:"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*|null|true|false)\s*,?\s*'
)


MOST_EVENTS = 1 << 20
"""Of one batch: a row's number is its batch's times this, plus its place in the batch."""


def open_source(backend: Any, config: Any) -> Source:
    """Map the events of mParticle's batches to raw rows.

    Raises:
        DataError: no such file, or one that cannot be read or holds no batches.
    """
    files = find_files(config.path)
    records = open_records(backend, files, _BATCH, typed={"events": "JSON[]"})
    return Source(
        _raw_rows(_unnested(records.rows, config.path)),
        records.files,
        rejected=records.rejected,
        record_of=lambda row: row // MOST_EVENTS,
    )


def _unnested(batches: Any, where: str) -> Any:
    """One row per event beside its batch, in the file's order; one, empty, for an empty batch."""
    events = batches.events
    if not (events.type().is_string() or events.type().is_array()):
        raise DataError(
            f"{where}: 'events' is {events.type()}; a batch holds a list of events, as in "
            "mParticle's JSON Lines."
        )
    consent = _consent(batches.gdpr.cast("string"), batches.ccpa.cast("string"))
    batches = batches.mutate(events=json_items(events), consent=consent)
    empty = ibis.coalesce(batches.events.length() == 0, True)
    nothing = ibis.array([ibis.null(batches.events.type().value_type)])
    events = empty.ifelse(nothing, batches.events)
    others = [name for name in _BATCH if name not in ("events", "gdpr", "ccpa")] + ["consent"]
    placed = events.zip(ibis.range(0, events.length())).unnest()
    rows = batches.select(*others, "source_row", no_events=empty, placed=placed)
    item, place = rows.placed["f1"], rows.placed["f2"].cast("int64")
    texts = json_texts(item, list(_EVENT.values()))
    return rows.select(
        *others,
        "no_events",
        source_row=rows.source_row * MOST_EVENTS + place,
        item=item.cast("string"),
        **dict(zip((f"event_{name}" for name in _EVENT), texts, strict=True)),
    )


def _raw_rows(rows: Any) -> Any:
    batch = {name: rows[name].cast("string").nullif("") for name in _BATCH if name in rows.columns}
    event = {name: rows[f"event_{name}"].nullif("") for name in _EVENT}
    kind, action = event["kind"], event["action"]
    received = of_milliseconds(batch["batch_time"])
    written = ibis.cases((rows.no_events, batch["batch_time"]), else_=event["happened"])
    happened = of_milliseconds(written)
    paid, refunded = action == "purchase", action == "refund"
    return rows.select(
        source_row=rows.source_row,
        event=ibis.cases((rows.no_events, "batch"), else_=_name(event)),
        timestamp=happened,
        unreadable_timestamp=unreadable(written, happened),
        known_at=received,
        unreadable_known_at=unreadable(batch["batch_time"], received),
        event_id=_event_id(rows, batch, event),
        id_user=batch["user"],
        id_email=batch["email"],
        id_phone=batch["phone"],
        id_device=_device(batch),
        id_external=batch["mpid"],
        session_id=ibis.coalesce(event["session_uuid"], event["session_id"]),
        actor=_actor(event),
        channel=ibis.cases((kind == "push_message", "mobile_push")),
        user_agent=batch["user_agent"],
        money_total=ibis.cases((paid, event["total"])),
        money_tax=ibis.cases((paid, event["tax"])),
        money_shipping=ibis.cases((paid, event["shipping"])),
        money_refund=ibis.cases(
            (refunded, net_refund(event["total"], event["tax"], event["shipping"]))
        ),
        currency=ibis.cases(((paid | refunded), event["currency"].upper())),
        consent=_consent_of_event(event, rows.consent),
        properties=ibis.cases(
            (kind == "commerce_event", _joined(event["product_action"], event["attributes"])),
            else_=event["attributes"],
        ),
    )


def _name(event: Mapping[str, Any]) -> Any:
    promotion = ibis.literal("promotion_") + event["promotion"]
    impression = ibis.cases((event["impressions"].notnull(), "impression"))
    commerce = ibis.coalesce(event["action"], promotion, impression)
    what = ibis.coalesce(commerce, event["transition"], event["push"], event["profile"])
    typed = ibis.coalesce(event["kind"] + "." + what, event["kind"])
    return ibis.coalesce(event["event_name"], event["screen_name"], typed)


def _event_id(rows: Any, batch: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
    who = ibis.literal("")
    for name in ("mpid", "mp_deviceid", "user", "email", "batch_time"):
        # The batch's time tells apart only batches without events.
        told = batch[name] if name != "batch_time" else ibis.cases((rows.no_events, batch[name]))
        who = who + told.fill_null("") + "|"
    hashed = (who + rows.item.fill_null("")).hexdigest("md5")
    return ibis.coalesce(event["message"], event["event_id"], hashed)


def _device(batch: Mapping[str, Any]) -> Any:
    limited = (batch["limit_ads"].lower() == "true").fill_null(False)
    authorised = (batch["att"] == "authorized").fill_null(False)
    return ibis.coalesce(
        *(batch[name] for name in ("mp_deviceid", "ios_idfv", "android_uuid", "amp_id")),
        ibis.cases((authorised & ~limited, batch["ios_ad"])),
        ibis.cases((~limited, batch["android_ad"])),
    )


def _actor(event: Mapping[str, Any]) -> Any:
    kind = event["kind"]
    return ibis.cases(
        (event["profile"].isin(["signup", "login", "logout"]), "customer"),
        ((kind == "push_message") & (event["push"] == "action"), "customer"),
        (kind == "push_message", "company"),
        (event["action"] == "refund", "company"),
        (kind.isin(_CUSTOMERS), "customer"),
        else_="system",
    )


def _consent_of_event(event: Mapping[str, Any], of_batch: Any) -> Any:
    opt_out = event["kind"] == "opt_out"
    return ibis.cases(
        (opt_out & (event["opted_out"] == "true"), ALL_DENIED),
        (opt_out, UNREADABLE),
        else_=of_batch,
    )


def _consent(gdpr: Any, ccpa: Any) -> Any:
    """Turn both regulations' purposes into one object of states; without any, null."""
    inside = [
        _states(purposes, granted, denied).re_replace(r"^\s*\{\s*|\s*\}\s*$", "").fill_null("")
        for purposes, granted, denied in ((gdpr, "true", "false"), (ccpa, "false", "true"))
    ]
    both = ibis.literal("{") + inside[0] + "," + inside[1] + "}"
    both = both.re_replace(r"^\{,", "{").re_replace(r",\}$", "}").nullif("{}")
    return checked(both)


def _states(purposes: Any, granted: str, denied: str) -> Any:
    """Turn `{"ads":{"consented":true,...}}` into `{"ads":"granted"}`."""
    text = purposes.re_replace(_CONSENT_DETAILS, "")
    for value, state in ((granted, "granted"), (denied, "denied"), ("null", "unknown")):
        text = text.re_replace(rf':\s*\{{\s*"consented"\s*:\s*{value}\s*,?\s*\}}', f':"{state}"')
    return text.re_replace(r'"\s*:\s*(?:null|\{\s*\})', '":"unknown"')


def _joined(one: Any, other: Any) -> Any:
    """Join two JSON objects' texts into one; null or what is no object adds nothing."""
    inner = [_inside(text) for text in (one, other)]
    comma = (inner[0].notnull() & inner[1].notnull()).ifelse(",", "")
    both = inner[0].fill_null("") + comma + inner[1].fill_null("")
    return ibis.literal("{") + both.nullif("") + "}"


def _inside(text: Any) -> Any:
    is_object = text.startswith("{") & text.endswith("}")
    return ibis.cases((is_object, text.substr(1, text.length() - 2).strip().nullif("")))
