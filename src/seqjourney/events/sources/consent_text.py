"""What a row says of consent, as JSON text: the vendor's own purposes, each with a state.

`{"analytics":"granted","ads":"denied"}`. The purpose `*` stands for every purpose: who refuses all
is `{"*":"denied"}`. Null means that the row says nothing; what cannot be read is not guessed at but
says `{"*":"unknown"}`. Made with text expressions that every engine knows (no
back-references, which Spark writes differently), so names with quotes or backslashes count as
unreadable.
"""

from __future__ import annotations

from typing import Any

import ibis

UNREADABLE = '{"*":"unknown"}'
ALL_DENIED = '{"*":"denied"}'
_NAME = r'"[^"\\]*"'
_STATED = rf'{_NAME}\s*:\s*"(?:granted|denied|unknown)"'
_OBJECT = rf"^\{{\s*(?:{_STATED}(?:\s*,\s*{_STATED})*)?\s*\}}$"
_ID = r'"[^"\\]+"'
_LIST = rf"^\[\s*(?:{_ID}(?:\s*,\s*{_ID})*)?\s*\]$"


def checked(text: Any) -> Any:
    """Keep text that is a flat object of states; anything else that is given is unreadable."""
    # One chain, because an engine computes anew what a case mentions again.
    return text.re_extract(_OBJECT, 0).re_replace("^$", UNREADABLE)


def of_flags(text: Any) -> Any:
    """Turn `{"ads":true,"analytics":false}` into states; a value that is no boolean is unknown."""
    for pattern, state in (
        (r'"\s*:\s*(?:"[^"\\]*"|null|-?[0-9][0-9.eE+-]*)', "unknown"),
        (r'"\s*:\s*true', "granted"),
        (r'"\s*:\s*false', "denied"),
    ):
        text = text.re_replace(pattern, f'":"{state}"')
    return checked(text)


def of_lists(allowed: Any, denied: Any) -> Any:
    """Turn `["ads"]` and `["analytics"]` into states; a purpose in both is denied.

    Two empty or missing lists say nothing.
    """
    refused = denied.fill_null("[]")
    granted = _ids(allowed).filter(lambda name: ~refused.contains(_quoted(name)))
    members = [
        ids.map(lambda name, state=state: "," + _quoted(name) + f':"{state}"').join("")
        for ids, state in ((granted, "granted"), (_ids(denied), "denied"))
    ]
    inside = (members[0].fill_null("") + members[1].fill_null("")).nullif("").substr(1)
    readable = _readable(allowed) & _readable(denied)
    return readable.ifelse(ibis.literal("{") + inside + "}", UNREADABLE)


def _readable(text: Any) -> Any:
    return text.re_search(_LIST).fill_null(True)


def _ids(text: Any) -> Any:
    """Split a JSON list of plain names; null for an empty one."""
    inside = text.re_replace(r'^\s*\[\s*"?|"?\s*\]\s*$', "").nullif("")
    return inside.re_split(r'"\s*,\s*"')


def _quoted(name: Any) -> Any:
    return ibis.literal('"') + name + '"'
