"""One part of the company: some thousand people, from the shop's days to rows for the exports.

run_shop -> sites, people, browsers, arrivals, consent -> leave_traces -> bots -> money, names,
things looked at -> delays and copies -> one Arrow table, in the order of being known
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from seqjourney.simulation.company.arrival import add_copies, draw_skews, receive
from seqjourney.simulation.company.bots import visit_by_bots
from seqjourney.simulation.company.browsers import Browsing, browse
from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.company.consent import Decisions, decide
from seqjourney.simulation.company.evidence import CHANNEL_OF, CHANNELS, choose_arrivals
from seqjourney.simulation.company.happenings import CODE, run_shop
from seqjourney.simulation.company.money import split_amounts
from seqjourney.simulation.company.people import (
    IN_APP,
    OUTLET,
    SHOP,
    US,
    People,
    choose_sites,
    draw_people,
)
from seqjourney.simulation.company.sources import SOURCE, name_events
from seqjourney.simulation.company.trace import leave_traces
from seqjourney.simulation.event_log import DAY_US
from seqjourney.simulation.state import Columns

NUMBERS_PER_PART = 100_000_000
PRODUCTS, ARTICLES, QUERIES = 400, 3000, 60
DEFECT_SHARE = 0.005
MISSING, WRONG_TYPE = 1, 2
JUNK_USERS = ("null", "anonymous", "-1")
JUNK_DEVICE, JUNK_PHONE = 4, 5


def simulate_part(config: CompanyConfig, part: int) -> pa.Table:
    """Simulate one part.

    Returns:
        One row per raw event, sorted by (known_us, uid, copy); codes and numbers, no texts. Bots'
        rows have a null person.
    """
    rng = np.random.default_rng([config.seed, 2, part])
    events, visits, traits = run_shop(config.shop(part))
    site = choose_sites(visits, traits, rng)
    people = draw_people(config, part, visits, traits, site, rng)
    browsing = browse(config, people, visits, site, rng)
    arrival = choose_arrivals(config, visits, rng)
    decisions = decide(visits, site, rng)
    profile = first_profiles(visits, site, browsing, len(people.number))
    rows = leave_traces(events, visits, site, people, browsing, decisions, rng)
    bots = visit_by_bots(
        config, part, len(rows["person"]), int(browsing.cookie.max(initial=0)) + 1, rng
    )
    rows = {name: np.concatenate([rows[name], bots[name]]) for name in rows}
    rows = sort_within_period(config, rows)
    rows |= describe(config, rows, people, arrival, decisions, rng)
    rows = receive(config, rows, draw_skews(config, people, rng), rng)
    rows["uid"] = np.arange(len(rows["person"]))
    rows = add_copies(config, rows, rng)
    known = rows["known"] & (profile[rows["person"]] >= 0)
    rows["profile"] = np.where(known, profile[rows["person"]], rows["cookie"])
    return as_table(rows, people, part)


def first_profiles(
    visits: Columns, site: np.ndarray, browsing: Browsing, people: int
) -> np.ndarray:
    """Number the profiles that the app's tools keep of people; -1 for those who never log in there.

    An installation has a profile from the start. Who is the first to log in on it, and has none
    yet, takes it over; others get one of their own (numbered behind the installations).
    """
    profile = np.full(people, -1)
    places = np.flatnonzero((site == IN_APP) & browsing.logs_in)
    places = places[np.argsort(visits["time_us"][places], kind="stable")]
    places = places[np.sort(np.unique(visits["customer"][places], return_index=True)[1])]
    who, cookie = visits["customer"][places], browsing.cookie[places]
    profile[who] = browsing.cookie.max(initial=0) + 1 + who
    first = np.unique(cookie, return_index=True)[1]
    profile[who[first]] = cookie[first]
    return profile


def sort_within_period(config: CompanyConfig, rows: Columns) -> Columns:
    """Sort by time and leave out what lies after the period."""
    dates = config.shop(0).dates
    end_us = dates[0].astype("datetime64[us]").astype(np.int64) + len(dates) * DAY_US
    order = np.argsort(rows["time_us"], kind="stable")
    order = order[: np.searchsorted(rows["time_us"], end_us, sorter=order)]
    return {name: values[order] for name, values in rows.items()}


def describe(
    config: CompanyConfig,
    rows: Columns,
    people: People,
    arrival: np.ndarray,
    decisions: Decisions,
    rng: np.random.Generator,
) -> Columns:
    """Add channel, consent, money, name, products and faults of each row."""
    count = len(rows["person"])
    person, event, source, visit = (rows[n] for n in ("person", "event", "source", "visit"))
    human = person >= 0
    in_visit = visit >= 0
    channel = np.where(in_visit, CHANNEL_OF[arrival[visit]], rows["channel"])
    channel[source == SOURCE["email"]] = CHANNELS.index("email")
    channel[source == SOURCE["support"]] = CHANNELS.index("support")
    landing = in_visit & (rows["step"] == 0) & (event == CODE["page_viewed"])
    consent = decisions.at(np.maximum(person, 0), rows["time_us"])
    consent[~human] = 0
    since = decisions.place_at(np.maximum(person, 0), rows["time_us"])
    since_us = np.where(human & (since >= 0), np.append(decisions.time_us, 0)[since], np.int64(-1))
    ships = np.isin(rows["site"], [SHOP, OUTLET, US]) & (event == CODE["order_completed"])
    money = split_amounts(
        config,
        rows["value"],
        rows["discount_percent"],
        rows["time_us"],
        people.country[person],
        ships,
    )
    dates = config.shop(0).dates
    start_us = dates[0].astype("datetime64[us]").astype(np.int64)
    progress = (rows["time_us"] - start_us) / (len(dates) * DAY_US)
    views = (event == CODE["product_viewed"]) & np.isin(source, [SOURCE["web"], SOURCE["app"]])
    fault = rng.random(count)
    faults = np.where(fault < 2 * DEFECT_SHARE, WRONG_TYPE, 0)
    faults = np.where(fault < DEFECT_SHARE, MISSING, faults)
    return {
        "channel": channel,
        "arrival": np.where(landing, arrival[visit], -1),
        "analytics": consent[:, 0],
        "advertising": consent[:, 1],
        "since_us": since_us,
        "currency": money.currency,
        "net": money.net,
        "discount": money.discount,
        "tax": money.tax,
        "shipping": money.shipping,
        "total": money.total,
        "value_eur": money.value_eur,
        "name": name_events(source, event, rows["page_type"], rows["step"], progress, rng),
        # A few products make most of the views.
        "product": (PRODUCTS * rng.random(count) ** 2).astype(np.int16) + 1,
        "article": rng.integers(1000, 1000 + ARTICLES, count),
        "query": rng.integers(0, QUERIES, count),
        "quantity": 1 + (rng.random(count) < 0.2),
        "defect": np.where(views, faults, 0),
        "junk": draw_junk(config, rows, rng),
    }


def draw_junk(config: CompanyConfig, rows: Columns, rng: np.random.Generator) -> np.ndarray:
    """Say which rows carry a meaningless id; never one that has no other id."""
    count = len(rows["person"])
    picked = rng.random(count) < config.junk_ids
    text = rng.integers(1, 1 + len(JUNK_USERS), count)
    source, known = rows["source"], rows["known"]
    by_web = np.isin(source, [SOURCE["web"], SOURCE["blog"]]) & ~known & (rows["cookie"] >= 0)
    by_web &= ~np.isin(rows["event"], [CODE["identified"], CODE["aliased"]])
    by_app = (source == SOURCE["app"]) & known
    by_store = (source == SOURCE["store"]) & known
    junk = np.where(picked & by_web, text, 0)
    junk = np.where(picked & by_app, JUNK_DEVICE, junk)
    return np.where(picked & by_store, JUNK_PHONE, junk)


def as_table(rows: Columns, people: People, part: int) -> pa.Table:
    """Make numbers unique in the company, and the columns an Arrow table."""
    first = part * NUMBERS_PER_PART
    order = np.lexsort((rows["copy"], rows["uid"], rows["known_us"]))
    rows = {name: values[order] for name, values in rows.items()}
    person = rows["person"]
    human = person >= 0
    columns = dict(rows)
    for name in ("uid", "visit", "order", "mail_number", "ad", "ticket", "cookie", "profile"):
        number = rows[name].astype(np.int64)
        columns[name] = pa.array(number + first, mask=number < 0)
    columns["person"] = pa.array(people.number[person], pa.int64(), mask=~human)
    columns["phone_number"] = pa.array(
        people.number[people.phone_owner[person]], pa.int64(), mask=~human
    )
    columns["country"] = pa.array(people.country[person], mask=~human)
    for name in ("net", "discount", "tax", "shipping", "total", "value_eur"):
        columns[name] = pa.array(rows[name], from_pandas=True)
    for name in ("discount_percent", "waiting_hours"):
        columns[name] = pa.array(rows[name], from_pandas=True)
    columns["since_us"] = pa.array(rows["since_us"], mask=rows["since_us"] < 0)
    del columns["value"]
    return pa.table(columns)
