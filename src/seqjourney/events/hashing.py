"""Personal identifiers become keyed hashes before anything of theirs is written.

The key is the company's: from the environment, or made once and kept beside the prepared data,
readable by its owner alone. With another key the same e-mail is another identifier. Addresses and
numbers that stand in free properties are cut out.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis

from seqjourney.errors import DataError
from seqjourney.files import replacing_file

VARIABLE = "SEQJOURNEY_HASH_KEY"
FILE = "hash.key"
_SHORTEST = 16
_LENGTH = 32  # hex digits that stay of a hash: 128 bits
# An address as JSON text may hold it: the at sign escaped for a URL or for JSON, letters of any
# script, and backslashes before it, since half of an escape must not stay behind.
_PART = r"""[^\s"'<>(){}\[\],;:&=?/@\\|]"""
_EMAIL = rf"\\*{_PART}+(?:@|%40|\\u0040){_PART}+[.][A-Za-z]{{2,}}"
_AT = ("@", "%40", "u0040")
# What is called a telephone number and has five digits, as text or as a number ...
_CALLED = (
    r'"(?:[^"\\]*[^"\\A-Za-z])?(?i:(?:cell|mobile|tele|home|work)?phone|mobile|msisdn|telefon|tel|cell|fax)'
    r'(?i:[ _-]?(?:number|no|nr|nummer))?"'
)
_PHONE = rf'(?:{_CALLED})\s*:\s*(?:"[^"\\]*(?:[0-9][^"0-9\\]*){{5,}}"|-?[0-9]{{5,}})'
_WORDS = ("phone", "mobile", "msisdn", "telefon", '"tel"', '"cell"', '"fax"')
# ... and what is written as an international one, whatever it is called.
_ABROAD = r"(?:[+]|%2B)[1-9](?:[ ()./-]{0,2}[0-9]){7,14}"


def read_key(processed: Path) -> str:
    """Return the company's key, making one on first use.

    Args:
        processed: folder of all prepared data.

    Raises:
        DataError: the key is too short to protect anything.
    """
    key, where = os.environ.get(VARIABLE), VARIABLE
    if key is None:
        file = processed / FILE
        where = str(file)
        if not file.exists():
            with replacing_file(file) as partial:
                partial.touch(mode=0o600)
                partial.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        key = file.read_text(encoding="utf-8").strip()
    if len(key) < _SHORTEST:
        raise DataError(f"the key in {where} has {len(key)} characters; {_SHORTEST} are the least.")
    return key


def hashed_email(text: Any, key: str) -> Any:
    """Hash e-mail addresses, whatever case they were typed in. Ibis text -> text."""
    return _hashed(text.strip().lower(), key)


def hashed_phone(text: Any, key: str) -> Any:
    """Hash telephone numbers by their digits; `00` and `+` begin an international one alike."""
    digits = text.re_replace(r"[^0-9+]", "").re_replace(r"^00", "+")
    return _hashed(digits.nullif(""), key)


HASHED: dict[str, Callable[[Any, str], Any]] = {"id_email": hashed_email, "id_phone": hashed_phone}
"""Columns of raw rows whose values never reach the disk, and how they are hashed."""


def _hashed(text: Any, key: str) -> Any:
    return (ibis.literal(key) + text).hexdigest("sha256").left(_LENGTH)


def hashed_address(text: Any, key: str) -> Any:
    """Hash ids of any type that are an e-mail address or an international telephone number."""
    personal = text.contains("@") | text.startswith("+")
    return personal.ifelse(hashed_email(text, key), text)


def hashed_id(text: Any, key: str) -> Any:
    """Hash ids of events that hold an address; ids that differ in case alone are two events."""
    return text.contains("@").ifelse(_hashed(text, key), text)


def holds_email(text: Any) -> Any:
    """Whether an e-mail address stands in text. Ibis text -> boolean."""
    at = ibis.or_(*(text.contains(sign) for sign in _AT))
    return at.ifelse(text.re_search(_EMAIL), False)


def redacted(json: Any) -> Any:
    """Cut e-mail addresses and telephone numbers out of JSON text. Ibis text -> text."""
    # Most texts have neither, and looking for a letter is far cheaper than for a pattern.
    text = without_addresses(json)
    called = text.lower()
    called = ibis.or_(*(called.contains(word) for word in _WORDS))
    return called.ifelse(text.re_replace(_PHONE, '"phone":"(phone)"'), text)


def without_addresses(text: Any) -> Any:
    """Do so to text that is no JSON: names and the like. Ibis text -> text."""
    at = ibis.or_(*(text.contains(sign) for sign in _AT))
    text = at.ifelse(text.re_replace(_EMAIL, "(e-mail)"), text)
    plus = text.contains("+") | text.contains("%2B")
    return plus.ifelse(text.re_replace(_ABROAD, "(phone)"), text)


def redacted_text(json: str) -> str:
    """Do the same as `redacted` to one Python string."""
    text = re.sub(_ABROAD, "(phone)", re.sub(_EMAIL, "(e-mail)", json))
    return re.sub(_PHONE, '"phone":"(phone)"', text)
