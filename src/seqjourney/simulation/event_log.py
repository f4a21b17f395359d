"""How the days of the shop show as events: what happened -> rows of an event log.

One `Rows` per family, which `events_table` joins into one sorted Arrow table. The landing of a
visit carries its traffic source as channel (organic, email, paid_search, …); what follows in the
visit happens on `web`, in the `app` or in the `store`. Visits to the store leave a trace only when
something is bought.

Support and ads report late: `known_at` is 10 minutes to 2 days after `timestamp`.
"""

from dataclasses import dataclass

import numpy as np

from seqjourney.simulation.process import Columns
from seqjourney.simulation.traits import Traits
from seqjourney.simulation.visits import APP, STORE, VISIT_SOURCES

EVENT_ACTORS = {
    "page_viewed": "customer",
    "app_opened": "customer",
    "search": "customer",
    "product_viewed": "customer",
    "cart_added": "customer",
    "order_completed": "customer",
    "subscription_started": "customer",
    "subscription_cancelled": "customer",
    "email_opened": "customer",
    "email_clicked": "customer",
    "ad_clicked": "customer",
    "ticket_opened": "customer",
    "email_sent": "company",
    "ad_impression": "company",
    "ticket_resolved": "company",
    "order_refunded": "company",
    "subscription_renewed": "system",
}
EVENTS = tuple(EVENT_ACTORS)
ACTORS = ("customer", "company", "system")
CHANNELS = (*VISIT_SOURCES, "web", "support")
PAGE_TYPES = ("home", "category", "product", "cart", "checkout", "account")
LANDING_PAGE_SHARES = (0.5, 0.3, 0.2)  # of the first three page types
DAY_US = 86_400_000_000
LATEST_KNOWN_US = 2 * DAY_US


@dataclass(frozen=True)
class Rows:
    """Events of one family, each array of shape (rows,).

    Words are int8 indices into the vocabularies above, -1 for null; numbers are NaN for null.
    """

    customer: np.ndarray
    time_us: np.ndarray
    """Microseconds since the start of the period."""
    event: np.ndarray
    channel: np.ndarray
    value: np.ndarray
    device: np.ndarray
    page_type: np.ndarray
    waiting_hours: np.ndarray
    discount_percent: np.ndarray
    delay_us: np.ndarray
    """`known_at` minus `timestamp`."""


def make_rows(
    customer: np.ndarray,
    time_us: np.ndarray,
    event: str | np.ndarray,
    channel: str | np.ndarray,
    value: float | np.ndarray = np.nan,
    device: int | np.ndarray = -1,
    page_type: int | np.ndarray = -1,
    waiting_hours: float | np.ndarray = np.nan,
    discount_percent: float | np.ndarray = np.nan,
    delay_us: int | np.ndarray = 0,
) -> Rows:
    """Spread single values over all rows and give every column its narrow type."""

    def column(values: object, dtype: type) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype), customer.shape)

    return Rows(
        customer=column(customer, np.int32),
        time_us=column(time_us, np.int64),
        event=column(EVENTS.index(event) if isinstance(event, str) else event, np.int8),
        channel=column(CHANNELS.index(channel) if isinstance(channel, str) else channel, np.int8),
        value=column(value, np.float64),
        device=column(device, np.int8),
        page_type=column(page_type, np.int8),
        waiting_hours=column(waiting_hours, np.float64),
        discount_percent=column(discount_percent, np.float64),
        delay_us=column(delay_us, np.int64),
    )


def write_down(
    tables: dict[str, Columns], traits: Traits, rng: np.random.Generator
) -> tuple[Rows, ...]:
    """All events of the period and a few after it, family by family."""
    sessions = tables["sessions"]
    steps, order_time_us = session_rows(sessions, rng)
    return (
        steps,
        refund_rows(sessions, order_time_us, rng),
        *email_rows(tables["emails"], traits),
        *ad_rows(tables["ads"], traits, rng),
        *ticket_rows(tables["tickets"], rng),
        *subscription_rows(tables["renewals"], tables["cancellations"], traits),
    )


def at_us(table: Columns, second: str = "second") -> np.ndarray:
    """Microseconds since the start of the period."""
    return table["day"].astype(np.int64) * DAY_US + (table[second] * 1e6).astype(np.int64)


def late_us(count: int, rng: np.random.Generator) -> np.ndarray:
    """Reporting delays: log-normal with a median of 4 hours, from 10 minutes to 2 days."""
    delay = 4 * 3600e6 * np.exp(1.0 * rng.standard_normal(count))
    return np.clip(delay, 600e6, LATEST_KNOWN_US).astype(np.int64)


def session_rows(sessions: Columns, rng: np.random.Generator) -> tuple[Rows, np.ndarray]:
    """The steps of all visits, and when each visit's order was completed.

    A visit is landing, pages, search, products, cart, order, subscription, each 0 to n times:
    (visits, 7) counts -> (steps,) rows.
    """
    source = sessions["source"]
    counts = np.stack(
        [
            source != STORE,
            sessions["pages"],
            sessions["searches"],
            sessions["products"],
            sessions["fills_cart"],
            sessions["ordered"],
            sessions["subscribes"],
        ],
        axis=1,
    ).astype(np.int64)
    names = np.array(
        [
            EVENTS.index(name)
            for name in (
                "page_viewed",
                "page_viewed",
                "search",
                "product_viewed",
                "cart_added",
                "order_completed",
                "subscription_started",
            )
        ],
        np.int8,
    )
    # Pages of the seven kinds; the landing's is drawn below.
    pages = np.array([0, 1, 1, 2, 3, 4, 5], np.int8)
    kind = np.repeat(np.tile(np.arange(7, dtype=np.int8), len(counts)), counts.ravel())
    lengths = counts.sum(axis=1)
    visit = np.repeat(np.arange(len(counts)), lengths)
    # Capped, so that no visit that begins by 22:30 outlasts its day.
    gap = np.minimum(3 + rng.exponential(45, len(visit)), 240)
    elapsed = gap.cumsum()
    before = np.concatenate([[0.0], elapsed])[(lengths.cumsum() - lengths)[visit]]
    time_us = at_us(sessions)[visit] + ((elapsed - before) * 1e6).astype(np.int64)

    place = np.where(source == APP, APP, CHANNELS.index("web"))
    place = np.where(source == STORE, STORE, place)
    channel = np.where(kind == 0, source[visit], place[visit])
    landing = rng.choice(3, len(visit), p=LANDING_PAGE_SHARES)
    by_app, by_store = source[visit] == APP, source[visit] == STORE
    value = np.where(kind == 5, sessions["value"][visit], np.nan)
    discount = sessions["discount"][visit].astype(float)
    rows = make_rows(
        sessions["customer"][visit],
        time_us,
        np.where((kind == 0) & by_app, EVENTS.index("app_opened"), names[kind]),
        channel,
        value=np.where(kind == 6, sessions["plan_price"][visit], value),
        device=sessions["device"][visit],
        page_type=np.where(by_app | by_store, -1, np.where(kind == 0, landing, pages[kind])),
        discount_percent=np.where((kind == 5) & (discount > 0), discount, np.nan),
    )
    order_time_us = np.zeros(len(counts), np.int64)
    order_time_us[visit[kind == 5]] = time_us[kind == 5]
    return rows, order_time_us


def refund_rows(sessions: Columns, order_time_us: np.ndarray, rng: np.random.Generator) -> Rows:
    """Refunds, days after their orders: most of the whole sum, some of a part of it."""
    back = np.flatnonzero(sessions["refunded"])
    delay_us = np.clip(5 * DAY_US * np.exp(0.6 * rng.standard_normal(len(back))), DAY_US, None)
    share = np.where(rng.random(len(back)) < 0.7, 1.0, rng.uniform(0.2, 0.9, len(back)))
    value = -np.maximum(np.round(share * sessions["value"][back], 2), 0.01)
    by_store = sessions["source"][back] == STORE
    channel = np.where(by_store, STORE, CHANNELS.index("support"))
    time_us = order_time_us[back] + delay_us.astype(np.int64)
    delays = np.where(by_store, 0, late_us(len(back), rng))
    customer = sessions["customer"][back]
    return make_rows(customer, time_us, "order_refunded", channel, value, delay_us=delays)


def email_rows(emails: Columns, traits: Traits) -> list[Rows]:
    """Sent, opened and clicked; the offer shows on all three."""
    discount = np.where(emails["discount"] > 0, emails["discount"], np.nan)
    who = emails["customer"]
    rows = [
        make_rows(who, at_us(emails), "email_sent", "email", discount_percent=discount),
    ]
    for name, flag, second in (
        ("email_opened", "opened", "open_second"),
        ("email_clicked", "clicked", "click_second"),
    ):
        did = emails[flag]
        customer, time_us = who[did], at_us(emails, second)[did]
        device = traits.device[customer]
        rows.append(
            make_rows(
                customer, time_us, name, "email", device=device, discount_percent=discount[did]
            )
        )
    return rows


def ad_rows(ads: Columns, traits: Traits, rng: np.random.Generator) -> list[Rows]:
    """Impressions and clicks, both known late."""
    rows = []
    for name, did, second in (
        ("ad_impression", np.ones(len(ads["customer"]), bool), "second"),
        ("ad_clicked", ads["clicked"], "click_second"),
    ):
        customer, channel = ads["customer"][did], ads["source"][did]
        time_us, delay_us = at_us(ads, second)[did], late_us(len(customer), rng)
        device = traits.device[customer]
        rows.append(make_rows(customer, time_us, name, channel, device=device, delay_us=delay_us))
    return rows


def ticket_rows(tickets: Columns, rng: np.random.Generator) -> list[Rows]:
    """Tickets, and the resolutions that came, with the hours that the customer had waited."""
    opened_us = at_us(tickets)
    done = ~np.isnan(tickets["waiting_hours"])
    hours = tickets["waiting_hours"][done]
    closed_us = opened_us[done] + (hours * 3600e6).astype(np.int64)
    who = tickets["customer"]
    return [
        make_rows(who, opened_us, "ticket_opened", "support", delay_us=late_us(len(who), rng)),
        make_rows(
            who[done],
            closed_us,
            "ticket_resolved",
            "support",
            waiting_hours=np.round(hours, 2),
            delay_us=late_us(len(hours), rng),
        ),
    ]


def subscription_rows(renewals: Columns, cancellations: Columns, traits: Traits) -> list[Rows]:
    """Monthly charges by the system, and cancellations on the account page."""
    leaver = cancellations["customer"]
    account = PAGE_TYPES.index("account")
    return [
        make_rows(
            renewals["customer"], at_us(renewals), "subscription_renewed", "web", renewals["value"]
        ),
        make_rows(
            leaver,
            at_us(cancellations),
            "subscription_cancelled",
            "web",
            device=traits.device[leaver],
            page_type=account,
        ),
    ]
