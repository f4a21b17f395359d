"""Names that mean the same come out on top; neighbours and opposites do not."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd
import pytest
from two_tools import draw

from seqjourney.events.taxonomy import TrackingPlan, canonical, examine, read_names
from seqjourney.events.taxonomy.evidence import key_shares, neighbours
from seqjourney.events.taxonomy.plan import Event
from seqjourney.events.taxonomy.synonyms import COLUMNS, candidates

SAME = [
    {"click_button", "tap_cta"},
    {"product_viewed", "evt_17"},
    {"order_completed", "purchase_success"},
    {"page_viewed", "pageviewed"},
]


@pytest.fixture(scope="module")
def proposed() -> pd.DataFrame:
    rows = ibis.memtable(draw())
    names = read_names(rows)
    return examine(canonical(rows, TrackingPlan(), names), TrackingPlan(), names).candidates


def pairs_of(table):
    return [{r.event, r.candidate} for r in table.itertuples()]


def test_synonyms_come_out_on_top_and_nothing_else_does(proposed):
    assert sorted(map(sorted, pairs_of(proposed))) == sorted(map(sorted, SAME))


def test_scores_lie_between_nothing_and_one(proposed):
    for column in ("score", "name_score", "property_score", "context_score"):
        assert proposed[column].between(0, 1).all()


def test_unmapped_names_are_held_against_the_plan():
    plan = TrackingPlan(events={"product_viewed": Event(), "button_clicked": Event()})
    rows = ibis.memtable(draw())
    names = read_names(rows)
    table = examine(canonical(rows, plan, names), plan, names).candidates
    best = table.drop_duplicates("event").set_index("event")
    assert best.loc["evt_17", "candidate"] == "product_viewed"
    assert best.loc["tap_cta", "candidate"] == "button_clicked"  # which nobody recorded
    assert best.loc["tap_cta", "candidate_mapped"]
    assert not set(table["event"]) & set(plan.events)


def compared(*names, mapped=()):
    return pd.DataFrame(
        {"event": names, "rows": range(len(names), 0, -1), "mapped": [n in mapped for n in names]}
    )


def no_keys():
    return pd.DataFrame({"event": [], "key": [], "share": []})


def no_pairs():
    return pd.DataFrame({"event": [], "next": [], "rows": []})


def test_opposites_are_no_synonyms_though_all_else_agrees():
    keys = pd.DataFrame(
        [(e, k, 1.0) for e in ("cart_added", "cart_removed") for k in ("product_id", "price")],
        columns=["event", "key", "share"],
    )
    assert candidates(compared("cart_added", "cart_removed"), keys, no_pairs()).empty


def test_a_step_and_the_next_are_no_synonyms_though_their_properties_agree():
    names = ("product_viewed", "cart_added", "page_viewed")
    keys = pd.DataFrame(
        [(e, k, 1.0) for e in names[:2] for k in ("product_id", "price")],
        columns=["event", "key", "share"],
    )
    follows = [(names[0], names[1], 900), (names[1], names[2], 900), (names[2], names[0], 900)]
    follows += [(name, name, 50) for name in names]
    pairs = pd.DataFrame(follows, columns=["event", "next", "rows"])
    assert candidates(compared(*names), keys, pairs).empty


def test_names_alone_tell_when_there_is_nothing_else():
    table = candidates(
        compared("order_completed", "ordercompletd", "app_opened", mapped=("order_completed",)),
        no_keys(),
        no_pairs(),
    )
    assert pairs_of(table) == [{"order_completed", "ordercompletd"}]
    assert table["property_score"].isna().all()
    assert table["context_score"].isna().all()


def test_nothing_unmapped_means_nothing_proposed():
    table = candidates(
        compared("a_done", "b_done", mapped=("a_done", "b_done")), no_keys(), no_pairs()
    )
    assert table.empty
    assert list(table.columns) == list(COLUMNS)


def test_the_order_of_rows_does_not_matter():
    raw = draw(60)
    tables = []
    for frame in (raw, raw.sample(frac=1, random_state=1)):
        rows = ibis.memtable(frame)
        names = read_names(rows)
        tables.append(examine(canonical(rows, TrackingPlan(), names), TrackingPlan(), names))
    pd.testing.assert_frame_equal(tables[0].candidates, tables[1].candidates)


def test_neighbours_are_those_of_walking_through_each_customer():
    raw = draw(40)
    names = raw.groupby("event").size().rename("rows").reset_index()
    result = neighbours(ibis.memtable(raw), names, order=("timestamp", "event_id"))
    after = raw.groupby("customer_id")["event"].shift(-1)
    expected = raw.assign(next=after).dropna(subset="next").groupby(["event", "next"]).size()
    assert result.set_index(["event", "next"])["rows"].to_dict() == expected.to_dict()


def test_of_a_large_log_whole_sequences_are_read():
    raw = draw(200)
    names = raw.groupby("event").size().rename("rows").reset_index()
    few = neighbours(ibis.memtable(raw), names, order=("timestamp",), most_rows=len(raw) // 4)
    lengths = raw.groupby("customer_id").size() - 1
    assert 0.1 < few["rows"].sum() / lengths.sum() < 0.45


def test_key_shares_estimate_what_all_rows_say():
    raw = draw(200)
    names = raw.groupby("event").size().rename("rows").reset_index()
    sampled = key_shares(ibis.memtable(raw), names, TrackingPlan(), per_event=200)
    exact = key_shares(ibis.memtable(raw), names, TrackingPlan(), per_event=10**9)
    both = sampled.merge(exact, on=["event", "key"])
    assert len(both) == len(exact)
    assert np.abs(both["share_x"] - both["share_y"]).max() < 0.1
    assert np.allclose(exact.loc[exact["key"] == "device", "share"], 1)
    assert exact["share"].between(0.8, 1).all()
