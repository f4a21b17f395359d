"""Personal data cut out of properties: they are JSON text that reaches the disk as it is.

Text patterns that know strings and escapes, so that what is left is JSON whatever the values hold.
"""

from __future__ import annotations

from typing import Any

import ibis

from seqjourney.events.sources.nested_json import quoted

_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_FLAT = rf'\{{(?:{_STRING}|[^"{{}}])*\}}'
_NESTED = rf'\{{(?:{_STRING}|[^"{{}}]|{_FLAT})*\}}'
_VALUE = rf'(?:{_STRING}|{_NESTED}|[^"{{}}\[\],\s]+)'


def without_members(text: Any, *names: str) -> Any:
    """Cut members out of an object's JSON text, at any depth.

    Args:
        text: JSON text.
        names: keys; their values are texts, numbers or objects that nest once.
    """
    escaped = "|".join(name.replace("$", r"\$") for name in names)
    member = rf'"(?:{escaped})"\s*:\s*{_VALUE}'
    cut = text.re_replace(rf"{member}\s*,|,\s*{member}", "").re_replace(member, "")
    present = ibis.or_(*(text.contains(f'"{name}"') for name in names))
    return present.ifelse(cut, text)


def without_value(text: Any, value: Any) -> Any:
    """Blank a value in JSON text: where it is a whole string or number, and an address anywhere."""
    value = value.nullif("")
    bare = value.re_search(r"^[0-9]+$")
    cut = text.replace(quoted(value), '""')
    number = cut.replace(":" + value + ",", ':"",').replace(":" + value + "}", ':""}')
    # With an @ in it and no quote, a value can stand inside a string alone.
    address = value.contains("@") & ~value.re_search(r'["\\]')
    blanked = ibis.cases((bare, number), (address, cut.replace(value, "")), else_=cut)
    return (value.notnull() & text.notnull()).ifelse(blanked, text)
