"""Amplitude's export, one JSON object per line: what people do in the app, but for buying.

After Amplitude's export API: `event_time` is the client's time moved by the difference of
`server_received_time` and `client_upload_time`; times are UTC texts with microseconds.
"""

ENDING = "jsonl"
FILES = 1

QUERIES = {
    "app": """
    select lean({
        '$insert_id': event_uuid,
        'uuid': made_id('stored', uid * 2 + copy::int),
        'event_id': uid % 1000000,
        'event_type': name,
        'user_id': user_id,
        'device_id': device_id,
        'amplitude_id': external_id::bigint,
        'session_id': visit,
        'client_event_time': stamp(time_us + skew_us),
        'client_upload_time': stamp(sent_us + skew_us),
        'server_received_time': stamp(known_us),
        'server_upload_time': stamp(known_us + 40000),
        'processed_time': stamp(known_us + 900000),
        'event_time': stamp(known_us - sent_us + time_us),
        'event_properties': case event
            when 'search' then to_json({'query': query})
            when 'product_viewed' then to_json({
                'product_id': case when defect <> 1 then 'P' || product end,
                'price': case when defect = 2 then to_json('n/a') else to_json(price) end})
            when 'cart_added' then to_json({'product_id': 'P' || product, 'price': price,
                'quantity': quantity})
            when 'subscription_started' then to_json({'plan_price': net, '$revenue': net,
                '$currency': currency})
            else '{}'::json end,
        'user_properties': {'country': country},
        'platform': 'iOS',
        'os_name': 'ios',
        'device_type': 'Apple iPhone',
        'country': country,
        'library': 'amplitude-ios/8.18.0',
        'version_name': '4.2.0'
    }) as line
    from traces where source = 'app' order by position"""
}
