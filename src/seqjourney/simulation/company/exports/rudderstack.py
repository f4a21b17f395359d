"""RudderStack's events, one JSON object per line: the blog, which shares the shop's cookie.

After RudderStack's event specification: Segment's calls with `channel`, `rudderId`-free common
fields and `context.consentManagement`, whose ids are a consent tool's own (here OneTrust's).
"""

ENDING = "jsonl"
FILES = 1
CONSENT_IDS = {"analytics": "C0002", "advertising": "C0004"}

QUERIES = {
    "blog": """
    select lean({
        'messageId': event_uuid,
        'type': case when event = 'identified' then 'identify' when name = 'Blog' then 'page'
            else 'track' end,
        'event': case when name not in ('Blog', 'identify') then name end,
        'name': case when name = 'Blog' then name end,
        'channel': 'web',
        'userId': user_id,
        'anonymousId': anonymous_id,
        'properties': case when name = 'Blog' then to_json({'url': url, 'path': path,
                'referrer': page_referrer, 'title': 'Blog'})
            when event <> 'identified' then to_json({'article_id': article, 'path': path}) end,
        'context': {
            'traits': case when event = 'identified' then {'email': email} end,
            'page': {'url': url, 'path': path, 'referrer': page_referrer, 'title': name},
            'campaign': case when lands and utm_source is not null then {'source': utm_source,
                'medium': utm_medium, 'name': utm_campaign, 'content': utm_content} end,
            'userAgent': user_agent,
            'sessionId': visit,
            'consentManagement': case when coalesce(analytics, 'unknown') <> 'unknown' then {
                'provider': 'oneTrust', 'resolutionStrategy': 'and',
                'allowedConsentIds': list_filter(['C0001',
                    case when analytics = 'granted' then 'C0002' end,
                    case when advertising = 'granted' then 'C0004' end], x -> x is not null),
                'deniedConsentIds': list_filter([
                    case when analytics = 'denied' then 'C0002' end,
                    case when advertising = 'denied' then 'C0004' end], x -> x is not null)} end,
            'library': {'name': 'RudderLabs JavaScript SDK', 'version': '3.11.0'}},
        'originalTimestamp': iso(time_us + skew_us),
        'sentAt': iso(sent_us + skew_us),
        'receivedAt': iso(known_us),
        'timestamp': iso(known_us - sent_us + time_us)
    }) as line
    from traces where source = 'blog' order by position"""
}
