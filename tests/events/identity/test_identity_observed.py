"""What rows show, on the engine, against the same worked out row by row."""

from __future__ import annotations

from itertools import pairwise

import ibis
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from identity_cases import HOW_MANY, Row, customers, observe, rows

from seqjourney.errors import ConfigError
from seqjourney.events.identity import observed
from seqjourney.events.identity.graph import MOMENT
from seqjourney.events.identity.resolve import resolve
from seqjourney.events.identity.rules import IdentityRules

RULES = IdentityRules()
BLOCKED = ("NULL", "-1", "0-0")


@pytest.fixture(scope="module")
def engine():
    backend = ibis.duckdb.connect()
    yield backend
    backend.disconnect()


def as_table(seen: list[Row]) -> ibis.Table:
    columns = {f"id_{kind}": [row.get(kind) for row in seen] for kind in HOW_MANY}
    columns["previous_id"] = [row.get("previous_id") for row in seen]
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    arrays["known_at"] = pa.array([row["at"] for row in seen], pa.int64()).cast(MOMENT)
    arrays["position"] = pa.array(range(len(seen)))
    return ibis.memtable(pa.table(arrays))


def as_set(found: pa.Table) -> set[str]:
    return set(map(repr, found.to_pylist()))


def run(engine, expression) -> pa.Table:
    found = engine.to_pyarrow(expression)
    at = found.column_names.index("first_known")
    return found.set_column(at, "first_known", found["first_known"].cast(MOMENT))


@settings(max_examples=12)
@given(seen=rows())
def test_identifiers_and_links_are_those_of_the_rows(engine, seen):
    ids, links = observe(seen)
    table = as_table(seen)
    assert as_set(run(engine, observed.identifiers(table, RULES))) == as_set(ids)
    assert as_set(run(engine, observed.links(table, RULES))) == as_set(links)


@settings(max_examples=8)
@given(seen=rows())
def test_combinations_show_what_their_rows_show(engine, seen):
    table = as_table(seen)
    few = observed.combinations(table, RULES)
    for function in (observed.identifiers, observed.links):
        assert as_set(run(engine, function(few, RULES))) == as_set(
            run(engine, function(table, RULES))
        )


@settings(max_examples=12)
@given(seen=rows(blocked=True))
def test_blocked_values_join_nobody(engine, seen):
    table = observed.without_blocked(as_table(seen), RULES)
    found = (
        run(engine, observed.identifiers(table, RULES)),
        run(engine, observed.links(table, RULES)),
    )
    never = [{**row, **{kind: None for kind in HOW_MANY if row[kind] in BLOCKED}} for row in seen]
    assert customers(resolve(*found, RULES)) == customers(resolve(*observe(never), RULES))
    assert not {value for _, value in customers(resolve(*found, RULES))} & set(BLOCKED)


def test_values_are_blocked_whole_in_any_case_and_stripped(engine):
    written = [
        "NULL",
        " null ",
        "nullify",
        "",
        "  ",
        "000-00",
        "007",
        "(not set)",
        "Guest",
        "-1",
        "1",
    ]
    rules = IdentityRules(also_blocked=(r"bot\d+", "a.c", r"x\.y"))
    written += ["BOT12", "bot", "abc", "a.c", "x.y", "xzy"]
    column = ibis.memtable({"id": written}).id
    kept = engine.execute(observed.unblocked(column, rules).name("id"))
    assert [v for v in kept if v is not None and v == v] == ["nullify", "007", "1", "bot", "xzy"]


def found_by(engine, seen, rules, shared=None):
    expression = observed.row_identifier(as_table(seen), rules, shared).order_by("position")
    found = engine.execute(expression)
    assert list(found["position"]) == list(range(len(seen)))
    pairs = zip(found["identifier_type"], found["identifier"], strict=True)
    return [None if pd.isna(kind) else (kind, value) for kind, value in pairs]


@settings(max_examples=10)
@given(seen=rows(), data=st.data())
def test_a_row_is_found_by_its_strongest_identifier_that_is_not_shared(engine, seen, data):
    every = sorted({(k, row[k]) for row in seen for k in HOW_MANY if row[k] is not None})
    some = data.draw(st.sets(st.sampled_from(every))) if every else set()
    shared = pa.table(
        {
            "identifier_type": pa.array([kind for kind, _ in some], pa.string()),
            "identifier": pa.array([value for _, value in some], pa.string()),
        }
    )
    expected = []
    for row in seen:
        held = [(kind, row[kind]) for kind in HOW_MANY if row[kind] is not None]
        expected.append(next((one for one in held if one not in some), held[0] if held else None))
    assert found_by(engine, seen, RULES, shared) == expected


def test_without_identity_a_row_is_found_by_its_weakest_identifier(engine):
    seen = [{"user": "u", "device": "d", "anonymous": "a", "at": 0}, {"user": "u", "at": 1}]
    assert found_by(engine, seen, IdentityRules(strategy="none")) == [
        ("anonymous", "a"),
        ("user", "u"),
    ]
    assert found_by(engine, seen, IdentityRules(strategy="user_id")) == [
        ("user", "u"),
        ("user", "u"),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"id_devise": "d"},
            "type 'devise', which identity.priority does not name. Did you mean 'device'",
        ),
        ({"name": "x"}, "the rows carry no identifiers"),
    ],
)
def test_columns_that_the_rules_do_not_know_are_a_clear_error(columns, message):
    table = ibis.memtable({name: [value] for name, value in columns.items()})
    for function in (observed.without_blocked, observed.links, observed.row_identifier):
        with pytest.raises(ConfigError, match=message):
            function(table, RULES)


def test_one_type_alone_has_no_links(engine):
    table = ibis.memtable({"id_user": ["u"], "known_at": [pd.Timestamp("2024-01-01", tz="UTC")]})
    assert run(engine, observed.links(table, RULES)).num_rows == 0
    assert run(engine, observed.identifiers(table, RULES)).num_rows == 1


@settings(max_examples=20)
@given(seen=rows(), cuts=st.lists(st.integers(0, 25), max_size=3), data=st.data())
def test_increments_add_up_to_the_batch_in_any_order(seen, cuts, data):
    bounds = [0, *sorted(min(cut, len(seen)) for cut in cuts), len(seen)]
    loads = [seen[a:b] for a, b in pairwise(bounds)]
    loads = data.draw(st.permutations(loads))
    sums = list(observe(loads[0]))
    for load in loads[1:]:
        sums = [
            observed.merge_observed(old, new) for old, new in zip(sums, observe(load), strict=True)
        ]
    batch = observe(seen)
    assert [as_set(t) for t in sums] == [as_set(t) for t in batch]
    assert customers(resolve(*sums, RULES)) == customers(resolve(*batch, RULES))
