"""Raw exports for the benchmark of `prepare`: the simulated shop's events as Segment writes them.

Every event of the shop becomes a call, several times over under other ids until there are enough:
once as a warehouse's Parquet with flat columns, once as JSON Lines with nested objects. People have
a few cookies each and are logged in on six calls of ten; most pages are reached from the shop
itself, some from search, an assistant or a tagged newsletter. The work is DuckDB's, so that twenty
million rows take minutes and little memory.
"""

from __future__ import annotations

from pathlib import Path

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0"
_TIME = "%Y-%m-%dT%H:%M:%S.%gZ"


def write_exports(shop: Path, folder: Path, copies: int, threads: int) -> tuple[Path, Path]:
    """Write `calls.parquet` and `calls.jsonl` of `copies` times the shop's events.

    Args:
        shop: the simulated event log.
        folder: where both files go.
        copies: how many times each event occurs, each time of another person.
        threads: of DuckDB.

    Returns:
        The folder of the Parquet file and the JSON Lines file.
    """
    import duckdb

    parquet, lines = folder / "parquet", folder / "calls.jsonl"
    parquet.mkdir(parents=True)
    file = parquet / "events.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {threads}")
        connection.execute("SET memory_limit = '6GB'")
        connection.execute(f"SET temp_directory = '{folder / 'spill'}'")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({_calls(shop, copies)}) TO '{file}' (COMPRESSION zstd)")
        connection.execute(f"COPY ({_nested(file)}) TO '{lines}' (FORMAT json)")
    return parquet, lines


def _calls(shop: Path, copies: int) -> str:
    return f"""
        SELECT event_id || '-' || copy AS id, cookie AS anonymous_id,
            CASE WHEN chance % 10 < 6 THEN 'u' || copy || customer_id END AS user_id,
            event, event AS event_text, known_at AS received_at, timestamp AS sent_at,
            timestamp AS original_timestamp, timestamp,
            'https://shop.example.com/' || coalesce(page_type, 'x') || '/' || chance % 5000
                || CASE WHEN chance % 7 = 0 THEN '?utm_source=newsletter&utm_medium=email'
                   ELSE '' END AS context_page_url,
            CASE WHEN chance % 5 = 0 THEN 'https://www.google.com/'
                 WHEN chance % 11 = 0 THEN 'https://chatgpt.com/'
                 ELSE 'https://shop.example.com/' END AS context_page_referrer,
            CASE WHEN chance % 9 = 0 THEN 'google' END AS context_campaign_source,
            CASE WHEN chance % 9 = 0 THEN 'cpc' END AS context_campaign_medium,
            '{BROWSER}' AS context_user_agent, 'd' || cookie AS context_device_id,
            CASE WHEN event = 'order_completed' THEN value END AS revenue, 'EUR' AS currency,
            page_type, discount_percent
        FROM (
            SELECT *, hash(event_id, copy) AS chance,
                'a' || copy || customer_id || '-' || hash(event_id, copy) % 3 AS cookie
            FROM '{shop}', range({copies}) AS copies(copy)
        )"""


def _nested(calls: Path) -> str:
    times = ", ".join(
        f"strftime({ours}, '{_TIME}') AS \"{theirs}\""
        for ours, theirs in (
            ("timestamp", "timestamp"),
            ("received_at", "receivedAt"),
            ("sent_at", "sentAt"),
            ("original_timestamp", "originalTimestamp"),
        )
    )
    return f"""
        SELECT id AS "messageId", 'track' AS type, event, user_id AS "userId",
            anonymous_id AS "anonymousId", {times},
            {{'page': {{'url': context_page_url, 'referrer': context_page_referrer}},
              'campaign': {{'source': context_campaign_source, 'medium': context_campaign_medium}},
              'device': {{'id': context_device_id}}, 'userAgent': context_user_agent,
              'consent': {{'categoryPreferences': {{'analytics': true}}}}}} AS context,
            {{'revenue': revenue, 'currency': currency, 'page_type': page_type,
              'discount_percent': discount_percent}} AS properties
        FROM '{calls}'"""
