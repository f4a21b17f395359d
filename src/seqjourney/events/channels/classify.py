"""Rows with any evidence → channel, AI engine, how it is known and how sure, automated or not.

One lazy expression: facts are read out of the text once per row (`evidence`), hosts are looked up
by joining with small tables (`hosts`), and one case per column decides (`rules`). Nothing depends
on another row, and nothing grows with the number of distinct hosts or campaign names: a campaign
is reduced to the two booleans that rules need, and joins probe tables of fixed size.

Steps alternate with joins on purpose, if need be with a table of one row (`_settled`). Ibis fuses
neighbouring selects by inlining, which would repeat every pattern wherever its result is used,
and engines do not share work between the branches of a case; neither crosses a join.
"""

from __future__ import annotations

import re
from typing import Any

import ibis
import pyarrow as pa

from seqjourney.events.channels import evidence, rules
from seqjourney.events.channels.agents import automated
from seqjourney.events.channels.hosts import AI_HIGH, AI_LOW, AI_MEDIUM, Site, site_tables
from seqjourney.events.channels.rules import CHANNELS

__all__ = ["CHANNELS", "classify"]

OVERVIEW = "google_ai_overview_possible"
_MINE = "__channel_"  # columns that live only inside this module
_MEDIUMS = pa.table({"key": list(rules.MEDIUMS), "kind": list(rules.MEDIUMS.values())})
_RESULTS = ("ai_engine", "ai_evidence", "ai_confidence", "automated")


def classify(rows: Any) -> Any:
    """Say where each row's visit came from.

    A channel that the source gave stays as it is. Else the first of these decides: a paid click
    id or a paid medium, the tags (utm), the referrer's host and path, nothing (direct). A
    referrer of the page's own site is no evidence. A row without page, referrer, tags and click
    id, such as a server's event, and a page reached from the same site get no channel (null).

    Google's AI Overviews and AI Mode arrive as ordinary Google results. They stay organic_search;
    where the page was opened at a quoted passage (`#:~:text=`, which featured snippets do too)
    `ai_engine` is google_ai_overview_possible with low confidence.

    `ai_engine` reports the evidence whatever the channel is: an ad in an assistant is paid, and a
    tagged newsletter link that an assistant cited is email, both with the engine named.

    Args:
        rows: Ibis table with any of `channel`, `page_url`, `referrer`, `utm_source`,
            `utm_medium`, `utm_campaign`, `click_id` (the parameter's name), `user_agent`.
            Tags and click ids that are missing are read from `page_url`.

    Returns:
        The rows in no particular order with all their columns, and `channel` (one of `CHANNELS`
        or what the source gave), `ai_engine` (or null), `ai_evidence` (utm, referrer, fragment,
        none), `ai_confidence` (high, medium, low, or null) and `automated` (boolean).
    """
    kept = [column for column in rows.columns if column not in ("channel", *_RESULTS)]
    tables = site_tables()
    facts = _settled(rows, _texts(rows))
    facts = facts.mutate(**_named(_facts_in_texts(facts)))
    facts = _look_up(facts, "host", tables.exact, "whole")
    facts = _look_up(facts, "source_key", tables.exact, "tagged")
    facts = facts.mutate(**_named(_facts_of_referrer(facts)))
    facts = _look_up(facts, "last_three", tables.suffixes, "three")
    facts = _look_up(facts, "last_two", tables.suffixes, "two")
    facts = _look_up(facts, "medium", _MEDIUMS, "medium")
    facts = _settled(facts, _site_of_referrer(facts, tables.paths))
    facts = _settled(facts, {"kind": _kind(_Facts(facts))})
    facts = _settled(facts, {"found": rules.channel(_Facts(facts))})
    given = evidence.text(facts, "channel")
    found = ibis.coalesce(given.strip().nullif(""), _Facts(facts).found)
    return facts.select(*kept, channel=found, **_assistants(_Facts(facts)))


class _Facts:
    """The private columns by their short names."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __getattr__(self, name: str) -> Any:
        return self.rows[_MINE + name]


def _named(columns: dict[str, Any]) -> dict[str, Any]:
    return {_MINE + name: column for name, column in columns.items()}


def _look_up(rows: Any, column: str, listed: pa.Table, prefix: str) -> Any:
    """Left-join a table by its `key`: adds `<prefix>_kind` and the table's other columns."""
    names = {_MINE + f"{prefix}_{field}": field for field in listed.column_names}
    table = ibis.memtable(listed).rename(names)
    key = _MINE + f"{prefix}_key"
    return rows.left_join(table, rows[_MINE + column] == table[key]).drop(key)


def _settled(rows: Any, columns: dict[str, Any]) -> Any:
    """Add columns that are computed once however often they are used (see the module's header)."""
    one = ibis.memtable(pa.table({_MINE + "one": [1]}))
    return rows.mutate(**_named(columns)).cross_join(one).drop(_MINE + "one")


def _texts(rows: Any) -> dict[str, Any]:
    """Step 1: the parts of a row's text that matter, as they are written."""
    page, referrer = evidence.text(rows, "page_url"), evidence.text(rows, "referrer")
    visited = page.notnull()
    return {
        "server": evidence.authority(referrer),
        "page_server": evidence.authority(page),
        "source": evidence.tag(rows, "utm_source", page),
        "medium": evidence.tag(rows, "utm_medium", page),
        "campaign": evidence.tag(rows, "utm_campaign", page),
        "any_click": evidence.click(rows, page),
        "quoted": page.contains(":~:text=").fill_null(False),
        "visited": visited,
        "automated": automated(evidence.text(rows, "user_agent"), visited | referrer.notnull()),
    }


def _facts_in_texts(rows: Any) -> dict[str, Any]:
    """Step 2: the same in one spelling."""
    facts = _Facts(rows)
    source, medium, campaign = (
        evidence.readable(text) for text in (facts.source, facts.medium, facts.campaign)
    )
    referrer = evidence.text(rows, "referrer")
    unpaid = facts.any_click.startswith("unpaid_")
    # Most referrers are the page's own server; they need no further look.
    elsewhere = facts.server.notnull() & ~(facts.server == facts.page_server).fill_null(False)
    return {
        "host": ibis.cases((elsewhere, evidence.host(facts.server))),
        "page_host": ibis.cases((elsewhere, evidence.host(facts.page_server))),
        "source": source,
        "source_key": evidence.bare(source),
        "medium": medium,
        "shop": rules.shop_campaign(campaign),
        "cross_network": campaign.contains("cross-network").fill_null(False),
        "no_referrer": referrer.isin(["$direct"]).fill_null(False),  # PostHog says so
        "click": unpaid.ifelse(ibis.null("string"), facts.any_click),
        "unpaid_click": unpaid.ifelse(facts.any_click.replace("unpaid_", ""), ibis.null("string")),
    }


def _facts_of_referrer(rows: Any) -> dict[str, Any]:
    """Step 3: is the referrer the site itself, and which ends of its host may be listed."""
    facts = _Facts(rows)
    unlisted = facts.whole_kind.isnull()
    said_direct = facts.source.isin(["(direct)", "direct"])
    said_direct |= facts.source.isnull() & facts.no_referrer
    medium = evidence.set_or_null(facts.medium)
    return {
        "internal": (facts.server == facts.page_server).fill_null(False)
        | evidence.same_site(facts.host, facts.page_host),
        "last_three": ibis.cases((unlisted, evidence.last_labels(facts.host, 3))),
        "last_two": ibis.cases((unlisted, evidence.last_labels(facts.host, 2))),
        "direct": said_direct.fill_null(False) & medium.isnull(),
        "source": evidence.set_or_null(facts.source),
        "medium": medium,
    }


def _site_of_referrer(rows: Any, paths: tuple[tuple[str, str, Site], ...]) -> dict[str, Any]:
    """Step 4: what the referrer is. A path rule goes first, then the longest listed host."""
    facts = _Facts(rows)
    by_path = [
        (
            ((facts.host == host) | facts.host.endswith("." + host))
            & evidence.text(rows, "referrer").re_search(rf"(?i)^[^?#]*{re.escape(host + path)}"),
            site,
        )
        for host, path, site in paths
    ]
    outside = facts.host.notnull() & ~facts.internal

    def site(field: str) -> Any:
        listed = ibis.coalesce(*(rows[f"{_MINE}{n}_{field}"] for n in ("whole", "three", "two")))
        values = ((test, getattr(site, field)) for test, site in by_path)
        return ibis.cases((~outside, ibis.null(listed.type())), *values, else_=listed)

    return {
        "referred": outside,
        "referrer_kind": site("kind"),
        "referrer_name": site("name"),
        "referrer_confidence": site("confidence"),
        "paid": rules.paid_medium(facts.medium),
        "tagged": facts.source.notnull() | facts.medium.notnull(),
    }


def _kind(facts: _Facts) -> Any:
    """Step 5: what kind of site sent the visit, by the evidence that speaks first.

    Tags speak before the referrer, and an unpaid click id only where neither does. A paid click
    id speaks first, unless tags that say paid tell more: gclid with youtube and cpc is video.
    """
    by_source = facts.source.isnull().ifelse(facts.referrer_kind, facts.tagged_kind)
    nobody = facts.source.isnull() & ~facts.referred
    said = nobody.ifelse(facts.unpaid_click, by_source)
    return ibis.cases(
        (facts.click.isnull(), said),
        (facts.paid, ibis.coalesce(said, facts.click)),
        else_=facts.click,
    )


def _assistants(facts: _Facts) -> dict[str, Any]:
    """Step 7: which assistant sent the visit, how that is known, and how sure it is."""
    tagged_ai = (facts.tagged_kind == "ai").fill_null(False)
    referrer_ai = (facts.referrer_kind == "ai").fill_null(False)
    google = ibis.coalesce(facts.tagged_name, facts.referrer_name) == "google"
    overview = (facts.quoted & google & (facts.found == "organic_search")).fill_null(False)
    said_ai = (facts.medium_kind == "ai").fill_null(False)

    # A tag and a referrer that name different places weaken each other: links get copied on.
    differ = facts.referred & ~(facts.referrer_name == facts.tagged_name).fill_null(False)
    by_tag = ibis.greatest(facts.tagged_confidence - differ.cast("int64"), AI_LOW)
    by_referrer = ibis.greatest(
        facts.referrer_confidence - facts.source.notnull().cast("int64"), AI_LOW
    )
    confidence = ibis.cases(
        (tagged_ai, by_tag),
        (referrer_ai, by_referrer),
        (said_ai, AI_MEDIUM),  # some assistant, unnamed
        (overview, AI_LOW),
    )
    return {
        "ai_engine": ibis.cases(
            (tagged_ai, facts.tagged_name),
            (referrer_ai, facts.referrer_name),
            (overview, OVERVIEW),
        ),
        "ai_evidence": ibis.cases(
            (tagged_ai, "utm"),
            (referrer_ai, "referrer"),
            (said_ai, "utm"),
            (overview, "fragment"),
            else_="none",
        ),
        "ai_confidence": ibis.cases(
            (confidence == AI_HIGH, "high"),
            (confidence == AI_MEDIUM, "medium"),
            (confidence == AI_LOW, "low"),
        ),
        "automated": facts.automated,
    }
