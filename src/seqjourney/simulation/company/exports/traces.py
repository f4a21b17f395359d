"""Codes become texts: the table `traces`, from which every export takes its rows.

All ids and names are made from numbers by fixed rules, so that the same seed writes the same bytes
and nothing but the numbers has to be kept in memory. `source_event_id` is the id under which an
event is found in its source's files, and is what the truth names it by.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from seqjourney.simulation.company.bots import BOTS
from seqjourney.simulation.company.calls import STAGES
from seqjourney.simulation.company.consent import STATES
from seqjourney.simulation.company.evidence import ARRIVALS, CHANNELS
from seqjourney.simulation.company.happenings import ALL_EVENTS
from seqjourney.simulation.company.money import CURRENCIES
from seqjourney.simulation.company.part import JUNK_DEVICE, JUNK_PHONE, JUNK_USERS
from seqjourney.simulation.company.people import SITES
from seqjourney.simulation.company.sources import ALL_NAMES, SOURCE_NAMES
from seqjourney.simulation.event_log import PAGE_TYPES
from seqjourney.simulation.traits import COUNTRIES, DEVICES

FIRST_NAMES = ("anna", "ben", "chloe", "david", "elena", "felix", "greta", "hugo", "ines", "jan")
LAST_NAMES = (
    "adler",
    "brandt",
    "costa",
    "dubois",
    "evans",
    "fischer",
    "garcia",
    "hansen",
    "ivan",
)
MAIL_HOSTS = ("mail.example", "post.example", "inbox.example")
QUERY_WORDS = ("blue", "red", "green", "wool", "linen", "summer", "winter", "small")
QUERY_THINGS = ("shirt", "jacket", "lamp", "chair", "bag", "shoes", "mug", "tent")
USER_AGENTS = {
    "mobile": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
    "desktop": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Safari/537.36",
    "tablet": "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Safari/537.36",
}
PROXY_USER_AGENT = "Mozilla/5.0"
"""What mail proxies send that open every e-mail by themselves."""
ZERO_ID = "00000000-0000-0000-0000-000000000000"
ZERO_PHONE = "0000000000"
HOSTS = {
    "shop": "www.shop.example",
    "outlet": "outlet.example",
    "us": "us.shop.example",
    "blog": "blog.shop.example",
}

ACCOUNT_HOST = "https://account.shop.example"


def picks(name: str, code: str, values: tuple[str, ...]) -> str:
    """SQL that turns a code into one of some texts; null stays null, as does -1."""
    texts = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"case when {code} >= 0 then [{texts}][{code} + 1] end as {name}"


def macros(seed: int) -> list[str]:
    """SQL functions that make ids and times from numbers."""
    return [
        # A space apart for each seed, so that two companies never share an id.
        f"create or replace macro made_id(kind, n) as md5('{seed}/' || kind || n)::uuid::varchar",
        "create or replace macro iso(us) as strftime(make_timestamp(us), '%Y-%m-%dT%H:%M:%S.%gZ')",
        "create or replace macro stamp(us) as strftime(make_timestamp(us), '%Y-%m-%d %H:%M:%S.%f')",
        "create or replace macro moment(us) as make_timestamp(us) at time zone 'UTC'",
        *(
            f"create or replace macro param_{kind}(name, x) as case when x is not null then "
            "{'key': name, 'value': {'string_value': "
            + text
            + "::varchar, 'int_value': "
            + whole
            + "::bigint, 'float_value': null::double, 'double_value': "
            + number
            + "::double}} end"
            for kind, text, whole, number in (
                ("text", "x", "null", "null"),
                ("int", "null", "x", "null"),
                ("number", "null", "null", "x"),
            )
        ),
        # JSON without its nulls, as most tools write it.
        "create or replace macro lean(x) as json_merge_patch('{}', to_json(x))",
    ]


SITE_PATHS = """
    case event when 'search' then '/search?q=' || replace(query, ' ', '+')
        when 'product_viewed' then '/p/' || product
        when 'cart_added' then '/cart' when 'order_completed' then '/checkout'
        else case when site = 'blog' and step > 0 then '/articles/' || article
            when site = 'blog' then '/' when page_type = 'home' then '/'
            when page_type = 'category' then '/c/' || (product % 12)
            when page_type = 'product' then '/p/' || product
            else '/' || coalesce(page_type, 'account') end end"""


def arrivals_table() -> pa.Table:
    """The evidence that each kind of arrival leaves, by its code."""
    names = (
        "referrer",
        "utm_source",
        "utm_medium",
        "utm_campaign",
        "utm_content",
        "click_id",
        "fragment",
        "ai_engine",
    )
    columns: dict[str, Any] = {
        name: [getattr(arrival, name) or None for arrival in ARRIVALS] for name in names
    }
    columns["url_query"] = [
        "&".join(
            f"{name}={getattr(arrival, name)}"
            for name in ("utm_source", "utm_medium", "utm_campaign", "utm_content")
            if getattr(arrival, name)
        )
        for arrival in ARRIVALS
    ]
    columns["came_by"] = [arrival.channel for arrival in ARRIVALS]
    return pa.table({"arrival": pa.array(range(len(ARRIVALS)), pa.int16()), **columns})


def build_traces(connection: Any, part: pa.Table, seed: int) -> None:
    """Make the table `all_traces` of one part, sorted as it is, and its view `traces`."""
    connection.register("part", part)
    connection.register("arrivals", arrivals_table())
    for statement in macros(seed):
        connection.execute(statement)
    junk_user = ", ".join(f"'{text}'" for text in JUNK_USERS)
    hosts = " ".join(f"when '{site}' then 'https://{host}'" for site, host in HOSTS.items())
    hosts = f"case when source = 'account' then '{ACCOUNT_HOST}' else case site {hosts} end end"
    agents = picks("bot_agent", "bot", tuple(bot.user_agent for bot in BOTS))
    connection.execute(f"""
        create or replace temp table all_traces as
        with words as (
            select part.* exclude (source, event, name, site, device, page_type, stage, channel,
                    currency, country, analytics, advertising, query),
                {picks("source", "part.source", SOURCE_NAMES)},
                {picks("event", "part.event", ALL_EVENTS)},
                {picks("named", "part.name", ALL_NAMES)},
                {picks("site", "part.site", SITES)},
                {picks("device", "part.device", DEVICES)},
                {picks("page_type", "part.page_type", PAGE_TYPES)},
                {picks("stage", "part.stage", STAGES)},
                {picks("channel", "part.channel", CHANNELS)},
                {picks("country", "part.country", COUNTRIES)},
                {picks("currency", "part.currency", CURRENCIES)},
                {picks("analytics", "part.analytics", STATES)},
                {picks("advertising", "part.advertising", STATES)},
                {picks("first_name", f"(person % {len(FIRST_NAMES)})", FIRST_NAMES)},
                {picks("last_name", f"(person % {len(LAST_NAMES)})", LAST_NAMES)},
                {picks("mail_host", f"(person % {len(MAIL_HOSTS)})", MAIL_HOSTS)},
                {picks("query_word", f"(part.query % {len(QUERY_WORDS)})", QUERY_WORDS)},
                {picks("query_thing", f"(part.query // 8 % {len(QUERY_THINGS)})", QUERY_THINGS)},
                {agents},
                arrivals.* exclude (arrival),
                row_number() over () as position
            from part left join arrivals using (arrival)
        ), typed as (
            select *, query_word || ' ' || query_thing as query,
                replace(named, '{{id}}', article::varchar) as name,
                case when junk between 1 and {len(JUNK_USERS)} then [{junk_user}][junk]
                    when known then 'u' || lpad(person::varchar, 7, '0') end as user_id,
                case when cookie is null then null
                    -- Without consent GA4 sends pings that name nobody, once the choice is told.
                    when source = 'us' and analytics = 'denied' and time_us > since_us and not known
                        then null
                    when source = 'us' or (source = 'ads' and site = 'us')
                        then (1000000000 + cookie) || '.' || (1672531200 + cookie % 86400)
                    when source in ('app', 'app_shop') then null
                    when source = 'ads' and site = 'app' then null
                    when source = 'account' then made_id('account', cookie)
                    else made_id('cookie', cookie) end as anonymous_id,
                case when source not in ('app', 'app_shop', 'ads') or site <> 'app' then null
                    when junk = {JUNK_DEVICE} then '{ZERO_ID}'
                    when cookie is not null then made_id('device', cookie) end as device_id,
                -- Profiles that the tools keep by themselves.
                case source when 'account' then made_id('person', person)
                    when 'app' then (700000000000 + profile)::varchar
                    when 'app_shop' then (5000000000000 + profile)::varchar end as external_id,
                case mail when 1 then first_name || '.' || last_name || person || '@' || mail_host
                    when 2 then left(first_name, 1) || last_name || person || '@work.example'
                    end as plain_email,
                case when junk = {JUNK_PHONE} then '{ZERO_PHONE}' when phone
                    then '+4915' || lpad(phone_number::varchar, 8, '0') end as plain_phone,
                made_id('event', uid) as event_uuid
            from words
        )
        select *, arrival >= 0 as lands,
            case when arrival >= 0 then referrer when step > 0 then host || '/' end
                as page_referrer,
            host || path as plain_url,
            host || path || case when arrival >= 0 and (url_query <> '' or click_id is not null)
                    then '?' || url_query || case when click_id is null then ''
                        else case when url_query = '' then '' else '&' end
                            || click_id || '=k' || uid end
                    else '' end
                || case when arrival >= 0 and fragment is not null then '#' || fragment else '' end
                as url
        from (select *,
            case mail_case when 0 then plain_email when 2 then upper(plain_email)
                else upper(left(plain_email, 1)) || substr(plain_email, 2) end as email,
            case when junk = {JUNK_PHONE} or phone_style = 0 then plain_phone
                when phone_style = 1 then left(plain_phone, 3) || ' ' || substr(plain_phone, 4)
                else left(plain_phone, 3) || '-' || substr(plain_phone, 4, 3) || '-'
                    || substr(plain_phone, 7) end as typed_phone,
            case when bot is not null and bot >= 0 then bot_agent
                when machine_open then '{PROXY_USER_AGENT}'
                {" ".join(f"when device = '{d}' then '{a}'" for d, a in USER_AGENTS.items())}
                end as user_agent,
            {SITE_PATHS} as path,
            {hosts} as host,
            round(5 + product * 0.37, 2) as price,
            'o' || lpad("order"::varchar, 9, '0') as order_id,
            visit::varchar as session
        from typed) order by position""")
    connection.execute("create or replace temp view traces as select * from all_traces")
