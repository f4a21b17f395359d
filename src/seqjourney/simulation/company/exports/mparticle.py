"""mParticle's batches, one JSON object per line: the app's screens, purchases and refunds.

After mParticle's schema of event batches. A batch holds the events of one visit by one identity
state (before and after the log-in are two); refunds come from the server, one by one. There is no
idempotency key: a batch that is sent again repeats all of its events.
"""

ENDING = "jsonl"
FILES = 1

QUERIES = {
    "app_shop": """
    with events as (
        select *, coalesce(session, 'r' || uid) as batch, lean({
            'event_type': case event when 'page_viewed' then 'screen_view'
                else 'commerce_event' end,
            'data': {
                'timestamp_unixtime_ms': time_us // 1000,
                'event_id': uid,
                'source_message_id': event_uuid,
                'session_uuid': case when session is not null then made_id('visit', visit) end,
                'screen_name': case when event = 'page_viewed' then name end,
                'currency_code': case when event <> 'page_viewed' then currency end,
                'custom_attributes': case when event = 'order_completed'
                    then {'discount_amount': discount::varchar} end,
                'product_action': case when event <> 'page_viewed' then {
                    'action': split_part(name, '.', 2), 'transaction_id': order_id,
                    'total_amount': total, 'tax_amount': tax, 'shipping_amount': shipping,
                    'coupon_code': case when discount > 0 then 'SAVE' || discount_percent::int end,
                    'products': [{'id': 'P' || product, 'name': 'Product ' || product,
                        'price': price, 'quantity': quantity}]} end}}) as item
        from traces where source = 'app_shop'
    ), batches as (
        select batch, known, copy, max(known_us) as received_us, min(position) as position,
            list(item order by time_us, uid) as items,
            max(user_id) as user_id, max(email) as email, max(device_id) as device_id,
            max(external_id) as mpid,
            max(analytics) as analytics, max(advertising) as advertising,
            max(since_us) as since_us, max(uid) as last_uid
        from events group by batch, known, copy
    )
    select lean({
        'schema_version': 2,
        'environment': 'production',
        'mpid': mpid::bigint,
        'batch_id': last_uid,
        'source_request_id': made_id('batch', batch || known),
        'timestamp_unixtime_ms': received_us // 1000,
        'user_identities': {'customer_id': user_id, 'email': email},
        'device_info': case when device_id is not null then {'platform': 'iOS',
            'ios_idfv': device_id, 'limit_ad_tracking': advertising <> 'granted'} end,
        'application_info': {'application_name': 'Shop', 'application_version': '4.2.0'},
        'consent_state': case when coalesce(analytics, 'unknown') <> 'unknown' then {'gdpr': {
            'analytics': {'consented': analytics = 'granted',
                'timestamp_unixtime_ms': since_us // 1000},
            'advertising': {'consented': advertising = 'granted',
                'timestamp_unixtime_ms': since_us // 1000}}} end,
        'events': items
    }) as line
    from batches order by received_us, position"""
}
