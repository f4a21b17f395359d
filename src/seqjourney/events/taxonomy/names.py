"""Event names: folding raw spellings into one, and what a folded name tells.

`fold` makes `Order Completed`, `orderCompleted` and `ORDER-COMPLETED` one snake_case name that is
safe everywhere (letters, digits and underscores of any alphabet, at most 100 characters).
`match_key` goes further: two names match when their letters and digits agree. `template` finds
names that carry data (`viewed_product_12345`), and the rest is about object-action form.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from seqjourney.events.taxonomy.words import PARTICLES, action_of, base_form, is_past, past_tense

LONGEST = 100  # characters of a folded name; longer ones end in a digest of the whole
_MOST_PARTS = 8  # between slashes, as in vendor/name/format/version

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_DATE = r"(?:19|20)\d{2}_\d{2}_\d{2}"
_UUID = r"[0-9a-f]{8}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{12}"
_WHOLE = re.compile(rf"(?<![^_])(?:{_DATE}|{_UUID})(?![^_])")
_HEX = re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{8,}")
_PLACE = "*"


def fold(name: str) -> str:
    """Return a name in snake_case: lower case, words separated by one underscore.

    Args:
        name: a raw event name, however long or strange.

    Returns:
        Letters, digits, marks and underscores only; never empty; folding it again changes
        nothing. A name without a letter or digit becomes `unnamed_` and a digest.
    """
    text = spaced(name).strip("_")
    if not text:
        return "unnamed_" + _digest(name)
    if len(text) > LONGEST:
        return text[: LONGEST - 9].rstrip("_") + "_" + _digest(text)
    return text


def spaced(text: str) -> str:
    """Fold a piece of a name and keep the underscores at its ends."""
    text = _CAMEL.sub("_", unicodedata.normalize("NFKC", text)).lower()
    if text.isascii():
        return re.sub(r"[^a-z0-9]+", "_", text)
    text = unicodedata.normalize("NFKC", text)
    kept = (c if c.isalnum() or unicodedata.category(c)[0] == "M" else "_" for c in text)
    return re.sub(r"_+", "_", "".join(kept))


def match_key(name: str) -> str:
    """Return what must agree for two names to match: letters, digits, and slashes."""
    return "/".join(fold(part).replace("_", "") for part in _parts(name))


def slashed(name: str) -> str:
    """Fold a name part by part, slashes kept: what patterns are compared with."""
    return "/".join(fold(part) for part in _parts(name))


def pattern_key(pattern: str) -> str:
    """Fold a pattern and keep its `*` and slashes."""
    pieces = re.split(r"([*/])", pattern)
    folded = "".join(piece if piece in ("*", "/") else spaced(piece) for piece in pieces)
    return re.sub(r"\*+", "*", folded).strip("_")


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/", _MOST_PARTS) if part.strip()]
    return parts if 1 < len(parts) < _MOST_PARTS else [name]


def _digest(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()[:8]


def is_object_action(name: str) -> bool:
    """Whether a folded name reads object, then action in the past tense (`order_completed`)."""
    words = name.split("_")
    if len(words) > 2 and words[-1] in PARTICLES:
        words = words[:-1]  # user_signed_up
    return len(words) >= 2 and is_past(words[-1])


@lru_cache(maxsize=65536)
def object_action(name: str) -> str:
    """Propose the object-action form of a folded name: `click_button` → `button_clicked`.

    A name without a known verb stays as it is.
    """
    words = name.split("_")
    if is_object_action(name):
        return name
    at = next((i for i in (0, len(words) - 1) if action_of(words[i])), None)
    if at is None or len(words) < 2:
        return name
    verb = past_tense(base_form(words[at]))
    rest = words[1:] if at == 0 else words[:-1]
    particle = [rest.pop(0)] if at == 0 and len(rest) > 1 and rest[0] in PARTICLES else []
    rest = [word for word in rest if word not in ("to", "the", "a")] or rest
    return "_".join([*rest, verb, *particle])[:LONGEST]


def template(name: str) -> str | None:
    """Return a folded name with its data replaced by `*`, or None where it carries none.

    Data are dates, UUIDs, hexadecimal ids, and words with three digits in a row or more.
    """
    if name.startswith("unnamed_"):
        return None  # the digits are our own
    text = _WHOLE.sub(_PLACE, name)
    words = [_PLACE if _is_data(word) else word for word in text.split("_")]
    if _PLACE not in words or not re.search(r"[^\W\d_]{2}", "".join(words)):
        return None  # a form without any word would claim everything
    kept = [word for i, word in enumerate(words) if word != _PLACE or words[i - 1 : i] != [_PLACE]]
    return "_".join(kept)


def _is_data(word: str) -> bool:
    return word == _PLACE or bool(re.search(r"\d{3,}", word)) or bool(_HEX.fullmatch(word))


def shown(text: object, longest: int = 80) -> str:
    """Return text fit for a person's eyes: one line, no control characters, cut when long."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[: 4 * longest])
    line = " ".join(line.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return a few names for a message, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(f"'{shown(name)}'" for name in names[:most]) + more
