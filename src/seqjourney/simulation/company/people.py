"""Who the customers really are, and where each of their visits takes place.

A person has one user id once an account is opened, one or two e-mail addresses, a phone number and
the devices of the shop's visits. Strings are made from numbers only when they are written
(`exports.macros`); here everything is an array with one entry per person or per visit.

    sites      Americans shop on their own site (GA4); of the others' visits to the web some read
               the blog (RudderStack), some go to the outlet (Snowplow), most to the shop (Segment)
    account    opened by `accounts` of the people, on a visit with an order or in the app, or with
               chance 0.7 on any visit to a site; all who subscribe have one before
    household  two account holders who share their browser on the desktop, or their phone; both log
               in there, so the cookie or device belongs to two people
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.state import Columns
from seqjourney.simulation.traits import COUNTRIES, DEVICES, Traits
from seqjourney.simulation.visits import APP, EMAIL, STORE

SITES = ("shop", "outlet", "us", "blog", "app", "store")
SHOP, OUTLET, US, BLOG, IN_APP, IN_STORE = range(len(SITES))
OUTLET_SHARE = 0.18
BLOG_SHARE = 0.6
SIGN_UP_CHANCE = 0.7
SECOND_MAIL_SHARE = 0.25
PRIVATE_MAIL_SHARE = 0.35
FAMILY_PHONE_SHARE = 0.3
NEVER_US = np.iinfo(np.int64).max
_BROWSER_DEVICE = DEVICES.index("desktop")
_PHONE = DEVICES.index("mobile")


@dataclass(frozen=True)
class People:
    """Everyone of a part, each array of shape (people,)."""

    number: np.ndarray
    """Unique in the company; all names and ids are made from it."""
    country: np.ndarray
    mails_welcome: np.ndarray
    """Gets the newsletter."""
    private_mail: np.ndarray
    """Reads mail in a program whose proxy opens every e-mail by itself."""
    second_mail: np.ndarray
    """Writes to support from a second address."""
    signed_up_visit: np.ndarray
    """The visit on which the account was opened, -1 for none."""
    signed_up_us: np.ndarray
    """When that visit began; `NEVER_US` for none."""
    device_owner: np.ndarray
    """Whose device it is, as a position in these arrays; (people, devices)."""
    phone_owner: np.ndarray
    """Whose telephone number it is."""


def choose_sites(visits: Columns, traits: Traits, rng: np.random.Generator) -> np.ndarray:
    """Say where each visit takes place, as an index into `SITES`."""
    count = len(visits["customer"])
    site = np.where(rng.random(count) < OUTLET_SHARE, OUTLET, SHOP)
    reads = np.ones(count, bool)
    for name in ("products", "fills_cart", "ordered", "searches"):
        reads &= visits[name] == 0
    # A reader comes by search, a link or the bookmark: e-mails and ads lead to the shop.
    reads &= (visits["source"] < 2) & (rng.random(count) < BLOG_SHARE)
    american = traits.country[visits["customer"]] == COUNTRIES.index("US")
    # Newsletters lead to the shop, whose cookie they thereby meet.
    site[visits["source"] == EMAIL] = SHOP
    site[reads] = BLOG
    site[american] = US
    site[visits["source"] == APP] = IN_APP
    site[visits["source"] == STORE] = IN_STORE
    return site.astype(np.int8)


def draw_people(
    config: CompanyConfig,
    part: int,
    visits: Columns,
    traits: Traits,
    site: np.ndarray,
    rng: np.random.Generator,
) -> People:
    """Draw who opens an account when, and who shares what with whom."""
    count = len(traits.number)
    subscribes = np.zeros(count, bool)
    subscribes[visits["customer"][visits["subscribes"]]] = True
    wants = (rng.random(count) < config.accounts) | subscribes
    signed_up_visit = first_occasion(visits, site, wants, subscribes, rng)
    has_account = signed_up_visit >= 0
    times = np.where(has_account, visits["time_us"][signed_up_visit], NEVER_US)
    device_owner = np.tile(np.arange(count)[:, None], (1, len(DEVICES)))
    phone_owner = np.arange(count)
    for first, second, device in draw_households(config, visits, site, has_account, times, rng):
        device_owner[second, device] = first
        if rng.random() < FAMILY_PHONE_SHARE:
            phone_owner[second] = first
    return People(
        number=config.first_person(part) + traits.number,
        country=traits.country,
        mails_welcome=traits.email_opt_in,
        private_mail=rng.random(count) < PRIVATE_MAIL_SHARE,
        second_mail=rng.random(count) < SECOND_MAIL_SHARE,
        signed_up_visit=signed_up_visit,
        signed_up_us=times,
        device_owner=device_owner,
        phone_owner=phone_owner,
    )


def first_occasion(
    visits: Columns,
    site: np.ndarray,
    wants: np.ndarray,
    must: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return each person's visit with the sign-up, -1 for people who never get to it."""
    who = visits["customer"]
    asked = wants[who] & (site != BLOG) & (site != IN_STORE) & (visits["time_us"] < NEVER_US)
    yes = visits["ordered"] | (site == IN_APP) | (rng.random(len(who)) < SIGN_UP_CHANCE)
    result = np.full(len(wants), -1)
    # Visits are in order of their days, and there is one a day: the first place is the first time.
    people, places = np.unique(who[asked & yes], return_index=True)
    result[people] = np.flatnonzero(asked & yes)[places]
    # Who subscribes on a visit to the store had an account before, or gets none at all.
    late = np.flatnonzero(must & (result < 0))
    occasions = np.flatnonzero(asked & np.isin(who, late))
    people, places = np.unique(who[occasions], return_index=True)
    result[people] = occasions[places]
    return result


def draw_households(
    config: CompanyConfig,
    visits: Columns,
    site: np.ndarray,
    has_account: np.ndarray,
    signed_up_us: np.ndarray,
    rng: np.random.Generator,
) -> list[tuple[int, int, int]]:
    """Pair account holders who come often on the same kind of device after signing up.

    Returns pairs of people and the device that they share: the first one's.
    """
    count = len(has_account)
    pairs: list[tuple[int, int, int]] = []
    paired = np.zeros(count, bool)
    # Not on the American site, so that sharers meet on the same cookie.
    on_device = (site != IN_STORE) & (site != US) & (site != BLOG)
    later = visits["time_us"] > signed_up_us[visits["customer"]]
    for device, only_app in ((_BROWSER_DEVICE, False), (_PHONE, True)):
        fits = on_device & later & (visits["device"] == device)
        fits &= (site == IN_APP) if only_app else (site == SHOP)
        fits &= visits["time_us"] < NEVER_US
        seen = np.bincount(visits["customer"][fits], minlength=count) > 0
        able = np.flatnonzero(seen & has_account & ~paired)
        wanted = int(config.households * has_account.sum() / 4)
        chosen = rng.permutation(able)[: 2 * min(wanted, len(able) // 2)].reshape(-1, 2)
        paired[chosen.ravel()] = True
        pairs.extend((int(first), int(second), device) for first, second in chosen)
    return pairs
