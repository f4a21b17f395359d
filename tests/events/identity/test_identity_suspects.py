"""Suspicious merges are found, counted and put in order."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest
from identity_cases import customers, groups, links_of, observe

from seqjourney.events.identity.resolve import resolve
from seqjourney.events.identity.rules import IdentityRules
from seqjourney.events.identity.suspects import COLUMNS, suspicious

RULES = IdentityRules()
DAY = 86_400_000_000


def of_reason(found, reason):
    return found.findings[found.findings["reason"].str.startswith(reason)]


def test_a_clean_population_raises_no_suspicion():
    found = resolve(*links_of(("user:u", "email:e", 1), ("user:v", "email:f", 2)), RULES)
    suspects = suspicious(found, RULES)
    assert suspects.findings.empty and suspects.totals == {}
    assert list(suspects.findings.columns) == list(COLUMNS)


def test_a_customer_with_many_devices_is_listed_with_their_number():
    given = [("user:u", f"device:d{n}", n) for n in range(12)] + [("user:v", "device:x", 1)]
    found = resolve(*links_of(*given), RULES)
    row = of_reason(suspicious(found, RULES), "many of one type: device (limit 20)").iloc[0]
    assert row["count"] == 12 and row["size"] == 13
    assert row["customer_id"] == customers(found)["user", "u"]


def test_a_placeholder_that_many_share_and_that_nobody_blocked_is_listed():
    found = resolve(*links_of(*((f"user:u{n}", "device:kiosk", n) for n in range(5))), RULES)
    rows = of_reason(suspicious(found, RULES), "used by many customers")
    assert rows[["identifier", "count"]].to_numpy().tolist() == [["kiosk", 5]]


def test_an_identifier_that_joined_long_after_it_was_known_is_listed_with_the_days():
    given = links_of(
        ("user:u", "device:d", 0), ("email:e", "anonymous:a", DAY), ("user:u", "email:e", 300 * DAY)
    )
    suspects = suspicious(resolve(*given, RULES), RULES, late=timedelta(days=200))
    rows = of_reason(suspects, "joined late")
    assert set(rows["identifier"]) == {"e", "a"} and set(rows["count"]) == {299}
    assert set(rows["since"]) == {pd.Timestamp(300 * DAY, unit="us", tz="UTC")}


def test_a_customer_whose_limit_was_often_in_the_way_is_listed():
    given = links_of(*(("user:u", f"email:e{n}", n) for n in range(9)))
    rows = of_reason(suspicious(resolve(*given, RULES), RULES), "links refused often")
    assert rows["count"].tolist() == [4] and rows["size"].tolist() == [6]


def test_a_hub_is_listed():
    given = links_of(*(("email:e", f"anonymous:a{n}", n) for n in range(12)))
    rows = of_reason(suspicious(resolve(*given, RULES), RULES), "joins many identifiers")
    assert rows[["identifier", "count"]].to_numpy().tolist() == [["e", 12]]


def test_only_the_worst_are_kept_but_all_are_counted():
    given = [(f"user:u{u}", f"device:d{u}-{n}", n) for u in range(5) for n in range(11 + u)]
    suspects = suspicious(resolve(*links_of(*given), RULES), RULES, most=2)
    assert suspects.findings["count"].tolist() == [15, 14]
    assert suspects.totals == {"many of one type: device (limit 20)": 5}


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_histogram_counts_every_customer_once(count):
    seen = [{"user": f"u{n}", "email": f"e{n}", "at": 1} for n in range(count)]
    seen += [{"user": "big", "anonymous": f"a{n}", "at": 1} for n in range(11)]
    found = resolve(*observe(seen), RULES)
    sizes = suspicious(found, RULES).sizes
    assert sum(sizes.values()) == len(groups(found))
    assert sizes["10-19"] == 1
