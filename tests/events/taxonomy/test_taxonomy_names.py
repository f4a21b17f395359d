"""Folding makes one safe name of many spellings, and says which names carry data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.events.taxonomy.names import (
    LONGEST,
    fold,
    is_object_action,
    match_key,
    object_action,
    shown,
    template,
)

WORDS = st.lists(st.from_regex(r"[a-z]{2,8}", fullmatch=True), min_size=1, max_size=5)


@given(st.text(max_size=300))
def test_folding_is_idempotent_and_leaves_only_letters_digits_and_underscores(name):
    folded = fold(name)
    assert folded
    assert len(folded) <= LONGEST
    assert fold(folded) == folded
    assert match_key(folded).replace("_", "") == folded.replace("_", "")
    assert not any(c.isspace() or (c.isascii() and not (c.isalnum() or c == "_")) for c in folded)


@given(WORDS)
def test_every_spelling_of_the_same_words_folds_to_one_name(words):
    expected = "_".join(words)
    spellings = ["_", "-", " ", ".", "  "]
    assert {fold(s.join(words)) for s in spellings} == {expected}
    assert fold("".join(word.capitalize() for word in words)) == expected
    assert fold("_".join(words).upper()) == expected
    assert match_key("".join(words).upper()) == match_key(expected)


def test_long_names_stay_apart_though_they_begin_alike():
    assert fold("a" * 500) != fold("a" * 501)
    assert fold("x" * 10_000_000).startswith("xxx")


def test_names_without_letters_stay_apart():
    assert fold("🎉") != fold("!!!")
    assert fold("🎉").startswith("unnamed_")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("viewed_product_12345", "viewed_product_*"),
        ("order_2024_01_05_placed", "order_*_placed"),
        ("open_a1b2c3d4_1234_1234_1234_0123456789ab", "open_*"),
        ("page_deadbeef01", "page_*"),
        ("step_2_completed", None),
        ("order_completed", None),
        ("12345", None),
        ("unnamed_5b4042e5", None),
    ],
)
def test_names_that_carry_data_show_their_form(name, expected):
    assert template(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("click_button", "button_clicked"),
        ("add_to_cart", "cart_added"),
        ("form_submit", "form_submitted"),
        ("buy_ticket", "ticket_bought"),
        ("order_completed", "order_completed"),
        ("mystery_thing", "mystery_thing"),
    ],
)
def test_the_object_action_form_is_proposed_where_the_verb_is_known(name, expected):
    assert object_action(name) == expected


def test_object_action_needs_an_object_and_a_past_tense():
    assert is_object_action("order_completed")
    assert is_object_action("user_signed_up")
    assert not is_object_action("completed")
    assert not is_object_action("view_item")


@given(st.text(max_size=500))
def test_what_people_are_shown_is_one_short_printable_line(text):
    line = shown(text)
    assert len(line) <= 80
    assert line.isprintable()
