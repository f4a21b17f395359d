"""What a data team would write by hand: where each source lies, and the tracking plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqjourney.simulation.company.exports import ALL
from seqjourney.simulation.company.exports.rudderstack import CONSENT_IDS
from seqjourney.simulation.company.sources import KINDS, NAMES, VARIANTS

TABLE_COLUMNS: dict[str, dict[str, Any]] = {
    "store": {
        "timestamp": "booked_at",
        "known_at": "loaded_at",
        "event": "kind",
        "event_id": "receipt_id",
        "identifiers": {"user": "loyalty_id", "email": "email", "phone": "phone"},
        "money": {
            "net": "net",
            "discount": "discount",
            "tax": "tax",
            "shipping": "shipping",
            "total": "total",
            "refund": "refunded_net",
            "currency": "currency",
        },
    },
    "crm": {
        "timestamp": "changed_at",
        "known_at": "synced_at",
        "event": "entry",
        "event_id": "history_id",
        "identifiers": {"user": "contact_id", "email": "email", "phone": "phone"},
    },
    "ads": {
        "timestamp": "happened_at",
        "known_at": "loaded_at",
        "event": "action",
        "event_id": "ad_event_id",
        "channel": "network_channel",
        "identifiers": {"anonymous": "cookie_id", "device": "device_id"},
    },
}
OPTIONS: dict[str, dict[str, Any]] = {
    "account": {
        "money": {
            "net": "properties.revenue",
            "tax": "properties.tax",
            "total": "properties.total",
            "currency": "properties.currency",
        }
    },
    "support": {"subject": "user", "identifiers": {"email": "data.requester.email"}},
}
HEADER = """\
# A data config for the simulated company: every source with its kind, and what its export does not
# say by itself. Written by the simulation; copy it to configs/data/ to change it.
"""
CONSENT_PURPOSES = {
    "Analytics": "analytics",
    "Advertising": "advertising",
    **{name: purpose for purpose, name in CONSENT_IDS.items()},
    "C0001": "necessary",
    "analytics_storage": "analytics",
    "ads_storage": "advertising",
}
COMPANY_EVENTS = ("email_sent", "ad_impression", "ticket_resolved", "order_refunded")
SYSTEM_EVENTS = (
    "subscription_renewed",
    "identified",
    "aliased",
    "consent_updated",
    "stage_changed",
)


def sources(folder: Path) -> dict[str, Any]:
    """The contents of `sources.yaml`, for files that lie in `folder`."""
    entries = []
    for export in ALL:
        entry: dict[str, Any] = {
            "name": export.source,
            "kind": KINDS[export.source],
            "path": f"{folder}/{export.source}/*.{export.ending}",
        }
        entry |= TABLE_COLUMNS.get(export.source, {})
        if export.source in OPTIONS:
            entry["options"] = OPTIONS[export.source]
        entries.append(entry)
    return {
        "name": "company",
        "sources": entries,
        "currency": "EUR",
        "rates": f"{folder}/rates.csv",
        "taxonomy": f"{folder}/tracking_plan.yaml",
        "consent": {"purpose": "analytics", "unknown": "allow", "purposes": CONSENT_PURPOSES},
        # The profiles that Amplitude and mParticle number begin with an installation, not a person.
        "identity": {"personal": ["user", "email", "phone"]},
        "numeric": ["hours_to_open"],
        "company_events": list(COMPANY_EVENTS),
        "tasks": ["company_churn"],
    }


def tracking_plan() -> dict[str, Any]:
    """The plan that maps every name to its canonical event, without the mis-cased ones."""
    events: dict[str, dict[str, Any]] = {}
    pairs = [
        (source, name, event) for source, names in NAMES.items() for event, name in names.items()
    ]
    pairs += [(v.source, v.name, v.event) for v in VARIANTS]
    for source, name, event in pairs:
        entry = events.setdefault(event, {"from": []})
        written = f"{source}/{name}".replace("{id}", "*")
        if written.lower() not in {given.lower() for given in entry["from"]}:
            entry["from"].append(written)
        if event in COMPANY_EVENTS:
            entry["actor"] = "company"
        elif event in SYSTEM_EVENTS:
            entry["actor"] = "system"
    events["product_viewed"]["properties"] = {
        "product_id": {"type": "string", "required": True, "from": ["sku"]},
        "price": {"type": "number"},
    }
    events["order_completed"]["properties"] = {
        "order_id": {"type": "string", "from": ["transaction_id"]}
    }
    return {"events": events}
