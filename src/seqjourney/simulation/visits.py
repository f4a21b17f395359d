"""What the customer does: visits, orders, and tickets when something went wrong.

The formulas stand in the header of `process`. A session's `source` is an index into
`VISIT_SOURCES`.
"""

import numpy as np

from seqjourney.simulation.contacts import interest_level
from seqjourney.simulation.state import NEVER, Columns, State, daytime, happens, sigmoid
from seqjourney.simulation.traits import DEVICES, SOURCES, Traits

VISIT_SOURCES = (*SOURCES, "email", "app", "store")
EMAIL, APP, STORE = (VISIT_SOURCES.index(name) for name in ("email", "app", "store"))
MOBILE = DEVICES.index("mobile")
SECOND_DEVICE_CHANCE = 0.15
NEVER_RESOLVED_CHANCE = 0.12
GIVEN_UP_AFTER_DAYS = 60
MOST_PRODUCTS_VIEWED = 12
MOST_PAGES_VIEWED = 4


def choose_visits(
    now: State,
    traits: Traits,
    is_new: np.ndarray,
    emails: Columns,
    ads: Columns,
    rate: float,
    strength: float,
    rng: np.random.Generator,
) -> Columns:
    """Who comes today, when, from where, on which device, and with which discount in hand."""
    count = len(is_new)
    period = traits.visit_period_days[:count]
    rhythm = 0.1 + 2.2 * np.minimum(now.idle_days / period, 1) ** 3
    hazard = rate * rhythm / period * now.pull
    hazard = hazard * np.exp(0.35 * now.intent + 0.6 * strength * (now.need - 0.7))
    comes = happens(1 - np.exp(-hazard), rng) | is_new
    source_today = np.full(count, -1, np.int8)
    second_today = np.zeros(count)
    discount_today = np.zeros(count, np.int8)
    clicked = ads["clicked"]
    source_today[ads["customer"][clicked]] = ads["source"][clicked]
    second_today[ads["customer"][clicked]] = ads["click_second"][clicked]
    clicked = emails["clicked"]
    source_today[emails["customer"][clicked]] = EMAIL
    second_today[emails["customer"][clicked]] = emails["click_second"][clicked]
    discount_today[emails["customer"][clicked]] = emails["discount"][clicked]
    who = np.flatnonzero(comes | (source_today >= 0))

    drawn = rng.random((len(who), 1)) > traits.source_affinity[who]
    own = np.minimum(drawn.sum(axis=1), len(SOURCES) - 1).astype(np.int8)
    place = rng.random(len(who))
    own[place < traits.app_affinity[who] + traits.store_affinity[who]] = APP
    own[place < traits.store_affinity[who]] = STORE
    # A first visit leaves a trace in the log even when nothing is bought.
    own[is_new[who] & (own == STORE)] = SOURCES.index("organic")
    pushed = source_today[who] >= 0
    source = np.where(pushed, source_today[who], own)
    device = traits.device[who].copy()
    swaps = rng.random(len(who)) < SECOND_DEVICE_CHANCE
    device[swaps] = rng.integers(0, len(DEVICES), int(swaps.sum()))
    device[source == APP] = MOBILE
    device[source == STORE] = -1
    second = np.where(pushed, second_today[who] + rng.uniform(1, 5, len(who)), 0.0)
    return {
        "customer": who,
        "second": np.where(pushed, second, daytime(len(who), rng)),
        "source": source,
        "device": device,
        "discount": discount_today[who],
    }


def browse(
    now: State,
    traits: Traits,
    visits: Columns,
    month_orders: float,
    may_subscribe: np.ndarray,
    strength: float,
    rng: np.random.Generator,
) -> Columns:
    """What is looked at and bought during the visits."""
    who, source, discount = visits["customer"], visits["source"], visits["discount"]
    price = traits.price_sensitivity[who]
    intent = now.intent[who]
    in_store = source == STORE
    products = rng.poisson(0.8 * np.exp(np.minimum(0.5 * intent, 2)))
    products = np.where(in_store, 0, np.minimum(products, MOST_PRODUCTS_VIEWED))
    viewed = (products > 0) | in_store
    primed = 1.0 * strength * interest_level(now)[who] * (source == EMAIL)
    logit = -2.0 + 0.8 * intent + 0.2 * traits.engagement[who] - 0.3 * price
    logit += 2.0 * strength * (now.need[who] - 0.7)
    logit += 0.3 * now.satisfaction[who] + 0.3 * viewed - 0.2 * (visits["device"] == MOBILE)
    logit += 0.04 * discount * (1 + 0.5 * price) + primed + month_orders
    ordered = happens(sigmoid(logit), rng)
    fills_cart = happens(sigmoid(-2.0 + 0.9 * intent + 0.4 * viewed), rng)
    worth = 3.5 + 0.45 * traits.basket_level[who] + 0.5 * rng.standard_normal(len(who))
    wrong = ordered & (rng.random(len(who)) < 0.07)
    subscribes = sigmoid(-3.0 + 0.6 * traits.engagement[who] + 0.3 * now.satisfaction[who])
    return {
        **visits,
        "pages": np.where(in_store, 0, np.minimum(rng.poisson(0.25, len(who)), MOST_PAGES_VIEWED)),
        "searches": (rng.random(len(who)) < 0.22) & ~in_store,
        # Whoever orders online has seen the product.
        "products": np.where(ordered & ~in_store, np.maximum(products, 1), products),
        "fills_cart": (ordered | (fills_cart & (products > 0))) & ~in_store,
        "ordered": ordered,
        "value": np.round(np.exp(worth) * (1 - discount / 100), 2),
        "wrong": wrong,
        "refunded": ordered & (rng.random(len(who)) < np.where(wrong, 0.6, 0.02)),
        "subscribes": ordered & may_subscribe[who] & happens(subscribes, rng),
        "plan_price": traits.plan_price[who],
    }


def after_sessions(now: State, sessions: Columns, next_due_day: int, strength: float) -> None:
    """How the visits of the day change their customers."""
    who, ordered = sessions["customer"], sessions["ordered"]
    now.idle_days[who] = 0
    now.interest[who] += sessions["products"]
    now.need[who[ordered]] = 0
    now.intent[who[ordered]] -= 0.3
    now.intent[who[sessions["fills_cart"] & ~ordered]] += 0.6 * strength
    now.satisfaction[who[sessions["wrong"]]] -= 0.4
    now.trouble[who[sessions["wrong"]]] += 1
    subscribers = who[sessions["subscribes"]]
    now.subscribed[subscribers] = True
    now.due_day[subscribers] = next_due_day


def open_tickets(now: State, day: int, rng: np.random.Generator) -> Columns:
    """Close the tickets that are through, and open those of today.

    `waiting_hours` is NaN for tickets that are never resolved.
    """
    # Strictly later than the resolution, so that two tickets never overlap.
    closed = now.ticket_end_day < day
    now.ticket_day[closed] = NEVER
    now.ticket_end_day[closed] = NEVER
    hazard = np.where(now.ticket_day == NEVER, 0.0012 + 0.10 * now.trouble, 0.0)
    # Not on the day of a visit, so that a ticket never precedes the order that it is about.
    who = np.flatnonzero(happens(hazard, rng) & (now.idle_days > 0))
    second = daytime(len(who), rng)
    wait_hours = np.clip(20 * np.exp(1.3 * rng.standard_normal(len(who))), 0.1, 24 * 30)
    resolved = rng.random(len(who)) >= NEVER_RESOLVED_CHANCE
    now.ticket_day[who] = day
    end_day = day + np.floor((second / 3600 + wait_hours) / 24)
    now.ticket_end_day[who] = np.where(resolved, end_day, day + GIVEN_UP_AFTER_DAYS)
    return {
        "customer": who,
        "second": second,
        "waiting_hours": np.where(resolved, wait_hours, np.nan),
    }
