"""RudderStack: Segment's six calls as JSON Lines, or warehouse tables as Parquet or CSV.

What differs from `segment`: consent is a list of allowed and a list of denied ids
(`context.consentManagement`), and sessions are numbered (`context.sessionId`). The ids are
case-sensitive and kept so. Ids in neither list are not spoken of; two empty lists say nothing.
`channel` (web, mobile, server, sources) is the sender, no marketing channel, and is not taken.
"""

from __future__ import annotations

from typing import Any

import ibis

from seqjourney.events.files import find_files
from seqjourney.events.sources import Source
from seqjourney.events.sources.consent_text import of_lists
from seqjourney.events.sources.segment import open_calls

_LISTS = {
    "allowed": (
        "context.consentManagement.allowedConsentIds",
        "context_consent_management_allowed_consent_ids",
    ),
    "denied": (
        "context.consentManagement.deniedConsentIds",
        "context_consent_management_denied_consent_ids",
    ),
}


def open_source(backend: Any, config: Any) -> Source:
    """Map RudderStack's calls to raw rows.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    return open_calls(backend, find_files(config.path), _LISTS, _consent)


def _consent(rows: Any) -> Any:
    return of_lists(_list_text(rows.allowed), _list_text(rows.denied))


def _list_text(column: Any) -> Any:
    """Return a list as JSON text, also where a typed file holds a list of text."""
    if not column.type().is_array():
        return column.cast("string")
    names = column.cast("array<string>").join('","')
    return ibis.cases(
        (column.length() == 0, "[]"), (column.notnull(), ibis.literal('["') + names + '"]')
    )
