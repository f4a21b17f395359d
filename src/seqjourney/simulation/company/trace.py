"""The trace that each event leaves: which tool records it, and which ids it carries.

`leave_traces` takes the shop's events, adds what only the tools know (log-ins, identify calls,
consent answers, CRM stages, opens by mail proxies) and says for each row its source and ids. Rows
are columns of equal length; what a row does not have is -1, NaN or False.

    known       the user id stands on it: from the log-in on in a visit, after the sign-up elsewhere
    cookie      number of the cookie or, in the app, of the installation
    mail        1 or 2: it carries the first or second address;  `mail_case`  how it is typed
    phone       it carries the telephone number
"""

from __future__ import annotations

import numpy as np

from seqjourney.simulation.company.browsers import Browsing
from seqjourney.simulation.company.calls import (
    consent_rows,
    log_in_rows,
    machine_opens,
    newsletter_rows,
    stage_rows,
)
from seqjourney.simulation.company.consent import Decisions
from seqjourney.simulation.company.evidence import CHANNELS
from seqjourney.simulation.company.happenings import CODE, latest_before
from seqjourney.simulation.company.people import (
    BLOG,
    IN_APP,
    IN_STORE,
    NEVER_US,
    OUTLET,
    SHOP,
    US,
    People,
)
from seqjourney.simulation.company.rows import MARGIN_US, block, stack
from seqjourney.simulation.company.sources import SOURCE
from seqjourney.simulation.contacts import AD_CHANNELS
from seqjourney.simulation.event_log import CHANNELS as SHOP_CHANNELS
from seqjourney.simulation.state import Columns

LOYALTY_SHARE = 0.75
_TOOLS = {SHOP: "web", OUTLET: "outlet", US: "us", BLOG: "blog", IN_APP: "app", IN_STORE: "store"}


def leave_traces(
    events: Columns,
    visits: Columns,
    site: np.ndarray,
    people: People,
    browsing: Browsing,
    decisions: Decisions,
    rng: np.random.Generator,
) -> Columns:
    """Return all rows of people, in no order."""
    rows = shop_rows(events, visits, site, people, browsing)
    blocks = [
        rows,
        *log_in_rows(visits, site, people, browsing, events, rng),
        *consent_rows(site, browsing, decisions),
        stage_rows(rows, people),
        machine_opens(rows, people, rng),
        newsletter_rows(visits, site, people, browsing),
    ]
    rows = stack(blocks)
    return give_addresses(rows, people, rng)


def shop_rows(
    events: Columns, visits: Columns, site: np.ndarray, people: People, browsing: Browsing
) -> Columns:
    """The shop's own events, each with its source."""
    visit, who, time_us = events["visit"], events["customer"], events["time_us"]
    event = events["event"]
    inside = visit >= 0
    place = np.where(inside, site[visit], -1)
    # A refund is recorded where the order was.
    place = np.where(event == CODE["order_refunded"], site[events["order"]], place)
    known = np.where(
        inside & (place != IN_STORE),
        events["step"] >= browsing.known_from[visit],
        time_us > np.minimum(people.signed_up_us[who], NEVER_US - MARGIN_US) + MARGIN_US,
    )
    cookie = np.where(inside, browsing.cookie[visit], -1)
    refunds = event == CODE["order_refunded"]
    cookie[refunds] = browsing.cookie[events["order"][refunds]]
    is_ad = np.isin(event, [CODE["ad_impression"], CODE["ad_clicked"]])
    traced = np.flatnonzero(browsing.cookie >= 0)
    last = latest_before(
        visits["customer"][traced], visits["time_us"][traced], who[is_ad], time_us[is_ad]
    )
    cookie[is_ad] = np.where(last >= 0, browsing.cookie[traced[last]], -1)
    place[is_ad] = np.where(last >= 0, site[traced[last]], -1)
    known &= ~is_ad
    channel = np.full(len(who), -1)
    for name in AD_CHANNELS:
        channel[is_ad & (events["channel"] == SHOP_CHANNELS.index(name))] = CHANNELS.index(name)
    return block(
        len(who),
        person=who,
        time_us=time_us,
        event=event,
        source=choose_source(event, place, known),
        visit=visit,
        step=events["step"],
        order=events["order"],
        mail_number=events["mail"],
        ad=events["ad"],
        ticket=events["ticket"],
        cookie=cookie,
        site=place,
        known=known,
        device=events["device"],
        page_type=events["page_type"],
        value=events["value"],
        discount_percent=events["discount_percent"],
        waiting_hours=events["waiting_hours"],
        delay_us=events["delay_us"],
        channel=channel,
        by_server=(visit < 0),
    )


def choose_source(event: np.ndarray, place: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Say which tool records each event; `place` is a site, or -1 outside visits."""
    source = np.full(len(event), -1)
    for code, name in _TOOLS.items():
        source[place == code] = SOURCE[name]

    def of(*names: str) -> np.ndarray:
        return np.isin(event, [CODE[name] for name in names])

    in_app = place == IN_APP
    source[in_app & of("page_viewed", "order_completed", "order_refunded")] = SOURCE["app_shop"]
    source[(place == OUTLET) & of("order_refunded")] = SOURCE["store"]
    plans = of("subscription_started", "subscription_renewed", "subscription_cancelled")
    outside = plans & ~((place == IN_APP) | (place == IN_STORE))
    source[outside] = np.where(known, SOURCE["account"], SOURCE["store"])[outside]
    source[of("email_sent", "email_opened", "email_clicked")] = SOURCE["email"]
    source[of("ad_impression", "ad_clicked")] = SOURCE["ads"]
    source[of("ticket_opened", "ticket_resolved")] = SOURCE["support"]
    return source


def give_addresses(rows: Columns, people: People, rng: np.random.Generator) -> Columns:
    """Say which rows carry an e-mail address or a phone number, and how these are typed."""
    count = len(rows["person"])
    source, event, who = rows["source"], rows["event"], rows["person"]
    mail, phone, known = rows["mail"].copy(), rows["phone"].copy(), rows["known"].copy()
    mail[source == SOURCE["email"]] = 1
    orders = (event == CODE["order_completed"]) | (event == CODE["order_refunded"])
    mail[orders & np.isin(source, [SOURCE["web"], SOURCE["app_shop"]])] = 1
    support = source == SOURCE["support"]
    second = people.second_mail[who] & ((rows["ticket"] % 5) < 2)
    mail[support] = np.where(second, 2, 1)[support]
    # The second address means something only where the user id stands beside it.
    mail[support & ~known] = 1
    store = source == SOURCE["store"]
    shows_card = known & (rng.random(count) < LOYALTY_SHARE)
    by_phone = people.number[who] % 5 < 3
    phone[store] = (by_phone & ~shows_card)[store]
    mail[store] = np.where(by_phone | shows_card, 0, 1)[store]
    known[store] = shows_card[store]
    case = rng.choice(3, count, p=(0.90, 0.07, 0.03)).astype(np.int8)
    return rows | {
        "mail": mail,
        "mail_case": np.where(source == SOURCE["email"], 0, case),
        "phone": phone,
        "phone_style": rng.integers(0, 3, count, dtype=np.int8),
        "known": known,
    }
