"""Where visits come from: the true channel, and what of it shows in the data.

Each kind of arrival is a row of `ARRIVALS`: how it is drawn from the shop's traffic sources, the
truth about it, and its referrer, UTM parameters, click id and fragment. Traps on purpose: Facebook
adds `fbclid` to unpaid links too; some ads carry a click id and no UTM; ChatGPT's app sends
`utm_source` without a referrer; Google's AI Overviews look like its search but for a text fragment;
and some direct visits come from assistants and show nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.state import Columns
from seqjourney.simulation.visits import VISIT_SOURCES

SEARCH_AD = ("google", "cpc")


@dataclass(frozen=True)
class Arrival:
    """One kind of arrival; empty texts are nulls in the exports."""

    source: str
    """The shop's traffic source that it is drawn from."""
    share: float
    """Among the arrivals of that source; those of AI grow with time."""
    channel: str
    """The truth."""
    ai_engine: str = ""
    referrer: str = ""
    utm_source: str = ""
    utm_medium: str = ""
    utm_campaign: str = ""
    utm_content: str = ""
    click_id: str = ""
    fragment: str = ""


GOOGLE = "https://www.google.com/"
ARRIVALS = (
    Arrival("organic", 0.46, "organic_search", referrer=GOOGLE),
    Arrival("organic", 0.08, "organic_search", referrer="https://www.bing.com/"),
    Arrival("organic", 0.04, "organic_search", referrer="https://duckduckgo.com/"),
    Arrival(
        "organic",
        0.05,
        "organic_search",
        "google_ai_overview",
        referrer=GOOGLE,
        fragment=":~:text=free%20returns%20within%2030%20days",
    ),
    Arrival(
        "organic", 0.06, "organic_social", referrer="https://l.facebook.com/", click_id="fbclid"
    ),
    Arrival("organic", 0.05, "organic_social", referrer="https://l.instagram.com/"),
    Arrival("organic", 0.02, "organic_social", referrer="https://www.pinterest.com/"),
    Arrival("organic", 0.02, "organic_video", referrer="https://www.youtube.com/"),
    Arrival("organic", 0.07, "referral", referrer="https://reviews.example.org/best-of"),
    Arrival(
        "organic",
        0.03,
        "affiliates",
        referrer="https://coupons.example.net/",
        utm_source="awin",
        utm_medium="affiliate",
        utm_campaign="partners",
    ),
    Arrival(
        "organic",
        0.05,
        "ai_search",
        "chatgpt",
        referrer="https://chatgpt.com/",
        utm_source="chatgpt.com",
    ),
    Arrival("organic", 0.02, "ai_search", "chatgpt", utm_source="chatgpt.com"),
    Arrival("organic", 0.02, "ai_search", "perplexity", referrer="https://www.perplexity.ai/"),
    Arrival("organic", 0.01, "ai_search", "gemini", referrer="https://gemini.google.com/"),
    Arrival("organic", 0.01, "ai_search", "copilot", referrer="https://copilot.microsoft.com/"),
    Arrival("organic", 0.01, "ai_search", "claude", referrer="https://claude.ai/"),
    Arrival("direct", 1.0, "direct"),
    Arrival("direct", 0.0, "ai_search", "chatgpt"),  # its share is `CompanyConfig.dark_ai`
    Arrival(
        "paid_search",
        0.62,
        "paid_search",
        "",
        GOOGLE,
        *SEARCH_AD,
        "brand_search",
        "ad_a",
        "gclid",
    ),
    Arrival("paid_search", 0.11, "paid_search", referrer=GOOGLE, click_id="gclid"),
    Arrival(
        "paid_search",
        0.13,
        "paid_search",
        "",
        "https://www.bing.com/",
        "bing",
        "cpc",
        "generic_search",
        "ad_b",
        "msclkid",
    ),
    Arrival(
        "paid_search",
        0.14,
        "paid_shopping",
        "",
        GOOGLE,
        *SEARCH_AD,
        "shopping_feed",
        "",
        "gclid",
    ),
    Arrival(
        "paid_social",
        0.55,
        "paid_social",
        "",
        "https://l.facebook.com/",
        "facebook",
        "paid_social",
        "lookalike",
        "video_1",
        "fbclid",
    ),
    Arrival(
        "paid_social",
        0.30,
        "paid_social",
        "",
        "https://l.instagram.com/",
        "instagram",
        "paid_social",
        "stories",
        "video_2",
        "fbclid",
    ),
    Arrival(
        "paid_social",
        0.15,
        "paid_social",
        "",
        "https://www.tiktok.com/",
        "tiktok",
        "paid_social",
        "sparks",
        "",
        "ttclid",
    ),
    Arrival(
        "display", 0.6, "display", "", "", "google", "display", "retargeting", "banner_1", "dclid"
    ),
    Arrival("display", 0.4, "display", "", "", "criteo", "banner", "retargeting_cr"),
    Arrival("email", 1.0, "email", "", "", "newsletter", "email", "weekly"),
    Arrival("app", 1.0, "app"),
    Arrival("store", 1.0, "store"),
)
CHANNELS = (*dict.fromkeys(arrival.channel for arrival in ARRIVALS), "support")
CHANNEL_OF = np.array([CHANNELS.index(arrival.channel) for arrival in ARRIVALS], np.int8)


def choose_arrivals(config: CompanyConfig, visits: Columns, rng: np.random.Generator) -> np.ndarray:
    """Draw how each visit arrives, as an index into `ARRIVALS`."""
    result = np.zeros(len(visits["source"]), np.int8)
    progress = visits["day"] / max(len(config.shop(0).dates) - 1, 1)
    for code, source in enumerate(VISIT_SOURCES):
        kinds = [k for k, arrival in enumerate(ARRIVALS) if arrival.source == source]
        shares = np.array([ARRIVALS[k].share for k in kinds])
        if source == "direct":
            shares = np.array([1 - config.dark_ai, config.dark_ai])
        places = np.flatnonzero(visits["source"] == code)
        # Assistants send half of their share at the start and one and a half at the end.
        by_ai = np.array([bool(ARRIVALS[k].ai_engine) for k in kinds])
        weights = shares * np.where(by_ai, 0.5 + progress[places, None], 1.0)
        cumulative = weights.cumsum(axis=1)
        drawn = rng.random((len(places), 1)) * cumulative[:, -1:]
        picked = np.minimum((drawn >= cumulative).sum(axis=1), len(kinds) - 1)
        result[places] = np.asarray(kinds, np.int8)[picked]
    return result
