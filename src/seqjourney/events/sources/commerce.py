"""Money of the e-commerce events that Segment defined and RudderStack shares.

Only what was paid or given back is money: a started checkout, an updated order or a viewed product
carry amounts too, which would count a sale twice or before it happened. `subtotal` is net of
discount, tax and shipping; `total` is subtotal + tax + shipping; `revenue` leaves out tax and
shipping but may or may not have the discount taken off, so it is used only where the others say
nothing. A refund may name its order alone: `refund_whole_orders` looks up what that brought.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ibis

ORDERS = ("order completed", "completed order")
REFUNDS = ("order refunded", "refunded order", "order cancelled", "cancelled order")
UNPAID = (
    "cart viewed",
    "checkout started",
    "started order",
    "checkout step viewed",
    "viewed checkout step",
    "checkout step completed",
    "completed checkout step",
    "payment info entered",
    "order updated",
    "updated order",
    "product clicked",
    "clicked product",
    "product viewed",
    "viewed product",
    "product added",
    "added product",
    "product removed",
    "removed product",
    "product list viewed",
    "product added to wishlist",
    "wishlist product added to cart",
    "coupon entered",
    "coupon applied",
    "coupon removed",
)
AMOUNTS = ("subtotal", "total", "revenue", "tax", "shipping", "discount", "currency", "order_id")


def spoken(event: Any) -> Any:
    """Return an event's name as words in lower case: `order_completed` is `Order Completed`."""
    return event.lower().replace("_", " ")


def money(event: Any, amounts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `money_*` columns, `currency` and `order_id` of tracked events.

    Args:
        event: names as the source wrote them; null where the row is no tracked event.
        amounts: text columns named as in `AMOUNTS`.
    """
    name = spoken(event)
    given = {key: amounts[key].cast("string").strip().nullif("") for key in AMOUNTS}
    subtotal, total, revenue, tax, shipping = (given[key] for key in AMOUNTS[:5])
    order, refund = name.isin(ORDERS), name.isin(REFUNDS)
    # Tax and shipping unknown: the total is further from the net than the revenue is.
    only_revenue = total.isnull() | (tax.isnull() & shipping.isnull())
    of_order = ibis.coalesce(subtotal, ibis.cases((only_revenue, revenue)))
    given_back = ibis.coalesce(positive(subtotal), net_refund(total, tax, shipping))
    given_back = ibis.coalesce(given_back, positive(revenue))
    net = ibis.cases((order, of_order), (~refund & ~name.isin(UNPAID), revenue))
    refunded = ibis.cases((refund, given_back))
    paid = {key: ibis.cases((order, given[key])) for key in ("total", "tax", "shipping")}
    any_money = ibis.coalesce(net, refunded, paid["total"]).notnull()
    return {
        "money_net": net,
        "money_total": paid["total"],
        "money_discount": ibis.cases((order, given["discount"])),
        "money_tax": paid["tax"],
        "money_shipping": paid["shipping"],
        "money_refund": refunded,
        "currency": ibis.cases((any_money, given["currency"].upper())),
        "order_id": ibis.cases((order | refund, given["order_id"])),
    }


def net_refund(total: Any, tax: Any, shipping: Any) -> Any:
    """Return what was given back without tax and shipping, as positive text.

    A total that is no number is returned as it is, for cleaning to report.
    """
    parts = [part.try_cast("float64").abs().fill_null(0) for part in (tax, shipping)]
    net = total.try_cast("float64").abs() - parts[0] - parts[1]
    without = (tax.isnull() & shipping.isnull()) | net.isnull()
    return without.ifelse(positive(total), net.cast("string"))


def positive(amount: Any) -> Any:
    """Take the minus sign off an amount's text."""
    return amount.re_replace(r"^\s*-", "")


def refund_whole_orders(rows: Any) -> Any:
    """Give refunds that name only their order what that order brought, net.

    Reads the rows twice, so call it on rows that are already written down. A part refunded
    earlier is not taken off.

    Args:
        rows: raw rows of one source with the columns that `money` gives.
    """
    number = {key: _amount(rows, key) for key in ("net", "total", "tax", "shipping", "refund")}
    less = number["tax"].fill_null(0) + number["shipping"].fill_null(0)
    brought = ibis.coalesce(number["net"], number["total"] - less)
    orders = rows.filter(rows.order_id.notnull() & brought.notnull())
    orders = orders.group_by(paid_order=orders.order_id).aggregate(brought=brought.max())
    known = rows.mutate(**{f"known_{key}": number[key] for key in ("net", "total", "refund")})
    found = known.left_join(orders, known.order_id == orders.paid_order)
    silent = ibis.coalesce(found.known_net, found.known_total, found.known_refund).isnull()
    refund = silent.ifelse(found.brought, found.known_refund)
    others = [name for name in rows.columns if name != "money_refund"]
    return found.select(*others, money_refund=refund)


def _amount(rows: Any, key: str) -> Any:
    name = f"money_{key}"
    return rows[name].try_cast("float64") if name in rows.columns else ibis.null("float64")
