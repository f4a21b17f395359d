"""GA4's BigQuery export, Parquet with nested structs: the American site.

After Google's schema of `events_YYYYMMDD`. There is no event id: rows are told apart by
`user_pseudo_id`, `event_timestamp`, `event_name`, `event_bundle_sequence_id`,
`batch_ordering_id` and `batch_event_index`. Without consent there is no `user_pseudo_id`.
"""

ENDING = "parquet"
FILES = 1
KEY = """md5(array_to_string(['2201', coalesce(anonymous_id, ''), time_us::varchar, name,
    (900000000000 + uid)::varchar, '1', (step + 1)::varchar, '1', ''], chr(31)))"""
"""What a log names a row by: a hash of stream, visitor, time, name and place in the upload."""

QUERIES = {
    "us": """
    select strftime(make_timestamp(time_us), '%Y%m%d') as event_date,
        time_us as event_timestamp,
        name as event_name,
        list_filter([
            param_int('ga_session_id', visit),
            param_text('page_location', case when not by_server then url end),
            param_text('page_referrer', case when not by_server then page_referrer end),
            param_text('search_term', case when event = 'search' then query end),
            param_text('transaction_id',
                case when event in ('order_completed', 'order_refunded') then order_id end),
            param_text('currency', case when net is not null then currency end),
            param_number('value', net),
            param_number('tax', tax), param_number('shipping', shipping),
            param_text('coupon',
                case when discount > 0 then 'SAVE' || discount_percent::int end),
            param_number('discount', case when discount > 0 then discount end)
        ], x -> x is not null) as event_params,
        (known_us - time_us) as event_server_timestamp_offset,
        900000000000 + uid as event_bundle_sequence_id,
        user_id,
        anonymous_id as user_pseudo_id,
        {'analytics_storage': case analytics when 'granted' then 'Yes' when 'denied' then 'No' end,
         'ads_storage': case advertising when 'granted' then 'Yes' when 'denied' then 'No' end,
         'uses_transient_token': case when analytics = 'denied' then 'Yes' else 'No' end
        } as privacy_info,
        {'category': device, 'operating_system': case device when 'desktop' then 'Windows'
            when 'mobile' then 'iOS' else 'Android' end, 'language': 'en-us',
         'web_info': {'browser': case when device = 'mobile' then 'Safari' else 'Chrome' end,
            'hostname': 'us.shop.example'}} as device,
        {'country': 'United States', 'continent': 'Americas'} as geo,
        case when lands and (utm_source is not null or click_id is not null) then {
            'manual_campaign_name': utm_campaign, 'manual_source': utm_source,
            'manual_medium': utm_medium, 'manual_content': utm_content,
            'gclid': case when click_id = 'gclid' then 'k' || uid end,
            'dclid': case when click_id = 'dclid' then 'k' || uid end} end
            as collected_traffic_source,
        '2201' as stream_id, 'WEB' as platform,
        case when event in ('order_completed', 'order_refunded') then {
            'transaction_id': order_id,
            'purchase_revenue': case when event = 'order_completed' then net end,
            'refund_value': case when event = 'order_refunded' then net end,
            'shipping_value': shipping, 'tax_value': tax,
            'total_item_quantity': quantity} end as ecommerce,
        case when event in ('product_viewed', 'cart_added', 'order_completed') then [{
            'item_id': 'P' || product, 'item_name': 'Product ' || product,
            'item_category': 'C' || product % 12, 'price': price, 'quantity': quantity}]
            else [] end as items,
        1 as batch_page_id, step + 1 as batch_ordering_id, 1 as batch_event_index
    from traces where source = 'us' order by position"""
}
