"""The company's tools: which of them records what, and how each calls it.

Every event belongs to one source. `NAMES` is the taxonomy's truth: what each source writes for a
canonical event. A name with `{id}` is a family of names, one for each article. Other variants
(renamed at a date, mis-cased) are listed in `VARIANTS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqjourney.simulation.company.happenings import CODE
from seqjourney.simulation.event_log import PAGE_TYPES

KINDS = {
    "web": "segment",
    "email": "segment",
    "blog": "rudderstack",
    "app": "amplitude",
    "app_shop": "mparticle",
    "outlet": "snowplow",
    "us": "ga4",
    "account": "posthog",
    "support": "cloudevents",
    "store": "table",
    "crm": "table",
    "ads": "table",
}
"""Name of each source -> kind of its export."""
SOURCE_NAMES = tuple(KINDS)
SOURCE = {name: code for code, name in enumerate(SOURCE_NAMES)}
CLIENT_SOURCES = ("web", "blog", "app", "app_shop", "outlet", "us", "account")
"""Whose events are sent by a browser or a phone."""

NAMES: dict[str, dict[str, str]] = {
    "web": {
        "page_viewed": "Home",  # and other page types, see VARIANTS
        "search": "Products Searched",
        "product_viewed": "Product Viewed",
        "cart_added": "Product Added",
        "order_completed": "Order Completed",
        "order_refunded": "Order Refunded",
        "signed_up": "Signed Up",
        "identified": "identify",
        "aliased": "alias",
        "consent_updated": "Segment Consent Preference Updated",
    },
    "email": {
        "email_sent": "Email Delivered",
        "email_opened": "Email Opened",
        "email_clicked": "Email Link Clicked",
    },
    "blog": {"page_viewed": "Blog", "identified": "identify"},
    "app": {
        "app_opened": "app_open",
        "search": "search_performed",
        "product_viewed": "view_product_screen",
        "cart_added": "tap_cta",
        "subscription_started": "subscription_start",
        "signed_up": "register",
        "logged_in": "login_success",
    },
    "app_shop": {
        "page_viewed": "CategoryScreen",
        "order_completed": "commerce_event.purchase",
        "order_refunded": "commerce_event.refund",
    },
    "outlet": {
        "page_viewed": "page_view",
        "search": "com.outlet/site_search/1-0-0",
        "product_viewed": "com.outlet/product_view/1-0-0",
        "cart_added": "com.outlet/click_button/1-0-0",
        "order_completed": "transaction",
        "signed_up": "com.outlet/user_signup/1-0-0",
        "logged_in": "com.outlet/user_login/1-0-0",
        "consent_updated": "com.snowplowanalytics.snowplow/consent_preferences/1-0-0",
    },
    "us": {
        "page_viewed": "page_view",
        "search": "view_search_results",
        "product_viewed": "view_item",
        "cart_added": "add_to_cart",
        "order_completed": "purchase",
        "order_refunded": "refund",
        "signed_up": "sign_up",
        "logged_in": "login",
    },
    "account": {
        "logged_in": "user logged in",
        "identified": "$identify",
        "subscription_started": "subscription started",
        "subscription_renewed": "invoice paid",
        "subscription_cancelled": "plan cancelled",
    },
    "support": {
        "ticket_opened": "com.example.helpdesk.ticket.created",
        "ticket_resolved": "com.example.helpdesk.ticket.solved",
    },
    "store": {
        "order_completed": "sale",
        "order_refunded": "return",
        "subscription_started": "plan_sold",
        "subscription_renewed": "plan_charged",
        "subscription_cancelled": "plan_ended",
    },
    "crm": {"stage_changed": "stage_change"},
    "ads": {"ad_impression": "impression", "ad_clicked": "click"},
}


@dataclass(frozen=True)
class Variant:
    """Another name that a source uses for some of an event's rows."""

    source: str
    event: str
    name: str
    page_type: int = -1
    """Only pages of this type."""
    share: float = 1.0
    """Of the rows, at random."""
    after: float = 0.0
    """Only from this point of the period on, 0 to 1."""
    later_step: bool = False
    """Only pages after the landing."""


VARIANTS = (
    Variant("web", "page_viewed", "Category", page_type=PAGE_TYPES.index("category")),
    Variant("web", "page_viewed", "Product", page_type=PAGE_TYPES.index("product")),
    Variant("web", "product_viewed", "product viewed", share=0.01),
    Variant("web", "order_completed", "Order completed", share=0.005),
    Variant("blog", "page_viewed", "Viewed Article {id}", later_step=True),
    Variant("app", "cart_added", "add_to_cart_tapped", after=0.5),
)
ALL_NAMES = tuple(
    dict.fromkeys(
        [name for names in NAMES.values() for name in names.values()]
        + [variant.name for variant in VARIANTS]
    )
)


def name_events(
    source: np.ndarray,
    event: np.ndarray,
    page_type: np.ndarray,
    step: np.ndarray,
    progress: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Give each row the name that its source writes, as an index into `ALL_NAMES`."""
    table = np.full((len(SOURCE_NAMES), len(CODE)), -1)
    for name, names in NAMES.items():
        for canonical, raw in names.items():
            table[SOURCE[name], CODE[canonical]] = ALL_NAMES.index(raw)
    named = table[source, event]
    draw = rng.random(len(source))
    for variant in VARIANTS:
        fits = (source == SOURCE[variant.source]) & (event == CODE[variant.event])
        fits &= (draw < variant.share) & (progress >= variant.after)
        if variant.page_type >= 0:
            fits &= page_type == variant.page_type
        if variant.later_step:
            fits &= step > 0
        named[fits] = ALL_NAMES.index(variant.name)
    return named.astype(np.int16)


def taxonomy() -> dict[str, dict[str, dict[str, Any]]]:
    """The truth: by source, each raw name or pattern (`*`) and its canonical event."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for source, names in NAMES.items():
        pairs = [(raw, canonical) for canonical, raw in names.items()]
        pairs += [(v.name, v.event) for v in VARIANTS if v.source == source]
        result[source] = {
            "names": {raw: canonical for raw, canonical in pairs if "{id}" not in raw},
            "patterns": {
                raw.replace("{id}", "*"): canonical for raw, canonical in pairs if "{id}" in raw
            },
        }
    return result
