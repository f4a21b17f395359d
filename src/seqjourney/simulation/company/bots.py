"""Crawlers, agents and monitors: page views of nobody.

Crawlers and agents take a new cookie with every page; a monitor keeps one for the whole period and
looks like the most faithful customer of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.company.happenings import CODE
from seqjourney.simulation.company.people import BLOG, OUTLET, SHOP
from seqjourney.simulation.company.rows import block
from seqjourney.simulation.company.sources import SOURCE
from seqjourney.simulation.event_log import DAY_US
from seqjourney.simulation.state import Columns


@dataclass(frozen=True)
class Bot:
    """One kind of automated agent."""

    share: float
    keeps_cookie: bool
    user_agent: str


_LIKE_CHROME = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; "
BOTS = (
    Bot(0.30, False, _LIKE_CHROME + "GPTBot/1.2; +https://openai.com/gptbot)"),
    Bot(0.12, False, _LIKE_CHROME + "ClaudeBot/1.0; +claudebot@anthropic.com)"),
    Bot(0.08, False, _LIKE_CHROME + "PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)"),
    Bot(0.10, False, _LIKE_CHROME + "ChatGPT-User/1.0; +https://openai.com/bot)"),
    Bot(
        0.30,
        True,
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "HeadlessChrome/120.0.0.0 Safari/537.36",
    ),
    Bot(0.10, True, "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)"),
)
_SITES = {SHOP: "web", OUTLET: "outlet", BLOG: "blog"}


def visit_by_bots(
    config: CompanyConfig, part: int, people_rows: int, first_cookie: int, rng: np.random.Generator
) -> Columns:
    """Draw page views of bots, `config.bots` of the people's rows; cookies from `first_cookie`."""
    count = int(config.bots * people_rows)
    dates = config.shop(part).dates
    start_us = dates[0].astype("datetime64[us]").astype(np.int64)
    bot = rng.choice(len(BOTS), count, p=[bot.share for bot in BOTS])
    site = rng.choice(list(_SITES), count, p=(0.6, 0.15, 0.25))
    keeps = np.array([bot.keeps_cookie for bot in BOTS])[bot]
    # The kept cookies first: one for each kind of bot and site.
    kept = bot * 8 + site
    cookie = first_cookie + np.where(keeps, kept, 8 * len(BOTS) + np.arange(count))
    return block(
        count,
        time_us=start_us + np.sort(rng.integers(0, len(dates) * DAY_US, count)),
        event=CODE["page_viewed"],
        source=np.array([SOURCE[_SITES[code]] for code in site.tolist()], int),
        step=0,
        cookie=cookie,
        site=site,
        device=1,
        page_type=rng.integers(0, 3, count),
        bot=bot,
    ) | {
        "mail_case": np.zeros(count, np.int8),
        "phone_style": np.zeros(count, np.int8),
    }
