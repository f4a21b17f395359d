"""Names from the data, made harmless before they enter the audit.

Every event, field, reason or purpose goes through `harmless` once, where it is measured, so that
the JSON, the Markdown and the HTML all start from text that cannot steer a spreadsheet or a screen.
Each of them then escapes its own markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# What opens a formula in a spreadsheet, into which tables are pasted (the last four: full width).
_FORMULA = tuple("=+-@|%＝＋－＠")
LONGEST = 60


def harmless(name: object) -> str:
    """Return a name on one line, without control or direction characters, never a formula."""
    visible = "".join(
        " " if character.isspace() else character
        for character in str(name)[: 4 * LONGEST]
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
    text = " ".join(visible.split())
    if text.startswith(_FORMULA):
        text = "'" + text
    if not text:
        return "(empty)"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def harmless_names(names: Iterable[object]) -> dict[str, str]:
    """Return raw name -> harmless name; of two that would look alike, the second gets a number."""
    shown: dict[str, str] = {}
    for name in map(str, names):
        text, again = harmless(name), 2
        while text in shown.values():
            text, again = f"{harmless(name)} ({again})", again + 1
        shown[name] = text
    return shown
