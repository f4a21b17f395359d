"""PostHog's batch export, Parquet with JSON texts: the account area, and billing by the server.

After PostHog's events model for exports to Parquet. `person_id` is as it was when the event came
in and is never rewritten. `$identify` ties the cookie's id to the user's.
"""

ENDING = "parquet"
FILES = 1

QUERIES = {
    "account": """
    select event_uuid as uuid, name as event, user_id as distinct_id,
        external_id as person_id,
        lean({
            '$anon_distinct_id': case when event = 'identified' then anonymous_id end,
            '$user_id': user_id, '$is_identified': true,
            '$device_id': anonymous_id,
            '$session_id': case when visit is not null then made_id('visit', visit) end,
            '$current_url': case when anonymous_id is not null then plain_url end,
            '$pathname': case when anonymous_id is not null then path end,
            '$user_agent': case when anonymous_id is not null then user_agent end,
            '$lib': case when by_server then 'posthog-python' else 'web' end,
            'plan_price': net, 'revenue': net, 'tax': tax, 'total': total,
            'currency': case when net is not null then currency end
        })::varchar as properties,
        lean({'country': country})::varchar as person_properties,
        make_timestamp(time_us) at time zone 'UTC' as "timestamp",
        make_timestamp(known_us) at time zone 'UTC' as created_at,
        null::varchar as elements, 1 as team_id
    from traces where source = 'account' order by position"""
}
