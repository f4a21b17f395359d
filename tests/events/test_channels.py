"""Channels follow GA4's rules in order, AI search stands apart, and no input makes them fail."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.events.channels import CHANNELS, classify
from seqjourney.events.channels.hosts import site_tables

TAGS = ("utm_source", "utm_medium", "utm_campaign")
COLUMNS = ("channel", "page_url", "referrer", *TAGS, "click_id", "user_agent")
PAGE = "https://www.shop.example/products/1"
GOOGLE = "https://www.google.com/"
Row = dict[str, str | None]


@cache
def engine() -> Any:
    return ibis.duckdb.connect(threads=1)


def results(rows: list[Row]) -> list[dict[str, Any]]:
    """Classify rows on DuckDB and return them in their order, missing values as None."""
    table = pa.table(
        {
            "row": pa.array(range(len(rows)), pa.int64()),
            **{c: pa.array([row.get(c) for row in rows], pa.string()) for c in COLUMNS},
        }
    )
    found = engine().to_pyarrow(classify(ibis.memtable(table)))
    return sorted(found.to_pylist(), key=lambda row: row["row"])


def channels(rows: list[Row]) -> list[str | None]:
    return [row["channel"] for row in results(rows)]


def page(query: str) -> str:
    return f"{PAGE}?{query}"


GA4 = [  # expected, utm_source, utm_medium, utm_campaign
    ("direct", "(direct)", "(none)", None),
    ("direct", "(direct)", "(not set)", None),
    ("cross_network", "google", "cpc", "pmax cross-network 7"),
    ("paid_shopping", "google", "cpc", "summer_shop"),
    ("paid_shopping", "google", "cpc", "eshop"),
    ("paid_shopping", "amazon.com", "ppc", None),
    ("paid_shopping", "partner", "paid", "shopping"),
    ("paid_search", "google", "cpc", "workshop"),
    ("paid_search", "google", "cpc", None),
    ("paid_search", "bing", "ppc", None),
    ("paid_search", "www.google.de", "retargeting", None),
    ("paid_social", "facebook", "paid_social", None),
    ("paid_social", "ig", "cpm", None),
    ("paid_social", "linkedin.com", "paid-social", None),
    ("paid_video", "youtube", "cpv_cpc", None),
    ("paid_video", "youtube.com", "cpm", None),
    ("display", "partner", "display", None),
    ("display", "partner", "banner", None),
    ("display", "partner", "expandable", None),
    ("display", "partner", "interstitial", None),
    ("display", "google", "display", None),
    ("paid_other", "partner", "cpc", None),
    ("paid_other", "partner", "paid", None),
    ("ai_search", "somebody", "ai-assistant", "(ai-assistant)"),
    ("organic_shopping", "ebay.co.uk", None, None),
    ("organic_shopping", "etsy", "referral", None),
    ("organic_shopping", "newsletter", "email", "spring shopping"),
    ("organic_social", "partner", "social", None),
    ("organic_social", "partner", "social-network", None),
    ("organic_social", "partner", "social media", None),
    ("organic_social", "partner", "sm", None),
    ("organic_social", "pinterest", "referral", None),
    ("organic_video", "vimeo.com", "referral", None),
    ("organic_video", "partner", "instream-video", None),
    ("organic_search", "partner", "organic", None),
    ("organic_search", "duckduckgo", None, None),
    ("email", "newsletter", "email", None),
    ("email", "e-mail", None, None),
    ("email", "crm", "e_mail", None),
    ("email", "crm", "e mail", None),
    ("affiliates", "awin", "affiliate", None),
    ("referral", "partner", "referral", None),
    ("referral", "partner", "app", None),
    ("referral", "partner", "link", None),
    ("audio", "partner", "audio", None),
    ("sms", "sms", None, None),
    ("sms", "crm", "sms", None),
    ("mobile_push", "crm", "webpush", None),
    ("mobile_push", "crm", "mobile-banner-7", None),
    ("mobile_push", "crm", "app notification", None),
    ("mobile_push", "firebase", "whatever", None),
    ("unassigned", "partner", "whatever", None),
    ("unassigned", "partner", None, None),
]


def tagged(source: str | None, medium: str | None, campaign: str | None) -> Row:
    return {"utm_source": source, "utm_medium": medium, "utm_campaign": campaign}


def test_every_rule_of_ga4_gives_its_channel():
    rows = [tagged(*row[1:]) for row in GA4]
    assert channels(rows) == [row[0] for row in GA4]


def test_the_table_above_covers_every_channel():
    assert {row[0] for row in GA4} == set(CHANNELS)


def test_tags_in_the_address_count_like_tags_in_columns():
    def in_address(source, medium, campaign):
        tags = zip(TAGS, (source, medium, campaign), strict=True)
        escaped = [f"{k}={v.replace(' ', '%20')}" for k, v in tags if v is not None]
        return {"page_url": page("id=7&" + "&".join(escaped))}

    assert channels([in_address(*row[1:]) for row in GA4]) == [row[0] for row in GA4]


def test_tags_in_columns_win_over_tags_in_the_address():
    row = {"utm_source": "crm", "utm_medium": "email", "page_url": page("utm_medium=cpc")}
    assert channels([row]) == ["email"]


def test_case_plus_signs_and_blanks_in_tags_do_not_matter():
    rows: list[Row] = [
        {"page_url": page("utm_source=CRM&utm_medium=E%2dMail")},
        {"page_url": page("utm_source=x1&utm_medium=Social+Network")},
        {"utm_source": "  Google ", "utm_medium": " CPC "},
    ]
    assert channels(rows) == ["email", "organic_social", "paid_search"]


REFERRERS = [
    ("organic_search", GOOGLE),
    ("organic_search", "https://www.google.co.uk/search?q=x"),
    ("organic_search", "https://m.baidu.com/s"),
    ("organic_search", "https://de.search.yahoo.com/"),
    ("organic_search", "android-app://com.google.android.googlequicksearchbox/"),
    ("organic_search", "HTTPS://WWW.BING.COM/"),
    ("organic_search", "duckduckgo.com"),
    ("organic_social", "https://l.facebook.com/l.php?u=x"),
    ("organic_social", "https://t.co/abc"),
    ("organic_social", "https://out.reddit.com:443/x"),
    ("organic_video", "https://www.youtube.com/watch?v=1"),
    ("organic_video", "https://player.vimeo.com/"),
    ("organic_shopping", "https://www.amazon.de/"),
    ("organic_shopping", "https://business.amazon.co.uk/x"),
    ("referral", "https://blog.example.org/best-shops"),
    ("referral", "https://docs.google.com/document/1"),
    ("referral", "https://notgoogle.com/"),
    ("referral", "https://google.com.evil.example/"),
    ("referral", "http://intranet/links"),
    ("referral", "https://user:word@blog.example.org:8443/"),
    ("referral", "https://www.cnn.com/"),
    ("direct", None),
    ("direct", ""),
    ("direct", "$direct"),
    ("direct", "javascript:alert(1)"),
    ("direct", "about:blank"),
    ("direct", "mailto:someone@chatgpt.com"),
]


def test_a_referrer_says_what_kind_of_site_sent_the_visit():
    rows: list[Row] = [{"page_url": PAGE, "referrer": referrer} for _, referrer in REFERRERS]
    assert channels(rows) == [expected for expected, _ in REFERRERS]


INTERNAL = [
    ("https://www.shop.example/", "https://www.shop.example/cart"),
    ("https://shop.example", "https://checkout.shop.example/pay?x=1"),
    ("https://help.shop.co.uk/", "https://www.shop.co.uk/"),
    ("HTTPS://SHOP.EXAMPLE:443/", "http://www.shop.example/"),
    ("https://chat.bücher.example/", "https://bücher.example/"),
    ("http://localhost:3000/a", "http://localhost:3000/b"),
]
EXTERNAL = [
    ("https://one.co.uk/", "https://two.co.uk/"),
    ("https://one.myshopify.com/", "https://two.myshopify.com/"),
    ("https://shop.example.org/", "https://shop.example.com/"),
    ("https://myshop.example/", "https://shop.example/"),
]


def test_a_referrer_of_the_same_site_is_no_evidence():
    rows: list[Row] = [{"referrer": one, "page_url": other} for one, other in INTERNAL]
    assert channels(rows) == [None] * len(INTERNAL)


def test_a_referrer_under_the_same_public_suffix_is_another_site():
    rows: list[Row] = [{"referrer": one, "page_url": other} for one, other in EXTERNAL]
    assert channels(rows) == ["referral"] * len(EXTERNAL)


def test_tags_and_click_ids_count_even_after_an_internal_referrer():
    rows: list[Row] = [
        {"referrer": PAGE, "page_url": page("utm_source=crm&utm_medium=email")},
        {"referrer": PAGE, "page_url": page("gclid=x")},
    ]
    assert channels(rows) == ["email", "paid_search"]


def test_an_assistants_own_site_sees_its_own_pages_as_internal():
    [row] = results(
        [{"referrer": "https://www.perplexity.ai/", "page_url": "https://perplexity.ai/x"}]
    )
    assert (row["channel"], row["ai_engine"]) == (None, None)


CLICKS = [
    ("paid_search", "gclid=x", None),
    ("paid_search", "gbraid=x", GOOGLE),
    ("paid_search", "wbraid=x", None),
    ("paid_search", "gad_source=1", None),
    ("paid_search", "msclkid=x", "https://www.bing.com/"),
    ("display", "dclid=x", None),
    ("paid_social", "ttclid=x", None),
    ("paid_social", "li_fat_id=x", None),
    ("paid_social", "twclid=x", "https://t.co/"),
    ("paid_social", "rdt_cid=x", None),
    ("paid_social", "ScCid=x", None),
    ("affiliates", "irclickid=x", None),
    ("organic_social", "fbclid=x", None),
    ("organic_social", "fbclid=x", "https://l.facebook.com/"),
    ("paid_social", "fbclid=x&utm_source=facebook&utm_medium=paid", None),
    ("paid_social", "fbclid=x&utm_medium=cpc", None),
    ("email", "fbclid=x&utm_source=crm&utm_medium=email", None),
    ("organic_search", "fbclid=x", GOOGLE),
    ("organic_search", "srsltid=x", None),
    ("paid_search", "gclid=x&utm_source=crm&utm_medium=email", None),
    ("paid_video", "gclid=x&utm_source=youtube&utm_medium=cpc", None),
    ("display", "gclid=x&utm_source=google-ad&utm_medium=display", None),
    ("paid_shopping", "gclid=x&utm_campaign=shopping_de", None),
    ("direct", "gclid=", None),
    ("direct", "notgclid=x", None),
]


def test_click_ids_tell_who_paid_and_only_those_that_do():
    rows: list[Row] = [{"page_url": page(q), "referrer": ref} for _, q, ref in CLICKS]
    assert channels(rows) == [expected for expected, *_ in CLICKS]


def test_a_click_id_column_holds_the_parameters_name():
    rows: list[Row] = [{"click_id": "gclid"}, {"click_id": "FBCLID"}, {"click_id": "unheard_of"}]
    assert channels(rows) == ["paid_search", "organic_social", None]


def test_a_channel_that_the_source_gave_stays():
    rows: list[Row] = [
        {"channel": "Partner Portal", "referrer": GOOGLE, "page_url": PAGE},
        {"channel": " ", "referrer": GOOGLE, "page_url": PAGE},
    ]
    assert channels(rows) == ["Partner Portal", "organic_search"]


def test_rows_without_any_evidence_have_no_channel():
    rows: list[Row] = [{}, {"user_agent": "Mozilla/5.0 (X11) Firefox/125.0"}, {"page_url": ""}]
    assert channels(rows) == [None, None, None]


@pytest.mark.parametrize("column", ["page_url", "referrer", "utm_medium", "user_agent"])
def test_every_column_is_optional(column):
    table = ibis.memtable(pa.table({column: pa.array([None, "x.example"], pa.string())}))
    found = engine().to_pyarrow(classify(table))
    assert {"channel", "ai_engine", "ai_evidence", "ai_confidence", "automated"} <= {
        *found.column_names
    }
    assert found.num_rows == 2


def test_other_columns_pass_through_unchanged():
    table = pa.table(
        {"id": [1, 2], "when": pd.to_datetime(["2024-01-01", "2024-01-02"]), "x": [0.5, None]}
    )
    found = engine().to_pyarrow(classify(ibis.memtable(table))).sort_by("id")
    assert found.select(["id", "when", "x"]).to_pylist() == table.to_pylist()


# engine, evidence, confidence, row
ASSISTANTS: list[tuple[str, str, str, Row]] = [
    ("chatgpt", "utm", "high", {"utm_source": "chatgpt.com"}),
    ("chatgpt", "utm", "high", {"page_url": page("utm_source=chatgpt.com")}),
    ("chatgpt", "utm", "high", {"utm_source": "ChatGPT", "referrer": "https://chatgpt.com/"}),
    ("chatgpt", "utm", "medium", {"utm_source": "openai"}),
    (
        "chatgpt",
        "utm",
        "medium",
        {"utm_source": "chatgpt.com", "referrer": "https://mail.example/"},
    ),
    ("chatgpt", "referrer", "high", {"referrer": "https://chat.openai.com/c/1"}),
    ("perplexity", "referrer", "high", {"referrer": "https://www.perplexity.ai/search"}),
    ("perplexity", "utm", "high", {"utm_source": "perplexity", "utm_medium": "referral"}),
    ("gemini", "referrer", "high", {"referrer": "https://gemini.google.com/app"}),
    ("gemini", "referrer", "high", {"referrer": "https://bard.google.com/"}),
    ("gemini", "utm", "medium", {"utm_source": "gemini"}),
    ("notebooklm", "referrer", "high", {"referrer": "https://notebooklm.google.com/"}),
    ("copilot", "referrer", "high", {"referrer": "https://copilot.microsoft.com/"}),
    ("copilot", "referrer", "medium", {"referrer": "https://m365.cloud.microsoft/chat"}),
    ("copilot", "referrer", "medium", {"referrer": "https://edgeservices.bing.com/"}),
    ("copilot", "referrer", "medium", {"referrer": "https://www.bing.com/chat?q=x"}),
    ("copilot", "utm", "medium", {"utm_source": "copilot"}),
    ("claude", "referrer", "high", {"referrer": "https://claude.ai/chat/1"}),
    ("claude", "utm", "high", {"utm_source": "claude.ai"}),
    ("grok", "referrer", "high", {"referrer": "https://grok.com/"}),
    ("grok", "referrer", "high", {"referrer": "https://x.com/i/grok?conversation=1"}),
    ("deepseek", "referrer", "high", {"referrer": "https://chat.deepseek.com/"}),
    ("deepseek", "referrer", "medium", {"referrer": "https://www.deepseek.com/"}),
    ("meta_ai", "referrer", "high", {"referrer": "https://www.meta.ai/"}),
    ("le_chat", "referrer", "high", {"referrer": "https://chat.mistral.ai/"}),
    ("you", "referrer", "high", {"referrer": "https://you.com/"}),
    ("duck_ai", "referrer", "high", {"referrer": "https://duck.ai/"}),
    ("iask", "referrer", "high", {"referrer": "https://iask.ai/"}),
    ("poe", "referrer", "medium", {"referrer": "https://poe.com/"}),
    ("character_ai", "referrer", "medium", {"referrer": "https://beta.character.ai/"}),
    ("phind", "referrer", "medium", {"referrer": "https://www.phind.com/"}),
    ("kagi_assistant", "referrer", "medium", {"referrer": "https://kagi.com/assistant/1"}),
    ("pi", "referrer", "medium", {"referrer": "https://pi.ai/talk"}),
    ("qwen", "referrer", "high", {"referrer": "https://chat.qwen.ai/"}),
    ("chatglm", "referrer", "high", {"referrer": "https://chatglm.cn/"}),
    ("baidu_ai", "referrer", "high", {"referrer": "https://yiyan.baidu.com/"}),
    ("doubao", "referrer", "medium", {"referrer": "https://www.doubao.com/"}),
    ("kimi", "referrer", "medium", {"referrer": "https://kimi.ai/"}),
    ("jasper", "referrer", "low", {"referrer": "https://app.jasper.ai/"}),
    ("writesonic", "referrer", "low", {"referrer": "https://app.writesonic.com/"}),
    ("chatplus", "referrer", "low", {"referrer": "https://chat-gpt.org/"}),
    # A tag that no rule knows leaves the word to the referrer, less sure.
    ("chatgpt", "referrer", "medium", {"utm_source": "qr7", "referrer": "https://chatgpt.com/"}),
]


def test_every_assistant_is_named_with_its_evidence_and_confidence():
    found = results([{"page_url": PAGE, **row} for *_, row in ASSISTANTS])
    keys = ("channel", "ai_engine", "ai_evidence", "ai_confidence")
    assert [tuple(row[key] for key in keys) for row in found] == [
        ("ai_search", *expected) for *expected, _ in ASSISTANTS
    ]


def test_every_host_on_matomos_list_of_assistants_is_ai_search():
    text = resources.files("seqjourney.events.channels").joinpath("hosts/matomo_AIAssistants.yml")
    places = [p for hosts in yaml.safe_load(text.read_text()).values() for p in hosts]
    rows: list[Row] = [{"page_url": PAGE, "referrer": f"https://{place}"} for place in places]
    assert set(channels(rows)) == {"ai_search"}


def test_a_path_rule_needs_its_host_and_its_path():
    rows: list[Row] = [
        {"page_url": PAGE, "referrer": "https://x.com/someone/status/1"},
        {"page_url": PAGE, "referrer": "https://notx.com/i/grok"},
        {"page_url": PAGE, "referrer": "https://kagi.com/search"},
        {"page_url": PAGE, "referrer": "https://blog.example/?from=x.com/i/grok"},
    ]
    assert channels(rows) == ["organic_social", "referral", "organic_search", "referral"]


def test_paid_visits_from_an_assistant_are_paid_and_name_it():
    [row] = results([{"utm_source": "chatgpt.com", "utm_medium": "cpc"}])
    assert (row["channel"], row["ai_engine"]) == ("paid_other", "chatgpt")


def test_a_tagged_link_that_an_assistant_cited_keeps_its_channel_and_names_the_assistant():
    row: Row = {"utm_source": "crm", "utm_medium": "email", "referrer": "https://chatgpt.com/"}
    [found] = results([row])
    assert found["channel"] == "email"
    assert (found["ai_engine"], found["ai_evidence"], found["ai_confidence"]) == (
        *("chatgpt", "referrer", "medium"),
    )


def test_an_unnamed_assistant_has_no_engine():
    [row] = results([{"utm_source": "somebody", "utm_medium": "ai-assistant"}])
    assert (row["channel"], row["ai_engine"], row["ai_evidence"]) == ("ai_search", None, "utm")
    assert row["ai_confidence"] == "medium"


def test_google_overviews_stay_organic_and_are_only_possible():
    quoted = PAGE + "#:~:text=a%20passage"
    [google, anchored, plain, bing, none, ad] = results(
        [
            {"page_url": quoted, "referrer": GOOGLE},
            {"page_url": PAGE + "#top:~:text=x", "referrer": "https://www.google.de/"},
            {"page_url": PAGE, "referrer": GOOGLE},
            {"page_url": quoted, "referrer": "https://www.bing.com/"},
            {"page_url": quoted},
            {"page_url": page("gclid=1") + "#:~:text=x", "referrer": GOOGLE},
        ]
    )
    for row in (google, anchored):
        assert row["channel"] == "organic_search"
        assert row["ai_engine"] == "google_ai_overview_possible"
        assert (row["ai_evidence"], row["ai_confidence"]) == ("fragment", "low")
    for row in (plain, bing, none, ad):
        assert (row["ai_engine"], row["ai_evidence"], row["ai_confidence"]) == (None, "none", None)
    assert (bing["channel"], none["channel"], ad["channel"]) == (
        *("organic_search", "direct", "paid_search"),
    )


MACHINES = [
    "Mozilla/5.0 AppleWebKit/537.36; compatible; GPTBot/1.1; +https://openai.com/gptbot",
    "Mozilla/5.0 (compatible; OAI-SearchBot/1.0; +https://openai.com/searchbot)",
    "Mozilla/5.0 AppleWebKit/537.36; compatible; ChatGPT-User/1.0; +https://openai.com/bot",
    "Mozilla/5.0 (compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "Mozilla/5.0 (compatible; Claude-User/1.0; +Claude-User@anthropic.com)",
    "Mozilla/5.0 (compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
    "Mozilla/5.0 (compatible; Perplexity-User/1.0; +https://perplexity.ai/perplexity-user)",
    "Mozilla/5.0 (compatible; Google-Extended)",
    "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (compatible; Bytespider; x@bytedance.com)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36",
    "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 PhantomJS/2.1.1 Safari/538.1",
    "Mozilla/5.0 (Linux; Android 11) Chrome/119.0 Mobile Safari/537.36 Chrome-Lighthouse",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Mozilla/5.0 (compatible; Diffbot/0.1; +http://www.diffbot.com)",
    "AhrefsSiteAudit-crawler",
    "Scrapy/2.11 (+https://scrapy.org)",
]  # fmt: skip
PEOPLE = [
    "Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537.36 Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4) AppleWebKit/605.1.15 Version/17.4 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 Chrome/80.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 10; CUBOT P40) AppleWebKit/537.36 Chrome/90.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148 Instagram 300.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) [FBAN/FBIOS;FBAV/440.0]",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/124.0 Mobile Safari/537.36 GSA/15.1",
    "Opera/9.80 (Android; Opera Mini/36.2/119.132; U; id) Presto/2.12.423 Version/12.16",
    "MyShopApp/4.2 (com.example.shop; build:1; iOS 17.4.0) Alamofire/5.8",
    "okhttp/4.12.0",
    "",
    None,
]  # fmt: skip


def automated(agents: list[str | None], **more: str) -> list[bool]:
    return [row["automated"] for row in results([{"user_agent": a, **more} for a in agents])]


def test_machines_are_marked_and_people_are_not():
    assert automated(MACHINES) == [True] * len(MACHINES)
    assert automated(PEOPLE, page_url=PAGE) == [False] * len(PEOPLE)


def test_case_does_not_hide_a_machine():
    assert automated([a.upper() for a in MACHINES] + [a.lower() for a in MACHINES]) == (
        [True] * 2 * len(MACHINES)
    )


def test_a_program_is_a_machine_on_a_page_but_not_when_it_sends_a_servers_event():
    programs: list[str | None] = ["python-requests/2.31.0", "curl/8.4.0", "Go-http-client/2.0"]
    assert automated(programs, page_url=PAGE) == [True] * 3
    assert automated(programs) == [False] * 3


HOSTILE: list[Row] = [
    {"page_url": PAGE + "?" + "a" * 10_000_000},
    {"page_url": "https://" + "a" * 10_000_000},
    {"page_url": "?" * 100_000 + "&utm_source=" * 10_000, "referrer": "." * 1_000_000},
    {"page_url": page("utm_source=" + "x" * 1_000_000), "referrer": "a." * 500_000},
    {"page_url": page("utm_source=%&utm_medium=%zz&utm_campaign=%e0%a4")},
    {"page_url": page("utm_source=%%%+++&gclid=%")},
    {"page_url": "https://[::1]:80/", "referrer": "https://[::ffff:1.2.3.4]/"},
    {"page_url": "https://münchen.example/ä", "referrer": "https://例え.テスト/"},
    {"page_url": PAGE, "referrer": "https://gοοgle.com/"},  # Greek letters
    {"page_url": PAGE, "referrer": "data:text/html;base64,PHNjcmlwdD4="},
    {"page_url": PAGE, "referrer": "javascript:alert('https://chatgpt.com')"},
    {"page_url": PAGE, "referrer": "https://chatgpt.com@evil.example/"},
    {"page_url": PAGE, "referrer": "https://evil.example/?x=https://chatgpt.com/"},
    {"page_url": PAGE, "referrer": "https://evil.example#@chatgpt.com/"},
    {"page_url": PAGE, "referrer": "https://\u202egpj.example\n/"},
    {"page_url": "\t\n ", "referrer": "   "},
    {
        "page_url": "=cmd|'/c calc'!A0",
        "utm_source": "'; DROP TABLE events; --",
        "referrer": "🦆.com",
    },
    {"user_agent": "bo" * 1_000_000, "utm_medium": "\\", "click_id": "$0 \\1 %s {}"},
]


def test_hostile_text_never_fails_and_never_poses_as_an_assistant():
    found = results(HOSTILE)
    assert len(found) == len(HOSTILE)
    assert all(row["channel"] in (None, *CHANNELS) for row in found)
    assert all(row["ai_engine"] is None for row in found)


PIECES = {
    "page_url": [
        *(None, "", PAGE, "https://other.example/", PAGE + "#:~:text=x", page("gclid=1")),
        *(
            page("utm_source=google&utm_medium=cpc"),
            page("fbclid=1"),
            page("utm_source=chatgpt.com"),
        ),
    ],
    "referrer": [None, GOOGLE, PAGE, "https://chatgpt.com/", "https://x.com/i/grok", "garbage"],
    "utm_source": [None, "google", "perplexity", "crm", "facebook"],
    "utm_medium": [None, "cpc", "email", "social", "(none)", "?"],
    "utm_campaign": [None, "shop", "cross-network", "campaign 1234567"],
    "user_agent": [None, MACHINES[0], PEOPLE[0]],
    "channel": [None, None, None, "given"],
}
a_row = st.fixed_dictionaries({c: st.sampled_from(values) for c, values in PIECES.items()})


@settings(max_examples=3)
@given(rows=st.lists(a_row, min_size=20, max_size=60), shuffle=st.randoms(use_true_random=False))
def test_a_rows_answer_depends_neither_on_order_nor_on_other_rows(rows, shuffle):
    def answers(some):
        return [{k: v for k, v in row.items() if k != "row"} for row in results(some)]

    order = list(range(len(rows)))
    shuffle.shuffle(order)
    half = order[: len(order) // 2 + 1]
    together = answers(rows)
    assert answers([rows[i] for i in half] * 2) == [together[i] for i in half] * 2


@settings(max_examples=3)
@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=8, max_size=80
    )
)
def test_any_text_in_any_column_gives_one_answer_per_row(texts):
    rows: list[Row] = [
        dict(zip(COLUMNS[1:], texts[i : i + 7], strict=True)) for i in range(len(texts) - 6)
    ]
    found = results(rows)
    assert len(found) == len(rows)
    assert all(row["channel"] in (None, *CHANNELS) for row in found)
    assert all(isinstance(row["automated"], bool) for row in found)
    assert all((row["ai_evidence"] == "none") <= (row["ai_engine"] is None) for row in found)


def test_the_expression_compiles_for_spark():
    table = ibis.memtable(pa.table({c: pa.array(["x"]) for c in COLUMNS}))
    assert "SELECT" in str(ibis.to_sql(classify(table), dialect="pyspark"))


def test_the_vendored_lists_are_unchanged_and_packaged():
    hosts = resources.files("seqjourney.events.channels").joinpath("hosts")
    origin = hosts.joinpath("ORIGIN.md").read_text()
    recorded = dict(re.findall(r"\| (matomo_\w+\.yml) \| `(\w{64})`", origin))
    assert len(recorded) == 3
    for name, digest in recorded.items():
        assert hashlib.sha256(hosts.joinpath(name).read_bytes()).hexdigest() == digest


def test_the_tables_of_hosts_have_one_row_per_key_and_known_kinds():
    tables = site_tables()
    exact, suffixes = tables.exact.to_pandas(), tables.suffixes.to_pandas()
    for table in (exact, suffixes):
        assert table["key"].is_unique
        assert not table["key"].str.contains(r"[{}/A-Z]").any()
    assert set(suffixes["kind"]) == {"ai", "social", "video", "shopping"}
    assert set(exact["kind"]) == {*suffixes["kind"], "search", "email", "sms", "push"}
    # Only the last two or three labels are tried; a longer suffix would never match.
    assert suffixes["key"].str.count(r"\.").max() <= 2


def test_googles_own_grouping_of_real_sessions_stays_as_given(real_data):
    place = real_data / "google_store_sessions" / "all_sessions.parquet"
    if not place.is_file():
        pytest.skip("no google_store_sessions")
    rows = engine().read_parquet(place).mutate(channel=ibis._.channelGrouping)
    found = engine().execute(classify(rows).group_by("channel").aggregate(n=ibis._.count()))
    counts = dict(zip(found["channel"], found["n"], strict=True))
    assert counts["Organic Search"] == 8653
    assert sum(counts.values()) == 15_134


def test_real_web_events_are_classified_as_their_collector_saw_them(real_data):
    place = real_data / "snowplow_web_sample" / "snowplow_web_events.parquet"
    if not place.is_file():
        pytest.skip("no snowplow_web_sample")
    names = {"referrer": "page_referrer", "utm_source": "mkt_source", "utm_medium": "mkt_medium"}
    rows = engine().read_parquet(place).select("page_url", user_agent="useragent", **names)
    found = engine().execute(classify(rows))
    assert len(found) == 92
    assert not found["automated"].any()
    clicked = found["page_url"].str.contains("gclid=", regex=False)
    displayed = found["page_url"].str.contains("utm_medium=display", regex=False)
    assert set(found.loc[clicked & displayed, "channel"]) == {"display"}
    assert set(found.loc[clicked & ~displayed, "channel"]) == {"paid_search"}
    google = found["referrer"].str.contains("google.com", regex=False, na=False)
    assert set(found.loc[google & ~clicked, "channel"]) == {"organic_search"}
