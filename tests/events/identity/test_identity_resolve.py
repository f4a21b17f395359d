"""Customers are a function of what was seen, keep the rules, and keep their ids."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from identity_cases import (
    HOW_MANY,
    TYPES,
    content,
    customers,
    groups,
    links_of,
    observe,
    rows,
)
from identity_oracle import answer

from seqjourney.errors import DataError
from seqjourney.events.identity.graph import MOMENT
from seqjourney.events.identity.resolve import resolve
from seqjourney.events.identity.rules import IdentityRules, split

RULES = IdentityRules()
EVERY = [f"{kind}:{kind[0]}{n}" for kind, count in HOW_MANY.items() for n in range(count)]


@st.composite
def rules(draw):
    """Rules tight enough to be met by a few rows, with decisions that do not contradict."""
    pairs = st.lists(
        st.lists(st.sampled_from(EVERY), min_size=2, max_size=2, unique=True).map(tuple), max_size=2
    )
    given = {
        "unique": draw(st.sampled_from([("user",), ("user", "email"), (), ("user", "device")])),
        "personal": draw(st.sampled_from([("user", "email", "phone", "external"), ("user",), ()])),
        "shared": draw(st.sampled_from(["apart", "first_owner"])),
        "together": tuple(draw(pairs)),
    }
    limits = {"email": 2, "device": 2, "anonymous": 3}
    given["limits"] = {k: v for k, v in limits.items() if k not in given["unique"]}
    whole = IdentityRules(**given)
    apart = tuple(
        (a, b) for a, b in draw(pairs) if whole.together_class(a) != whole.together_class(b)
    )
    return IdentityRules(**given, separate=apart)


@settings(max_examples=150)
@given(seen=rows(), chosen=rules())
def test_customers_are_those_of_the_rules_read_one_by_one(seen, chosen):
    found, right = resolve(*observe(seen), chosen), answer(*observe(seen), chosen)
    assert groups(found) == {frozenset(f"{k}:{v}" for k, v in group) for group in right.groups}
    shared = found.shared
    names = zip(
        shared["identifier_type"].to_pylist(), shared["identifier"].to_pylist(), strict=True
    )
    assert set(names) == right.shared
    at = found.assignment["linked_at"].cast(pa.int64()).to_pylist()
    assert dict(zip(customers(found), at, strict=True)) == right.since


@settings(max_examples=60)
@given(seen=rows(), chosen=rules(), data=st.data())
def test_order_and_repetition_of_the_input_change_nothing(seen, chosen, data):
    ids, links = observe(seen)
    places = [data.draw(st.permutations(range(t.num_rows))) for t in (ids, links)]
    again = [
        data.draw(st.lists(st.sampled_from(place), max_size=5)) if place else [] for place in places
    ]
    shuffled = [
        t.take(pa.array([*place, *more], pa.int64()))
        for t, place, more in zip((ids, links), places, again, strict=True)
    ]
    turned = shuffled[1].select([2, 3, 0, 1, 4, 5]).rename_columns(links.column_names)
    one, other = resolve(ids, links, chosen), resolve(*shuffled, chosen)
    summary = {**other.summary, "links": one.summary["links"]}  # those that were given
    assert (*content(one)[:3], one.summary) == (*content(other)[:3], summary)
    assert content(resolve(ids, turned, chosen))[:3] == content(one)[:3]


@settings(max_examples=60)
@given(seen=rows(most=40), chosen=rules())
def test_no_customer_breaks_a_limit_or_a_decision(seen, chosen):
    found = customers(resolve(*observe(seen), chosen))
    held = Counter()
    for kind, group in {
        (kind, (customer, chosen.together_class(f"{kind}:{value}")))
        for (kind, value), customer in found.items()
    }:
        held[kind, group[0]] += 1
    assert all(count <= chosen.most(kind) for (kind, _), count in held.items())
    for pair in chosen.separate:
        one, other = (found.get(split(written)) for written in pair)
        assert one is None or one != other
    for pair in chosen.together:
        one, other = (found.get(split(written)) for written in pair)
        assert one is None or other is None or one == other


@settings(max_examples=60)
@given(seen=rows(), chosen=rules())
def test_every_link_between_two_customers_is_reported_with_its_rule(seen, chosen):
    ids, links = observe(seen)
    found = resolve(ids, links, chosen)
    whose = customers(found)
    between = {
        (row["type_a"], row["identifier_a"], row["type_b"], row["identifier_b"])
        for row in links.to_pylist()
        if whose[row["type_a"], row["identifier_a"]] != whose[row["type_b"], row["identifier_b"]]
    }
    reported = found.refused.to_pylist()
    ends = [
        (row["type_a"], row["identifier_a"], row["type_b"], row["identifier_b"]) for row in reported
    ]
    assert len(ends) == len(set(ends)) and set(ends) == between
    assert all(row["rule"] for row in reported)
    assert sum(found.summary["refused"].values()) == len(reported)


@settings(max_examples=80)
@given(seen=rows(), later=rows(), chosen=rules())
def test_customers_keep_their_ids_when_later_data_comes(seen, later, chosen):
    """Unless it shows what is shared, what was merged stays so, under the elder's id."""
    chosen = chosen.model_copy(update={"together": ()})
    whole = seen + [{**row, "at": row["at"] + 41} for row in later]
    before, after = resolve(*observe(seen), chosen), resolve(*observe(whole), chosen)
    assume(after.shared.select([0, 1]).to_pylist() == before.shared.select([0, 1]).to_pylist())
    old, new = customers(before), customers(after)
    first = dict(zip(old, before.assignment["first_known"].to_pylist(), strict=True))
    elders: dict[str, list] = {}
    for one in sorted(old, key=lambda x: (first[x], chosen.strength(x[0]), x[1])):
        elders.setdefault(new[one], []).append(old[one])
    assert all(customer == members[0] for customer, members in elders.items())
    for one in old:
        assert {new[other] for other in old if old[other] == old[one]} == {new[one]}


def test_an_id_is_the_hash_of_the_earliest_identifier():
    found = customers(
        resolve(*links_of(("user:u1", "anonymous:a", 5), ("user:u1", "email:e", 7)), RULES)
    )
    earliest = hashlib.sha256(b"user:u1").hexdigest()  # ties: the stronger of those first at 5
    assert set(found.values()) == {"c" + earliest[:20]}


def test_a_merged_customer_keeps_the_elders_id_and_says_since_when():
    before = links_of(("user:u", "device:d", 1), ("email:e", "anonymous:a", 3))
    after = links_of(
        ("user:u", "device:d", 1), ("email:e", "anonymous:a", 3), ("user:u", "email:e", 9)
    )
    old, new = resolve(*before, RULES), resolve(*after, RULES)
    assert set(customers(new).values()) == {customers(old)["user", "u"]}
    at = dict(
        zip(customers(new), new.assignment["linked_at"].cast(pa.int64()).to_pylist(), strict=True)
    )
    assert at == {
        ("user", "u"): None,
        ("device", "d"): None,
        ("email", "e"): 9,
        ("anonymous", "a"): 9,
    }


def test_a_separated_identifier_takes_its_own_id_along_and_leaves_the_others_theirs():
    given = links_of(
        ("user:u", "device:d", 1), ("user:u", "email:e", 2), ("email:e", "anonymous:a", 3)
    )
    whole = customers(resolve(*given, RULES))
    parted = customers(resolve(*given, IdentityRules(separate=(("user:u", "email:e"),))))
    assert parted["user", "u"] == parted["device", "d"] == whole["user", "u"]
    alone = customers(resolve(*links_of(("email:e", "anonymous:a", 3)), RULES))
    assert parted["email", "e"] != whole["user", "u"]
    assert len({parted["email", "e"], parted["anonymous", "a"]}) == 1 and alone


def test_two_accounts_of_one_person_are_joined_by_a_decision_only():
    given = links_of(("user:u1", "email:e", 1), ("user:u2", "phone:p", 2))
    assert len(groups(resolve(*given, RULES))) == 2
    found = resolve(*given, IdentityRules(together=(("user:u1", "user:u2"),)))
    assert len(groups(found)) == 1
    at = dict(
        zip(
            customers(found),
            found.assignment["linked_at"].cast(pa.int64()).to_pylist(),
            strict=True,
        )
    )
    assert at["user", "u2"] is None  # known from its own start on: the decision is about persons


def test_a_decision_about_an_identifier_that_nobody_saw_is_counted():
    given = links_of(("user:u1", "email:e", 1))
    found = resolve(*given, IdentityRules(separate=(("user:u1", "user:u9"),)))
    assert found.summary["decisions_unseen"] == 1


@pytest.mark.parametrize("strategy", ["user_id", "none"])
def test_without_linking_every_identifier_is_a_customer_of_its_own(strategy):
    given = links_of(("user:u1", "device:d", 5), ("device:d", "anonymous:a", 6))
    found = resolve(*given, IdentityRules(strategy=strategy))
    assert len(set(customers(found).values())) == 3
    assert found.refused.num_rows == 0 and found.summary["strategy"] == strategy


def test_nothing_seen_gives_no_customers():
    found = resolve(*observe([]), RULES)
    assert found.assignment.num_rows == found.refused.num_rows == found.shared.num_rows == 0
    assert found.summary["customers"] == found.summary["largest"] == 0


def test_probable_links_are_followed_last_whatever_their_time():
    chosen = IdentityRules(limits={"email": 1}, unique=("user",))
    ids, seen = links_of(("user:u", "email:e1", 9), ("user:u", "device:d", 1))
    guess = pa.table({"type_a": ["user"], "identifier_a": ["u"], "type_b": ["email"],
                      "identifier_b": ["e2"], "first_known": pa.array([2]).cast(MOMENT),
                      "rows": [1], "rule": ["probabilistic"]})  # fmt: skip
    rule = pa.array(["observed"] * seen.num_rows)
    links = pa.concat_tables([guess, seen.append_column("rule", rule)])
    found = resolve(ids, links, chosen)
    assert customers(found)["email", "e1"] == customers(found)["user", "u"]
    assert found.refused.to_pylist()[0]["rule"] == "one email per customer"
    alone = resolve(ids, guess, chosen)
    assert customers(alone)["email", "e2"] == customers(alone)["user", "u"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("type_b", "emial", "has the type 'emial', which identity.priority does not name"),
        ("identifier_b", None, "column 'identifier_b' holds 1 nulls"),
        ("first_known", None, "column 'first_known' holds 1 nulls"),
    ],
)
def test_what_is_missing_or_unknown_is_a_clear_error(column, value, message):
    ids, links = links_of(("user:u1", "email:e", 1))
    place = links.column_names.index(column)
    links = links.set_column(place, column, pa.array([value], links.schema.field(place).type))
    with pytest.raises(DataError, match=message):
        resolve(ids, links, RULES)


def test_types_are_known_to_the_cases():
    assert set(HOW_MANY) <= set(TYPES) == set(RULES.priority)


@settings(max_examples=15)
@given(seen=rows(), data=st.data())
def test_tables_in_many_pieces_are_read_as_whole_ones(seen, data):
    whole = observe(seen)
    pieces = []
    for t in whole:
        cuts = sorted(data.draw(st.lists(st.integers(0, t.num_rows), max_size=4)))
        bounds = [0, *cuts, t.num_rows]
        pieces.append(pa.concat_tables(t.slice(a, b - a) for a, b in pairwise(bounds)))
    assert content(resolve(*pieces, RULES)) == content(resolve(*whole, RULES))


@settings(max_examples=20)
@given(seen=rows())
def test_one_text_under_several_types_is_several_identifiers(seen):
    """Identifiers named by their number alone: `user 1` and `device 1` have nothing in common."""
    ids, links = observe(seen)
    bare = [t.to_pandas() for t in (ids, links)]
    for frame in bare:
        for column in frame.columns:
            if column.startswith("identifier") and column != "identifier_type":
                frame[column] = frame[column].str[1:]
    alike = [
        pa.Table.from_pandas(frame, t.schema) for frame, t in zip(bare, (ids, links), strict=True)
    ]
    found = groups(resolve(*alike, RULES))
    named = {frozenset(f"{k}:{k[0]}{v}" for k, v in map(split, group)) for group in found}
    assert named == groups(resolve(ids, links, RULES))
