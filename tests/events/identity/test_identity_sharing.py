"""Families, terminals and reused e-mails: what several people use joins nobody."""

from __future__ import annotations

import pytest
from identity_cases import customers, groups, links_of

from seqjourney.events.identity.resolve import resolve
from seqjourney.events.identity.rules import IdentityRules

APART, FIRST_OWNER = IdentityRules(), IdentityRules(shared="first_owner")

# Ann signs in on the tablet at 5, Bob at 8. Both had cookies there before they signed in, Bob's is
# linked to the tablet before anything is known of Bob. A third cookie never signs in.
FAMILY = links_of(
    ("device:tablet", "anonymous:ann", 1),
    ("user:ann", "device:tablet", 5),
    ("user:ann", "anonymous:ann", 5),
    ("device:tablet", "anonymous:bob", 6),
    ("user:bob", "device:tablet", 8),
    ("user:bob", "anonymous:bob", 8),
    ("device:tablet", "anonymous:somebody", 9),
)


@pytest.mark.parametrize("rules", [APART, FIRST_OWNER])
def test_cookies_of_a_shared_tablet_go_to_those_who_signed_in_with_them(rules):
    found = customers(resolve(*FAMILY, rules))
    assert found["anonymous", "ann"] == found["user", "ann"]
    assert found["anonymous", "bob"] == found["user", "bob"] != found["user", "ann"]
    assert list(found.values()).count(found["anonymous", "somebody"]) == 1


def test_a_shared_tablet_is_nobodys_or_the_first_owners():
    apart, first = (customers(resolve(*FAMILY, rules)) for rules in (APART, FIRST_OWNER))
    assert list(apart.values()).count(apart["device", "tablet"]) == 1
    assert first["device", "tablet"] == first["user", "ann"]


@pytest.mark.parametrize("rules", [APART, FIRST_OWNER])
def test_the_owner_of_a_tablet_keeps_the_id_when_another_signs_in_on_it(rules):
    alone = links_of(
        ("device:tablet", "anonymous:ann", 1), ("user:ann", "device:tablet", 5),
        ("user:ann", "anonymous:ann", 5),
    )  # fmt: skip
    before, after = customers(resolve(*alone, rules)), customers(resolve(*FAMILY, rules))
    assert before["user", "ann"] == after["user", "ann"] == after["anonymous", "ann"]


def test_a_shared_identifier_is_listed_with_the_number_that_use_it():
    shared = resolve(*FAMILY, APART).shared.to_pylist()
    assert [(row["identifier"], row["others"]) for row in shared] == [("tablet", 2)]
    rules = resolve(*FAMILY, APART).summary["refused"]
    assert rules == {"device used by several customers": 5}


def test_two_guests_on_one_device_are_not_fused_though_nobody_signs_in():
    found = customers(
        resolve(*links_of(("email:x", "device:d", 1), ("email:y", "device:d", 2)), APART)
    )
    assert len(set(found.values())) == 3


def test_a_cookie_joins_an_email_and_a_user_id_that_nothing_else_joins():
    given = links_of(("email:x", "anonymous:a", 1), ("user:u", "anonymous:a", 2))
    assert len(groups(resolve(*given, APART))) == 1


def test_a_second_email_joins_through_the_user_id_but_not_through_a_device():
    known = [("user:u", "email:x", 1), ("user:u", "device:d", 2)]
    assert len(groups(resolve(*links_of(*known, ("user:u", "email:y", 3)), APART))) == 1
    found = customers(resolve(*links_of(*known, ("email:y", "device:d", 3)), APART))
    assert found["email", "y"] != found["user", "u"]


def test_a_cookie_that_leads_to_two_users_over_their_emails_is_shared():
    given = links_of(
        ("email:x", "anonymous:a", 1), ("email:y", "anonymous:a", 2),
        ("user:u1", "email:x", 3), ("user:u2", "email:y", 4),
    )  # fmt: skip
    found = resolve(*given, IdentityRules(personal=("user",)))
    assert groups(found) == {
        frozenset({"user:u1", "email:x"}), frozenset({"user:u2", "email:y"}),
        frozenset({"anonymous:a"}),
    }  # fmt: skip


def test_a_terminal_seen_with_more_emails_than_a_customer_may_have_joins_none():
    given = links_of(*((f"email:e{n}", "device:terminal", n) for n in range(6)))
    found = customers(resolve(*given, IdentityRules(personal=("user",))))
    assert len(set(found.values())) == 7


def test_separating_a_friend_from_a_device_gives_it_back_to_its_owner():
    given = links_of(
        ("user:ann", "device:d", 5), ("device:d", "anonymous:a", 6), ("user:bob", "device:d", 8)
    )
    found = customers(resolve(*given, IdentityRules(separate=(("user:bob", "device:d"),))))
    assert found["user", "ann"] == found["device", "d"] == found["anonymous", "a"]
    assert found["user", "bob"] != found["user", "ann"]


def test_joining_two_accounts_makes_their_device_theirs():
    given = links_of(("user:u1", "device:d", 5), ("user:u2", "device:d", 8))
    found = resolve(*given, IdentityRules(together=(("user:u1", "user:u2"),)))
    assert len(groups(found)) == 1 and found.shared.num_rows == 0


def test_a_shared_identifier_that_a_decision_gives_to_someone_is_theirs():
    found = customers(resolve(*FAMILY, IdentityRules(together=(("user:bob", "device:tablet"),))))
    assert found["device", "tablet"] == found["user", "bob"] != found["user", "ann"]
