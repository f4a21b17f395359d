"""What all reports share: how text and numbers stand in them, and files that appear together."""

from pathlib import Path

import pytest

from seqjourney.page import cell, count, decimal, write_together


@pytest.mark.parametrize(
    ("value", "printed"),
    [(0.12345, "0.123"), (-0.5, "−0.500"), (-0.0001, "0.000"), (12.0, "12.000")],
)
def test_a_minus_is_a_true_minus_and_zero_has_none(value: float, printed: str):
    assert decimal(value) == printed


def test_a_difference_has_its_sign():
    assert [decimal(v, 1, "+") for v in (0.25, -0.25, -0.01)] == ["+0.2", "−0.2", "+0.0"]
    assert count(1234.6) == "1,235"


def test_text_cannot_end_a_markdown_cell_or_become_a_link():
    assert cell("a|b\n<c> www.x.example http://y") == r"a\|b \<c\> www\.x.example http\://y"


def test_files_appear_together_or_not_at_all(tmp_path: Path):
    folder = tmp_path / "report"
    assert write_together(folder, {"a": "1\n\n", "b": "2"}) == {
        "a": folder / "a", "b": folder / "b",
    }  # fmt: skip
    with pytest.raises(UnicodeEncodeError):
        write_together(folder, {"a": "new", "b": "\ud800"})
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"a": "1\n", "b": "2\n"}
