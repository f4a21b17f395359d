"""What browsers and phones know of a person on each visit: cookies, log-ins, and what they link.

cookie    one per owner, device and family of sites; the blog shares the shop's. Cookies are
          deleted: by one person in seven within about 60 days, by the others within 3 years
device    the installation of the app; installed anew after about 4 years
log-in    on the sign-up visit and in the app always, else with a habit of each person's own;
          all but `forgotten_browsers` of a holder's cookies see at least one
known     from the log-in on; a browser may remember its owner on later visits without a log-in,
          shared ones never do
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.company.people import (
    BLOG,
    IN_APP,
    IN_STORE,
    NEVER_US,
    OUTLET,
    US,
    People,
)
from seqjourney.simulation.event_log import DAY_US
from seqjourney.simulation.state import Columns

REMEMBERED_CHANCE = 0.5
DELETES_OFTEN_SHARE = 1 / 7
OFTEN_DAYS, SELDOM_DAYS, REINSTALL_DAYS = 60.0, 1100.0, 1500.0


@dataclass(frozen=True)
class Browsing:
    """What is known on each visit, each array of shape (visits,)."""

    cookie: np.ndarray
    """Number of the cookie (in the app: of the installation), unique in the part; -1 in stores."""
    shared: np.ndarray
    """Whether two people use it."""
    known_from: np.ndarray
    """The first step of the visit at which the user id is known; `NOT_KNOWN`: never."""
    logs_in: np.ndarray
    """Whether a log-in (or the sign-up) happens at that step."""


NOT_KNOWN = 10_000


def browse(
    config: CompanyConfig,
    people: People,
    visits: Columns,
    site: np.ndarray,
    rng: np.random.Generator,
) -> Browsing:
    """Follow the browsers and phones through all visits."""
    who = visits["customer"]
    device = np.maximum(visits["device"], 0)
    owner = people.device_owner[who, device]
    shared_device = np.zeros(people.device_owner.shape, bool)
    own = np.arange(len(people.number))
    moved = np.argwhere(people.device_owner != own[:, None])
    shared_device[moved[:, 0], moved[:, 1]] = True
    shared_device[people.device_owner[moved[:, 0], moved[:, 1]], moved[:, 1]] = True
    shared = shared_device[who, device]
    cookie = count_cookies(owner, device, site, visits["time_us"], people, rng)
    traced = (site != IN_STORE) & (visits["time_us"] < NEVER_US)
    cookie[~traced] = -1

    registered = traced & (visits["time_us"] >= people.signed_up_us[who])
    habit = rng.beta(2.0, 2.0, len(people.number))
    signs_up = np.zeros(len(who), bool)
    signs_up[people.signed_up_visit[people.signed_up_visit >= 0]] = True
    logs_in = (rng.random(len(who)) < habit[who]) | (site == IN_APP) | visits["subscribes"]
    # Hardly anybody logs in to read the blog; the shop's log-in is known there.
    logs_in = registered & ((logs_in & (site != BLOG)) | signs_up)
    logs_in |= only_chances(config, who, cookie, registered, site == BLOG, logs_in, rng)

    steps = visits["steps"]
    # After the landing, so that some of every visit is anonymous; at the last step at the latest.
    at = 1 + np.floor(rng.random(len(who)) * np.maximum(steps - 1, 1)).astype(np.int64)
    # An order or a subscription is made by somebody known.
    buys = steps - visits["ordered"].astype(int) - visits["subscribes"].astype(int)
    at = np.where(visits["ordered"], np.minimum(at, np.maximum(buys, 1)), at)
    known_from = np.where(logs_in, at, NOT_KNOWN)
    remembered = (
        registered
        & ~logs_in
        & ~shared
        & (site != IN_APP)
        & known_before(cookie, visits["time_us"], logs_in)
        & (rng.random(len(who)) < REMEMBERED_CHANCE)
    )
    known_from[remembered] = 0
    return Browsing(cookie, shared, known_from, logs_in)


def count_cookies(
    owner: np.ndarray,
    device: np.ndarray,
    site: np.ndarray,
    time_us: np.ndarray,
    people: People,
    rng: np.random.Generator,
) -> np.ndarray:
    """Number the cookies: a new one for each owner, device and family of sites, and after gaps."""
    family = np.select([site == OUTLET, site == US, site == IN_APP], [1, 2, 3], default=0)
    jar = (owner * 4 + device) * 4 + family
    order = np.lexsort((time_us, jar))
    often = rng.random(len(people.number)) < DELETES_OFTEN_SHARE
    days = np.where(often[owner], OFTEN_DAYS, SELDOM_DAYS)
    days = np.where(family == 3, REINSTALL_DAYS, days)[order]
    sorted_jar, sorted_time = jar[order], time_us[order]
    new = np.ones(len(order), bool)
    new[1:] = sorted_jar[1:] != sorted_jar[:-1]
    gap_days = np.zeros(len(order))
    gap_days[1:] = np.minimum((sorted_time[1:] - sorted_time[:-1]) / DAY_US, 1e6)
    new |= rng.random(len(order)) > np.exp(-np.maximum(gap_days, 0) / days)
    cookie = np.empty(len(order), np.int64)
    cookie[order] = np.cumsum(new) - 1
    return cookie


def only_chances(
    config: CompanyConfig,
    who: np.ndarray,
    cookie: np.ndarray,
    able: np.ndarray,
    unlikely: np.ndarray,
    logs_in: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Pick the last able visit of each (cookie, person) that would otherwise see no log-in.

    Unlikely visits count only where there is no other.
    """
    key = cookie * (who.max(initial=0) + 1) + who
    done = np.unique(key[logs_in])
    places = np.flatnonzero(able & ~np.isin(key, done))
    places = places[np.lexsort((-places, unlikely[places], key[places]))]
    last = places[np.unique(key[places], return_index=True)[1]]
    last = last[rng.random(len(last)) >= config.forgotten_browsers]
    picked = np.zeros(len(who), bool)
    picked[last] = True
    return picked


def known_before(cookie: np.ndarray, time_us: np.ndarray, logs_in: np.ndarray) -> np.ndarray:
    """Whether a cookie has seen a log-in on an earlier visit."""
    first = np.full(cookie.max(initial=0) + 2, NEVER_US)
    np.minimum.at(first, cookie[logs_in], time_us[logs_in])
    return time_us > first[cookie]
