"""Snowplow's enriched events: CSV or Parquet with atomic column names, or JSON Lines.

Names: a self-describing event is `vendor/name/version`, a structured one `category/action`, any
other what Snowplow calls it (`page_view`, `page_ping`). `derived_tstamp` is already corrected for
the device's clock; where it is missing it is computed as Snowplow does. A warehouse knows of an
event from `load_tstamp` on. Rows that repeat an `event_id` are duplicates, of which the earliest
known stays; with the option `known_at: collector` that is Snowplow's own rule, the earliest
`collector_tstamp`.

Every column that is mapped nowhere becomes a property under its own name, with entities
(`contexts_*`), events (`unstruct_event_*`) and scroll depth (`pp_*`), except addresses and places
finer than a city, and what only describes the pipeline or repeats the page's address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import ibis

from seqjourney.config import Strict, parse
from seqjourney.config.data import SourceConfig
from seqjourney.events.engine import columns_of, read_table
from seqjourney.events.files import find_files, kind_of
from seqjourney.events.records import open_records
from seqjourney.events.sources import Source
from seqjourney.events.sources.commerce import positive
from seqjourney.events.sources.moments import unreadable, unskewed, utc
from seqjourney.events.sources.nested_json import (
    json_object,
    number_text,
    quoted,
    require_columns,
)
from seqjourney.events.sources.snowplow_entities import (
    ALSO_PROPERTIES,
    PROPERTY,
    Entities,
    keys_of_lines,
)

MAPPED = (
    "event", "event_id", "event_vendor", "event_name", "event_version", "user_id", "domain_userid",
    "network_userid", "domain_sessionid", "page_url", "page_referrer", "mkt_medium", "mkt_source",
    "mkt_campaign", "mkt_term", "mkt_content", "useragent", "tr_total", "tr_tax", "tr_shipping",
    "tr_currency", "derived_tstamp", "true_tstamp", "dvce_created_tstamp", "dvce_sent_tstamp",
    "collector_tstamp", "load_tstamp",
)  # fmt: skip
_LEFT_OUT = re.compile(
    r"user_ipaddress|user_fingerprint|ip_.*|geo_(latitude|longitude|zipcode)|v_.*|name_tracker|"
    r'etl_.*|event_format|br_features_.*|(page|refr)_url.+|refr_dvce_tstamp|txn_id|.*".*'
)
_OWN = "com_snowplowanalytics_snowplow"
_SESSION = re.compile(rf"contexts_{_OWN}_client_session_\d.*")
_MOBILE = re.compile(rf"contexts_{_OWN}_mobile_context_\d.*")
_TRANSACTION = re.compile(rf"contexts_{_OWN}_ecommerce_transaction_\d.*")
_REFUND = re.compile(rf"contexts_{_OWN}_ecommerce_refund_\d.*")
_ACTION = re.compile(rf"unstruct_event(_{_OWN}_ecommerce_snowplow_ecommerce_action_\d.*)?")
_PREFERENCES = re.compile(rf"unstruct_event(_{_OWN}_consent_preferences_\d.*)?")
_SCOPES = ("consentScopes", "consent_scopes")
SYSTEM = ("consent_preferences", "cmp_visible", "consent_granted", "consent_withdrawn")
CLICK_IDS = {"Google": "gclid", "Microsoft": "msclkid", "DoubleClick": "dclid"}


class SnowplowOptions(Strict):
    """What a table leaves to its owner to say."""

    known_at: Literal["load", "collector"] = "load"
    """When an event counts as known: loaded into the warehouse, or received by the collector.
    `collector` suits tables that were loaded anew long after the events."""


def open_source(backend: Any, config: SourceConfig) -> Source:
    """Map enriched events to raw rows.

    Raises:
        ConfigError: an option is unknown or wrong.
        DataError: no such file, or files of something else.
    """
    options = parse(SnowplowOptions, config.options, f"data.sources.{config.label}.options")
    files = find_files(config.path)
    needed = ("event_id", "event", "collector_tstamp")
    require_columns(backend, files, needed, "a table of Snowplow's enriched events")
    written = kind_of(files[0]) == "json"
    table_columns = columns_of(read_table(backend, files)) if not written else []
    columns = keys_of_lines(backend, files) if written else table_columns
    others = [c for c in columns if c.lower() not in MAPPED and not _LEFT_OUT.fullmatch(c)]
    paths = {name: name for name in (*MAPPED, *ALSO_PROPERTIES)}
    paths |= {PROPERTY + name: f'"{name}"' for name in others}
    typed = {name: "JSON" for name in others if name not in ALSO_PROPERTIES}
    records = open_records(backend, files, paths, typed=typed)
    entities = Entities(records.rows, others, written)
    rows = _raw_rows(records.rows, entities, _scopes(backend, entities), options)
    return Source(rows, records.files, rejected=records.rejected)


def _raw_rows(
    rows: Any, entities: Entities, scopes: Sequence[str], options: SnowplowOptions
) -> Any:
    collector = utc(rows.collector_tstamp)
    happened = _happened(rows, collector)
    known_at, unloaded = collector, ibis.null("string")
    if options.known_at == "load":
        loaded = utc(rows.load_tstamp)
        known_at, unloaded = ibis.coalesce(loaded, collector), unreadable(rows.load_tstamp, loaded)
    session = entities.first(_SESSION, "sessionId", "session_id")
    device = ("androidIdfa", "appleIdfa", "appleIdfv", "android_idfa", "apple_idfa", "apple_idfv")
    return rows.select(
        source_row=rows.source_row,
        event=_name(rows),
        timestamp=happened,
        unreadable_timestamp=ibis.coalesce(
            unreadable(rows.derived_tstamp, happened), unreadable(rows.collector_tstamp, happened)
        ),
        known_at=known_at,
        unreadable_known_at=ibis.coalesce(unloaded, unreadable(rows.collector_tstamp, known_at)),
        event_id=rows.event_id.cast("string"),
        id_user=rows.user_id,
        id_anonymous=ibis.coalesce(
            rows.domain_userid.nullif(""), entities.first(_SESSION, "userId", "user_id")
        ),
        # The collector's own cookie knows a browser on all of the company's sites.
        id_device=ibis.coalesce(entities.first(_MOBILE, *device), rows.network_userid),
        session_id=ibis.coalesce(rows.domain_sessionid.nullif(""), session),
        actor=ibis.cases(
            (rows.event_name.isin(SYSTEM), "system"),
            (_action(rows, entities) == "refund", "company"),
            else_="customer",
        ),
        page_url=rows.page_url,
        referrer=rows.page_referrer,
        **{f"utm_{tag}": rows[f"mkt_{tag}"] for tag in ("source", "medium", "campaign")},
        **{f"utm_{tag}": rows[f"mkt_{tag}"] for tag in ("term", "content")},
        click_id=ibis.cases(
            *((rows.mkt_network == network, name) for network, name in CLICK_IDS.items()),
            (rows.mkt_clickid.nullif("").notnull(), rows.mkt_network.lower()),
        ),
        user_agent=rows.useragent,
        **_money(rows, entities),
        consent=_consent(rows, entities, scopes),
        properties=json_object(entities.texts).nullif("{}"),
    )


def _name(rows: Any) -> Any:
    described = [rows.event_vendor, rows.event_name, rows.event_version]
    structured = [rows.se_category, rows.se_action]
    return ibis.cases(
        (rows.event == "unstruct", _path(described)),
        (rows.event == "struct", _path(structured)),
        else_=ibis.coalesce(rows.event, _path(described)),
    )


def _path(words: Sequence[Any]) -> Any:
    return ibis.literal("/").join([word.nullif("") for word in words]).nullif("")


def _happened(rows: Any, collector: Any) -> Any:
    """Return `derived_tstamp`, or what Snowplow's enrichment would have written there."""
    created, sent = utc(rows.dvce_created_tstamp), utc(rows.dvce_sent_tstamp)
    corrected = ibis.cases((created <= sent, unskewed(created, sent, collector)), else_=collector)
    computed = ibis.coalesce(utc(rows.true_tstamp), corrected)
    return rows.derived_tstamp.notnull().ifelse(utc(rows.derived_tstamp), computed)


def _action(rows: Any, entities: Entities) -> Any:
    acts = rows.event_name == "snowplow_ecommerce_action"
    return ibis.cases((acts, entities.first(_ACTION, "type")))


def _money(rows: Any, entities: Entities) -> dict[str, Any]:
    """Read legacy transactions and the e-commerce entities; `revenue` is what was paid.

    A transaction entity also comes with failed payments, so the action's type decides.
    """
    action = _action(rows, entities)
    legacy, paid, refunded = (
        rows.event == "transaction",
        action == "transaction",
        action == "refund",
    )

    def entity(*keys: str) -> Any:
        return entities.first(_TRANSACTION, *keys)

    money = {
        "money_total": ((legacy, number_text(rows.tr_total)), (paid, entity("revenue"))),
        "money_tax": ((legacy, number_text(rows.tr_tax)), (paid, entity("tax"))),
        "money_shipping": ((legacy, number_text(rows.tr_shipping)), (paid, entity("shipping"))),
        "money_discount": ((paid, entity("discountAmount", "discount_amount")),),
        "money_refund": (
            (refunded, positive(entities.first(_REFUND, "refundAmount", "refund_amount"))),
        ),
        "currency": (
            (legacy, rows.tr_currency),
            (paid, entity("currency")),
            (refunded, entities.first(_REFUND, "currency")),
        ),
        "order_id": (
            (legacy, rows.tr_orderid),
            (paid, entity("transactionId", "transaction_id")),
            (refunded, entities.first(_REFUND, "transactionId", "transaction_id")),
        ),
    }
    return {name: ibis.cases(*choices) for name, choices in money.items()}


def _scopes(backend: Any, entities: Entities) -> list[str]:
    """Return every scope that some visitor allowed: an event names no others, so none it denies."""
    lists = entities.list_of(_PREFERENCES, *_SCOPES)
    if not any(_PREFERENCES.fullmatch(name) for name in entities.texts):
        return []
    found = backend.execute(entities.rows.select(scopes=lists).distinct())["scopes"].dropna()
    return sorted({name for text in found for name in _plain_names(text)})


def _plain_names(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except ValueError:
        return []
    return [name for name in names if isinstance(name, str) and json.dumps(name) == f'"{name}"']


def _consent(rows: Any, entities: Entities, scopes: Sequence[str]) -> Any:
    """Read a `consent_preferences` event; its scopes are those that were allowed.

    Denied, withdrawn and expired deny everything. Implicit consent is nobody's answer: unknown.
    """
    allowed = entities.list_of(_PREFERENCES, *_SCOPES)
    kind = entities.first(_PREFERENCES, "eventType", "event_type")
    whole = ibis.cases(
        (kind == "allow_all", "granted"),
        (kind.isin(["deny_all", "withdrawn", "expired"]), "denied"),
        else_="unknown",
    )
    chosen = (kind == "allow_selected") & allowed.notnull()
    states = {
        name: chosen.ifelse(allowed.contains(f'"{name}"').ifelse("granted", "denied"), whole)
        for name in scopes or ["*"]
    }
    said = json_object({name: quoted(state) for name, state in states.items()})
    return ibis.cases((rows.event_name == "consent_preferences", said))
