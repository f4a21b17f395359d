"""Raw text → the few normalised facts that decide a channel: hosts, tags, click ids.

Every function takes and returns Ibis expressions and uses only what DuckDB and Spark do alike:
patterns without look-around and without nested repeats (RE2 and Java agree on them, and neither
backtracks on a 10 MB string), never a function that fails on malformed input. Work on a URL is
guarded by a cheap test, because most rows of a log carry no tags at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ibis

# A click id is written into the landing page's address by an ad platform.
PAID_CLICKS: dict[str, str] = {
    # Google Ads auto-tagging, and its variants for iOS. They also mark display, video and
    # Performance Max ads; only the Ads account knows which. GA4 joins it, we cannot: search.
    "gclid": "search",
    "gbraid": "search",
    "wbraid": "search",
    "gad_source": "search",  # Google Ads too, stays where the ids above are stripped
    "msclkid": "search",  # Microsoft Advertising
    "yclid": "search",  # Yandex Direct
    "dclid": "display",  # Campaign Manager 360 and Display & Video 360
    "ttclid": "social",  # TikTok Ads
    "li_fat_id": "social",  # LinkedIn Ads
    "twclid": "social",  # X Ads
    "rdt_cid": "social",  # Reddit Ads
    "sccid": "social",  # Snapchat Ads
    "ScCid": "social",  # how it stands in addresses
    "irclickid": "affiliates",  # impact.com
    "cjevent": "affiliates",  # CJ
    "awc": "affiliates",  # Awin
}
# These stand on unpaid links as well: they tell the site, not that somebody paid.
UNPAID_CLICKS: dict[str, str] = {
    "fbclid": "social",  # every link out of Facebook and Instagram
    "igshid": "social",
    "epik": "social",  # Pinterest, pins and ads alike
    # Google Merchant Center. It began on free product listings (GA4: Organic Shopping) and since
    # 2024 stands on ordinary results too, so that only the search engine is sure.
    "srsltid": "search",
}
_AUTHORITY = r"^\s*[A-Za-z][A-Za-z0-9+.-]*://([^/?#\s]+)"
# Some exports give the bare host (PostHog's $referring_domain); it must have a dot, so that
# `javascript:`, `$direct` and `mailto:` are no hosts.
_BARE_HOST = r"^\s*(?://)?([^/?#:@\s]+[.][^/?#:@\s]+)"
_LONGEST_HOST = 253  # by DNS; whatever is longer is no host
# The registrable part: one label before the public suffix. Public suffixes are a list of 10,000
# that changes weekly; these cover what shops live under, and erring only merges two sites.
_REGISTRABLE = (
    r"[^.]+[.](?:(?:com?|org|net|gov|ac|edu|or|ne|go|gob|gov)[.][a-z]{2}|(?:github|gitlab)[.]io|"
    r"(?:myshopify|blogspot|wordpress|herokuapp|cloudfront|wixsite|squarespace)[.]com|"
    r"(?:vercel|netlify|web|pages)[.](?:app|dev)|[^.]+)$"
)


def text(rows: Any, column: str) -> Any:
    """Return a column as text; an empty or absent one is null."""
    if column not in rows.columns:
        return ibis.null("string")
    return rows[column].cast("string").nullif("")


def authority(url: Any) -> Any:
    """Return what stands for the server in a URL or bare host, as written; null if nothing does."""
    found = ibis.coalesce(
        url.re_extract(_AUTHORITY, 1).nullif(""), url.re_extract(_BARE_HOST, 1).nullif("")
    )
    return ibis.cases((url.notnull(), found))


def host(server: Any) -> Any:
    """Return the lower-case host of an `authority`, without user, port, `www.` and `m.`."""
    # A user's name and a port are rare, and the pattern for them is slow.
    decorated = server.contains("@") | server.contains(":")
    plain = decorated.ifelse(server.re_extract(r"^(?:[^@]*@)?([^:@]*)", 1).nullif(""), server)
    return bare(ibis.cases((server.length() <= _LONGEST_HOST, plain.lower())))


def bare(name: Any) -> Any:
    """Leave out a leading `www.` or `m.` and a final dot, as `hosts.bare` does."""
    return ibis.cases(
        (name.startswith("www."), name.substr(4)),
        (name.startswith("m."), name.substr(2)),
        (name.endswith("."), name.re_replace(r"[.]+$", "")),
        else_=name,
    )


def last_labels(name: Any, count: int) -> Any:
    """Return the end of a host: two labels of `l.facebook.com` are `facebook.com`; else null."""
    labels = r"[.]".join([r"[^.]+"] * count)
    return name.re_extract(labels + "$", 0).nullif("")


def same_site(one: Any, other: Any) -> Any:
    """Whether two hosts belong to one registrable domain; false where either is unknown."""
    return ibis.cases(
        (one.isnull() | other.isnull(), False),
        (one == other, True),
        else_=one.re_extract(_REGISTRABLE, 0) == other.re_extract(_REGISTRABLE, 0),
    )


def tag(rows: Any, name: str, url: Any) -> Any:
    """Return a utm tag as written, from its column or else from the page's address."""
    found = ibis.cases((url.contains("utm_"), url.re_extract(rf"[?&;#]{name}=([^&#]*)", 1)))
    return ibis.coalesce(text(rows, name), found.nullif(""))


def readable(value: Any) -> Any:
    """Undo the escapes that occur in tags, in lower case; Spark's own decoder can fail."""
    escapes = {"+": " ", "%20": " ", "%2d": "-", "%2e": ".", "%5f": "_", "%28": "(", "%29": ")"}
    lower = decoded = value.lower()
    for escape, meant in escapes.items():
        decoded = decoded.replace(escape, meant)
    escaped = value.contains("%") | value.contains("+")
    plain = escaped.ifelse(decoded, lower).strip().nullif("")
    return ibis.cases((value.notnull(), plain))  # seldom: a case spares the other rows the work


def set_or_null(value: Any) -> Any:
    """Read GA's words for a missing tag, (not set), (none), (direct), as missing."""
    return (value.startswith("(") | (value == "direct")).ifelse(ibis.null("string"), value)


def click(rows: Any, url: Any) -> Any:
    """Return what a click id tells: a kind of `PAID_CLICKS`, or `unpaid_` and one of the others."""
    kinds: dict[str, list[str]] = {}
    for name, kind in PAID_CLICKS.items():
        kinds.setdefault(kind, []).append(name)
    for name, kind in UNPAID_CLICKS.items():
        kinds.setdefault("unpaid_" + kind, []).append(name)
    given = text(rows, "click_id").strip().lower()
    by_column = ibis.cases(*((given.isin(names), kind) for kind, names in kinds.items()))

    def written(names: Iterable[str]) -> Any:
        return url.re_search(rf"[?&;#](?:{'|'.join(names)})=[^&#]")

    # Whether there is one at all is asked first: that settles nearly every row.
    by_url = ibis.cases(*((written(names), kind) for kind, names in kinds.items()))
    anything = ibis.cases((written((*PAID_CLICKS, *UNPAID_CLICKS)), by_url))
    return ibis.coalesce(by_column, ibis.cases((url.contains("?"), anything)))
