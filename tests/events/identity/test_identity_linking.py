"""Probable links find the same people under different e-mails, and stay within the rules."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from seqjourney.errors import ConfigError, DataError
from seqjourney.events.identity.graph import MOMENT
from seqjourney.events.identity.linking import LinkingRules, probable_links
from seqjourney.events.identity.resolve import resolve
from seqjourney.events.identity.rules import IdentityRules

RULES = LinkingRules(
    compare={"first_name": "name", "last_name": "name", "postcode": "text", "born": "exact"},
    block=(("last_name", "postcode"), ("first_name", "born")),
    threshold=0.95,
)


def people(count: int = 600) -> pa.Table:
    """Every second person left two e-mails, one of them with a letter of the name changed."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghiklmnoprstuvw"))

    def words(number: int, length: int) -> list[str]:
        return ["".join(rng.choice(letters, length)) for _ in range(number)]

    firsts, lasts = words(80, 6), words(300, 8)
    rows = []
    for person in range(count):
        first, last = str(rng.choice(firsts)), str(rng.choice(lasts))
        born = f"19{rng.integers(50, 99)}-{rng.integers(1, 12):02}-{rng.integers(1, 28):02}"
        one = {"first_name": first, "last_name": last, "born": born,
               "postcode": f"{rng.integers(10_000, 99_999)}"}  # fmt: skip
        rows.append({**one, "identifier": f"p{person}-0"})
        if person % 2:
            changed = str(rng.choice(["first_name", "last_name"]))
            rows.append({**one, changed: one[changed][:-1] + "x", "identifier": f"p{person}-1"})
    table = pa.Table.from_pylist(rows)
    known = pa.array(np.arange(len(rows)), pa.int64()).cast(MOMENT)
    kinds = pa.array(["email"] * len(rows))
    return table.append_column("identifier_type", kinds).append_column("first_known", known)


def test_the_same_people_under_two_emails_are_found_and_hardly_anyone_else():
    pytest.importorskip("splink", reason="Splink is not installed (the extra 'link')")
    table = people()
    links = probable_links(table, RULES)
    found = {frozenset((row["identifier_a"], row["identifier_b"])) for row in links.to_pylist()}
    right = {frozenset((f"p{n}-0", f"p{n}-1")) for n in range(1, 600, 2)}
    assert len(found & right) >= 0.95 * len(right)
    assert len(found - right) <= 0.01 * len(right)
    assert set(links["rule"].to_pylist()) == {"probabilistic"}
    assert min(links["probability"].to_pylist()) >= RULES.threshold
    place = {name: n for n, name in enumerate(table["identifier"].to_pylist())}
    for row in links.to_pylist()[:20]:  # a link is known when both its ends are
        ends = max(place[row["identifier_a"]], place[row["identifier_b"]])
        assert row["first_known"].microsecond == ends

    ids = table.select(["identifier_type", "identifier", "first_known"])
    joined = resolve(ids, links, IdentityRules())
    assert joined.summary["customers"] <= table.num_rows - 0.95 * len(right)
    single = resolve(ids, links, IdentityRules(limits={"email": 1}))
    assert single.summary["customers"] == table.num_rows
    assert single.refused.num_rows == links.num_rows


def test_too_few_identifiers_are_a_clear_error():
    pytest.importorskip("splink", reason="Splink is not installed (the extra 'link')")
    with pytest.raises(DataError, match="Splink could not learn from 2 identifiers"):
        probable_links(people(2).slice(0, 2), RULES)


def test_without_splink_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "splink", None)
    with pytest.raises(ConfigError, match=r"pip install 'seqjourney\[link\]'"):
        probable_links(people(2), RULES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": (("first_name",), ("town",))}, "block names 'town', which compare does not"),
        ({"block": (("born", "last_name"), ("born",))}, "every set of block holds 'born'"),
        ({"block": ((), ("born",))}, "a set of block is empty"),
        ({"compare": {"born": "nearly"}}, "compare"),
    ],
)
def test_rules_from_which_nothing_could_be_learned_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        LinkingRules.model_validate({**RULES.model_dump(), **change})
