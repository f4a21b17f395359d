"""Addresses and telephone numbers become keyed hashes, and are cut out of what is kept as text."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.errors import DataError
from seqjourney.events import hashing
from seqjourney.events.hashing import (
    hashed_address,
    hashed_email,
    hashed_phone,
    read_key,
    redacted,
    redacted_text,
    without_addresses,
)

KEY = "a key of sixteen letters"
LETTERS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789._+-üñ", min_size=1, max_size=12)
ADDRESSES = st.builds(
    lambda name, host, end, at: f"{name}{at}{host}.{end}",
    LETTERS.map(lambda text: "x" + text),
    st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
    st.sampled_from(["com", "example", "co.uk", "de"]),
    st.sampled_from(["@", "%40"]),
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


def apply(make: Any, *texts: str | None) -> list[str | None]:
    column = ibis.memtable(pd.DataFrame({"t": pd.Series(texts, dtype="string")})).t
    return make(column).to_pyarrow().to_pylist()


def test_an_address_is_the_same_however_it_was_typed():
    one, two, three, none = apply(
        lambda t: hashed_email(t, KEY), "Ann@Mail.example", " ann@mail.EXAMPLE ", "bob@m.co", None
    )
    assert one == two != three
    assert none is None
    assert len(one) == 32 and set(one) <= set("0123456789abcdef")


def test_a_number_is_the_same_however_it_was_written():
    numbers = ("+49 (170) 123-4567", "0049 170 1234567", "+491701234567")
    found = apply(lambda t: hashed_phone(t, KEY), *numbers, "0170 1234567", "none", None)
    assert len(set(found[:3])) == 1
    assert found[3] != found[0]
    assert found[4:] == [None, None]


def test_another_key_gives_another_hash():
    mine, theirs = (apply(lambda t, k=k: hashed_email(t, k), "a@b.co") for k in (KEY, KEY[::-1]))
    assert mine != theirs


def test_only_ids_that_are_addresses_are_hashed():
    ids = ["u-17", "a@b.co", "+491701234567", "x+y", None]
    found = apply(lambda t: hashed_address(t, KEY), *ids)
    assert found[0] == "u-17" and found[3] == "x+y" and found[4] is None
    assert found[1] == apply(lambda t: hashed_email(t, KEY), "A@b.co")[0]
    assert len(found[2]) == 32


@given(st.lists(st.tuples(TEXTS, ADDRESSES, TEXTS), min_size=1, max_size=8), st.booleans())
def test_no_address_is_left_in_json_which_stays_json(parts, ascii):
    documents = [
        {"k": f"{a} {address} {b}", address: [a, {"d": address}]} for a, address, b in parts
    ]
    texts = [json.dumps(document, ensure_ascii=ascii) for document in documents]
    for found in (apply(redacted, *texts), [redacted_text(text) for text in texts]):
        for text, (_, address, _) in zip(found, parts, strict=True):
            json.loads(text)
            host = address.replace("%40", "@").split("@")[1]
            assert f"@{host}" not in text and f"%40{host}" not in text


@given(st.lists(st.one_of(TEXTS, ADDRESSES), min_size=1, max_size=8))
def test_the_engine_and_python_cut_out_the_same(texts):
    written = [json.dumps({"phone": text, "note": text, "n": 12}) for text in texts]
    assert apply(redacted, *written) == [redacted_text(text) for text in written]


def test_numbers_are_cut_out_by_their_key_or_their_country():
    gone = (
        '{"phone":"0170 1234567"}',
        '{"homePhone" : "+49 170 1234567"}',
        '{"phone_number":491701234567}',
        '{"MOBILE":"0170-1234567","a":1}',
        '{"tel":"0170 1234567"}',
        '{"note":"call +49 (170) 123 45 67 now"}',
        '{"url":"/?n=%2B491701234567"}',
    )
    for text, found in zip(gone, apply(redacted, *gone), strict=True):
        assert "(phone)" in found and "4567" not in found and "45 67" not in found
        json.loads(found)
        assert redacted_text(text) == found


def test_what_is_no_address_and_no_number_stays():
    kept = (
        '{"device":"mobile","mobile":true,"phone_model":"iPhone 14","tel":"no"}',
        '{"order":"4917012345678901","at":"2024-01-01T10:00:00+01:00","price":1.5e+10}',
        '{"url":"https://medium.example/@anna","handle":"@anna","mail":"anna at mail.example"}',
        '{"n":null,"text":"1 + 2 = 3","zone":"+0100","version":"+1.2.3"}',
        "",
    )
    assert apply(redacted, *kept, None) == [*kept, None]
    assert [redacted_text(text) for text in kept] == list(kept)


def test_names_lose_addresses_and_keep_the_rest():
    found = apply(without_addresses, "Mail to a.b@c.example sent", "Order Completed", None)
    assert found == ["Mail to (e-mail) sent", "Order Completed", None]


def test_the_key_is_made_once_and_is_the_owners_alone(tmp_path: Path, monkeypatch):
    monkeypatch.delenv(hashing.VARIABLE, raising=False)
    first, second = read_key(tmp_path), read_key(tmp_path)
    assert first == second and len(first) == 64
    assert stat.S_IMODE((tmp_path / hashing.FILE).stat().st_mode) == 0o600
    assert read_key(tmp_path / "another") != first


def test_the_environments_key_comes_first_and_must_be_long_enough(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(hashing.VARIABLE, KEY)
    assert read_key(tmp_path) == KEY
    assert not (tmp_path / hashing.FILE).exists()
    monkeypatch.setenv(hashing.VARIABLE, "short")
    with pytest.raises(DataError, match=r"SEQJOURNEY_HASH_KEY has 5 characters; 16"):
        read_key(tmp_path)
