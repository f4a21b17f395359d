"""What the company sends: e-mails and ads, and whether the customer responds the same day.

The formulas stand in the header of `process`.
"""

import numpy as np

from seqjourney.simulation.state import Columns, State, daytime, happens, sigmoid
from seqjourney.simulation.traits import SOURCES, Traits

MAILING_CHANCE = 0.18
MAILING_STOPS_AFTER_DAYS = 120
ADS_STOP_AFTER_DAYS = 60
AD_CHANNELS = ("paid_social", "display", "paid_search")
AD_CHANNEL_SHARES = (0.45, 0.40, 0.15)
LATEST_OPENING_SECONDS = 9 * 3600.0
"""Openings stay on the day of the mailing, so that a click's visit does too."""


def interest_level(now: State) -> np.ndarray:
    """I in the header of `process`, from 0 to 1."""
    return np.minimum(now.interest, 2) / 2


def send_emails(
    now: State,
    traits: Traits,
    is_new: np.ndarray,
    mailing_day: bool,
    strength: float,
    rng: np.random.Generator,
) -> Columns:
    """Send the mailing of the day; opened and clicked are answered at once."""
    count = len(is_new)
    reachable = traits.email_opt_in[:count] & (now.idle_days <= MAILING_STOPS_AFTER_DAYS) & ~is_new
    chance = MAILING_CHANCE if mailing_day else 0.0
    who = np.flatnonzero(reachable & happens(np.full(count, chance), rng))
    offers = rng.random(len(who)) < 1 / 3
    discount = np.where(offers, rng.choice([10, 15, 20], len(who)), 0)
    opens = sigmoid(-0.9 + 0.5 * traits.engagement[who] + 0.4 * now.intent[who])
    opened = happens(opens * (0.1 + 0.9 * now.pull[who]), rng)
    bargain = 0.03 * discount * (1 + np.tanh(traits.price_sensitivity[who]))
    clicks = sigmoid(-1.5 + 0.9 * interest_level(now)[who] + 0.3 * now.intent[who] + bargain)
    clicked = opened & happens(clicks, rng)
    now.intent[who[clicked]] += 1.2 * strength * interest_level(now)[who[clicked]]
    second = rng.uniform(7.5 * 3600, 9.5 * 3600, len(who))
    delay = np.minimum(60 + rng.exponential(2.5 * 3600, len(who)), LATEST_OPENING_SECONDS)
    return {
        "customer": who,
        "second": second,
        "opened": opened,
        "open_second": second + delay,
        "clicked": clicked,
        "click_second": second + delay + 5 + np.minimum(rng.exponential(60, len(who)), 1800),
        "discount": discount,
    }


def show_ads(
    now: State, traits: Traits, is_new: np.ndarray, by_email: np.ndarray, rng: np.random.Generator
) -> Columns:
    """Show ads, more of them to those who looked at products; some are clicked.

    Who came by e-mail today clicks no ad, since there is one session a day.
    """
    count = len(is_new)
    interest = interest_level(now)
    chance = 0.010 * traits.ad_affinity[:count] * (1 + 2 * interest)
    seen = (now.idle_days <= ADS_STOP_AFTER_DAYS) & ~is_new
    seen[by_email] = False
    who = np.flatnonzero(happens(chance * seen, rng))
    clicks = (0.05 + 0.10 * interest[who]) * (0.1 + 0.9 * now.pull[who])
    channel = rng.choice(len(AD_CHANNELS), len(who), p=AD_CHANNEL_SHARES)
    second = daytime(len(who), rng)
    return {
        "customer": who,
        "second": second,
        "clicked": happens(clicks, rng),
        "click_second": second + rng.uniform(1, 20, len(who)),
        # As an index into the sources of a visit, which a click starts.
        "source": np.asarray([SOURCES.index(name) for name in AD_CHANNELS], np.int8)[channel],
    }
