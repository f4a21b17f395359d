"""A review changes nothing until it is edited; what was decided stays decided."""

from __future__ import annotations

from pathlib import Path

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.errors import ConfigError
from seqjourney.events.taxonomy import (
    TrackingPlan,
    accepted,
    canonical,
    examine,
    read_names,
    write_review,
)
from seqjourney.events.taxonomy.documents import parse_yaml, to_yaml
from seqjourney.events.taxonomy.mapping import lookup, rules
from seqjourney.events.taxonomy.names import match_key
from seqjourney.events.taxonomy.plan import Event, Property
from seqjourney.events.taxonomy.review import read_review
from seqjourney.events.taxonomy.review_content import Proposal, Review

PLAN = TrackingPlan(
    events={
        "button_clicked": Event(raw=("klick",), properties={"label": Property(required=True)}),
        "product_viewed": Event(),
        "shopping": Event(),
        "logged_in": Event(),
    }
)
NAMES = ["button_clicked"] * 3 + ["tap_cta"] * 5 + ["odd thing"] * 2
NAMES += [f"viewed_product_{number}" for number in range(1000, 1008)]


def findings(names=NAMES, plan=PLAN):
    frame = pd.DataFrame({"event": names, "properties": "{}"})
    frame["event_id"] = [str(i) for i in range(len(frame))]
    frame["timestamp"], frame["customer_id"] = range(len(frame)), "c"
    rows = ibis.memtable(frame)
    counted = read_names(rows)
    return examine(canonical(rows, plan, counted), plan, counted)


@pytest.fixture
def path(tmp_path) -> Path:
    write_review(tmp_path / "review.yaml", findings(), PLAN)
    return tmp_path / "review.yaml"


def edit(path, name, **changes):
    """Change an entry as a person would: in the text, by reading and writing it."""
    content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    for entry in [*content["unmapped"], *content["suspects"]]:
        if entry["name"] == name:
            entry.update(changes)
    path.write_text(to_yaml(content), encoding="utf-8")


def entry_of(review, name):
    return next(e for e in (*review.unmapped, *review.suspects) if e.name == name)


def test_an_unedited_review_changes_nothing(path):
    assert accepted(path, PLAN) == PLAN


def test_no_review_changes_nothing(tmp_path):
    assert accepted(tmp_path / "none.yaml", PLAN) == PLAN


def test_the_review_lists_what_a_person_must_decide(path):
    review = read_review(path)
    assert review.coverage["rows"] == len(NAMES)
    assert review.coverage["mapped_rows"] == 3
    assert [(e.name, e.canonical, e.rows) for e in review.unmapped] == [
        ("tap_cta", "button_clicked", 5),
        ("odd_thing", "odd_thing", 2),
    ]
    [form] = review.suspects
    assert (form.name, form.canonical, form.names) == ("viewed_product_*", "product_viewed", 8)
    assert not any(e.accept for e in (*review.unmapped, *review.suspects))
    assert [(v.event, v.property, v.rows) for v in review.violations] == [
        ("button_clicked", "label", 3)
    ]
    assert [warning.split(":")[0] for warning in review.warnings] == ["shopping"]
    assert f"  rows: {len(NAMES)}\n  mapped_rows: 3\n" in path.read_text(encoding="utf-8")
    assert entry_of(review, "odd_thing").seen_as == ("odd thing",)


def test_accepted_names_are_mapped(path):
    edit(path, "tap_cta", accept=True)
    edit(path, "viewed_product_*", accept=True)
    plan = accepted(path, PLAN)
    found = rules(plan)
    assert lookup(found, None, "Tap CTA") == "button_clicked"
    assert lookup(found, None, "viewed_product_99999") == "product_viewed"
    assert lookup(found, None, "klick") == "button_clicked"
    assert lookup(found, None, "odd thing") is None
    assert plan.events["button_clicked"].properties == PLAN.events["button_clicked"].properties


def test_a_decision_in_the_users_own_words_counts(path):
    edit(path, "tap_cta", accept="yes", canonical="Klick")  # a raw name of button_clicked
    edit(path, "odd_thing", accept="true", canonical="Thing Done")
    found = rules(accepted(path, PLAN))
    assert lookup(found, None, "tap_cta") == "button_clicked"
    assert lookup(found, None, "Odd Thing") == "thing_done"


def test_decisions_survive_being_written_again_and_fed_back(path):
    edit(path, "tap_cta", accept=True)
    edit(path, "odd_thing", canonical="thing_done")
    plan = accepted(path, PLAN)
    write_review(path, findings(plan=plan), plan)  # tap_cta is mapped by now
    review = read_review(path)
    assert entry_of(review, "tap_cta").accept
    assert entry_of(review, "odd_thing").canonical == "thing_done"
    assert not entry_of(review, "odd_thing").accept
    assert review.coverage["mapped_rows"] == 8
    assert accepted(path, PLAN) == plan
    before = path.read_text(encoding="utf-8")
    write_review(path, findings(plan=plan), plan)
    assert path.read_text(encoding="utf-8") == before


def test_an_earlier_review_gives_its_decisions_to_a_new_file(path, tmp_path):
    edit(path, "tap_cta", accept=True)
    write_review(tmp_path / "new.yaml", findings(), PLAN, earlier=path)
    assert entry_of(read_review(tmp_path / "new.yaml"), "tap_cta").accept


def test_accepted_names_may_lead_to_accepted_names(path):
    edit(path, "tap_cta", accept=True, canonical="odd_thing")
    edit(path, "odd_thing", accept=True, canonical="thing_done")
    assert lookup(rules(accepted(path, PLAN)), None, "tap_cta") == "thing_done"
    edit(path, "odd_thing", accept=True, canonical="tap_cta")
    with pytest.raises(ConfigError, match="circle: odd_thing → tap_cta → odd_thing"):
        accepted(path, PLAN)


@pytest.mark.parametrize("canonical_name", ["", "...", "a_*_b"])
def test_an_accepted_entry_needs_a_canonical_name(path, canonical_name):
    edit(path, "tap_cta", accept=True, canonical=canonical_name)
    with pytest.raises(ConfigError, match="'tap_cta' is accepted, but its canonical name"):
        accepted(path, PLAN)


def test_a_broken_review_is_left_as_it_is(path):
    path.write_text("unmapped: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1"):
        write_review(path, findings(), PLAN)
    assert path.read_text(encoding="utf-8") == "unmapped: ["
    assert [f.name for f in path.parent.iterdir()] == ["review.yaml"]


HOSTILE = st.one_of(
    st.text(min_size=1, max_size=30),
    st.sampled_from(
        ["null", "no", "~", "*x", "&a", "!!python/x", "=cmd|' /C calc'!A0", "<script>", "a: b"]
    ),
    st.sampled_from(
        ["# c", "- x", "{a: 1}", "'", '"', "\x85\u2028", "\ud800", "%TAG", "---", "\x07", "=1+1"]
    ),
)


@given(st.lists(HOSTILE, max_size=8), HOSTILE)
def test_whatever_stands_in_a_review_is_read_back_as_it_was(texts, example):
    review = Review(
        warnings=tuple(texts),
        unmapped=tuple(
            Proposal(name=text, canonical=example, proposed=example, seen_as=tuple(texts))
            for text in texts
        ),
    )
    written = to_yaml(review.model_dump(mode="python"))
    written.encode("utf-8")
    assert Review.model_validate(parse_yaml(written, "x")) == review


@settings(max_examples=12)
@given(st.lists(HOSTILE, min_size=1, max_size=8, unique_by=match_key))
def test_hostile_names_go_through_the_review_and_back(tmp_path, names):
    names = [n.encode("utf-8", "ignore").decode().replace("\0", "0") or "x" for n in names]
    path = tmp_path / "hostile.yaml"
    path.unlink(missing_ok=True)
    nothing = TrackingPlan()
    review = write_review(path, findings(names, nothing), nothing)
    assert accepted(path, nothing) == nothing
    for entry in (*review.unmapped, *review.suspects):
        edit(path, entry.name, accept=True, canonical="thing_done")
    found = rules(accepted(path, nothing))
    assert {lookup(found, None, name) for name in names} == {"thing_done"}
