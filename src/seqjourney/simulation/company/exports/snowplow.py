"""Snowplow's enriched events, Parquet with atomic columns: the outlet.

After Snowplow's canonical event model and its enhanced consent events. Self-describing events stand
in columns of their own as JSON texts. `derived_tstamp` is the collector's time less the time from
creating to sending on the device. A copy has the same `event_id` and a later collector's time.
"""

ENDING = "parquet"
FILES = 1
EMPTY = (
    "txn_id",
    "user_ipaddress",
    "user_fingerprint",
    "network_userid",
    "geo_region",
    "geo_city",
    "refr_term",
    "mkt_term",
    "se_category",
    "se_action",
    "se_label",
    "se_property",
    "tr_affiliation",
)
"""Atomic columns that this tracker never fills."""

QUERIES = {
    "outlet": f"""
    select 'outlet' as app_id, 'web' as platform,
        moment(known_us + 3000000) as etl_tstamp,
        moment(known_us) as collector_tstamp,
        moment(time_us + skew_us) as dvce_created_tstamp,
        moment(sent_us + skew_us) as dvce_sent_tstamp,
        moment(known_us - sent_us + time_us) as derived_tstamp,
        moment(known_us + 60000000) as load_tstamp,
        case event when 'page_viewed' then 'page_view' when 'order_completed' then 'transaction'
            else 'unstruct' end as event,
        event_uuid as event_id,
        case when contains(name, '/') then split_part(name, '/', 1)
            else 'com.snowplowanalytics.snowplow' end as event_vendor,
        case when contains(name, '/') then split_part(name, '/', 2) else name end as event_name,
        'jsonschema' as event_format, '1-0-0' as event_version,
        md5(event_uuid) as event_fingerprint,
        'web' as name_tracker, 'js-3.23.0' as v_tracker, 'ssc-3.1.0-kafka' as v_collector,
        'snowplow-enrich-kafka-4.1.0' as v_etl,
        user_id, anonymous_id as domain_userid,
        case when visit is not null then 1 + visit % 9 end as domain_sessionidx,
        case when visit is not null then made_id('visit', visit) end as domain_sessionid,
        country as geo_country,
        url as page_url, page_referrer,
        case when event = 'page_viewed' then 'Outlet' end as page_title,
        'https' as page_urlscheme, 'outlet.example' as page_urlhost, 443 as page_urlport,
        path as page_urlpath, nullif(regexp_extract(url, '\\?([^#]*)', 1), '') as page_urlquery,
        nullif(regexp_extract(url, '#(.*)', 1), '') as page_urlfragment,
        case when page_referrer is not null
            then regexp_extract(page_referrer, 'https://([^/]*)', 1) end as refr_urlhost,
        case when not lands or referrer is null then case when page_referrer is not null
                then 'internal' end
            when came_by in ('organic_search', 'paid_search', 'paid_shopping') then 'search'
            when came_by in ('organic_social', 'paid_social', 'organic_video') then 'social'
            else 'unknown' end as refr_medium,
        case when lands then regexp_extract(referrer, '([a-z]+)\\.[a-z]+/', 1) end as refr_source,
        case when lands then utm_medium end as mkt_medium,
        case when lands then utm_source end as mkt_source,
        case when lands then utm_campaign end as mkt_campaign,
        case when lands then utm_content end as mkt_content,
        case when lands and click_id is not null then 'k' || uid end as mkt_clickid,
        case when not lands then null when click_id = 'gclid' then 'Google'
            when click_id = 'msclkid' then 'Microsoft'
            when click_id = 'dclid' then 'DoubleClick' end as mkt_network,
        user_agent as useragent, 'en-GB' as br_lang, 'Europe/Berlin' as os_timezone,
        case device when 'desktop' then 'Computer' when 'mobile' then 'Mobile'
            when 'tablet' then 'Tablet' end as dvce_type,
        case when event = 'order_completed' then order_id end as tr_orderid,
        case when event = 'order_completed' then total end as tr_total,
        case when event = 'order_completed' then tax end as tr_tax,
        case when event = 'order_completed' then shipping end as tr_shipping,
        case when event = 'order_completed' then currency end as tr_currency,
        null::double as se_value,
        case when event = 'search' then lean({{'query': query}})::varchar end
            as unstruct_event_com_outlet_site_search_1,
        case when event = 'product_viewed' then lean({{'sku': 'P' || product, 'price': price,
            'currency': currency}})::varchar end as unstruct_event_com_outlet_product_view_1,
        case when event = 'cart_added' then lean({{'button_id': 'add_to_cart',
            'sku': 'P' || product, 'quantity': quantity}})::varchar end
            as unstruct_event_com_outlet_click_button_1,
        case when event = 'signed_up' then '{{}}' end as unstruct_event_com_outlet_user_signup_1,
        case when event = 'logged_in' then '{{}}' end as unstruct_event_com_outlet_user_login_1,
        case when event = 'consent_updated' then to_json({{
            'eventType': case when analytics = 'granted' and advertising = 'granted'
                    then 'allow_all'
                when analytics = 'denied' and advertising = 'denied' then 'deny_all'
                else 'allow_selected' end,
            'basisForProcessing': 'consent', 'consentUrl': 'https://outlet.example/privacy',
            'consentVersion': '2', 'domainsApplied': ['outlet.example'], 'gdprApplies': true,
            'consentScopes': list_filter(['necessary',
                case when analytics = 'granted' then 'analytics' end,
                case when advertising = 'granted' then 'advertising' end], x -> x is not null)
            }})::varchar end as unstruct_event_com_snowplowanalytics_snowplow_consent_preferences_1,
        {", ".join(f"null::varchar as {name}" for name in EMPTY)}
    from traces where source = 'outlet' order by position"""
}
