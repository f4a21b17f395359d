"""Automated agents by user agent: AI agents and crawlers, search bots, headless browsers, monitors.

Written by us from the operators' public documentation. A browser that an assistant drives on a
person's machine sends that browser's own user agent and cannot be told from the person.
"""

from __future__ import annotations

from typing import Any

PROBLEM = "automated agent"
"""Why a row of a machine stands in the quarantine: by choice, for nothing is wrong with it."""

# Most machines call themselves a bot, crawler or spider; `bot` must end a word, and Cubot is a
# telephone. Operators: OpenAI (GPTBot, OAI-SearchBot, ChatGPT-User), Anthropic (ClaudeBot,
# Claude-SearchBot, Claude-User), Perplexity (PerplexityBot, Perplexity-User), Common Crawl
# (CCBot), Apple (Applebot), Amazon (Amazonbot), Google, Bing, Yandex, Baidu, DuckDuckGo, ...
_GENERIC = (
    r"(?:^|[^u])bot(?:[^a-z]|$)",
    r"crawl",
    r"spider",
    r"scrap(?:er|ing|y)",
    r"headless",
)
# Machines whose name says none of these.
_NAMED = (
    # AI: fetchers that act for a person, and training crawlers
    "chatgpt-user", "claude-user", "claude-web", "anthropic-ai", "perplexity-user",
    "mistralai-user", "google-extended", "google-cloudvertex", "googleagent", "google-notebooklm",
    "gemini-deep-", "meta-externalagent", "meta-externalfetcher", "meta-webindexer",
    "facebookexternalhit", "facebookcatalog", "cohere-ai", "cohere-training", "duckassist",
    "bytespider", "diffbot",
    "webzio-", "omgili", "devin/", "manus-user", "novaact", "amazon-kendra", "bedrockbot",
    # search and preview
    "slurp", "googleother", "google-inspectiontool", "google-safety", "google-read-aloud",
    "mediapartners-google", "feedfetcher", "apis-google", "storebot-google", "bingpreview",
    "ia_archiver", "archive.org", "yeti/", "embedly", "whatsapp/", "skypeuripreview",
    "slack-imgproxy", "vkshare", "flipboardproxy", "pinterest/0.",
    # headless browsers, test tools and monitors
    "phantomjs", "puppeteer", "playwright", "selenium", "webdriver", "cypress/",
    "lighthouse", "pagespeed", "gtmetrix", "webpagetest", "ptst/", "pingdom", "statuscake",
    "site24x7", "newrelicpinger", "synthetic", "catchpoint", "dynatrace", "dareboost", "monitis",
    "nagios", "check_http", "zabbix", "blackbox-exporter", "checkly", "freshping", "hetrixtools",
    # scanners
    "nmap", "nikto", "sqlmap", "masscan", "zgrab", "nuclei", "censysinspect", "expanse", "netcraft",
    "w3c_validator", "barracuda", "proofpoint", "mimecast",
)  # fmt: skip
# Programs. They fetch pages by themselves, but they also send the company's own events (an order
# from its server), so that they count only on a row that is a visit to a page.
_LIBRARIES = (
    r"^(?:curl|wget|python|go-http-client|java|ruby|perl|php|axios|node|got|undici|deno|"
    r"bun|httpie|postman|insomnia|apache-httpclient|libwww|lwp|aiohttp|httpx|guzzle|winhttp|"
    r"faraday|rest-client|jakarta|nutch|reqwest|hyper|colly)(?:[/ -]|$)|python-requests|"
    r"python-urllib|guzzlehttp|apache-httpclient|node-fetch|libwww-perl"
)


def _escape(word: str) -> str:
    return "".join(f"[{letter}]" if letter in ".!/+" else letter for letter in word)


AGENT_PATTERN = "|".join((*_GENERIC, *(_escape(word) for word in _NAMED)))


def automated(user_agent: Any, on_a_page: Any) -> Any:
    """Say whether a machine made the row.

    Args:
        user_agent: Ibis text column; null means unknown.
        on_a_page: Ibis boolean column: the row has a page or a referrer.

    Returns:
        Ibis boolean column, false where the user agent is unknown.
    """
    # A case, not an `and`: engines compute both sides of an `and`, and nearly all are browsers.
    plain = user_agent.startswith("Mozilla/") | ~on_a_page
    pattern, with_programs = f"(?i){AGENT_PATTERN}", f"(?i){AGENT_PATTERN}|{_LIBRARIES}"
    found = plain.ifelse(user_agent.re_search(pattern), user_agent.re_search(with_programs))
    return found.fill_null(False)
