"""Rows that show the same evidence have the same channel: each distinct one is classified once.

A log repeats itself: most pages are reached from the site itself, and what is left after a page's
path is cut off (nothing in it tells a channel) are a few thousand combinations. `evidence` makes
them, `classify_distinct` and `automated_agents` answer for them, and a join brings it back.
"""

from __future__ import annotations

from typing import Any

from seqjourney.events.channels.agents import automated
from seqjourney.events.channels.classify import classify

COLUMNS = (
    "page_url",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "click_id",
)
_SITE = r"^\s*[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]+"
RESULTS = ("channel", "ai_engine", "ai_evidence", "ai_confidence")


def evidence(rows: Any) -> dict[str, Any]:
    """Return what of each row tells a channel, as text that is empty where there is nothing.

    Args:
        rows: Ibis table with any of `COLUMNS` and `channel`, as given by the source.

    Returns:
        Our name -> column, for those that the rows have. A page's address is kept whole only where
        it has a query or a fragment, and a referrer only where it is another site's.
    """
    found = {name: rows[name].fill_null("") for name in COLUMNS if name in rows.columns}
    if "page_url" in found:
        page = found["page_url"]
        site = page.re_extract(_SITE, 0)
        whole = page.contains("?") | page.contains("#") | (site == "")
        if "referrer" in found:
            referrer = found["referrer"]
            own = (site != "") & referrer.startswith(site)
            found["referrer"] = own.ifelse(referrer.re_extract(_SITE, 0), referrer)
        found["page_url"] = whole.ifelse(page, site)
    if "channel" in rows.columns:
        found["given_channel"] = rows.channel.fill_null("")
    return found


def classify_distinct(rows: Any) -> Any:
    """Return each distinct combination of evidence with its `RESULTS`; materialise and join it.

    Args:
        rows: with columns that `evidence` made.
    """
    keys = [name for name in (*COLUMNS, "given_channel") if name in rows.columns]
    distinct = rows.select(*keys).distinct()
    named = distinct.mutate(channel=distinct.given_channel) if "given_channel" in keys else distinct
    return classify(named).select(*keys, *RESULTS)


def automated_agents(rows: Any) -> Any:
    """Return the distinct `user_agent`s of machines, and whether they were `visiting` a page.

    Args:
        rows: with `user_agent` (text, never null) and `visiting` (boolean).
    """
    distinct = rows.select("user_agent", "visiting").distinct()
    return distinct.filter(automated(distinct.user_agent.nullif(""), distinct.visiting))
