"""The hidden process: what happens to every customer on every day, in formulas.

Each customer has, besides the fixed traits of `traits` (e, p, s, P, …), a state that nobody sees:
intent z, satisfaction q, interest v (products looked at lately), trouble b (an order that went
wrong lately), pull m in (0, 1] (how much the shop still attracts) and whether they are leaving.
σ is the logistic function, N a standard normal, κ `sequence_strength`, I = min(v, 3) / 3,
w = 1 when a ticket has been open for more than 2 days. One step per day, in this order:

    drift      z <- 0.93 z + 0.30 N         q <- q - 0.03 q + 0.06 N - 0.05 w (1 + tanh s)
               v <- 0.80 v                  b <- 0.85 b
    leaving    stays -> leaves with hazard  0.0035 exp(-0.7 q - 0.35 e + 1.5 κ w)  per day
               leaves -> stays with hazard  0.012 m + 0.0006 per day, then m = 1
               m <- 0.945 m while leaving: visits thin out against the customer's own rhythm
    renewal    on the monthly date of a subscription, unless it was cancelled before
    cancel     hazard  0.0016 exp(-0.6 q + 1.2 (1 - m) + 1.8 κ w (1 - m) + 0.3 p)  per day:
               an open ticket *and* fading visits together are worse than the two apart
    e-mail     Tuesdays and Fridays with chance 0.22, if opted in and seen within 120 days; every
               third mailing offers 10, 15 or 20 % off (d)
               opened with  σ(-0.9 + 0.5 e + 0.4 z) (0.1 + 0.9 m)
               then clicked with  σ(-1.5 + 1.2 I + 0.3 z + 0.03 d (1 + tanh p))
    ads        shown with 0.010 a (1 + 3 I) if seen within 60 days (retargeting); a = ad affinity
               clicked with 0.05 + 0.10 I, times 0.1 + 0.9 m
    visit      after an e-mail's or an ad's click, else with hazard
               (1/P) ρ m exp(0.35 z) weekday month;  ρ = 0.3 + 1.2 min(days since visit / P, 1)
               makes visits come in a rhythm, more regular than a Poisson process
    session    Poisson(1.1 exp(0.3 z)) products viewed; v grows by this number
               order with  σ(-2.35 + 0.8 z + 0.3 e - 0.4 p + 0.3 q + 0.3 [viewed] - 0.2 [mobile]
                             + 0.04 d (1 + 0.5 p) + 2 κ I [by e-mail] + month)
               with I before the session: product viewed, *then* e-mail clicked
               else a cart is filled with  σ(-1.8 + 0.6 z + 0.4 [viewed])
    order      z <- z - 0.7 (wants are met); worth exp(3.5 + 0.45 basket + 0.5 N) less discount;
               7 % go wrong: q <- q - 0.4, b <- b + 1, and 60 % of these are refunded, as are 2 %
               of the others
               starts a subscription with  σ(-3.2 + 0.6 e + 0.3 q)  if there is none
    ticket     opened with hazard  0.0006 + 0.08 b, if none is open; the wait is log-normal
               (median 20 h, σ 1.3), and 12 % are never resolved (given up after 60 days)

A customer makes at most one session a day. Months and weekdays scale visits by `MONTH_VISITS` and
`WEEKDAY_VISITS`; `MONTH_ORDERS` shifts the order's logit. Plain recency, frequency and spending
follow from e, P and z; the terms with κ can only be seen in the order of events.
"""

from collections import defaultdict
from dataclasses import dataclass, fields

import numpy as np

from seqjourney.simulation.config import ShopConfig
from seqjourney.simulation.traits import DEVICES, SOURCES, Traits

MONTH_VISITS = (1.00, 0.92, 0.97, 1.00, 1.00, 0.95, 0.88, 0.90, 1.02, 1.05, 1.25, 1.20)
MONTH_ORDERS = (0.05, -0.15, -0.05, 0.0, 0.05, 0.0, -0.1, -0.1, 0.0, 0.0, 0.35, 0.30)
WEEKDAY_VISITS = (1.05, 1.00, 0.98, 0.98, 0.92, 0.97, 1.12)  # Monday first
MAIL_WEEKDAYS = (1, 4)

Columns = dict[str, np.ndarray]
"""A table in memory: equally long arrays by column name."""


@dataclass(frozen=True)
class State:
    """The hidden state, each array of shape (customers,) and changed in place."""

    intent: np.ndarray
    satisfaction: np.ndarray
    interest: np.ndarray
    trouble: np.ndarray
    pull: np.ndarray
    leaving: np.ndarray
    leaving_since: np.ndarray
    """Day on which the customer last began to leave, -1 for never."""
    idle_days: np.ndarray
    """Days since the last visit."""
    subscribed: np.ndarray
    due_day: np.ndarray
    """Day of the next renewal."""
    ticket_day: np.ndarray
    """Day on which the open ticket was opened, far in the future when none is open."""
    ticket_end_day: np.ndarray
    """Day on which the open ticket will be resolved or given up."""

    def first(self, count: int) -> "State":
        """Views on the first `count` customers."""
        return State(**{f.name: getattr(self, f.name)[:count] for f in fields(self)})


NEVER = np.int32(1 << 30)


def initial_state(customers: int, rng: np.random.Generator) -> State:
    """The state in which customers arrive: curious, content, with no ticket."""
    return State(
        intent=rng.normal(0.4, 0.8, customers).astype(np.float32),
        satisfaction=rng.normal(0.0, 0.25, customers).astype(np.float32),
        interest=np.zeros(customers, np.float32),
        trouble=np.zeros(customers, np.float32),
        pull=np.ones(customers, np.float32),
        leaving=np.zeros(customers, bool),
        leaving_since=np.full(customers, -1, np.int32),
        idle_days=np.zeros(customers, np.float32),
        subscribed=np.zeros(customers, bool),
        due_day=np.full(customers, NEVER, np.int32),
        ticket_day=np.full(customers, NEVER, np.int32),
        ticket_end_day=np.full(customers, NEVER, np.int32),
    )


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
        emails = send_emails(now, traits, is_new, bool(weekday in MAIL_WEEKDAYS), rng)
        by_email = emails["customer"][emails["clicked"]]
        ads = show_ads(now, traits, is_new, by_email, rng)
        rate = MONTH_VISITS[month] * WEEKDAY_VISITS[weekday]
        visits = choose_visits(now, traits, is_new, emails, ads, rate, rng)
        may_subscribe = ~now.subscribed
        may_subscribe[cancellations["customer"]] = False
        sessions = browse(
            now, traits, visits, MONTH_ORDERS[month], may_subscribe, config.sequence_strength, rng
        )
        after_sessions(now, sessions, int(next_month[day]))
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


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def happens(chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One biased coin per entry."""
    return rng.random(chance.shape, dtype=np.float32) < chance


def daytime(count: int, rng: np.random.Generator) -> np.ndarray:
    """Seconds after midnight at which people do things: mostly evenings, 06:00 to 22:30."""
    return (6 + 16.5 * rng.beta(2.2, 1.7, count)) * 3600.0


def drift(now: State, traits: Traits, waits: np.ndarray, rng: np.random.Generator) -> None:
    """Let intent, satisfaction, interest and trouble move on by a day."""
    count = len(waits)
    service = 1 + np.tanh(traits.service_sensitivity[:count])
    now.intent[:] = 0.93 * now.intent + 0.30 * rng.standard_normal(count, dtype=np.float32)
    now.satisfaction[:] *= 0.97
    now.satisfaction[:] += 0.06 * rng.standard_normal(count, dtype=np.float32)
    now.satisfaction[:] -= 0.05 * waits * service
    now.interest[:] *= 0.80
    now.trouble[:] *= 0.85
    now.idle_days[:] += 1


def leave_or_return(
    now: State,
    traits: Traits,
    day: int,
    waits: np.ndarray,
    strength: float,
    rng: np.random.Generator,
) -> None:
    """Some begin to leave, some who were leaving stay after all, the rest of them fade."""
    engagement = traits.engagement[: len(waits)]
    leaves = 0.0035 * np.exp(-0.7 * now.satisfaction - 0.35 * engagement + 1.5 * strength * waits)
    changes = happens(np.where(now.leaving, 0.012 * now.pull + 0.0006, leaves), rng)
    now.leaving[:] ^= changes
    now.leaving_since[changes & now.leaving] = day
    now.pull[:] = np.where(now.leaving, 0.945 * now.pull, 1)


def renew(
    now: State, traits: Traits, day: int, next_month: np.ndarray, rng: np.random.Generator
) -> Columns:
    """Charge the subscriptions that are due today, at night."""
    who = np.flatnonzero(now.subscribed & (now.due_day == day))
    now.due_day[who] = next_month[day]
    second = rng.uniform(2 * 3600, 4 * 3600, len(who))
    return {"customer": who, "second": second, "value": traits.plan_price[who]}


def cancel(
    now: State, traits: Traits, waits: np.ndarray, strength: float, rng: np.random.Generator
) -> Columns:
    """End some subscriptions; the formula is in the module's header."""
    who = np.flatnonzero(now.subscribed)
    fading = 1 - now.pull[who]
    logs = -0.6 * now.satisfaction[who] + 0.3 * traits.price_sensitivity[who]
    logs += 1.2 * fading + 1.8 * strength * waits[who] * fading
    who = who[happens(0.0016 * np.exp(logs), rng)]
    now.subscribed[who] = False
    return {"customer": who, "second": daytime(len(who), rng)}
