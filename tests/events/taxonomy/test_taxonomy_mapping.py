"""Every row gets its canonical name; nothing is dropped, and the original stays."""

from __future__ import annotations

import json

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.events.taxonomy import TrackingPlan, canonical, read_names, with_properties
from seqjourney.events.taxonomy.mapping import coverage, resolve
from seqjourney.events.taxonomy.names import fold
from seqjourney.events.taxonomy.plan import Event, Property

PLAN = TrackingPlan(
    events={
        "order_completed": Event(
            raw=("purchase", "shop/done", "order_*_ok"),
            actor="customer",
            properties={"order_id": Property(raw=("transaction_id", "Order Number"))},
        ),
        "order_cancelled": Event(raw=("order_bad_ok", "crm/order_*")),
        "email_sent": Event(actor="company"),
    }
)


def table(**columns):
    return ibis.memtable(pd.DataFrame(columns))


def mapped(names, sources=None):
    rows = {"row": list(range(len(names))), "event": pd.Series(names, dtype="string")}
    if sources is not None:
        rows["source"] = pd.Series(sources, dtype="string")
    return canonical(table(**rows), PLAN).order_by("row").execute()


def test_exact_names_sources_and_patterns_are_found_in_that_order():
    names = ["Purchase", "done", "done", "order_5_ok", "order_bad_ok", "order_5_ok", "Order 7"]
    sources = ["web", "shop", "web", "web", "web", "crm", "crm"]
    assert mapped(names, sources)["event"].tolist() == [
        "order_completed",
        "order_completed",
        "done",
        "order_completed",
        "order_cancelled",
        "order_cancelled",  # the pattern that names more, here the source, comes first
        "order_cancelled",
    ]


def test_rows_keep_their_number_their_columns_and_their_original_name():
    names = ["Purchase", None, "Odd Name", "purchase", "Odd Name"]
    result = mapped(names)
    assert result["row"].tolist() == [0, 1, 2, 3, 4]
    assert result["original_event"].fillna("-").tolist() == [n or "-" for n in names]
    events = ["order_completed", "-", "odd_name", "order_completed", "odd_name"]
    assert result["event"].fillna("-").tolist() == events


def test_the_plan_gives_an_actor_only_where_the_row_has_none():
    rows = table(
        event=["purchase", "purchase", "email_sent", "other"],
        actor=pd.Series(["system", None, None, None], dtype="string"),
        row=[0, 1, 2, 3],
    )
    result = canonical(rows, PLAN).order_by("row").execute()
    assert result["actor"].fillna("-").tolist() == ["system", "customer", "company", "-"]


def test_mapping_a_join_works_as_mapping_a_table_does():
    rows = table(event=["purchase", "x"], row=[0, 1])
    joined = rows.join(table(row=[0, 1], more=["a", "b"]), "row")
    once = canonical(joined, PLAN)
    assert once.order_by("row").execute()["event"].tolist() == ["order_completed", "x"]


def test_an_empty_table_is_mapped_to_an_empty_table():
    rows = table(event=pd.Series([], dtype="string"), row=pd.Series([], dtype="int64"))
    assert canonical(rows, PLAN).execute().empty


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=20))
def test_no_name_however_hostile_loses_a_row(names):
    names = [name.encode("utf-8", "ignore").decode() or "x" for name in names]
    names = [name.replace("\0", "0") for name in names]  # the engine's text ends there
    result = mapped(names)
    assert result["original_event"].tolist() == names
    known = set(PLAN.events)
    assert all(e in known or e == fold(n) for e, n in zip(result["event"], names, strict=True))


def test_coverage_counts_volume_and_names():
    rows = table(event=["purchase"] * 6 + ["odd"] * 3 + ["odder"])
    covered = coverage(resolve(read_names(rows), PLAN))
    assert (covered.rows, covered.mapped_rows, covered.share_of_rows) == (10, 6, 0.6)
    assert (covered.names, covered.mapped_names) == (3, 1)


# Values whose brackets could be taken for structure are left out: see `json_text._flat`.
SCALARS = st.one_of(
    st.integers(-(10**6), 10**6),
    st.booleans(),
    st.none(),
    st.sampled_from(["", "x", 'say "hi"', "back\\", "a,b:c", "null", "12", 'x": 3', "naïve/é"]),
)
NESTING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["order_id", "q", "z"]), inner, max_size=3),
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["order_id", "q", "note", "Ünder Way"]), NESTING)


@settings(max_examples=20)
@given(st.lists(st.tuples(OBJECTS, st.booleans(), st.booleans()), min_size=1, max_size=10))
def test_properties_are_read_as_a_json_parser_reads_them(documents):
    texts = [
        json.dumps(d, ensure_ascii=ascii, separators=(",", ":") if tight else None)
        for d, ascii, tight in documents
    ]
    rows = table(row=range(len(texts)), event=["other"] * len(texts), properties=texts)
    result = with_properties(rows, PLAN, ["order_id", "under_way"]).order_by("row").execute()
    for (document, *_), order_id in zip(documents, result["order_id"], strict=True):
        value = document.get("order_id")
        if value is None or value == "" or isinstance(value, list | dict):
            assert pd.isna(order_id)
        elif isinstance(value, str):
            escaped = json.dumps(value)[1:-1]
            assert order_id in (value, escaped)
        else:
            assert order_id == json.dumps(value)


def test_a_property_is_found_under_any_spelling_of_the_keys_of_its_event():
    texts = ['{"transactionId": "a"}', '{"ORDER NUMBER":"b"}', '{"order_id": null, "$order_id":7}']
    rows = table(
        row=range(6),
        event=["order_completed"] * 3 + ["other"] * 3,
        properties=[*texts, *texts],
    )
    result = with_properties(rows, PLAN, ["order_id"]).order_by("row").execute()
    assert result["order_id"].fillna("-").tolist() == ["a", "b", "7", "-", "-", "7"]


@pytest.mark.parametrize(
    "text",
    ["", "x", "{", "[" * 15000, '{"a":' * 3000, '"' * 9001, "x" * 5_000_000, '{"order_id":"open'],
)
def test_text_that_is_no_json_is_no_error(text):
    rows = table(event=["order_completed"], properties=[text])
    assert with_properties(rows, PLAN, ["order_id"]).execute()["order_id"].isna().all()


def test_the_expressions_are_ones_that_spark_has_too():
    rows = ibis.table(
        {"event": "string", "source": "string", "actor": "string", "properties": "string"}, "rows"
    )
    names = pd.DataFrame({"source": ["web"], "name": ["done"], "rows": [1]})
    expression = with_properties(canonical(rows, PLAN, names), PLAN, ["order_id"])
    sql = ibis.to_sql(expression, dialect="pyspark")
    # Spark writes back-references in another way than DuckDB, so there must be none.
    assert "REGEXP_EXTRACT" in sql
    assert r"'\\1'" not in sql
