import dataclasses
import json

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from seqjourney.errors import ConfigError, DataError
from seqjourney.simulation import ShopConfig, shop, simulate_shop, write_shop
from seqjourney.simulation.process import same_day_next_month

SMALL = ShopConfig(customers=150, months=4, seed=3)
CUTOFFS = "(values (timestamptz '2023-08-01'), (timestamptz '2024-02-01')) c(cut)"  # in UTC


@pytest.fixture(scope="module")
def small():
    return simulate_shop(SMALL)


@pytest.fixture(scope="module")
def shop_log():
    """A log large enough to count in, as the table `log` of a DuckDB connection."""
    events, truth = simulate_shop(ShopConfig(customers=6000))
    return connect(events), truth


def connect(events: pa.Table) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.register("arrow_log", events)
    connection.execute("""
        create table log as select customer_id::varchar as customer_id, event_id, timestamp,
            known_at, event::varchar as event, actor::varchar as actor,
            channel::varchar as channel, value from arrow_log""")
    return connection


def test_the_same_seed_gives_the_same_tables(small):
    events, truth = simulate_shop(SMALL)
    assert events.equals(small[0])
    assert truth.equals(small[1])


def test_another_seed_gives_other_events(small):
    events, _ = simulate_shop(dataclasses.replace(SMALL, seed=4))
    assert not events.equals(small[0])


def test_rows_are_sorted_and_event_ids_unique(small):
    events, _ = small
    keys = [(row["timestamp"], row["event_id"]) for row in events.to_pylist()]
    assert keys == sorted(keys)
    assert len({event_id for _, event_id in keys}) == events.num_rows


def test_every_event_lies_in_the_period_and_is_known_at_most_two_days_later(small):
    events, _ = small
    time = events["timestamp"].to_numpy().astype("datetime64[us]")
    known = events["known_at"].to_numpy().astype("datetime64[us]")
    assert time.min() >= np.datetime64("2023-01-01")
    assert time.max() < np.datetime64("2023-05-01")
    delay = known - time
    assert delay.min() == np.timedelta64(0)
    assert delay.max() <= np.timedelta64(2, "D")


def test_only_support_and_ads_are_known_late(small):
    connection = connect(small[0])
    late = connection.sql("""
        select distinct event from log where known_at > timestamp order by 1""").fetchall()
    assert [event for (event,) in late] == [
        "ad_clicked",
        "ad_impression",
        "order_refunded",
        "ticket_opened",
        "ticket_resolved",
    ]


def test_numbers_stand_only_where_they_mean_something(small):
    rows = small[0].to_pylist()
    money = {"order_completed", "order_refunded", "subscription_started", "subscription_renewed"}
    assert all((row["value"] is not None) == (row["event"] in money) for row in rows)
    resolved = {row["event"] for row in rows if row["waiting_hours"] is not None}
    assert resolved == {"ticket_resolved"}
    offers = {row["event"] for row in rows if row["discount_percent"] is not None}
    assert offers <= {"email_sent", "email_opened", "email_clicked", "order_completed"}


def test_the_truth_has_one_row_per_customer_and_agrees_with_the_log(small):
    events, truth = small
    assert truth.num_rows == SMALL.customers
    assert set(truth["customer_id"].to_pylist()) == set(events["customer_id"].to_pylist())
    orders = pc.sum(pc.equal(events["event"].cast(pa.string()), "order_completed")).as_py()
    assert pc.sum(truth["orders"]).as_py() == orders
    first = (
        connect(events)
        .sql("""
        select customer_id, min(timestamp)::date from log group by 1 order by 1""")
        .fetchall()
    )
    assert first == list(
        zip(truth["customer_id"].to_pylist(), truth["arrival_date"].to_pylist(), strict=True)
    )


def test_customers_leave_between_40_and_75_events_with_a_long_right_tail(shop_log):
    connection, _ = shop_log
    mean, median, rare = connection.sql("""
        select avg(n), median(n), quantile_cont(n, 0.99)
        from (select count(*) n from log group by customer_id)""").fetchone()
    assert 40 < mean < 75
    assert median < 0.92 * mean
    assert rare > 3 * median


def test_base_rates_of_conversion_and_absence_leave_something_to_predict(shop_log):
    connection, _ = shop_log
    rates = connection.sql(f"""
        with seen as (
            select cut, customer_id,
                max(timestamp) filter (where actor = 'customer') > cut - interval 60 day as active
            from log, {CUTOFFS} where known_at <= cut group by cut, customer_id),
        later as (
            select cut, customer_id,
                bool_or(event = 'order_completed' and timestamp <= cut + interval 30 day) as orders,
                bool_or(event in ('order_completed', 'subscription_renewed')) as pays
            from log, {CUTOFFS} where timestamp > cut and timestamp <= cut + interval 60 day
            group by cut, customer_id)
        select avg(coalesce(orders, false)::int),
            avg((not coalesce(pays, false))::int) filter (where active)
        from seen left join later using (cut, customer_id) group by cut""").fetchall()
    assert len(rates) == 2
    for conversion, absence in rates:
        assert 0.15 < conversion < 0.40
        assert 0.20 < absence < 0.60


def test_refunds_are_negative_and_never_exceed_the_orders_before_them(shop_log):
    connection, _ = shop_log
    refunds, wrong = connection.sql("""
        with running as (
            select event, value, sum(value) over (
                partition by customer_id order by timestamp, event_id) as balance
            from log where event in ('order_completed', 'order_refunded'))
        select count(*), count(*) filter (where value >= 0 or balance < -0.005)
        from running where event = 'order_refunded'""").fetchone()
    assert refunds > 500
    assert wrong == 0


def test_subscriptions_renew_every_month_while_they_run(shop_log):
    connection, _ = shop_log
    outside, gap_low, gap_high = connection.sql("""
        with steps as (
            select event, timestamp, lag(event) over w as before, lag(timestamp) over w as since
            from log where event like 'subscription_%'
            window w as (partition by customer_id order by timestamp, event_id))
        select count(*) filter (where (event = 'subscription_started')
                = coalesce(before != 'subscription_cancelled', false)),
            min(timestamp::date - since::date) filter (where event = 'subscription_renewed'),
            max(timestamp::date - since::date) filter (where event = 'subscription_renewed')
        from steps""").fetchone()
    assert outside == 0
    assert 28 <= gap_low <= gap_high <= 34


def test_an_unresolved_ticket_raises_cancellation(shop_log):
    connection, _ = shop_log
    rates = dict(
        connection.sql("""
        with tickets as (
            select customer_id, timestamp as opened, lead(timestamp) over w as next_at,
                lead(event) over w as next_event, event
            from log where event like 'ticket_%'
            window w as (partition by customer_id order by timestamp)),
        slow as (
            select * from tickets where event = 'ticket_opened' and (next_at is null
                or next_at > opened + interval 3 day)),
        renewals as (
            select r.*, exists (select 1 from slow where slow.customer_id = r.customer_id
                    and opened between r.timestamp - interval 30 day and r.timestamp
                        - interval 3 day and (next_event is distinct from 'ticket_resolved'
                            or next_at > r.timestamp)) as waiting,
                exists (select 1 from log l where l.customer_id = r.customer_id
                    and l.event = 'subscription_cancelled' and l.timestamp > r.timestamp
                    and l.timestamp <= r.timestamp + interval 30 day) as cancels
            from log r where event = 'subscription_renewed')
        select waiting, avg(cancels::int) from renewals group by 1""").fetchall()
    )
    assert rates[True] > 1.5 * rates[False]


def share_of_buyers_after_click(events: pa.Table) -> dict[bool, float]:
    """Share of e-mail clicks with an order within 3 hours, by products viewed 4 days before.

    Without the clicks of those who have ordered lately and need nothing now.
    """
    return dict(
        connect(events)
        .sql("""
        with clicks as (
            select * from log c where event = 'email_clicked' and not exists (
                select 1 from log l where l.customer_id = c.customer_id
                    and l.event = 'order_completed' and l.timestamp < c.timestamp
                    and l.timestamp > c.timestamp - interval 7 day))
        select exists (select 1 from log l where l.customer_id = c.customer_id
                and l.event = 'product_viewed' and l.timestamp < c.timestamp
                and l.timestamp > c.timestamp - interval 4 day) as primed,
            avg(exists (select 1 from log l where l.customer_id = c.customer_id
                and l.event = 'order_completed' and l.timestamp > c.timestamp
                and l.timestamp < c.timestamp + interval 3 hour)::int)
        from clicks c group by 1""")
        .fetchall()
    )


def test_a_product_viewed_then_an_email_clicked_raises_orders_and_much_less_without_the_dial():
    planted = ShopConfig(customers=8000)
    rates = share_of_buyers_after_click(simulate_shop(planted)[0])
    absent = share_of_buyers_after_click(
        simulate_shop(dataclasses.replace(planted, sequence_strength=0))[0]
    )
    assert rates[True] - rates[False] > 0.10
    assert rates[True] - rates[False] > 1.5 * (absent[True] - absent[False])


def test_the_same_silence_means_more_for_a_customer_with_a_quick_rhythm(shop_log):
    connection, _ = shop_log
    rates = dict(
        connection.sql(f"""
        with days as (
            select distinct customer_id, date_trunc('day', timestamp) as day from log
            where event in ('page_viewed', 'app_opened')),
        gaps as (
            select *, epoch(day - lag(day) over (partition by customer_id order by day)) / 86400
                as gap from days),
        rhythm as (
            select cut, customer_id, epoch(cut - max(day)) / 86400 as silence,
                median(gap) as usual from gaps, {CUTOFFS} where day < cut
                group by cut, customer_id
            having count(gap) >= 4 and epoch(cut - max(day)) / 86400 between 20 and 40)
        select silence > 2 * usual, avg((not exists (select 1 from days d
            where d.customer_id = r.customer_id and d.day > cut
            and d.day < cut + interval 60 day))::int)
        from rhythm r where silence > 2 * usual or silence < 1.2 * usual group by 1""").fetchall()
    )
    assert rates[True] > 1.4 * rates[False]


def test_weekends_and_november_are_busier(shop_log):
    connection, _ = shop_log
    sunday, friday = connection.sql("""
        select count(*) filter (where isodow(timestamp) = 7),
            count(*) filter (where isodow(timestamp) = 5) from log
        where event in ('page_viewed', 'app_opened') and channel != 'email'""").fetchone()
    assert sunday > 1.08 * friday
    share_november, share_february = connection.sql("""
        select count(*) filter (where month(timestamp) = 11 and event = 'order_completed')
                / count(*) filter (where month(timestamp) = 11 and event = 'product_viewed'),
            count(*) filter (where month(timestamp) = 2 and event = 'order_completed')
                / count(*) filter (where month(timestamp) = 2 and event = 'product_viewed')
        from log""").fetchone()
    assert share_november > 1.1 * share_february


def test_write_shop_leaves_both_tables_and_a_description(tmp_path, small):
    path = write_shop(SMALL, tmp_path / "shop")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "events.parquet",
        "simulation.json",
        "truth.parquet",
    ]
    assert pq.read_table(path).equals(small[0])
    about = json.loads((path.parent / "simulation.json").read_text())
    assert about["config"] == dataclasses.asdict(SMALL)
    assert about["rows"]["events.parquet"] == small[0].num_rows


@pytest.mark.parametrize("fails_at", [1, 2])
def test_write_shop_leaves_nothing_half_written_when_writing_fails(tmp_path, monkeypatch, fails_at):
    write, calls = pq.write_table, []

    def full_disk(table, where, **options):
        calls.append(where)
        if len(calls) == fails_at:
            where.write_bytes(b"PAR1 half")
            raise OSError("No space left on device")
        write(table, where, **options)

    monkeypatch.setattr(shop.pq, "write_table", full_disk)
    with pytest.raises(DataError, match="No space left"):
        write_shop(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"customers": 0},
        {"months": 0},
        {"seed": -1},
        {"start": "2023-13-01"},
        {"start": "2023"},
        {"sequence_strength": -0.1},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ShopConfig(**wrong)


def test_a_single_customer_is_a_shop_too():
    events, truth = simulate_shop(ShopConfig(customers=1, months=1))
    assert truth.num_rows == 1
    assert events.num_rows >= 1


def test_a_subscription_of_the_31st_is_billed_on_the_28th():
    dates = np.arange("2023-01-01", "2023-04-01", dtype="datetime64[D]")
    later = same_day_next_month(dates)
    assert dates[later[30]] == np.datetime64("2023-02-28")
    assert dates[later[14]] == np.datetime64("2023-02-15")
