"""Erasure file by file, and the list that keeps the erased from coming back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.errors import DataError
from seqjourney.events.customers import Customer
from seqjourney.events.erasure import erase_from, names_customer
from seqjourney.events.suppression import (
    HashKey,
    Suppression,
    read_suppression,
    withhold_erased,
    write_suppression,
)

ANNA = Customer("c-anna-1", (("user", "17"), ("anonymous", "cookie-4711")), ("anna1@shop.example",))
KEY = HashKey.of("a secret of sixteen or more")


def erase(place: Path, name: str, customer: Customer = ANNA, **options: Any) -> Any:
    """Erase from a file and put what remains in its place; return what was taken out."""
    erased = erase_from(place / name, customer, place / "remains", **options)
    assert (place / "remains").exists() == bool(erased)
    if erased:
        (place / "remains").replace(place / name)
    return erased


def table(place: Path, name: str = "t.parquet", **columns: list) -> Path:
    pq.write_table(pa.table(columns), place / name)
    return place / name


def rows_of(file: Path) -> list[dict]:
    return pq.read_table(file).to_pylist()


def test_rows_of_the_customer_go_and_all_others_stay_in_order(tmp_path):
    file = table(tmp_path, customer_id=["b", "c-anna-1", "a", "c-anna-1"], n=[1, 2, 3, 4])
    assert vars(erase(tmp_path, file.name)) == {"rows": 2, "mentions": 0}
    assert rows_of(file) == [{"customer_id": "b", "n": 1}, {"customer_id": "a", "n": 3}]


def test_a_file_without_the_customer_is_not_written_again(tmp_path):
    file = table(tmp_path, customer_id=["c-anna-11", "xc-anna-1"], note=["17", "c-anna-1-b"])
    before = file.read_bytes()
    assert not erase(tmp_path, file.name)
    assert file.read_bytes() == before


def test_links_and_identifiers_go_by_type_and_value_together(tmp_path):
    links = table(
        tmp_path, "links.parquet",
        type_a=["user", "user", "device"], identifier_a=["17", "18", "17"],
        type_b=["email", "anonymous", "anonymous"], identifier_b=["e1", "cookie-4711", "other"],
    )  # fmt: skip
    assert erase(tmp_path, "links.parquet").rows == 2
    assert [row["identifier_b"] for row in rows_of(links)] == ["other"]  # device 17 is no user 17


def test_mentions_in_other_peoples_rows_are_blotted_out_as_whole_words_only(tmp_path):
    texts = ['{"by":"cookie-4711","n":17}', "cookie-47110", "anna1@shop.example,c-anna-1", None]
    file = table(tmp_path, customer_id=["b"] * 4, properties=texts)
    assert vars(erase(tmp_path, file.name)) == {"rows": 0, "mentions": 2}
    found = [row["properties"] for row in rows_of(file)]
    assert found == ['{"by":"[erased]","n":17}', "cookie-47110", "[erased],[erased]", None]


def test_schema_metadata_and_types_are_kept(tmp_path):
    frame = pd.DataFrame(
        {
            "customer_id": pd.array(["c-anna-1", "b"], "string"),
            "kind": pd.Categorical(["x", "cookie-4711"]),
            "cutoff": pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True).astype(
                "datetime64[us, UTC]"
            ),
            "label": pd.array([0, 1], "int8"),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert vars(erase(tmp_path, "t.parquet")) == {"rows": 1, "mentions": 1}
    assert pq.read_schema(tmp_path / "t.parquet").equals(schema, check_metadata=True)
    left = pd.read_parquet(tmp_path / "t.parquet")
    assert left["kind"].tolist() == ["[erased]"]
    assert left.dtypes.drop("kind").equals(frame.dtypes.drop("kind"))


def test_bad_rows_go_when_any_cell_names_the_customer(tmp_path):
    columns = {
        "customer_id": [" c-anna-1 ", None, None, None, None],
        "id_user": [None, "17", "18", None, None],
        "text": [None, None, "17", '{"userId":"17", brok', "see cookie-4711"],
        "problem": ["bad"] * 5,
    }
    file = table(tmp_path, **columns)
    assert erase(tmp_path, file.name, bad_rows=True).rows == 4
    assert [row["id_user"] for row in rows_of(file)] == ["18"]


@pytest.mark.parametrize(
    ("name", "text", "remains"),
    [
        ("r.json", '{"who": "c-anna-1", "n": 17}', '{"who": "[erased]", "n": 17}'),
        ("r.html", "<td>cookie-4711</td><td>cookie-47110", "<td>[erased]</td><td>cookie-47110"),
        ("p.csv", "customer_id,score\nb,1\nc-anna-1,2\n", "customer_id,score\nb,1\n"),
        ("m.csv", "epoch,loss\n17,0.5\n", None),
        (
            "e.jsonl",
            '{"customer_id": "c-anna-1"}\n{"customer_id": "b"}\n{',
            '{"customer_id": "b"}\n{',
        ),
    ],
)
def test_text_files_lose_the_customers_lines_and_names(tmp_path, name, text, remains):
    (tmp_path / name).write_text(text)
    assert bool(erase(tmp_path, name)) == (remains is not None)
    assert (tmp_path / name).read_text() == (text if remains is None else remains)


def test_names_with_quotes_and_signs_are_found_as_json_and_html_write_them(tmp_path):
    odd = Customer('é1"<9(.*x', ())
    (tmp_path / "a.json").write_text(json.dumps({"c": odd.id, "d": "é"}))
    (tmp_path / "b.json").write_text(json.dumps({"c": odd.id}, ensure_ascii=False))
    (tmp_path / "c.html").write_text("<b>é1&quot;&lt;9(.*x</b>")
    for name in ("a.json", "b.json", "c.html"):
        assert erase(tmp_path, name, odd).mentions == 1
    assert json.loads((tmp_path / "a.json").read_text()) == {"c": "[erased]", "d": "é"}
    assert json.loads((tmp_path / "b.json").read_text()) == {"c": "[erased]"}
    assert (tmp_path / "c.html").read_text() == "<b>[erased]</b>"


def test_a_binary_file_is_searched_across_blocks(tmp_path):
    file = tmp_path / "m.pt"
    file.write_bytes(b"\0" * ((1 << 22) - 4) + b"cookie-4711" + b"\0" * 100)
    assert names_customer(file, ANNA)
    file.write_bytes(file.read_bytes().replace(b"4711", b"4712"))
    assert not names_customer(file, ANNA)
    assert not names_customer(file, Customer("17"))


def test_a_damaged_parquet_file_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(DataError, match=r"t\.parquet is damaged"):
        erase(tmp_path, "t.parquet")


WORDS = st.text(st.sampled_from('ab1-_ ."\\{[é'), min_size=1, max_size=7)


@given(st.data())
def test_no_whole_name_survives_and_nothing_else_changes(tmp_path_factory, data):
    place = tmp_path_factory.mktemp("words")
    who = Customer(data.draw(WORDS), (("anonymous", data.draw(WORDS)),))
    word = st.one_of(WORDS, st.sampled_from([value for _, value in who.names]))
    texts = data.draw(st.lists(st.lists(word).map(" ".join), min_size=1, max_size=5))
    file = table(place, customer_id=["someone else"] * len(texts), text=texts)
    erase(place, file.name, who)
    left = [row["text"] for row in rows_of(file)]
    assert len(left) == len(texts)
    for name in who.telling:
        whole = re.compile(rf"(?<![0-9A-Za-z_\-]){re.escape(name)}(?![0-9A-Za-z_\-])")
        assert not any(whole.search(text) for text in left)
    for before, after in zip(texts, left, strict=True):
        pieces = "(.*)".join(re.escape(part) for part in after.split("[erased]"))
        matched = re.fullmatch(pieces, before, re.DOTALL)
        assert matched
        if not who.telling:
            assert before == after


# --- the suppression list -------------------------------------------------------------------------


def rows_table(*rows: dict) -> Any:
    columns = sorted({key for row in rows for key in row})
    frame = pd.DataFrame([{c: row.get(c) for c in columns} for row in rows])
    return ibis.memtable(frame, schema=dict.fromkeys(columns, "string"))


def outcome(suppression: Suppression, *rows: dict, **options: Any) -> list[dict]:
    numbered = rows_table(*({"row": str(i), **row} for i, row in enumerate(rows)))
    marked = withhold_erased(numbered, suppression, **options)
    return sorted(marked.to_pyarrow().to_pylist(), key=lambda row: int(row["row"]))


ANNA_GONE = Suppression().adding("r1", ANNA.names, KEY)


def test_a_row_is_the_erased_customers_by_person_else_by_device(tmp_path):
    found = outcome(
        ANNA_GONE,
        {"id_user": "17", "id_anonymous": "new cookie"},
        {"id_user": None, "id_anonymous": "cookie-4711"},
        {"id_user": "18", "id_anonymous": "cookie-4711"},
        {"id_user": "18", "id_anonymous": "17"},
        {"id_user": None, "id_anonymous": None},
    )
    assert [row["erased"] for row in found] == [True, True, False, False, False]
    assert found[2]["id_anonymous"] is None  # somebody else's row stays, without the device
    assert found[3]["id_anonymous"] == "17"  # an anonymous id of that name is another's


def test_an_alias_of_an_erased_device_is_forgotten_with_it():
    found = outcome(ANNA_GONE, {"id_user": "18", "previous_id": "cookie-4711"})
    assert (found[0]["erased"], found[0]["previous_id"]) == (False, None)


def test_a_source_with_customer_ids_alone_is_told_by_them():
    found = outcome(ANNA_GONE, {"customer_id": "c-anna-1"}, {"customer_id": "17"})
    assert [row["erased"] for row in found] == [True, False]


def test_an_empty_list_marks_nothing():
    assert outcome(Suppression(), {"id_user": "17"})[0]["erased"] is False


def test_which_types_are_a_persons_is_configurable():
    row = {"id_user": "18", "id_anonymous": "cookie-4711"}
    assert outcome(ANNA_GONE, row, personal=("user", "anonymous"))[0]["erased"] is True


@given(st.text(max_size=30))
def test_engines_and_python_compute_the_same_keyed_hash(text):
    rows = rows_table({"t": text})
    assert rows.select(h=KEY.column(rows.t)).to_pyarrow()["h"][0].as_py() == KEY.hash(text)
    assert KEY.hash(text) != HashKey.of("another secret, as long").hash(text)


def test_the_list_survives_the_disk_and_tells_nothing(tmp_path):
    write_suppression(Suppression(), tmp_path)
    assert not (tmp_path / "erased.json").exists()
    secret = "a secret of sixteen or more"
    assert read_suppression(tmp_path, secret) == Suppression()
    write_suppression(ANNA_GONE, tmp_path)
    assert read_suppression(tmp_path, secret) == ANNA_GONE
    text = (tmp_path / "erased.json").read_text()
    assert "cookie" not in text
    assert "anna" not in text
    assert ANNA_GONE.request_of("user", "17") == "r1"
    assert ANNA_GONE.request_of("user", "18") is None


def test_a_list_of_another_key_or_a_damaged_one_stops(tmp_path):
    write_suppression(ANNA_GONE, tmp_path)
    with pytest.raises(DataError, match=r"another key.*SEQJOURNEY_HASH_KEY"):
        read_suppression(tmp_path, "another secret, as long")
    (tmp_path / "erased.json").write_text("[]")
    with pytest.raises(DataError, match="not a list of erased customers"):
        read_suppression(tmp_path, "a secret of sixteen or more")


def test_suppression_compiles_for_spark():
    rows = rows_table({"id_user": "17", "id_anonymous": "cookie-4711"})
    sql = str(ibis.to_sql(withhold_erased(rows, ANNA_GONE), dialect="pyspark"))
    assert "JOIN" in sql
