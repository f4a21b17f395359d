"""Time to open is measured from what was known then, and machines' opens are flagged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.events.emails import MACHINE_SECONDS, add_open_times

START = datetime(2024, 1, 1, 12, tzinfo=UTC)
PERSON = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"
MOMENT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("customer_id", pa.string()),
        ("event", pa.string()),
        ("message_id", pa.string()),
        ("timestamp", MOMENT),
        ("known_at", MOMENT),
        ("user_agent", pa.string()),
    ]
)
Event = tuple[str, str, str | None, float, float, str | None]


@cache
def engine() -> Any:
    return ibis.duckdb.connect(threads=1)


def event(
    name: str,
    hours: float,
    *,
    known: float | None = None,
    customer: str = "anna",
    message: str | None = "m1",
    agent: str | None = PERSON,
) -> Event:
    return (customer, name, message, hours, hours if known is None else known, agent)


def results(events: list[Event], without: tuple[str, ...] = (), **settings: Any) -> list[Any]:
    """Return (hours_to_open, machine_open) of each event in order."""
    rows = [
        dict(zip(SCHEMA.names, (i, c, e, m, moment(t), moment(k), a), strict=True))
        for i, (c, e, m, t, k, a) in enumerate(events)
    ]
    table = ibis.memtable(pa.Table.from_pylist(rows, schema=SCHEMA).drop_columns(list(without)))
    found = engine().to_pyarrow(add_open_times(table, **settings)).sort_by("row").to_pylist()
    assert [row["row"] for row in found] == list(range(len(events)))
    return [(row["hours_to_open"], row["machine_open"]) for row in found]


def moment(hours: float) -> datetime:
    return START + timedelta(seconds=round(hours * 3600))


def test_the_clock_starts_at_the_earliest_delivery():
    events = [
        event("email_sent", 0),
        event("email_delivered", 2),
        event("email_delivered", 1),
        event("email_opened", 4),
        event("email_opened", 7),
    ]
    assert results(events)[3:] == [(3.0, False), (6.0, False)]


def test_it_starts_at_the_earliest_sending_where_no_delivery_is_known():
    events = [event("email_sent", 1), event("email_sent", 0), event("email_opened", 4)]
    assert results(events)[2] == (4.0, False)


def test_a_delivery_known_only_after_the_open_is_not_used():
    late = event("email_delivered", 1, known=9)
    assert results([event("email_sent", 0), late, event("email_opened", 4)])[2] == (4.0, False)
    assert results([late, event("email_opened", 4)])[1] == (None, False)
    assert results([late, event("email_opened", 4, known=9)])[1] == (3.0, False)


def test_two_records_of_one_delivery_count_from_the_earlier_knowledge():
    events = [
        event("email_delivered", 1, known=9),
        event("email_delivered", 1, known=2),
        event("email_opened", 4),
    ]
    assert results(events)[2] == (3.0, False)


def test_other_customers_and_other_messages_do_not_count():
    events = [
        event("email_delivered", 1, customer="ben"),
        event("email_delivered", 1, message="m2"),
        event("email_delivered", 1, message=None),
        event("email_opened", 4),
        event("email_opened", 4, message=None),
    ]
    assert results(events)[3:] == [(None, False), (None, False)]


def test_an_open_before_its_delivery_has_no_hours():
    events = [event("email_delivered", 5), event("email_opened", 4, known=6)]
    assert results(events)[1] == (None, False)


def test_only_opens_are_answered():
    names = ["email_sent", "email_delivered", "email_clicked", "page_viewed"]
    assert results([event(name, 1) for name in names]) == [(None, None)] * 4


@pytest.mark.parametrize(
    ("agent", "machine"),
    [
        ("Mozilla/5.0", True),
        (" Mozilla/5.0 ", True),
        ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko (via ggpht.com GoogleImageProxy)", True),
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", True),
        ("Mozilla/5.0 (compatible; Barracuda Sentinel)", True),
        ("python-requests/2.31.0", True),
        (PERSON, False),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Microsoft Outlook 16.0.17328", False),
        (None, False),
    ],
)
def test_the_user_agent_tells_a_machine(agent, machine):
    events = [event("email_delivered", 1), event("email_opened", 4, agent=agent)]
    assert results(events)[1] == (3.0, machine)


def test_an_open_within_seconds_of_delivery_is_a_machines():
    second = 1 / 3600
    at = [MACHINE_SECONDS * second, (MACHINE_SECONDS + 1) * second, -second]
    opens = [event("email_opened", 1 + hours, known=9) for hours in at]
    found = results([event("email_delivered", 1), *opens])[1:]
    assert [machine for _, machine in found] == [True, False, True]
    assert found[0][0] == pytest.approx(MACHINE_SECONDS * second)
    assert results([event("email_delivered", 1), opens[1]], machine_seconds=60)[1][1] is True


@pytest.mark.parametrize("column", ["known_at", "user_agent"])
def test_knowledge_and_user_agent_are_optional(column):
    events = [event("email_delivered", 1), event("email_opened", 4)]
    assert results(events, without=(column,))[1] == (3.0, False)


def test_other_columns_pass_through_and_rows_are_neither_lost_nor_doubled():
    found = add_open_times(ibis.memtable(pa.Table.from_pylist([], schema=SCHEMA)))
    assert list(found.columns) == [*SCHEMA.names, "hours_to_open", "machine_open"]
    events = [event("email_delivered", 1)] * 3 + [event("email_opened", 2)] * 2
    assert len(results(events)) == 5


names = st.sampled_from(["email_sent", "email_delivered", "email_opened", "email_clicked"])
hours = st.integers(0, 6)
an_event = st.tuples(
    st.sampled_from(["anna", "ben"]), names, st.sampled_from(["m1", "m2", None]), hours, hours,
    st.sampled_from([PERSON, "Mozilla/5.0", None]),
)  # fmt: skip


@settings(max_examples=20)
@given(events=st.lists(an_event.map(lambda e: (*e[:4], max(e[3], e[4]), e[5])), max_size=12))
def test_the_hours_are_those_that_a_loop_over_the_events_finds(events):
    def expected(one: Event) -> float | None:
        if one[1] != "email_opened" or one[2] is None:
            return None
        for name in ("email_delivered", "email_sent"):
            same = [e for e in events if (e[0], e[1], e[2]) == (one[0], name, one[2])]
            first = min(same, key=lambda e: (e[3], e[4]), default=None)
            if first is not None and first[4] <= one[4]:
                return float(one[3] - first[3]) if one[3] >= first[3] else None
        return None

    assert [found for found, _ in results(events)] == [expected(one) for one in events]


def test_what_comes_later_changes_no_open():
    events = [event("email_sent", 0), event("email_delivered", 1), event("email_opened", 4)]
    later = [event("email_delivered", 0.5, known=5), event("email_delivered", 5)]
    assert results(events + later)[:2] == results(events)[:2]
    assert results([*events, later[1]])[2] == results(events)[2]


def test_the_expression_compiles_for_spark():
    table = ibis.memtable(pa.Table.from_pylist([], schema=SCHEMA))
    assert "JOIN" in str(ibis.to_sql(add_open_times(table), dialect="pyspark"))
