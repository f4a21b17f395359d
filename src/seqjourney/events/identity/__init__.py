"""Whose event is it? From identifiers seen together to customers, and since when it was known.

`rules` says what may be merged, `observed` finds identifiers and the links between them in cleaned
rows (lazy Ibis), `resolve` turns both into customers without caring in which order they came.
`evaluation` measures the result against the truth, `suspects` lists what a person should look at,
and `linking` proposes further links by names and addresses (optional, needs Splink).
Start reading at `resolve.resolve`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "IdentityRules": "rules",
    "Resolution": "resolve",
    "cluster_quality": "evaluation",
    "merge_observed": "observed",
    "suspicious": "suspects",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that reading a configuration costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
