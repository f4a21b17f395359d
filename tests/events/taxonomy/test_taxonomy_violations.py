"""Violations are counted as reading every row by hand would count them."""

from __future__ import annotations

import json

import ibis
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.events.taxonomy import TrackingPlan
from seqjourney.events.taxonomy.plan import Event, Property
from seqjourney.events.taxonomy.violations import MISSING, NOT_ALLOWED, WRONG_TYPE, find

PLAN = TrackingPlan(
    events={
        "order_completed": Event(
            properties={
                "order_id": Property(required=True, raw=("transaction_id",)),
                "total": Property(type="number"),
                "lines": Property(type="integer", values=("1", "2", "3")),
                "currency": Property(values=("EUR", "US\u00a3")),
                "gift": Property(type="boolean"),
                "at": Property(type="time"),
            }
        ),
        "page_viewed": Event(properties={"total": Property(type="number")}),
    }
)


def found(documents, event="order_completed"):
    texts = [json.dumps(d) for d in documents]
    rows = ibis.memtable(pd.DataFrame({"event": event, "properties": texts}))
    return find(rows, PLAN)


def counts(table):
    return {(r.property, r.problem): r.rows for r in table.itertuples()}


def test_each_kind_is_counted_with_its_share_and_an_example():
    good = {"order_id": "a", "total": 1.5, "lines": 2.0, "currency": "US£", "gift": True}
    table = found(
        [
            good,
            good | {"order_id": ""},
            {"transaction_id": 7, "total": "9", "lines": 4, "currency": "XXX", "gift": "yes"},
            {"at": "2024-01-05T10:00:00Z", "lines": 2.5, "products": [{"order_id": "x"}]},
            {"order_id": ["a"], "at": 1704450000, "total": -1e-3},
            {"order_id": "b", "at": "yesterday"},
        ]
    )
    assert counts(table) == {
        ("order_id", MISSING): 2,
        ("order_id", WRONG_TYPE): 2,
        ("total", WRONG_TYPE): 1,
        ("lines", WRONG_TYPE): 1,
        ("lines", NOT_ALLOWED): 1,
        ("currency", NOT_ALLOWED): 1,
        ("gift", WRONG_TYPE): 1,
        ("at", WRONG_TYPE): 1,
    }
    rows = table.set_index(["property", "problem"])
    assert rows.loc[("order_id", MISSING), "share"] == 2 / 6
    assert rows.loc[("currency", NOT_ALLOWED), "example"] == '"XXX"'
    assert rows.loc[("order_id", MISSING), "example"] is None


VALUES = st.one_of(st.none(), st.integers(-5, 5), st.booleans(), st.text("ab 1", max_size=4))
DOCUMENTS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("order_id", "total", "lines", "currency", "gift"), VALUES)
)


@settings(max_examples=20)
@given(st.lists(DOCUMENTS, min_size=1, max_size=12))
def test_the_engine_counts_what_python_counts(documents):
    expected: dict[tuple[str, str], int] = {}

    def note(field, problem):
        expected[field, problem] = expected.get((field, problem), 0) + 1

    kinds = {"total": (int, float), "gift": bool, "lines": int, "currency": str, "order_id": str}
    for document in documents:
        values = {key: v for key, v in document.items() if v is not None and v != ""}
        if "order_id" not in values:
            note("order_id", MISSING)
        for field, value in values.items():
            is_flag = isinstance(value, bool)
            if not isinstance(value, kinds[field]) or (is_flag and field != "gift"):
                note(field, WRONG_TYPE)
            elif (field == "lines" and value not in (1, 2, 3)) or field == "currency":
                note(field, NOT_ALLOWED)
    assert counts(found(documents)) == expected


def test_examples_are_one_short_line():
    table = found([{"order_id": "a", "total": "<script>\n" + "x" * 500}])
    assert len(table["example"][0]) <= 80
    assert table["example"][0].isprintable()


def test_other_events_and_malformed_text_are_no_violation():
    rows = ibis.memtable(pd.DataFrame({"event": ["odd", "page_viewed"], "properties": ["{", "["]}))
    assert find(rows, PLAN).empty


def test_rows_without_properties_break_nothing():
    assert find(ibis.memtable(pd.DataFrame({"event": ["order_completed"]})), PLAN).empty
