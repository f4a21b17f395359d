"""Malformed, hostile and absurd exports: a clear message or a quarantined row, no good row lost.

Nothing of what a source says is run, reaches a report unescaped, or leaves a person's address in
plain text anywhere in the prepared folder.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.commands.audit import audit
from seqjourney.commands.prepare import prepare
from seqjourney.config import DataConfig, parse
from seqjourney.errors import DataError, SeqjourneyError
from seqjourney.events.customers import find_customer
from seqjourney.events.hashing import read_key
from seqjourney.events.rejects import rejected_lines
from seqjourney.events.taxonomy.documents import read_yaml

KEEP = {"on_malformed": "quarantine"}
TABLE = {"kind": "table", "timestamp": "at", "event": "event", "identifiers": {"user": "user"}}
DEEP = 10_000


def call(number: int = 999, **changes: Any) -> dict[str, Any]:
    """One Segment call; `None` leaves a key out."""
    record = {
        "type": "track",
        "event": "Viewed",
        "userId": f"u{number % 5}",
        "anonymousId": f"a{number}",
        "messageId": f"m{number}",
        "timestamp": f"2024-01-{1 + number % 28:02d}T10:00:00Z",
        "receivedAt": f"2024-01-{1 + number % 28:02d}T10:00:01Z",
        "properties": {"n": number},
    }
    return {key: value for key, value in (record | changes).items() if value is not None}


def lines(*records: dict[str, Any] | str) -> list[str]:
    return [record if isinstance(record, str) else json.dumps(record) for record in records]


GOOD = lines(*(call(i) for i in range(20)))
GOOD_IDS = {f"m{i}" for i in range(20)}


def write(place: Path, content: Iterable[str] | bytes, name: str = "calls.jsonl") -> Path:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
    return path


def run(place: Path, path: Path | str, source: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Prepare one source and return the folder, the log, the manifest and the quarantine."""
    described = {"kind": "segment"} | (source or {}) | {"name": "web", "path": str(path)}
    config = {"name": "odd", "threads": 1, "sources": [described]} | changes
    prepared = prepare(parse(DataConfig, config, "data"), place / "processed", progress=False)
    return Prepared(prepared)


class Prepared:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.account = self.manifest["sources"]["web"]
        self.log = pd.concat(
            pd.read_parquet(file, partitioning=None)
            for file in sorted((folder / "events").rglob("*.parquet"))
        ).set_index("event_id", drop=False)
        file = folder / "quarantine.parquet"
        self.quarantine = pd.read_parquet(file) if file.exists() else pd.DataFrame()

    def keeps_the_good(self, quarantined: dict[str, int]) -> bool:
        """All good rows are in the log, the others in quarantine for these reasons."""
        assert self.log.index.is_unique
        assert set(self.log.index) >= GOOD_IDS
        assert self.account["quarantined"] == quarantined
        assert len(self.quarantine) == sum(quarantined.values())
        rows = self.account["events"] + self.account["duplicates"] + len(self.quarantine)
        return self.account["in"] == rows


def refuse(place: Path, path: Path | str, words: str, **changes: Any) -> str:
    """Prepare must stop with these words and leave nothing half-written."""
    with pytest.raises(DataError, match=words) as caught:
        run(place, path, **changes)
    assert len(str(caught.value)) < 1000
    left = {file.name for file in (place / "processed").iterdir()}
    assert left <= {"hash.key"}
    return str(caught.value)


# Lines that are no records

BROKEN = {
    '{"messageId": "cut off in the mid': "malformed JSON",
    "<html>502 Bad Gateway</html>": "malformed JSON",
    '["a list"]': "not a JSON object",
    "17": "not a JSON object",
    "null": "not a JSON object",
    "{}": "none of the source's keys",
    '{"unknown": 1}': "none of the source's keys",
    "[" * DEEP: "JSON nested too deeply",
    '{"userId":' * DEEP: "JSON nested too deeply",
    '{"userId": "lone \\ud800 surrogate"}': "unreadable JSON",
    GOOD[5][: len(GOOD[5]) - 3]: "malformed JSON",  # cut off within its properties
    '{"messageId": "m1", "context": {"page": [1,': "malformed JSON",
    GOOD[1] + GOOD[2]: "malformed JSON",
}


def test_a_broken_line_stops_with_its_file_and_number(tmp_path: Path):
    path = write(tmp_path, [*GOOD[:3], "", "  ", *GOOD[3:7], "oops", *GOOD[7:]])
    message = refuse(tmp_path, path, r"line 10: malformed JSON.*on_malformed=quarantine")
    assert str(path) in message
    assert "source 'web'" in message


def test_broken_lines_are_kept_aside_whole_and_no_good_row_is_lost(tmp_path: Path):
    rows = [*GOOD]
    for place, line in enumerate(BROKEN):
        rows.insert(2 * place, line)
    path = write(tmp_path, rows)
    result = run(tmp_path, path, **KEEP)
    counts: dict[str, int] = {}
    for reason in BROKEN.values():
        counts[reason] = counts.get(reason, 0) + 1
    assert result.keeps_the_good(counts)
    kept = result.quarantine.set_index("text")
    assert set(kept.index) == set(BROKEN)
    for place, (line, reason) in enumerate(BROKEN.items()):
        row = kept.loc[line]
        assert (row["problem"], row["line"]) == (reason, 2 * place + 1)
        assert row["file"] == str(path)


def test_binary_garbage_between_good_lines_is_kept_aside(tmp_path: Path):
    noise = bytes(random.Random(1).randrange(256) for _ in range(2000)).replace(b"\n", b" ")
    not_utf8 = b'{"userId": "\xff\xfe", "type": "track", "event": "x", "messageId": "z"}'
    text = "\n".join(GOOD).encode()
    path = write(tmp_path, b"\n".join([noise, text, not_utf8, b"\x00\x00", noise]))
    result = run(tmp_path, path, **KEEP)
    assert result.keeps_the_good({"malformed JSON": 3, "unreadable JSON": 1})


def test_a_file_of_nothing_but_garbage_ends_in_a_message(tmp_path: Path):
    noise = bytes(random.Random(2).randrange(256) for _ in range(5000))
    refuse(tmp_path, write(tmp_path, noise), "rows cannot be used", **KEEP)


PIECES = st.one_of(
    st.sampled_from([*BROKEN, "", "\t", "{", "}", '"', "\\", "\x00", "\x1c", "\x85", "[]"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30),
    st.sampled_from(GOOD),
)


@settings(max_examples=60)
@given(st.lists(PIECES, max_size=12), st.booleans(), st.booleans())
def test_the_line_at_a_position_is_the_one_that_stands_there(tmp_path_factory, found, packed, ends):
    place = tmp_path_factory.mktemp("lines")
    text = "\n".join(found).encode() + b"\n" * ends
    path = place / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(text) if packed else text)
    stand = [(n, line) for n, line in enumerate(found, start=1) if line.encode().strip()]
    rejects = list(rejected_lines(path, range(len(stand)), ("userId",)))
    assert [(r.line, r.text) for r in rejects] == [(n, line.rstrip("\r")) for n, line in stand]
    with pytest.raises(DataError, match="cut off"):
        list(rejected_lines(path, [len(stand)], ("userId",)))


@pytest.mark.parametrize("policy", ["stop", "quarantine"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_gzip_that_is_cut_off_or_damaged_is_named_whatever_the_policy(
    tmp_path: Path, damage: str, policy: str
):
    packed = gzip.compress("\n".join(lines(*(call(i) for i in range(5000)))).encode())
    half = len(packed) // 2
    broken = packed[:half] if damage == "cut" else packed[:half] + b"\xff\x00" * 40 + packed[half:]
    path = write(tmp_path, broken, "calls.jsonl.gz")
    message = refuse(tmp_path, path, "damaged or was cut off|not a GZIP|gzip", on_malformed=policy)
    assert str(path) in message


def test_a_gzip_that_lacks_only_its_check_sum_loses_no_row(tmp_path: Path):
    path = write(tmp_path, gzip.compress("\n".join(GOOD).encode())[:-8], "calls.jsonl.gz")
    assert run(tmp_path, path).keeps_the_good({})


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", r"is empty \(0 bytes\)"), (b"\n \n\n", r"has no rows \(source 'web'\)")],
)
def test_an_empty_source_is_named(tmp_path: Path, content: bytes, words: str):
    path = write(tmp_path, content)
    assert str(path) in refuse(tmp_path, path, words)


# Absurd values

NESTED = '{"a":' * DEEP + "1" + "}" * DEEP
ABSURD_TIMES = {
    "1970-01-01T00:00:00Z": "timestamp before 1990-01-01",
    "0000-01-01T00:00:00Z": "timestamp before 1990-01-01",
    "-290000-01-01T00:00:00Z": "timestamp before 1990-01-01",
    "2262-04-11T23:47:16Z": "timestamp in the future",
    "9999-12-31T23:59:59Z": "timestamp in the future",
    "294247-01-10T04:00:54Z": "timestamp in the future",
    "infinity": "unreadable timestamp",
    "now": "unreadable timestamp",
    "2024-02-30T00:00:00Z": "unreadable timestamp",
    "99999999999999999999": "unreadable timestamp",
}
UNREADABLE_AMOUNTS = (1e308, -1e308, "NaN", "Infinity", "-inf", "1e999", "12,50", "0x10", "9" * 400)
AMOUNTS = {"negative": -1e12, "huge": 1e12, "tiny": 1e-320, "zero": 0, "text": " 12.50 "}


@pytest.fixture(scope="module")
def absurd(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Good rows beside nested bombs, long strings, absurd times and amounts."""
    place = tmp_path_factory.mktemp("absurd")
    rates = write(place, ["currency,rate", "USD,1.5"], "rates.csv")
    records: list[dict[str, Any] | str] = []
    for number, moment in enumerate(ABSURD_TIMES):
        records.append(call(messageId=f"time-{number}", timestamp=moment))
        # The same as a device's clock, which is corrected by those of sending and receiving.
        own = {"originalTimestamp": moment, "sentAt": "2024-01-01T00:00:00Z"}
        records.append(call(messageId=f"clock-{number}", timestamp=None, **own))
    for number, amount in enumerate([*UNREADABLE_AMOUNTS, *AMOUNTS.values()]):
        money = {"subtotal": amount, "currency": "USD", "tax": 1}
        bad = number < len(UNREADABLE_AMOUNTS)
        name = f"bad-{number}" if bad else list(AMOUNTS)[number - len(UNREADABLE_AMOUNTS)]
        records.append(call(messageId=name, event="Order Completed", properties=money))
    records += [
        json.dumps(call(messageId="bomb")).replace('{"n": 999}', NESTED),
        json.dumps(call(messageId="lists")).replace("999", "[" * DEEP + "]" * DEEP),
        json.dumps(call(messageId="traits", type="identify"))[:-1] + f',"traits":{NESTED}}}',
        call(messageId="long property", properties={"s": "x" * 10_000_000}),
        call(messageId="long name", event="y" * 10_000_000),
        call(messageId="long id", userId="z" * 10_000_000),
        '{"userId":"u1","userId":"u2","type":"track","event":"a","event":"b","messageId":"twice",'
        '"timestamp":"2024-01-01T00:00:00Z","properties":{"a":1,"a":2}}',
        call(messageId="null\x00byte", event="a\x00b", properties={"\x00": "\x00"}),
    ]
    path = write(place, lines(*GOOD, *records))
    more = {"currency": "EUR", "rates": str(rates), "max_quarantined_share": 1.0}
    return run(place, path, **KEEP, **more)


def test_absurd_times_and_amounts_are_set_aside_with_the_reason(absurd: Prepared):
    expected: dict[str, int] = {"bad 'money_net'": len(UNREADABLE_AMOUNTS)}
    for reason in ABSURD_TIMES.values():
        expected[reason] = expected.get(reason, 0) + 2
    assert absurd.keeps_the_good(expected)
    kept = absurd.quarantine.set_index("event_id")
    for number, (_, reason) in enumerate(ABSURD_TIMES.items()):
        assert kept.loc[f"time-{number}", "problem"] == reason
        assert kept.loc[f"clock-{number}", "problem"] == reason


def test_amounts_that_can_be_read_are_kept_however_odd(absurd: Prepared):
    worth = absurd.log["value"]
    assert worth["negative"] == -1.5e12 and worth["huge"] == 1.5e12
    assert worth["zero"] == 0 and worth["text"] == 18.75
    assert worth["tiny"] == pytest.approx(0, abs=1e-300)
    numbers = np.load(absurd.folder / "store/numeric.npy")
    assert not np.isinf(numbers).any(), "no model can learn from infinity"


def test_nested_bombs_and_long_strings_are_rows_like_others(absurd: Prepared):
    for name in ("bomb", "lists", "traits", "long property", "long name", "long id", "twice"):
        assert name in absurd.log.index
    assert len(absurd.log.loc["long property", "properties"]) > 10_000_000
    assert len(absurd.log.loc["long name", "original_event"]) == 10_000_000
    assert absurd.log["event"].str.len().max() < 10_000, "a canonical name is a name"
    assert absurd.log.loc["twice", "original_event"] in ("a", "b")
    assert (absurd.folder / "taxonomy_review.yaml").stat().st_size < 1_000_000


def test_a_currency_without_a_rate_stops_with_its_name_and_source(tmp_path: Path):
    rates = write(tmp_path, ["currency,rate", "USD,1.5"], "rates.csv")
    money = {"subtotal": 3, "currency": "zzz"}
    path = write(tmp_path, [*GOOD, *lines(call(event="Order Completed", properties=money))])
    message = refuse(tmp_path, path, "ZZZ", currency="EUR", rates=str(rates))
    assert "source 'web': 1 amounts are in ZZZ" in message
    assert str(rates) in message and "Add a row ZZZ" in message


# Nobody, and everybody


def test_a_source_of_identify_calls_alone_is_a_log_in_which_nobody_does_anything(tmp_path: Path):
    records = (call(i, type="identify", event=None, traits={"plan": "a"}) for i in range(20))
    result = run(tmp_path, write(tmp_path, lines(*records)))
    assert result.keeps_the_good({})
    assert set(result.log["actor"]) == {"system"}
    assert result.manifest["customers"] == 5


def test_rows_whose_identifiers_name_nobody_are_no_customer(tmp_path: Path):
    nobody = ("null", "undefined", "0000-0000", "-1", "(not set)", "  ", "[object Object]", "None")
    records = [call(100 + n, userId=x, anonymousId=x) for n, x in enumerate(nobody)]
    result = run(tmp_path, write(tmp_path, [*GOOD, *lines(*records)]))
    assert result.keeps_the_good({"no identifier": len(nobody)})
    assert result.manifest["customers"] == 5


def test_a_source_that_names_nobody_at_all_says_so(tmp_path: Path):
    records = (call(i, userId="null", anonymousId="undefined") for i in range(20))
    refuse(tmp_path, write(tmp_path, lines(*records)), "no row of 'odd' can be used")


def test_one_device_on_every_row_makes_no_giant_customer(tmp_path: Path):
    kiosk = {"device": {"id": "kiosk"}}
    records = (call(i, userId=f"u{i}", context=kiosk) for i in range(20))
    result = run(tmp_path, write(tmp_path, lines(*records)))
    assert result.keeps_the_good({})
    assert result.log["customer_id"].nunique() == 20


def test_one_anonymous_id_on_every_row_is_one_customer(tmp_path: Path):
    records = (call(i, userId=None, anonymousId="one") for i in range(20))
    result = run(tmp_path, write(tmp_path, lines(*records)))
    assert result.keeps_the_good({})
    assert result.manifest["customers"] == 1


# Injection

EVIL = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://evil.example","x")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "!!python/object/apply:os.system ['touch pwned']",
    "*anchor &anchor {{ 7 * 7 }} ${oc.env:HOME} $(touch pwned) `touch pwned`",
    "'; drop table log; --",
    "\u202eesrever\u0007\r\n# heading\n- {accept: true, canonical: evil}",
    "../../../../etc/passwd",
    "\"'&<img src=x onerror=alert(1)>",
)


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Path]:
    """Hostile text wherever a source can put it, prepared and audited."""
    place = tmp_path_factory.mktemp("injected")
    records = [*GOOD]
    for number, evil in enumerate(EVIL):
        campaign = {"source": evil, "medium": evil, "name": evil}
        context = {
            "campaign": campaign, "sessionId": evil, "groupId": evil, "device": {"id": evil},
            "page": {"url": evil, "referrer": evil},
            "consent": {"categoryPreferences": {evil: True}},
        }  # fmt: skip
        names = {"event": evil, "properties": {evil: evil, "n": [evil, {evil: evil}]}}
        records += lines(call(100 + number, **names, context=context))
        records += lines(call(200 + number, messageId=evil, userId=evil, anonymousId=evil))
        records += lines(call(300 + number, type="page", event=None, name=evil, timestamp=evil))
        records.append(evil.replace("\n", " ").replace("\r", " "))
    table = pa.table(
        {
            "user": ["u1"] * len(EVIL), "at": ["2024-01-02"] * len(EVIL), "event": list(EVIL),
            "net": ["1"] * len(EVIL), "how": list(EVIL), **{evil: list(EVIL) for evil in EVIL},
        }
    )  # fmt: skip
    pq.write_table(table, place / "table.parquet")
    named = {"channel": "how", "money": {"net": "net"}}
    other = {**TABLE, **named, "name": "till", "path": str(place / "table.parquet")}
    web = {"kind": "segment", "name": "web", "path": str(write(place, records))}
    config = {"name": "odd", "threads": 1, "sources": [web, other], **KEEP}
    result = Prepared(
        prepare(parse(DataConfig, config, "data"), place / "processed", progress=False)
    )
    audit(result.folder, None, place / "report", threads=1, progress=False)
    return result, place


def test_hostile_names_are_kept_as_they_are_and_no_row_is_lost(injected):
    result, _ = injected
    assert set(result.log.index) >= GOOD_IDS
    stripped = {evil.strip() for evil in EVIL}
    assert stripped <= set(result.log["original_event"])
    assert result.account["in"] == len(GOOD) + 4 * len(EVIL)
    assert sum(result.account["quarantined"].values()) == 2 * len(EVIL)
    assert result.manifest["sources"]["till"]["events"] == len(EVIL)
    assert not list(Path.cwd().glob("pwned*"))


def test_the_review_reads_back_as_text_and_accepts_nothing(injected):
    result, _ = injected
    file = result.folder / "taxonomy_review.yaml"
    content = read_yaml(file)
    assert yaml.safe_load(file.read_text()) is not None  # plain YAML to any reader, no tags
    entries = [*content.get("unmapped", []), *content.get("suspects", [])]
    assert len(entries) >= len(EVIL)
    assert all(entry["accept"] == "false" for entry in entries)


def test_reports_escape_what_sources_say(injected):
    _, place = injected
    html = (place / "report/audit.html").read_text()
    for evil in ("<script>alert(1)", "<img src=x", "javascript:"):
        assert evil not in html
    markdown = (place / "report/audit.md").read_text()
    assert "<script>alert(1)" not in markdown and "<img src=x" not in markdown
    assert "\n# heading" not in markdown


# Paths

NAMES = ("it's [x] *? {a,b}", "a\nb", "$(touch pwned) `id` ; --", 'q"uo"te', "event=evil", "ünï ✓")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_odd_names_of_files_and_folders_are_only_names(tmp_path: Path, kind: str):
    for number, name in enumerate(NAMES):
        path = tmp_path / "in" / name / f"{name}.{kind}"
        path.parent.mkdir(parents=True)
        users, moment = [f"u{number}"] * 3, ["2024-01-01"] * 3
        if kind == "jsonl":
            path.write_text("\n".join(lines(*(call(10 * number + i) for i in range(3)))))
        elif kind == "csv":
            path.write_text("user,at,event\n" + f"u{number},2024-01-01,Viewed\n" * 3)
        else:
            table = pa.table({"user": users, "at": moment, "event": ["Viewed"] * 3})
            pq.write_table(table, path)
    source = None if kind == "jsonl" else TABLE
    result = run(tmp_path, tmp_path / "in", source)
    assert result.account["events"] == 3 * len(NAMES)
    assert set(result.log["original_event"]) == {"Viewed"}, "no folder renames an event"
    assert len(result.manifest["files"]) == len(NAMES)
    assert not list(Path.cwd().glob("pwned*"))


def test_a_folder_named_like_a_column_adds_it_only_where_the_files_lack_it(tmp_path: Path):
    for event in ("looked", "bought"):
        file = tmp_path / f"in/event={event}/part.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(pa.table({"user": ["u1"], "at": ["2024-01-01"]}), file)
    result = run(tmp_path, tmp_path / "in", TABLE)
    assert set(result.log["original_event"]) == {"looked", "bought"}


def test_the_prepared_folder_may_lie_in_an_odd_one(tmp_path: Path):
    place = tmp_path / "it's [x] * ünï {a,b}"
    place.mkdir()
    assert run(place, write(tmp_path, GOOD)).keeps_the_good({})


@pytest.mark.parametrize("name", ["../up", "a/b", "a'b", "a\nb", "$(x)", ".hidden", "é"])
def test_a_source_may_not_be_called_like_a_path(tmp_path: Path, name: str):
    config = {"name": "odd", "sources": [{"kind": "segment", "name": name, "path": "x"}]}
    with pytest.raises(SeqjourneyError, match="name"):
        parse(DataConfig, config, "data")


# Persons' addresses

ADDRESS, NUMBER = "secret.person@mail.example", "+49 170 1234567"
ESCAPED = ADDRESS.replace("@", "%40")
TRACES = ("secret.person", "1234567", "123 45 67")


def personal_calls() -> list[str]:
    """An address and a telephone number wherever a call can hold them."""
    page = {
        "url": f"https://x.example/?email={ADDRESS}&e={ESCAPED}",
        "referrer": f"https://{ADDRESS}/",
    }
    campaign = {"source": ADDRESS, "medium": ADDRESS, "name": ESCAPED}
    ids = [{"id": ADDRESS, "type": "loyalty"}, {"id": NUMBER, "type": "phone"}]
    traits = {"email": ADDRESS, "phone": NUMBER}
    number = NUMBER.replace(" ", "")
    changes: list[dict[str, Any]] = [
        {"userId": ADDRESS},
        {"userId": number},
        {"anonymousId": ADDRESS},
        {"type": "alias", "previousId": ADDRESS},
        {"messageId": f"order-{ADDRESS}"},
        {"event": f"mail to {ADDRESS}"},
        {"event": f"call {number}"},
        {"type": "page", "event": None, "name": f"Profile of {ADDRESS}"},
        {"properties": {"note": f"write to {ADDRESS}, please", "url": f"/?email={ESCAPED}"}},
        {"properties": {ADDRESS: {"deep": [ADDRESS]}, "lines": f"one\n{ADDRESS}\n\\{ADDRESS}"}},
        {"properties": {"phone": NUMBER, "Mobile": NUMBER, "homePhone": "0170 1234567"}},
        {"properties": {"phone_number": 491701234567, "tel": "0170 1234567", "PHONE": NUMBER}},
        {"properties": {"text": f"call {NUMBER} or {number} or {number.replace('+', '%2B')}"}},
        {"context": {"page": page, "campaign": campaign, "userAgent": f"Mozilla {ADDRESS}"}},
        {"context": {"sessionId": ADDRESS, "groupId": ADDRESS, "device": {"id": ADDRESS}}},
        {"context": {"externalIds": ids, "traits": traits}},
        {"context": {"consent": {"categoryPreferences": {ADDRESS: True}}}},
        {"type": "group", "groupId": ADDRESS, "traits": {"name": ADDRESS, "phone": NUMBER}},
        {"type": "identify", "traits": traits},
        {"timestamp": ADDRESS, "userId": ADDRESS, "event": ADDRESS, "properties": traits},
        {
            "timestamp": "1970-01-01",
            "context": {"page": page, "traits": traits, "groupId": ADDRESS},
        },
    ]
    records = lines(*(call(100 + n, **change) for n, change in enumerate(changes)))
    records.append(json.dumps(call(500, properties={"u": ADDRESS})).replace("@", "\\u0040"))
    return [*records, f"no record but {ADDRESS} and {NUMBER}"]


def places_of(folder: Path, words: Iterable[str]) -> set[tuple[str, str, str]]:
    """Where words stand in any file of a folder; Parquet is read back."""
    found = set()
    for file in (file for file in folder.rglob("*") if file.is_file()):
        texts = {"": file.read_bytes().decode("utf-8", "replace")}
        if file.suffix == ".parquet":
            table = pq.read_table(file, partitioning=None)
            texts |= {c: "\n".join(map(str, table[c].to_pylist())) for c in table.column_names}
        for column, text in texts.items():
            found |= {(file.name, column, word) for word in words if word in text.lower()}
    return found


@pytest.fixture(scope="module")
def confidential(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    place = tmp_path_factory.mktemp("confidential")
    till = "user,at,event,mail,tel,how,till\n" + "".join(
        f"{user},2024-01-01,sold to {ADDRESS},{ADDRESS},{NUMBER},{ADDRESS},{ADDRESS}\n"
        for user in ("u1", ADDRESS)
    )
    named = {"user": "user", "email": "mail", "phone": "tel"}
    other = {
        **TABLE,
        "name": "till",
        "path": str(write(place, [till], "till.csv")),
        "channel": "how",
    }
    other["identifiers"] = named
    web = {"kind": "segment", "name": "web", "path": str(write(place, [*GOOD, *personal_calls()]))}
    config = {"name": "odd", "threads": 1, "sources": [web, other], "categorical": ["till"], **KEEP}
    return Prepared(prepare(parse(DataConfig, config, "data"), place / "processed", progress=False))


def test_no_address_and_no_number_stands_in_any_file_in_plain(confidential: Prepared):
    assert len(confidential.quarantine) == 3
    assert confidential.account["in"] == len(GOOD) + len(personal_calls())
    assert places_of(confidential.folder, TRACES) == set()


def test_the_search_would_have_found_them(confidential: Prepared):
    words = {"viewed", "u1"}
    assert {word for _, _, word in places_of(confidential.folder, words)} == words


def test_a_user_known_by_an_address_is_one_customer_and_can_be_found(confidential: Prepared):
    key = read_key(confidential.folder.parent)
    for kind in ("user", "anonymous", "device", "email"):
        found = find_customer(confidential.folder, identifier=f"{kind}:{ADDRESS}", secret=key)
        assert found.identifiers


def test_properties_stay_json_when_an_address_is_cut_out(confidential: Prepared):
    for text in confidential.log["properties"].dropna():
        json.loads(text)
