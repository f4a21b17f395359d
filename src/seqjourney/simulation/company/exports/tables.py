"""Generic tables: the tills of the physical stores (CSV), the CRM's stage history and the log of
the ad server (Parquet).

Stores and the back office keep sales and returns, and the outlet's returns; a customer shows a
loyalty card, or leaves a telephone number or an e-mail address.
"""

ENDINGS = {"store": "csv", "crm": "parquet", "ads": "parquet"}
FILES = 1

QUERIES = {
    "store": """
    select event_uuid as receipt_id, name as kind,
        strftime(make_timestamp(time_us), '%Y-%m-%d %H:%M:%S.%f') as booked_at,
        strftime(make_timestamp(known_us), '%Y-%m-%d %H:%M:%S.%f') as loaded_at,
        'S' || (coalesce(person, 0) % 12) as store,
        user_id as loyalty_id, email, typed_phone as phone, currency,
        case when event <> 'order_refunded' then net end as net,
        discount, case when event <> 'order_refunded' then tax end as tax, shipping,
        case when event <> 'order_refunded' then total end as total,
        case when event = 'order_refunded' then net end as refunded_net,
        case when event = 'order_refunded' then total end as refunded_total,
        order_id
    from traces where source = 'store' order by position""",
    "crm": """
    select event_uuid as history_id, name as entry, user_id as contact_id, email,
        typed_phone as phone,
        stage as stage_to, make_timestamp(time_us) at time zone 'UTC' as changed_at,
        make_timestamp(known_us) at time zone 'UTC' as synced_at
    from traces where source = 'crm' order by position""",
    "ads": """
    select event_uuid as ad_event_id, name as action, channel as network_channel,
        make_timestamp(time_us) at time zone 'UTC' as happened_at,
        make_timestamp(known_us) at time zone 'UTC' as loaded_at,
        anonymous_id as cookie_id, device_id as device_id, 'ad' || ad as ad_id
    from traces where source = 'ads' order by position""",
}
AD_COSTS = """
    select strftime(make_timestamp(time_us), '%Y-%m-%d') as "date", channel,
        count(*) filter (event = 'ad_impression') as impressions,
        count(*) filter (event = 'ad_clicked') as clicks,
        round(0.006 * count(*) filter (event = 'ad_impression')
            + 0.45 * count(*) filter (event = 'ad_clicked'), 4) as cost_eur
    from traces where source = 'ads' and not copy group by all"""
