"""Consent as a time line: what each customer allowed, for which purpose, from when until when.

`stated` reads what the rows of all sources say and keeps the changes, `intervals` joins the
statements of all identifiers of a customer into intervals, and `enforcement` withholds events and
snapshots that no consent covers. `policy` says which purpose is needed and what silence means.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "FILE": "stated",
    "ConsentPolicy": "policy",
    "allowed_snapshots": "enforcement",
    "check_purpose": "enforcement",
    "describe_consent": "enforcement",
    "enforce": "enforcement",
    "keep_allowed": "enforcement",
    "latest_states": "enforcement",
    "read_statements": "stated",
    "statements": "stated",
    "timeline": "intervals",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that reading a configuration costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
