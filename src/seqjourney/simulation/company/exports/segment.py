"""Segment's calls, one JSON object per line, gzipped: the shop's site, and its e-mails.

After Segment's specification of its calls, common fields, e-commerce and e-mail events.
`timestamp` is corrected for the device's clock as Segment does: receivedAt - (sentAt -
originalTimestamp). Of those who refuse everything half have an empty `categoryPreferences`, half
one of falses; who was never asked has no consent object.
"""

ENDING = "jsonl.gz"
FILES = 3

WEB = """
    select lean({
        'messageId': event_uuid,
        'type': case event when 'identified' then 'identify' when 'aliased' then 'alias'
            when 'page_viewed' then 'page' else 'track' end,
        'event': case when event not in ('identified', 'aliased', 'page_viewed') then name end,
        'name': case when event = 'page_viewed' then name end,
        'userId': user_id,
        'anonymousId': case when event <> 'aliased' then anonymous_id end,
        'previousId': case when event = 'aliased' then anonymous_id end,
        'traits': case when event = 'identified' then {'email': email, 'phone': typed_phone,
            'firstName': first_name, 'lastName': last_name} end,
        'properties': case event
            when 'page_viewed' then to_json({'url': url, 'path': path, 'referrer': page_referrer,
                'title': name})
            when 'search' then to_json({'query': query})
            when 'product_viewed' then to_json({
                'product_id': case when defect <> 1 then 'P' || product end,
                'name': 'Product ' || product, 'category': 'C' || product % 12,
                'price': case when defect = 2 then to_json('n/a') else to_json(price) end,
                'quantity': case when defect = 2 then to_json('one') else to_json(1) end,
                'currency': currency})
            when 'cart_added' then to_json({'cart_id': 'c' || session,
                'product_id': 'P' || product, 'name': 'Product ' || product,
                'category': 'C' || product % 12, 'price': price, 'quantity': quantity,
                'currency': currency})
            when 'order_completed' then to_json({'order_id': order_id, 'subtotal': net,
                'revenue': net, 'tax': tax, 'shipping': shipping, 'discount': discount,
                'total': total, 'currency': currency,
                'coupon': case when discount > 0 then 'SAVE' || discount_percent::int end,
                'products': [{'product_id': 'P' || product, 'quantity': quantity}]})
            when 'order_refunded' then to_json({'order_id': order_id, 'revenue': net, 'tax': tax,
                'total': total, 'currency': currency})
            when 'signed_up' then to_json({'method': 'email'}) end,
        'context': {
            'page': case when not by_server then {'url': url, 'path': path,
                'referrer': page_referrer, 'title': name} end,
            'campaign': case when lands and utm_source is not null then {'source': utm_source,
                'medium': utm_medium, 'name': utm_campaign, 'content': utm_content} end,
            'device': case when not by_server then {'type': device} end,
            'userAgent': case when not by_server then user_agent end,
            'consent': case when coalesce(analytics, 'unknown') = 'unknown' then null
                when analytics = 'denied' and person % 2 = 0 then '{"categoryPreferences":{}}'::json
                else to_json({'categoryPreferences': {'Analytics': analytics = 'granted',
                    'Advertising': advertising = 'granted'}}) end,
            'traits': case when event in ('order_completed', 'order_refunded')
                then {'email': email} end,
            'library': {'name': case when by_server then 'analytics-python'
                else 'analytics.js' end}},
        'originalTimestamp': iso(time_us + skew_us),
        'sentAt': iso(sent_us + skew_us),
        'receivedAt': iso(known_us),
        'timestamp': iso(known_us - sent_us + time_us)
    }) as line
    from traces where source = 'web' order by position"""

EMAIL = """
    select lean({
        'messageId': event_uuid,
        'type': 'track',
        'event': name,
        'userId': user_id,
        'properties': {
            'email_id': 'm' || mail_number,
            'email_subject': case when discount_percent is null then 'News of the week'
                else discount_percent::int || ' % off this week' end,
            'campaign_id': strftime(make_timestamp(time_us), 'w%Y%W'), 'campaign_name': 'weekly',
            'link_url': case when event = 'email_clicked'
                then 'https://www.shop.example/?utm_source=newsletter&utm_medium=email' end},
        'context': {'traits': {'email': email},
            'userAgent': case when event <> 'email_sent' then user_agent end},
        'originalTimestamp': iso(time_us),
        'sentAt': iso(sent_us),
        'receivedAt': iso(known_us),
        'timestamp': iso(known_us - sent_us + time_us)
    }) as line
    from traces where source = 'email' order by position"""

QUERIES = {"web": WEB, "email": EMAIL}
