"""Journeys that two tools recorded: the same acts under other names, with their properties.

`draw` simulates customers who walk through a shop; each act is written under one of its names.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

ACTS = (
    "page_viewed",
    "product_viewed",
    "cart_added",
    "cart_removed",
    "button_clicked",
    "checkout_started",
    "order_completed",
    "email_sent",
    "email_opened",
    "ticket_opened",
)
# How often the act of the column follows that of the row.
FOLLOWS = np.array(
    [
        [3, 4, 0.2, 0.1, 2, 0.1, 0.05, 0.5, 0.1, 0.1],
        [1, 4, 3, 0.1, 0.5, 0.2, 0.05, 0.3, 0.1, 0.05],
        [1, 2, 0.5, 0.8, 0.3, 2, 0.1, 0.1, 0.05, 0.05],
        [2, 2, 1, 0.3, 0.3, 0.3, 0.1, 0.2, 0.05, 0.05],
        [3, 1, 0.2, 0.05, 2, 0.5, 0.05, 0.2, 0.05, 0.3],
        [0.5, 0.2, 0.1, 0.2, 0.3, 0.3, 5, 0.1, 0.05, 0.1],
        [1, 0.5, 0.1, 0.05, 0.3, 0.05, 0.1, 3, 0.1, 0.5],
        [1, 0.5, 0.1, 0.05, 0.1, 0.05, 0.05, 0.5, 4, 0.1],
        [4, 2, 0.1, 0.05, 1, 0.05, 0.05, 0.5, 0.3, 0.05],
        [1, 0.3, 0.1, 0.05, 0.5, 0.05, 0.05, 1, 0.1, 0.5],
    ]
)
PROPERTIES = {
    "page_viewed": ("url", "title"),
    "product_viewed": ("product_id", "price", "category"),
    "cart_added": ("product_id", "price", "quantity", "cart_id"),
    "cart_removed": ("product_id", "price", "quantity", "cart_id"),
    "button_clicked": ("label", "url"),
    "checkout_started": ("cart_id", "value"),
    "order_completed": ("order_id", "value", "coupon"),
    "email_sent": ("campaign_id",),
    "email_opened": ("campaign_id",),
    "ticket_opened": ("topic",),
}
NAMES = {
    "button_clicked": ("click_button", "tap_cta"),
    "product_viewed": ("product_viewed", "evt_17"),
    "order_completed": ("OrderCompleted", "purchase_success"),
    "page_viewed": ("page_viewed", "PAGEVIEWED"),
}


def draw(customers: int = 300, seed: int = 0) -> pd.DataFrame:
    """Return raw rows: customer_id, timestamp, event_id, event, properties."""
    random = np.random.default_rng(seed)
    chances = np.cumsum(FOLLOWS / FOLLOWS.sum(axis=1, keepdims=True), axis=1)
    rows = []
    for customer in range(customers):
        act = 0
        for step in range(int(random.integers(20, 60))):
            names = NAMES.get(ACTS[act], (ACTS[act],))
            keys = [key for key in PROPERTIES[ACTS[act]] if random.random() < 0.9]
            name = names[int(random.integers(len(names)))]
            text = json.dumps(dict.fromkeys([*keys, "device"], "x"))
            rows.append((f"c{customer}", step, f"e{len(rows)}", name, text))
            act = min(int(np.searchsorted(chances[act], random.random())), len(ACTS) - 1)
    columns = ["customer_id", "timestamp", "event_id", "event", "properties"]
    return pd.DataFrame(rows, columns=columns)
