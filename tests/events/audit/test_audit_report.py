"""The three files: what they say, and that no name from the data steers a page or a spreadsheet."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from hostile_data import HOSTILE
from markdown_it import MarkdownIt

from seqjourney.commands.audit import audit
from seqjourney.events.audit import report
from seqjourney.events.audit.names import harmless
from seqjourney.events.audit.thresholds import THRESHOLDS

FORMULA = tuple("=+-@|%\t\r")
ADDRESSES = {limit.source.url for limit in THRESHOLDS.values()} - {None}


class Page(HTMLParser):
    """Collect what a page could do, and the text of each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.attributes, self.addresses = set(), set(), []
        self.cells: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value for name, value in attrs if name in ("href", "src", "action")]
        if tag in ("td", "th"):
            self._inside = 1
            self.cells.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._inside = 0

    def handle_data(self, data):
        if self._inside:
            self.cells[-1] += data


def strings(content) -> list[str]:
    if isinstance(content, dict):
        return [s for key, value in content.items() for s in (key, *strings(value))]
    if isinstance(content, list):
        return [s for value in content for s in strings(value)]
    return [content] if isinstance(content, str) else []


def test_the_data_really_are_hostile(audited):
    frequent = [entry["event"] for entry in audited.content["event_types"]["frequent"]]
    assert {harmless(name) for name in HOSTILE} <= set(frequent)
    assert "'=SUM(A1)" in audited.content["drift"]
    assert '\'=HYPERLINK("http://evil.example","x")' in audited.content["identity"]["by_type"]


def test_the_json_holds_no_markup_and_no_formula(audited):
    text = audited.json.read_text(encoding="utf-8")
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == audited.content
    said = strings(audited.content)
    assert len(said) > 300
    assert [s for s in said if s.startswith(FORMULA)] == []
    assert all(s.isprintable() for s in said if s != audited.content["data"]["command"])


def test_the_html_has_only_our_tags_and_addresses(audited):
    html = audited.html.read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "form", "base", "image"}
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "src" not in page.attributes
    assert set(page.addresses) <= ADDRESSES | {"data:,"}
    assert not re.search(r"url\(|@import", html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "{{ 7 * 7 }}" in html
    assert len(page.cells) > 150
    assert [text for text in page.cells if text.strip().startswith(FORMULA)] == []


def test_the_markdown_renders_to_our_links_alone(audited):
    markdown = audited.markdown.read_text(encoding="utf-8")
    rendered = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
    page = Page()
    page.feed(rendered.render(markdown))
    expected = {"h1", "h2", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "a", "code"}
    assert page.tags <= expected | {"pre"}
    assert set(page.addresses) <= ADDRESSES
    assert [text for text in page.cells if text.strip().startswith(FORMULA)] == []
    found = {cell.strip() for cell in page.cells}
    assert {harmless(name) for name in HOSTILE} <= found
    # What GitHub would turn into a link without being asked is escaped too.
    own = {address for address in ADDRESSES if address}
    bare = re.findall(r"(?<!\\)(?:https?://|www\.)[^\s)]+", markdown)
    assert set(bare) <= own


def test_every_table_row_has_as_many_cells_as_its_head(audited):
    markdown = audited.markdown.read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\|\n)+", markdown, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_the_rows_say_what_was_found(audited, rows_of):
    rows = rows_of(audited)
    assert rows["outcomes", "rare"]["status"] == "fail"
    assert rows["identity", None]["status"] == "warn"
    assert rows["mapped", None]["value"] == 0.9
    assert "7 of 9 names" in rows["mapped", None]["found"]
    assert rows["consent", None]["value"] == pytest.approx(0.3)
    assert rows["quarantined", None]["value"] == pytest.approx(400 / 12_400)
    assert rows["late", None]["status"] == "warn"
    assert rows["Drift of the event mix", None]["status"] == "pass"
    drift = rows["Drift of numeric fields", None]
    assert drift["status"] == "warn" and "2023-05, '=SUM(A1)" in drift["found"]
    answer = audited.content["answer"]
    assert answer["sentence"].startswith("Not ready yet: only 283 customers active in a month")
    assert answer["not_yet"] == ["buys", "rare"] and answer["ready"] == []


def test_every_row_names_its_limit_source_and_advice(audited):
    for row in audited.content["rows"]:
        assert row["status"] in report.STATUSES
        assert row["asked"] and row["source"]
        assert (row["advice"] == "") == (row["status"] == "pass")
        assert (row["value"] is None) == (row["status"] == "not applicable")


def test_a_single_table_says_what_does_not_apply_and_why(
    plain_prepared, full_prepared, rows_of, tmp_path
):
    found = audit(plain_prepared, ["buys"], tmp_path / "out", threads=1, progress=False)
    rows = rows_of(found)
    absent = {key for key, row in rows.items() if row["status"] == "not applicable"}
    assert absent == {("identity", None), ("mapped", None), ("consent", None)}
    assert "no identity graph" in rows["identity", None]["found"]
    assert {task for _, task in rows} == {None, "buys"}
    assert found.content["identity"] is None
    assert "How many identifiers" not in found.html.read_text(encoding="utf-8")


def test_the_title_asks_about_the_data_by_its_name(audited):
    title = "“hostile”: is this data ready?"
    html = audited.html.read_text(encoding="utf-8")
    assert f"<title>{title}</title>" in html and f"<h1>{title}</h1>" in html
    assert audited.markdown.read_text(encoding="utf-8").startswith(f"# {title}\n")


def test_the_holdouts_are_planned_with_the_datas_own_customers(audited):
    plans = audited.content["holdouts"]
    assert [(plan["task"], plan["share"]) for plan in plans] == [
        ("buys", 0.1), ("buys", 0.5), ("rare", 0.1), ("rare", 0.5),
    ]  # fmt: skip
    monthly = round(audited.content["data"]["monthly_customers"])
    for plan in plans:
        assert plan["held_out"] + plan["contacted"] == monthly
        assert plan["base_rate"] == audited.content["tasks"][plan["task"]]["base_rate"]
        assert plan["change"] > 0  # an occurrence should become more frequent


def test_the_same_data_give_the_same_bytes(audited, full_prepared, tmp_path):
    again = audit(full_prepared, None, tmp_path / "out", threads=1, progress=False)
    for name in ("json", "markdown", "html"):
        assert getattr(again, name).read_bytes() == getattr(audited, name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(report.FILES)


def test_a_writer_that_fails_leaves_the_old_report(audited, full_prepared, monkeypatch):
    folder = audited.html.parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken(*args):
        raise RuntimeError("no ink")

    monkeypatch.setattr(report.pictures, "months", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        audit(full_prepared, None, folder, threads=1, progress=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_no_folder_of_this_machine_gets_into_the_report(audited, full_prepared):
    for file in (audited.json, audited.markdown, audited.html):
        assert str(full_prepared.parent) not in file.read_text(encoding="utf-8")


def test_importing_the_command_is_cheap():
    code = (
        "import sys, seqjourney.commands.audit;"
        "print([m for m in ('numpy', 'pandas', 'ibis', 'duckdb', 'jinja2') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
