"""The hidden process: what happens to every customer on every day, in formulas.

Each customer has, besides the fixed traits of `traits` (e, p, s, P, C, …), a state that nobody
sees: intent z, satisfaction q, interest v (products looked at lately), need u (0 right after an
order), trouble b (an order that went wrong lately), pull m in (0, 1] (how much the shop still
attracts) and whether they are leaving.
σ is the logistic function, N a standard normal, κ `sequence_strength`, I = min(v, 2) / 2,
w = 1 when a ticket has been open for more than 2 days. One step per day, in this order:

    drift      z <- 0.95 z + 0.27 N         q <- q - 0.03 q + 0.06 N - 0.05 w (1 + tanh s)
               v <- 0.85 v     b <- 0.85 b     u <- min(u + 1/C, 1.4): buying has a rhythm
    leaving    stays -> leaves with hazard  0.0032 exp(-0.7 q - 0.35 e + 1.8 κ w)  per day
               leaves -> stays with hazard  0.012 m + 0.0006 per day, then m = 1
               m <- m exp(-0.6 / clip(P, 4, 40)) while leaving: the gaps between visits grow
               against the customer's own rhythm
    renewal    on the monthly date of a subscription, unless it was cancelled before
    cancel     hazard  0.0020 exp(-0.6 q + 0.3 p + 1.2 (1 - m) + κ w (0.6 + 1.8 (1 - m)))  per day:
               an open ticket *and* fading visits together are worse than the two apart
    e-mail     Tuesdays and Fridays with chance 0.18, if opted in and seen within 120 days; every
               third mailing offers 10, 15 or 20 % off (d)
               opened with  σ(-0.9 + 0.5 e + 0.4 z) (0.1 + 0.9 m)
               then clicked with  σ(-1.5 + 0.9 I + 0.3 z + 0.03 d (1 + tanh p))
               a click on top of interest stays on the mind:  z <- z + 1.2 κ I
    ads        shown with 0.010 a (1 + 2 I) if seen within 60 days (retargeting); a = ad affinity
               clicked with 0.05 + 0.10 I, times 0.1 + 0.9 m
    visit      after an e-mail's or an ad's click, else with hazard
               (1/P) ρ m exp(0.35 z + 0.6 κ (u - 0.7)) weekday month
               with ρ = 0.1 + 2.2 min(days since visit / P, 1)³, which makes visits come in a
               rhythm, more regular than a Poisson process
    session    Poisson(0.8 exp(0.5 z)) products viewed; v grows by this number
               order with  σ(-2.0 + 0.8 z + 0.2 e - 0.3 p + 0.3 q + 2 κ (u - 0.7) + 0.3 [viewed]
                             - 0.2 [mobile] + 0.04 d (1 + 0.5 p) + 1.0 κ I [by e-mail] + month)
               with I before the session: product viewed, *then* e-mail clicked
               else a cart is filled with  σ(-2.0 + 0.9 z + 0.4 [viewed]),
               and stays on the mind:  z <- z + 0.6 κ
    order      u <- 0, z <- z - 0.3; worth exp(3.5 + 0.45 basket + 0.5 N) less discount;
               7 % go wrong: q <- q - 0.4, b <- b + 1, and 60 % of these are refunded, as are 2 %
               of the others
               starts a subscription with  σ(-3.0 + 0.6 e + 0.3 q)  if there is none
    ticket     opened with hazard  0.0012 + 0.10 b  on days without a visit, if none is open; the
               wait is log-normal (median 20 h, σ 1.3), and 12 % are never resolved (given up
               after 60 days)

A customer makes at most one session a day. Months and weekdays scale visits by `MONTH_VISITS` and
`WEEKDAY_VISITS`; `MONTH_ORDERS` shifts the order's logit. Plain recency, frequency and spending
follow from e, P and z; the terms with κ show in the order and the rhythm of events only.

`state` holds the state, its drift and the subscriptions; `contacts` what the company sends;
`visits` what the customer does.
"""

from collections import defaultdict

import numpy as np

from seqjourney.simulation.config import ShopConfig
from seqjourney.simulation.contacts import send_emails, show_ads
from seqjourney.simulation.state import (
    Columns,
    State,
    cancel,
    drift,
    initial_state,
    leave_or_return,
    renew,
)
from seqjourney.simulation.traits import Traits
from seqjourney.simulation.visits import after_sessions, browse, choose_visits, open_tickets

MONTH_VISITS = (1.00, 0.92, 0.97, 1.00, 1.00, 0.95, 0.88, 0.90, 1.02, 1.05, 1.25, 1.20)
MONTH_ORDERS = (0.05, -0.15, -0.05, 0.0, 0.05, 0.0, -0.1, -0.1, 0.0, 0.0, 0.35, 0.30)
WEEKDAY_VISITS = (1.05, 1.00, 0.98, 0.98, 0.92, 0.97, 1.12)  # Monday first
MAIL_WEEKDAYS = (1, 4)


def live(
    config: ShopConfig, traits: Traits, rng: np.random.Generator
) -> tuple[dict[str, Columns], State]:
    """Let all days pass.

    Returns what happened, as one table per family (`emails`, `ads`, `sessions`, `tickets`,
    `renewals`, `cancellations`; each with `customer`, `day` and `second` of the day), and the
    state at the end.
    """
    dates = config.dates
    months = dates.astype("datetime64[M]").astype(int) % 12
    weekdays = (dates.astype(int) + 3) % 7  # 1970-01-01 was a Thursday
    next_month = same_day_next_month(dates)
    state = initial_state(config.customers, rng)
    arrived = np.searchsorted(traits.arrival_day, np.arange(len(dates)), side="right")
    parts: dict[str, list[Columns]] = defaultdict(list)
    for day, (month, weekday) in enumerate(zip(months, weekdays, strict=True)):
        count = int(arrived[day])
        if count == 0:
            continue
        now = state.first(count)
        waits = (now.ticket_day < day - 2).astype(np.float32)
        drift(now, traits, waits, rng)
        leave_or_return(now, traits, day, waits, config.sequence_strength, rng)
        renewals = renew(now, traits, day, next_month, rng)
        cancellations = cancel(now, traits, waits, config.sequence_strength, rng)
        is_new = traits.arrival_day[:count] == day
        emails = send_emails(
            now, traits, is_new, bool(weekday in MAIL_WEEKDAYS), config.sequence_strength, rng
        )
        by_email = emails["customer"][emails["clicked"]]
        ads = show_ads(now, traits, is_new, by_email, rng)
        rate = MONTH_VISITS[month] * WEEKDAY_VISITS[weekday]
        visits = choose_visits(
            now, traits, is_new, emails, ads, rate, config.sequence_strength, rng
        )
        may_subscribe = ~now.subscribed
        may_subscribe[cancellations["customer"]] = False
        sessions = browse(
            now, traits, visits, MONTH_ORDERS[month], may_subscribe, config.sequence_strength, rng
        )
        after_sessions(now, sessions, int(next_month[day]), config.sequence_strength)
        tickets = open_tickets(now, day, rng)
        for name, table in (
            ("emails", emails),
            ("ads", ads),
            ("sessions", sessions),
            ("tickets", tickets),
            ("renewals", renewals),
            ("cancellations", cancellations),
        ):
            table["day"] = np.full(len(table["customer"]), day, np.int32)
            parts[name].append(table)
    tables = {
        name: {column: np.concatenate([part[column] for part in days]) for column in days[0]}
        for name, days in parts.items()
    }
    return tables, state


def same_day_next_month(dates: np.ndarray) -> np.ndarray:
    """For each day of the period the index of its date a month later (the 28th at the latest)."""
    months = dates.astype("datetime64[M]")
    day_of_month = np.minimum((dates - months.astype("datetime64[D]")).astype(int), 27)
    later = (months + 1).astype("datetime64[D]") + day_of_month
    return (later - dates[0]).astype(np.int32)
