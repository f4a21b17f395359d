"""GA4's default channel group in its order, with AI search between paid and organic channels.

The rules follow https://support.google.com/analytics/answer/9756891 (the copies at hand were
partial; the text was compared over several public re-implementations). Where sources disagree:

- Order of Email, Affiliates and Referral: Google's page lists Email, Affiliates, Referral; some
  copies put Referral first. It matters only for source=email with medium=referral.
- Affiliates: Google says medium is exactly `affiliate`; most companies write `affiliates` too.
- AI Assistant: a channel of GA4 since May 2026 (medium `ai-assistant`); its place in the order is
  not documented. Here: after all paid rules, before every unpaid one.
- GA4 looks a Google Ads click up in the Ads account; from a page's address alone `gclid` is
  source=google, medium=cpc.
- GA4's lists of search, social, shopping and video sites differ in detail from those in `hosts/`.

One quirk is kept because it is GA4's: a campaign whose name holds `shop` is Organic Shopping even
with medium=email.
"""

from __future__ import annotations

from typing import Any

import ibis

CHANNELS = (
    "direct",
    "cross_network",
    "paid_shopping",
    "paid_search",
    "paid_social",
    "paid_video",
    "display",
    "paid_other",
    "ai_search",
    "organic_shopping",
    "organic_social",
    "organic_video",
    "organic_search",
    "email",
    "affiliates",
    "referral",
    "audio",
    "sms",
    "mobile_push",
    "unassigned",
)
# What a medium means; matched whole, in lower case, by joining with this table.
MEDIUMS = {
    **dict.fromkeys(("display", "banner", "expandable", "interstitial", "cpm"), "display"),
    **dict.fromkeys(("ai-assistant", "ai_assistant", "ai assistant"), "ai"),
    **dict.fromkeys(("social", "social-network", "social-media"), "social"),
    **dict.fromkeys(("sm", "social network", "social media"), "social"),
    "organic": "search",
    **dict.fromkeys(("email", "e-mail", "e_mail", "e mail"), "email"),
    **dict.fromkeys(("affiliate", "affiliates"), "affiliates"),
    **dict.fromkeys(("referral", "app", "link"), "referral"),
    "audio": "audio",
    "sms": "sms",
}


def paid_medium(medium: Any) -> Any:
    """GA4's `^(.*cp.*|ppc|retargeting|paid.*)$`; false for no medium."""
    paid = medium.contains("cp") | medium.startswith("paid") | medium.isin(["ppc", "retargeting"])
    return paid.fill_null(False)


def shop_campaign(campaign: Any) -> Any:
    """GA4's `^(.*(([^a-df-z]|^)shop|shopping).*)$`, so that `workshop` is none; null-safe."""
    whole_word = campaign.re_search(r"(?:[^a-df-z]|^)shop|shopping")
    return ibis.cases((campaign.contains("shop"), whole_word), else_=False)


def channel(facts: Any) -> Any:
    """Return the channel of each row of normalised facts, null where nothing is known.

    Args:
        facts: has the Ibis columns `kind` (of the source: search, social, video, shopping, ai,
            email, sms, push or null), `medium`, `medium_kind` (see `MEDIUMS`), `click`,
            `referrer_kind`, and the booleans `paid`, `shop`, `cross_network`, `direct`,
            `internal`, `tagged`, `referred` and `visited`.

    Returns:
        Ibis string column, one of `CHANNELS`.
    """
    untagged = [
        (facts.kind == "search", "organic_search"),
        (facts.kind == "ai", "ai_search"),
        (facts.kind == "social", "organic_social"),
        (facts.kind == "video", "organic_video"),
        (facts.kind == "shopping", "organic_shopping"),
        (facts.referred, "referral"),
        (facts.internal, ibis.null("string")),  # the visit began before: this row says nothing
        (facts.visited, "direct"),
    ]
    decided_by_tags = (
        facts.tagged | facts.click.notnull() | facts.direct | facts.shop | facts.cross_network
    )
    # Few rows carry tags; the others are spared some forty comparisons.
    return ibis.cases((decided_by_tags, _by_tags(facts, untagged)), *untagged)


def _by_tags(facts: Any, otherwise: list[tuple[Any, Any]]) -> Any:
    kind, medium, click = facts.kind, facts.medium, facts.click
    said = facts.medium_kind.fill_null("")
    # Ads in Google's display network carry the click id of its search ads: a tag says which.
    paid_click = click.isin(["search", "social"]).fill_null(False) & (said != "display")
    paid = facts.paid | paid_click
    push = medium.endswith("push") | medium.contains("mobile") | medium.contains("notification")
    return ibis.cases(
        (facts.direct & click.isnull(), "direct"),
        (facts.cross_network, "cross_network"),
        ((facts.shop | (kind == "shopping")) & paid, "paid_shopping"),
        ((kind == "search") & paid, "paid_search"),
        ((kind == "social") & paid, "paid_social"),
        ((kind == "video") & paid, "paid_video"),
        ((said == "display") | ((click == "display") & ~facts.paid), "display"),
        (paid, "paid_other"),
        (click == "affiliates", "affiliates"),  # somebody pays for it: before the unpaid rules
        ((kind == "ai") | (said == "ai"), "ai_search"),
        (facts.shop | (kind == "shopping"), "organic_shopping"),
        ((kind == "social") | (said == "social"), "organic_social"),
        ((kind == "video") | medium.contains("video"), "organic_video"),
        ((kind == "search") | (said == "search"), "organic_search"),
        ((kind == "email") | (said == "email"), "email"),
        (said == "affiliates", "affiliates"),
        (said == "referral", "referral"),
        (said == "audio", "audio"),
        ((kind == "sms") | (said == "sms"), "sms"),
        (push | (kind == "push"), "mobile_push"),
        # Not in GA4: tags that no rule knows, on a link that an assistant cited.
        (facts.tagged & (facts.referrer_kind == "ai"), "ai_search"),
        (facts.tagged, "unassigned"),
        *otherwise,
    )
