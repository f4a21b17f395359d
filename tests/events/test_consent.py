"""Consent as a time line: against a plain-Python reading of the same rules, on random statements.

The oracle walks through statements one by one; the package does it with windows and aggregates.
"""

from __future__ import annotations

import json
from itertools import count, groupby
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.config import parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.consent import (
    FILE,
    ConsentPolicy,
    allowed_snapshots,
    check_purpose,
    describe_consent,
    enforce,
    keep_allowed,
    latest_states,
    read_statements,
    statements,
    timeline,
)

DAY = pd.Timestamp("2024-01-01", tz="UTC")
ANALYTICS = ConsentPolicy(purpose="analytics")
LENIENT = ConsentPolicy(purpose="analytics", unknown="allow")
CUSTOMERS = [f"c{i}" for i in range(1, 9)]
_NUMBER = count()
RANK = {"unknown": 0, "granted": 1, "denied": 2}
SPEAKERS: list[dict[str, str | None]] = [
    {"id_user": None, "id_anonymous": "laptop"},
    {"id_user": None, "id_anonymous": "phone"},
    {"id_user": "u1", "id_anonymous": "phone"},
    {"id_user": "u1", "id_anonymous": None},
]


@pytest.fixture(scope="module")
def engine() -> Any:
    backend = ibis.duckdb.connect(threads=1)
    backend.raw_sql("SET TimeZone = 'America/New_York'")
    return backend


def moment(day: float) -> pd.Timestamp:
    return DAY + pd.Timedelta(days=day)


def stored(engine: Any, table: Any) -> Any:
    """Keep a table's rows, so that they are not computed again and again."""
    return engine.create_table(f"t{next(_NUMBER)}", table)


def days(table: Any, *columns: str) -> pd.DataFrame:
    """Execute a table with its times as days since the start."""
    frame = table.to_pandas()
    for column in columns:
        frame[column] = (frame[column] - DAY) / pd.Timedelta(days=1)
    return frame


def row(day: float, state: str | dict[str, str] | None, who: int = 0, **more: Any) -> dict:
    """One cleaned row of a speaker, known at once unless `known` says later."""
    said = {"analytics": state} if isinstance(state, str) else state
    known = more.pop("known", day)
    return {
        "customer_id": "c1",
        "timestamp": moment(day),
        "known_at": moment(known),
        "consent": None if said is None else json.dumps(said),
        **SPEAKERS[who],
        **more,
    }


def table_of(engine: Any, rows: list[dict]) -> Any:
    frame = pd.DataFrame(rows)
    times = [c for c in frame.columns if isinstance(frame[c].iloc[0], pd.Timestamp)]
    kinds = {c: "timestamp('UTC', 6)" if c in times else "string" for c in frame.columns}
    for column in times:
        frame[column] = frame[column].astype("datetime64[us, UTC]")
    return engine.create_table(f"t{next(_NUMBER)}", ibis.memtable(frame, schema=kinds))


def line(engine: Any, *rows: dict, policy: ConsentPolicy = ANALYTICS) -> list[tuple]:
    """The time line of customer c1 and purpose analytics: (since, until or None, state)."""
    intervals = timeline(statements(table_of(engine, list(rows)), policy))
    frame = days(intervals, "since", "until").sort_values("since")
    frame = frame[frame["purpose"] == "analytics"].astype(object)
    frame = frame.where(frame.notna(), None)
    return list(frame[["since", "until", "state"]].itertuples(index=False, name=None))


# --- the oracle ---------------------------------------------------------------------------------


def choices_of(rows: list[dict]) -> list[dict]:
    """Collapse one customer's rows into choices, with loops."""
    said: dict[str, list[dict]] = {}
    for r in rows:
        if r["consent"] is None:
            continue
        device = r["id_anonymous"]
        entry = {
            "at": r["timestamp"],
            "known": r["known_at"],
            "state": json.loads(r["consent"])["analytics"],
            "personal": r["id_user"] is not None or device is None,
        }
        said.setdefault(device or "customer", []).append(entry)
    choices = []
    for speaker, entries in said.items():
        strict = []
        entries.sort(key=lambda e: (e["at"], RANK[e["state"]]))
        for at, tied in groupby(entries, key=lambda e: e["at"]):
            tied = list(tied)
            alike = [e for e in tied if e["state"] == tied[-1]["state"]]
            strict.append(
                {
                    "at": at,
                    "known": min(e["known"] for e in alike),
                    "state": tied[-1]["state"],
                    "personal": any(e["personal"] for e in alike),
                }
            )
        for _, run in groupby(strict, key=lambda e: e["state"]):
            run = list(run)
            known = min(e["known"] for e in run)
            choices.append({**run[0], "known": known, "speaker": speaker})
    return choices


def state_at(choices: list[dict], at: pd.Timestamp, known_by: pd.Timestamp | None = None) -> str:
    """Walk through the choices up to a moment and keep each speaker's standing answer."""
    heard = [c for c in choices if c["at"] <= at and (known_by is None or c["known"] <= known_by)]
    heard.sort(key=lambda c: (c["at"], RANK[c["state"]]))
    refusals: dict[str, pd.Timestamp] = {}
    grants: set[str] = set()
    for choice in heard:
        speaker = choice["speaker"]
        if choice["state"] == "denied":
            refusals[speaker] = choice["at"]
            grants.discard(speaker)
        elif choice["state"] == "unknown":
            grants.discard(speaker)
        else:
            grants.add(speaker)
            lifted = list(refusals) if choice["personal"] else [speaker]
            for other in lifted:
                if other in refusals and refusals[other] < choice["at"]:
                    del refusals[other]
    return "denied" if refusals else "granted" if grants else "unknown"


def allows(state: str, policy: ConsentPolicy) -> bool:
    return state == "granted" or (state == "unknown" and policy.unknown == "allow")


@st.composite
def random_rows(draw: st.DrawFn) -> list[dict]:
    """Rows of eight customers: ties, late news, several speakers, rows that say nothing."""
    one = st.tuples(
        st.sampled_from(CUSTOMERS),
        st.integers(0, 10),
        st.sampled_from([0, 0, 0, 2, 5]),
        st.sampled_from(["granted", "denied", "unknown", None]),
        st.integers(0, len(SPEAKERS) - 1),
    )
    return [
        row(day, state, who, known=day + late, customer_id=customer)
        for customer, day, late, state, who in draw(st.lists(one, min_size=40, max_size=120))
    ]


@settings(max_examples=10)
@given(random_rows(), st.sampled_from([ANALYTICS, LENIENT]))
def test_withdrawn_consent_removes_exactly_the_events_and_snapshots_it_should(engine, rows, policy):
    said = stored(engine, statements(table_of(engine, rows), policy))
    customers = [*CUSTOMERS, "silent"]
    choices = {
        name: choices_of([r for r in rows if r["customer_id"] == name]) for name in customers
    }
    grid = [{"customer_id": c, "timestamp": moment(d / 2)} for c in customers for d in range(32)]
    events = table_of(engine, grid)
    kept = enforce(events, timeline(said), policy).to_pandas()
    assert len(kept) == len(grid)
    for event in kept.itertuples():
        state = state_at(choices[event.customer_id], event.timestamp)
        wanted = None if allows(state, policy) else f"consent {state}"
        assert (event.withheld if isinstance(event.withheld, str) else None) == wanted

    snapshots = events.select("customer_id", cutoff="timestamp")
    latest_only = allowed_snapshots(snapshots, said, policy).to_pandas()
    scoring = allowed_snapshots(snapshots, said, policy, latest=False).to_pandas()
    for frame, latest in ((latest_only, True), (scoring, False)):
        assert len(frame) == len(grid)
        for asked in frame.itertuples():
            of_customer = choices[asked.customer_id]
            allowed = allows(state_at(of_customer, asked.cutoff, asked.cutoff), policy)
            if latest:
                allowed = allowed and allows(state_at(of_customer, moment(99)), policy)
            assert (not isinstance(asked.withheld, str)) == allowed


@settings(max_examples=6)
@given(random_rows(), st.randoms(use_true_random=False))
def test_the_order_and_repetition_of_rows_do_not_matter(engine, rows, random):
    once = statements(table_of(engine, rows), ANALYTICS).to_pandas()
    again = rows * 2
    random.shuffle(again)
    twice = statements(table_of(engine, again), ANALYTICS).to_pandas()
    keys = ["customer_id", "purpose", "speaker", "since"]
    once, twice = (f.sort_values(keys, ignore_index=True) for f in (once, twice))
    pd.testing.assert_frame_equal(once, twice)


# --- the rules, one by one ----------------------------------------------------------------------


def test_repeated_states_are_one_statement(engine):
    rows = [row(d, "granted") for d in range(50)] + [row(60, "denied"), row(61, "denied")]
    said = days(statements(table_of(engine, rows), ANALYTICS), "since")
    assert list(said.sort_values("since")[["since", "state"]].itertuples(index=False)) == [
        (0, "granted"),
        (60, "denied"),
    ]


def test_silence_is_no_statement_and_an_explicit_unknown_is_one(engine):
    said = statements(table_of(engine, [row(0, None), row(1, {})]), ANALYTICS)
    assert said.count().execute() == 0
    assert line(engine, row(0, "granted"), row(3, "unknown")) == [
        (0, 3, "granted"),
        (3, None, "unknown"),
    ]


def test_a_denial_under_any_identifier_counts_for_the_merged_customer(engine):
    assert line(engine, row(0, "granted", who=0), row(2, "denied", who=1)) == [
        (0, 2, "granted"),
        (2, None, "denied"),
    ]


def test_a_later_grant_of_another_device_lifts_no_denial(engine):
    assert line(engine, row(0, "denied", who=0), row(2, "granted", who=1)) == [(0, None, "denied")]


def test_a_later_grant_of_the_same_device_lifts_its_denial(engine):
    assert line(engine, row(0, "denied", who=0), row(2, "granted", who=0)) == [
        (0, 2, "denied"),
        (2, None, "granted"),
    ]


@pytest.mark.parametrize("who", [2, 3])
def test_a_later_grant_by_the_signed_in_person_lifts_every_denial(engine, who):
    assert line(engine, row(0, "denied", who=0), row(2, "granted", who=who)) == [
        (0, 2, "denied"),
        (2, None, "granted"),
    ]


def test_a_device_that_only_repeats_its_old_denial_does_not_renew_it(engine):
    rows = [row(0, "denied", who=0), row(2, "granted", who=3), row(5, "denied", who=0)]
    assert line(engine, *rows) == [(0, 2, "denied"), (2, None, "granted")]
    changed = [*rows[:2], row(3, "granted", who=0), rows[2]]
    assert line(engine, *changed)[-1] == (5, None, "denied")


def test_unknown_lifts_no_denial(engine):
    assert line(engine, row(0, "denied"), row(2, "unknown")) == [(0, None, "denied")]


def test_at_one_moment_denied_wins_over_granted_and_granted_over_unknown(engine):
    both = [row(0, "granted", who=3), row(0, "denied", who=1)]
    assert line(engine, *both) == [(0, None, "denied")]
    assert line(engine, row(0, "unknown", who=1), row(0, "granted")) == [(0, None, "granted")]


def test_several_categories_of_a_purpose_are_all_needed(engine):
    policy = ConsentPolicy(purpose="analytics", purposes={"C1": "analytics", "C2": "analytics"})
    for c2, state in (("granted", "granted"), ("denied", "denied"), ("unknown", "unknown")):
        found = line(engine, row(0, {"C1": "granted", "C2": c2, "C3": "denied"}), policy=policy)
        assert found == [(0, None, state)]


def test_category_names_are_case_sensitive_and_a_purpose_nobody_speaks_of_is_refused(engine):
    said = statements(table_of(engine, [row(0, {"Analytics": "granted"})]), ANALYTICS)
    with pytest.raises(ConfigError, match=r"speaks of 'analytics'.*Did you mean 'Analytics'"):
        check_purpose(said, ANALYTICS)
    mapped = ConsentPolicy(purpose="analytics", purposes={"Analytics": "analytics"})
    check_purpose(statements(table_of(engine, [row(0, {"Analytics": "granted"})]), mapped), mapped)


def test_a_refusal_of_everything_denies_every_purpose(engine):
    rows = [row(0, {"analytics": "granted", "ads": "granted"}), row(2, {"*": "denied"})]
    latest = latest_states(timeline(statements(table_of(engine, rows), ANALYTICS))).to_pandas()
    assert dict(zip(latest["purpose"], latest["state"], strict=True)) == {
        "analytics": "denied",
        "ads": "denied",
    }
    alone = statements(table_of(engine, rows[1:]), ConsentPolicy()).to_pandas()
    assert alone["purpose"].tolist() == ["*"]


@pytest.mark.parametrize("text", ["yes", '{"analytics": true}', "[1]", "[" * 100_000, '{"a"'])
def test_a_consent_text_of_another_shape_is_refused_with_its_beginning(engine, text):
    rows = [row(0, "granted"), {**row(1, None), "consent": text}]
    with pytest.raises(DataError, match=r"consent .* cannot be read.*granted") as caught:
        statements(table_of(engine, rows), ANALYTICS)
    assert len(str(caught.value)) < 300


def test_hostile_category_names_stay_names(engine):
    names = ['a"b', "'; DROP TABLE rows; --", "é\n", "{}", "analytics"]
    said = statements(table_of(engine, [row(0, dict.fromkeys(names, "denied"))]), ANALYTICS)
    assert sorted(said.to_pandas()["purpose"]) == sorted(names)


def test_without_a_purpose_nothing_is_withheld(engine):
    policy = ConsentPolicy()
    said = statements(table_of(engine, [row(0, "denied")]), policy)
    events = table_of(engine, [{"customer_id": "c1", "timestamp": moment(3)}])
    assert enforce(events, timeline(said), policy).withheld.to_pandas().isna().all()
    snapshots = events.select("customer_id", cutoff="timestamp")
    assert allowed_snapshots(snapshots, said, policy).withheld.to_pandas().isna().all()


def test_rows_without_a_consent_column_say_nothing(engine):
    said = statements(table_of(engine, [row(0, "granted")]).drop("consent"), ANALYTICS)
    assert timeline(said).count().execute() == 0
    events = table_of(engine, [{"customer_id": "c1", "timestamp": moment(3)}])
    for policy, withheld in ((ANALYTICS, ["consent unknown"]), (LENIENT, [None])):
        assert enforce(events, timeline(said), policy).withheld.to_pyarrow().to_pylist() == withheld


def test_a_withdrawal_known_only_later_bars_training_but_not_the_scoring_of_then(engine):
    rows = [row(0, "granted"), row(5, "denied", known=20)]
    said = statements(table_of(engine, rows), ANALYTICS)
    cutoffs = [{"customer_id": "c1", "cutoff": moment(d)} for d in (4, 10, 20)]
    snapshots = table_of(engine, cutoffs).order_by("cutoff")
    scoring = allowed_snapshots(snapshots, said, ANALYTICS, latest=False).order_by("cutoff")
    assert scoring.withheld.to_pyarrow().to_pylist() == [None, None, "consent denied"]
    training = allowed_snapshots(snapshots, said, ANALYTICS).order_by("cutoff")
    assert training.withheld.to_pandas().tolist() == [
        *["consent withdrawn since"] * 2,
        "consent denied",
    ]


def test_a_frame_of_snapshots_keeps_its_order_and_says_who_was_left_out_and_why(engine, tmp_path):
    rows = [row(0, "granted"), row(0, "denied", customer_id="c2")]
    statements(table_of(engine, rows), ANALYTICS).to_parquet(tmp_path / FILE)
    snapshots = pd.DataFrame(
        {
            "customer_id": ["c3", "c2", "c1", "c1", "c2"],
            "cutoff": pd.Series([moment(d) for d in (5, 5, 5, 9, 9)]).astype("datetime64[us, UTC]"),
            "split": ["train", "train", "train", "test", "test"],
            "label": [0, 1, 1, 0, 1],
        }
    )
    kept, left_out = keep_allowed(engine, snapshots, tmp_path, ANALYTICS)
    pd.testing.assert_frame_equal(kept, snapshots.iloc[[2, 3]].reset_index(drop=True))
    assert left_out == {
        "train": {"consent unknown": 1, "consent denied": 1},
        "test": {"consent denied": 1},
    }
    assert keep_allowed(engine, snapshots, tmp_path, ConsentPolicy()) == (snapshots, {})


def test_statements_survive_the_disk_and_are_described(engine, tmp_path):
    rows = [row(0, "granted"), row(4, "denied", customer_id="c2")]
    said = statements(table_of(engine, rows), ANALYTICS)
    said.to_parquet(tmp_path / FILE)
    read = read_statements(engine, tmp_path)
    keys = ["customer_id", "since"]
    left, right = (t.to_pandas().sort_values(keys, ignore_index=True) for t in (said, read))
    pd.testing.assert_frame_equal(left, right)
    about = describe_consent(read, ANALYTICS, tmp_path)
    assert about["customers"] == {"analytics": {"denied": 1, "granted": 1}}
    assert about["enforced"]
    assert latest_states(timeline(read)).count().execute() == 2
    assert read_statements(engine, tmp_path / "nowhere").count().execute() == 0


def test_a_misspelt_policy_key_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'purpose'"):
        parse(ConsentPolicy, {"purpos": "analytics"}, "consent")


def test_everything_compiles_for_spark(engine):
    said = statements(table_of(engine, [row(0, "granted"), row(1, "denied")]), ANALYTICS)
    events = table_of(engine, [{"customer_id": "c1", "timestamp": moment(3)}])
    snapshots = events.select("customer_id", cutoff="timestamp")
    for expression in (
        timeline(said),
        enforce(events, timeline(said), ANALYTICS),
        allowed_snapshots(snapshots, said, ANALYTICS),
    ):
        assert "SELECT" in str(ibis.to_sql(expression, dialect="pyspark"))


def test_a_bug_that_flips_consent_on_every_page_stays_quick(engine):
    flips = [row(d / 1000, "granted" if d % 2 else "denied", d % 3) for d in range(20_000)]
    intervals = timeline(statements(table_of(engine, flips), ANALYTICS))
    frame = intervals.to_pandas()
    assert np.isin(frame["state"], ["granted", "denied"]).all()
