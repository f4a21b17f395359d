"""GA4's BigQuery export: Parquet with nested records, or JSON Lines dumps of the same.

An event has no id. Its key is the visitor, the time, the name and the place within the upload
(`event_bundle_sequence_id`, `batch_*`); older exports lack the latter and give all events of one
upload one time, so that there the event's parameters are part of the key. Tables are rewritten for
up to 72 hours and an intraday table repeats in the daily one: such rows share their key and count
once. `user_pseudo_id` is null where consent was denied: those rows identify nobody.

UTM are the event's own (`collected_traffic_source`, before 2023 the event's parameters), never
`traffic_source`, which is the user's first. Left out, because Google writes them with later
knowledge: `user_ltv` and `session_traffic_source_last_click`. `purchase_revenue` is documented as
net of tax and shipping. Parameters become properties under their own keys, records beside them.
"""

from __future__ import annotations

from typing import Any

import ibis

from seqjourney.config.data import SourceConfig
from seqjourney.events.files import find_files, kind_of
from seqjourney.events.records import open_records
from seqjourney.events.sources import Source
from seqjourney.events.sources.commerce import positive
from seqjourney.events.sources.moments import UTC_MICROSECONDS, unreadable, utc
from seqjourney.events.sources.nested_json import (
    as_json,
    json_object,
    number_or_quoted,
    number_text,
    quoted,
    require_columns,
)

_PAIRS = (
    "STRUCT(key VARCHAR, value STRUCT(string_value VARCHAR, int_value VARCHAR, "
    "float_value VARCHAR, double_value VARCHAR))[]"
)
RECORDS = (
    "items", "ecommerce", "device", "geo", "app_info", "traffic_source", "event_dimensions",
    "is_active_user", "user_first_touch_timestamp", "event_value_in_usd",
)  # fmt: skip
TEXTS = ("platform", "stream_id")
KEY = (
    "stream_id", "user_pseudo_id", "event_timestamp", "event", "event_bundle_sequence_id",
    "batch_page_id", "batch_ordering_id", "batch_event_index",
)  # fmt: skip
UTM = {
    "utm_source": ("manual_source", "source"),
    "utm_medium": ("manual_medium", "medium"),
    "utm_campaign": ("manual_campaign_name", "campaign"),
    "utm_term": ("manual_term", "term"),
    "utm_content": ("manual_content", "content"),
}
CLICK_IDS = ("gclid", "dclid", "srsltid")
PURCHASES = ("purchase", "ecommerce_purchase")
IN_APP = (
    "in_app_purchase",
    "app_store_subscription_convert",
    "app_store_subscription_renew",
)
COMPANY = ("notification_receive", "refund")
SYSTEM = ("app_update", "os_update", "app_exception")
PATHS = {
    "event": "event_name",
    "event_params": "event_params",
    "user_properties": "user_properties",
    "user_id": "user_id",
    **{name: name for name in KEY if name != "event"},
    "upload_offset": "event_server_timestamp_offset",
    **{f"record_{name}": name for name in (*RECORDS, *TEXTS)},
    **{name: f"collected_traffic_source.{ways[0]}" for name, ways in UTM.items()},
    **{name: f"collected_traffic_source.{name}" for name in CLICK_IDS},
    "advertising_id": "device.advertising_id",
    "vendor_id": "device.vendor_id",
    "limited": "device.is_limited_ad_tracking",
    "analytics_storage": "privacy_info.analytics_storage",
    "ads_storage": "privacy_info.ads_storage",
    "order_id": "ecommerce.transaction_id",
    "revenue": "ecommerce.purchase_revenue",
    "tax": "ecommerce.tax_value",
    "shipping": "ecommerce.shipping_value",
    "refund": "ecommerce.refund_value",
    "revenue_usd": "ecommerce.purchase_revenue_in_usd",
    "tax_usd": "ecommerce.tax_value_in_usd",
    "shipping_usd": "ecommerce.shipping_value_in_usd",
    "refund_usd": "ecommerce.refund_value_in_usd",
    "value_usd": "event_value_in_usd",
}
_MOST_MICROSECONDS = 9_000_000_000_000_000_000  # beyond this the engine's clock overflows
_LONGEST_UPLOAD = 1_000_000_000_000_000  # 31 years; a longer one is a fault


def open_source(backend: Any, config: SourceConfig) -> Source:
    """Map a GA4 export to raw rows.

    Raises:
        DataError: no such file, or files of something else.
    """
    files = find_files(config.path)
    require_columns(
        backend, files, ("event_name", "event_timestamp", "user_pseudo_id"), "a GA4 export"
    )
    typed = {"event_params": _PAIRS, "user_properties": _PAIRS}
    typed |= dict.fromkeys(RECORDS, "JSON")
    records = open_records(backend, files, PATHS, typed=typed)
    written = kind_of(files[0]) == "json"
    return Source(_raw_rows(records.rows, written), records.files, rejected=records.rejected)


def _raw_rows(rows: Any, written: bool) -> Any:
    """Map rows; `written` says that records are JSON text already, as JSON Lines give them."""
    pairs = _as_list(rows.event_params)
    rows = rows.mutate(
        happened=_happened(rows.event_timestamp),
        keys=pairs.map(lambda pair: pair["key"]),
        texts=pairs.map(lambda pair: _text(pair["value"])),
        params=_members(pairs),
        traits=_members(_as_list(rows.user_properties)),
    )
    client = rows.user_pseudo_id.cast("string").nullif("")
    referrer = _param(rows, "page_referrer")
    return rows.select(
        source_row=rows.source_row,
        event=rows.event,
        timestamp=rows.happened,
        unreadable_timestamp=unreadable(rows.event_timestamp, rows.happened),
        known_at=_uploaded(rows),
        unreadable_known_at=unreadable(rows.upload_offset, rows.upload_offset.try_cast("int64")),
        event_id=_key(rows),
        id_user=rows.user_id.cast("string"),
        id_anonymous=client,
        id_device=_device(rows),
        session_id=client + "." + _param(rows, "ga_session_id"),
        actor=ibis.cases(
            (rows.event.isin(COMPANY), "company"),
            (rows.event.isin(SYSTEM), "system"),
            else_="customer",
        ),
        page_url=_param(rows, "page_location"),
        referrer=ibis.cases(
            (_param(rows, "ignore_referrer") == "true", ibis.null("string")), else_=referrer
        ),
        **{
            name: ibis.coalesce(rows[name].nullif(""), _param(rows, ways[1]))
            for name, ways in UTM.items()
        },
        click_id=ibis.cases(
            *(
                (ibis.coalesce(rows[name].nullif(""), _param(rows, name)).notnull(), name)
                for name in CLICK_IDS
            )
        ),
        **_money(rows),
        consent=_consent(rows),
        properties=_properties(rows, written),
    )


def _as_list(pairs: Any) -> Any:
    """Return a list of pairs; some writers wrap Parquet lists as `list.element`."""
    kind = pairs.type()
    if kind.is_struct() and kind.names == ("list",):
        pairs = pairs["list"]
        kind = pairs.type()
    if kind.is_array() and kind.value_type.is_struct() and len(kind.value_type.names) == 1:
        inner = kind.value_type.names[0]
        pairs = pairs.map(lambda item: item[inner])
        kind = pairs.type()
    if kind.is_array() and kind.value_type.is_struct() and "value" in kind.value_type.names:
        return pairs
    return ibis.null("array<struct<key: string, value: struct<string_value: string>>>")


def _text(value: Any) -> Any:
    """Return a parameter's value as text, of whichever type it was given."""
    names = ("string_value", "int_value", "double_value", "float_value")
    return ibis.coalesce(*(value[n].cast("string") for n in names if n in value.type().names))


def _members(pairs: Any) -> Any:
    """Return the pairs as the inside of a JSON object, null where there are none."""

    def member(pair: Any) -> Any:
        value, names = pair["value"], pair["value"].type().names
        texts = [quoted(value["string_value"])] if "string_value" in names else []
        for name in ("int_value", "double_value", "float_value"):
            if name in names:
                kind = value[name].type()
                is_text = kind.is_string()
                texts.append(number_or_quoted(value[name]) if is_text else as_json(value[name]))
        return quoted(pair["key"]) + ":" + ibis.coalesce(*texts)

    return ibis.literal(",").join(pairs.map(member)).nullif("")


def _param(rows: Any, key: str) -> Any:
    place = rows["keys"].index(key).cast("int32")  # Spark finds a place as int64, and takes int32
    return rows.texts[(place >= 0).ifelse(place, ibis.null("int32"))].nullif("")


def _happened(value: Any) -> Any:
    """Read microseconds since 1970; copies of the export often hold a timestamp instead."""
    if value.type().is_timestamp():
        return utc(value)
    return _after_epoch(_whole(value))


def _whole(value: Any) -> Any:
    number = value.try_cast("int64")
    within = number.between(-_MOST_MICROSECONDS, _MOST_MICROSECONDS)
    return within.ifelse(number, ibis.null("int64"))


def _after_epoch(microseconds: Any) -> Any:
    epoch = ibis.timestamp("1970-01-01 00:00:00+00:00").cast(UTC_MICROSECONDS)
    return epoch + microseconds.as_interval("us")


def _uploaded(rows: Any) -> Any:
    """Return when the event reached Google: its time and the offset to its upload, if any."""
    offset = rows.upload_offset.try_cast("int64")
    offset = offset.between(1, _LONGEST_UPLOAD).ifelse(offset, ibis.null("int64"))
    return rows.happened + offset.as_interval("us")


def _key(rows: Any) -> Any:
    parts = [rows[name].cast("string").fill_null("") for name in KEY]
    unplaced = rows.batch_event_index.isnull().ifelse(rows.params, "").fill_null("")
    return ibis.literal("\x1f").join([*parts, unplaced]).hexdigest("md5")


def _device(rows: Any) -> Any:
    limited = rows.limited.cast("string").lower().isin(["yes", "true", "1"]).fill_null(False)
    advertising = ibis.cases((~limited, rows.advertising_id.cast("string").nullif("")))
    return ibis.coalesce(advertising, rows.vendor_id.cast("string"))


def _money(rows: Any) -> dict[str, Any]:
    given = _param(rows, "currency")
    amount = {
        name: number_text(rows[name])
        for name in PATHS
        if name.removesuffix("_usd") in ("revenue", "tax", "shipping", "refund", "value")
    }
    # Without a currency only the amounts that Google converted mean anything.
    in_usd = given.isnull() & ibis.coalesce(amount["revenue_usd"], amount["refund_usd"]).notnull()
    in_app = rows.event.isin(IN_APP) & amount["value_usd"].notnull()
    bought = ibis.cases((rows.event.isin(PURCHASES), _param(rows, "value")))
    net = ibis.coalesce(amount["revenue"], bought)
    money = {
        "money_net": in_usd.ifelse(amount["revenue_usd"], net),
        "money_total": ibis.cases((in_app, amount["value_usd"])),
        "money_tax": in_usd.ifelse(amount["tax_usd"], amount["tax"]),
        "money_shipping": in_usd.ifelse(amount["shipping_usd"], amount["shipping"]),
        "money_refund": positive(in_usd.ifelse(amount["refund_usd"], amount["refund"])),
    }
    paid = ibis.coalesce(*money.values()).notnull()
    currency = ibis.cases((in_usd | in_app, "USD"), (paid, given.upper()))
    return {**money, "currency": currency, "order_id": rows.order_id.cast("string").nullif("")}


def _consent(rows: Any) -> Any:
    """Read Google's consent mode; where it is not used both are null and nothing is said."""
    said = {}
    for name in ("analytics_storage", "ads_storage"):
        text = rows[name].cast("string").lower()
        said[name] = ibis.cases(
            (text.isin(["yes", "granted", "1", "true"]), '"granted"'),
            (text.isin(["no", "denied", "0", "false"]), '"denied"'),
            (text.notnull(), '"unknown"'),
        )
    return json_object(said).nullif("{}")


def _properties(rows: Any, written: bool) -> Any:
    columns = {name: rows[f"record_{name}"] for name in (*RECORDS, *TEXTS)}
    texts = {
        name: column if written and name in RECORDS else as_json(column)
        for name, column in columns.items()
    }
    texts["items"] = texts["items"].nullif("[]")  # a repeated field is empty, never null
    traits = ibis.literal("{") + rows.traits + "}"
    records = json_object({**texts, "user_properties": traits})
    inside = records.substr(1, records.length() - 2).nullif("")
    members = ibis.literal(",").join([rows.params, inside]).nullif("")
    return ibis.literal("{") + members + "}"
