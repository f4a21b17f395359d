"""What a figure is called: pass, warn or fail at each limit, and the answer that follows."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.events.audit import checks, task_checks
from seqjourney.events.audit.drift import Step
from seqjourney.events.audit.measure import Calendar, Customers, EventTypes, Identity, Late
from seqjourney.events.audit.names import LONGEST, harmless, harmless_names
from seqjourney.events.audit.power import plan
from seqjourney.events.audit.rows import Row, percent, within
from seqjourney.events.audit.tasks import Outcomes, TaskFacts
from seqjourney.events.audit.thresholds import THRESHOLDS
from seqjourney.events.audit.verdict import _PROBLEMS, verdict
from seqjourney.events.channels import agents
from small_logs import small_task


def calendar(days: int = 400, customers: int = 20_000, silences=(), empty: int = 0) -> Calendar:
    first = pd.Timestamp("2023-01-01", tz="UTC")
    months = pd.DataFrame({"month": [first], "customers": [customers], "whole": [True]})
    frame = pd.DataFrame({"days": [float(s) for s in silences]})
    frame["start"], frame["end"] = first, first + pd.Timedelta(days=1)
    return Calendar(months, first, first + pd.Timedelta(days=days), frame, days, empty)


def late(share: float) -> Late:
    known_by = {"24 hours": 1 - share, "72 hours": 1 - share}
    return Late(known_by, dict.fromkeys(("p50", "p90", "p99", "longest"), 1.0))


def identity(share: float) -> Identity:
    return Identity({"user": 3}, {"1": 3}, 1.0, 1, share, 0)


def step(psi: float, chance: float = 0.0) -> Step:
    return Step("2023-05", psi, 0.1, chance, "visit went from 1 % to 2 %")


def consent(known: float) -> dict:
    states = {"granted": known, "denied": 0.0, "unknown": 1 - known}
    return {"mail": states, "ads": {"granted": 1.0, "denied": 0.0, "unknown": 0.0}}


def rows_in(bad: int, twice: int = 0) -> dict:
    return {"in": 1000, "quarantined": {"why": bad}, "duplicates": twice, "events": 1000}


def mapped(rows: int) -> dict:
    return {"taxonomy": {"rows": 100, "mapped_rows": rows, "names": 5, "mapped_names": 4}}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (checks.history(calendar(366)), "pass"),
        (checks.history(calendar(360)), "warn"),
        (checks.history(calendar(180)), "fail"),
        (checks.history(calendar(500, silences=[200])), "warn"),
        (checks.active_customers(calendar(customers=10_000)), "pass"),
        (checks.active_customers(calendar(customers=9_999)), "warn"),
        (checks.active_customers(calendar(customers=499)), "fail"),
        (checks.event_types(EventTypes(5, [])), "pass"),
        (checks.event_types(EventTypes(4, [])), "warn"),
        (checks.event_types(EventTypes(2001, [])), "warn"),
        (checks.gaps(calendar()), "pass"),
        (checks.gaps(calendar(silences=[1.2])), "pass"),
        (checks.gaps(calendar(silences=[2.1], empty=1)), "warn"),
        (checks.gaps(calendar(silences=[7], empty=6)), "warn"),
        (checks.gaps(calendar(silences=[31], empty=30)), "fail"),
        (checks.quarantined(rows_in(10)), "pass"),
        (checks.quarantined(rows_in(250)), "warn"),
        (checks.quarantined(rows_in(251)), "fail"),
        (checks.duplicates(rows_in(0, 10), 0, True), "pass"),
        (checks.duplicates(rows_in(0, 0), 11, True), "warn"),
        (checks.duplicates(rows_in(0, 101), 0, False), "fail"),
        (checks.late(None), "not applicable"),
        (checks.late(late(0.009)), "pass"),
        (checks.late(late(0.02)), "warn"),
        (checks.late(late(0.11)), "fail"),
        (checks.identity(None), "not applicable"),
        (checks.identity(identity(0.7)), "pass"),
        (checks.identity(identity(0.69)), "warn"),
        (checks.identity(identity(0.29)), "fail"),
        (checks.fragmentation(Customers(10, 20, 5, {}), None), "pass"),
        (checks.fragmentation(Customers(10, 20, 6, {}), identity(1)), "warn"),
        (checks.mapped({}), "not applicable"),
        (checks.mapped(mapped(95)), "pass"),
        (checks.mapped(mapped(94)), "warn"),
        (checks.mapped(mapped(79)), "fail"),
        (checks.consent(None), "not applicable"),
        (checks.consent(consent(0.96)), "pass"),
        (checks.consent(consent(0.90)), "warn"),
        (checks.consent(consent(0.40)), "fail"),
        (checks.drift("d", {"mix": []}), "not applicable"),
        (checks.drift("d", {"mix": [step(0.09)]}), "pass"),
        (checks.drift("d", {"mix": [step(0.9, chance=1.0)]}), "pass"),
        (checks.drift("d", {"mix": [step(0.2)]}), "warn"),
        (checks.drift("d", {"mix": [step(0.9)] + [step(0.0)] * 3}), "warn"),
        (checks.drift("d", {"mix": [step(0.0)] * 3 + [step(0.9)]}), "fail"),
    ],
    ids=lambda value: value.key if isinstance(value, Row) else value,
)
def test_each_limit_is_where_it_says(row: Row, status: str):
    assert row.status == status
    assert row.found and row.asked and row.source
    assert (row.advice == "") == (status == "pass")
    assert not row.advice or row.advice.endswith((".", "'task.target=[...]'"))


def facts(least: int = 600, auc: float | None = 0.7, rates=(0.1, 0.11), n: int = 10_000):
    outcomes = {s: Outcomes(2 * n, n, least, 9999) for s in ("train", "validation", "test")}
    cutoffs = pd.date_range("2023-05-01", periods=len(rates), freq="MS", tz="UTC")
    base = pd.DataFrame({"cutoff": cutoffs, "split": "train", "snapshots": n, "rate": rates})
    return TaskFacts(small_task(), outcomes, base, auc)


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (task_checks.outcomes(facts(500)), "pass"),
        (task_checks.outcomes(facts(499)), "warn"),
        (task_checks.outcomes(facts(99)), "fail"),
        (task_checks.window(facts(), calendar(90)), "pass"),
        (task_checks.window(facts(), calendar(89)), "fail"),
        (task_checks.recency(facts(auc=0.8)), "pass"),
        (task_checks.recency(facts(auc=0.19)), "warn"),
        (task_checks.recency(facts(auc=0.96)), "fail"),
        (task_checks.recency(facts(auc=None)), "not applicable"),
        (task_checks.base_rate(facts(rates=(0.10, 0.14))), "pass"),
        (task_checks.base_rate(facts(rates=(0.10, 0.16))), "warn"),
        (task_checks.base_rate(facts(rates=(0.0, 0.16))), "warn"),
        (task_checks.base_rate(facts(rates=(0.10, 0.16), n=120)), "pass"),  # chance
        (task_checks.base_rate(facts(rates=(0.10,))), "not applicable"),
        (task_checks.holdout(facts(), plan("buys", 0.5, 100_000, [0.1], 1)), "pass"),
        (task_checks.holdout(facts(), plan("buys", 0.5, 500, [0.1, 0.5], 1)), "warn"),
        (task_checks.holdout(facts(), plan("buys", 0.01, 50, [0.1], -1)), "warn"),
        (task_checks.holdout(facts(), plan("buys", 0.01, 2, [0.1], -1)), "not applicable"),
        (task_checks.no_task()[0], "not applicable"),
    ],
    ids=lambda value: value.key if isinstance(value, Row) else value,
)
def test_each_limit_of_a_task_is_where_it_says(row: Row, status: str):
    test_each_limit_is_where_it_says(row, status)


def row(status: str, task: str | None = None, key: str = "history", value: float = 3.0) -> Row:
    return Row(key, "Some Check", status, value, "f", "a", "s", None, "do.", task)


def test_the_answer_names_who_is_ready_and_what_stops_the_others():
    tasks = ["churn", "conversion"]
    few = row("fail", "conversion", "outcomes", 41)
    assert verdict([row("pass")], tasks).sentence == "Ready for churn and conversion."
    answer = verdict([row("pass"), few], tasks)
    assert answer.sentence.startswith("Ready for churn, not yet for conversion: only 41 customers")
    assert (answer.ready, answer.not_yet, answer.data_ready) == (("churn",), ("conversion",), True)
    answer = verdict([row("fail"), few], tasks)
    assert answer.sentence == "Not ready yet: only 3.0 months of history."
    assert (answer.ready, answer.not_yet, answer.data_ready) == ((), ("churn", "conversion"), False)
    both = verdict([few, row("fail", "churn", "recency", 0.97)], tasks).sentence
    assert both.startswith("Not ready yet for churn and conversion: recency alone")
    assert "(AUC 0.97) for churn and only 41" in both and both.endswith(" for conversion.")
    assert verdict([row("pass")], []).sentence.startswith("Ready for a first task")


def test_warnings_stop_nothing_and_are_named_once():
    answer = verdict([row("warn", "a"), row("warn", "b"), row("not applicable")], ["a", "b"])
    assert answer.sentence == "Ready for a and b."
    assert answer.more == "Look at next: some Check."
    assert verdict([row("pass")], ["a"]).more == "No warnings."


def test_every_limit_that_can_fail_has_words_for_it():
    can_fail = {key for key, limit in THRESHOLDS.items() if limit.fails is not None}
    assert can_fail - {"event_types"} <= set(_PROBLEMS)


def test_reasons_of_several_sources_carry_the_sources_name():
    rows = {"quarantined": {"crm": {"no id": 3}, "web": {"no id": 5}, "bad 'x'": 9}}
    expected = {"bad 'x'": 9, "web: no id": 5, "crm: no id": 3}
    assert checks.quarantined_reasons(rows) == expected
    assert list(checks.quarantined_reasons(rows)) == list(expected)
    assert checks.quarantined_reasons({}) == {}


def test_rows_of_machines_are_kept_aside_by_choice_and_are_no_damage():
    by_choice = {"in": 1000, "quarantined": {"no id": 5, agents.PROBLEM: 300}}
    found = checks.quarantined(by_choice)
    assert (found.status, found.value) == ("pass", 0.005)
    assert found.found.startswith("0.5 % of 1,000 rows: no id 0.5 %; kept aside by choice")
    assert found.found.endswith("automated agents 30.0 %")
    of_a_source = {"in": 1000, "quarantined": {"web": {agents.PROBLEM: 300}}}
    assert checks.quarantined(of_a_source).value == 0
    assert "by choice" not in checks.quarantined(rows_in(5)).found


def test_small_shares_do_not_read_as_none_and_large_ones_not_as_all():
    assert [percent(share) for share in (0, 0.0001, 0.0005, 0.123, 0.99999, 1)] == [
        "0 %", "under 0.1 %", "0.1 %", "12.3 %", "just under 100 %", "100 %",
    ]  # fmt: skip
    assert [within(h) for h in (0, 1 / 3600, 1 / 60, 1, 30, 100)] == [
        "at once", "within 1 second", "within 60 seconds", "within 60 minutes", "within 30 hours",
        "within 4 days",
    ]  # fmt: skip


@given(st.text(max_size=300))
def test_a_harmless_name_is_one_short_line_and_no_formula(name: str):
    text = harmless(name)
    assert text and len(text) <= LONGEST
    assert text.isprintable()
    assert text[0] not in "=+-@|%\t\r\n＝＋－＠"
    assert harmless(text) == text


def test_names_that_would_look_alike_stay_apart():
    assert harmless_names(["a", "a\u200b", " a", "b"]) == {
        "a": "a", "a\u200b": "a (2)", " a": "a (3)", "b": "b",
    }  # fmt: skip
