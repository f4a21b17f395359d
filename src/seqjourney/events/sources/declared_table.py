"""A table among several sources: CRM stages, support tickets, ad costs, orders of a shop.

CSV, Parquet or flat JSON Lines whose columns the configuration names: who (`customer` for user ids,
`identifiers` for any type), when, what, money in parts, what tells the channel, consent by purpose.
Columns that it does not name become `properties`. Stage changes of a CRM are events of their own,
each with the time at which it was recorded as `known_at`, never the latest state alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis

from seqjourney.config import SourceConfig, nearest
from seqjourney.errors import DataError
from seqjourney.events.engine import columns_of, json_keys, position_of, read_table
from seqjourney.events.files import find_files, kind_of
from seqjourney.events.records import open_records
from seqjourney.events.sources import Source
from seqjourney.events.sources.consent_text import checked
from seqjourney.events.sources.nested_json import as_json, json_object

_MOST_KEYS = 1000  # of a JSON Lines table
_STATES = {
    "granted": ("granted", "true", "yes", "1", "opt-in", "allow"),
    "denied": ("denied", "false", "no", "0", "opt-out", "withdrawn", "deny"),
}


def open_source(backend: Any, config: SourceConfig) -> Source:
    """Map the named columns of a table to raw rows.

    Raises:
        DataError: no such file, or a named column does not exist.
    """
    files = find_files(config.path)
    wanted = _wanted(config)
    if kind_of(files[0]) == "json":
        keys = dict.fromkeys([*wanted.values(), *_keys(backend, files)])
        named = {column: f'"{column}"' for column in keys if '"' not in column}
        records = open_records(backend, files, named)
        return Source(_map(records.rows, wanted, config), files, rejected=records.rejected)
    table = read_table(backend, files)
    for column in wanted.values():
        if column not in table.columns:
            hint = nearest(column, columns_of(table))
            raise DataError(f"{config.path} has no column '{column}'.{hint}")
    numbered = table.select(*columns_of(table), source_row=position_of(table))
    return Source(_map(numbered, wanted, config), files)


def _keys(backend: Any, files: Sequence[Path]) -> list[str]:
    """Return all keys of JSON Lines; what the configuration does not name becomes `properties`."""
    keys = json_keys(backend, files).limit(_MOST_KEYS + 1)
    found = sorted(backend.execute(keys)["key"])
    if len(found) > _MOST_KEYS:
        raise DataError(
            f"{files[0]} has more than {_MOST_KEYS:,} different keys, so it is no table. Put keys "
            "that are data (ids, dates) into values."
        )
    return found


def _wanted(config: SourceConfig) -> dict[str, str]:
    """Return our name -> the table's column, for all that the configuration names."""
    core = {
        "id_user": config.customer,
        "timestamp": config.timestamp,
        "event": config.event,
        "known_at": config.known_at,
        "event_id": config.event_id,
        "channel": config.channel,
        "value": config.value,
    }
    wanted = {ours: theirs for ours, theirs in core.items() if theirs is not None}
    wanted |= {f"id_{name}": column for name, column in config.identifiers.items()}
    for part, column in config.money.items():
        wanted["currency" if part == "currency" else f"money_{part}"] = column
    wanted |= {str(name): column for name, column in config.evidence.items()}
    return wanted | {f"consent:{purpose}": column for purpose, column in config.consent.items()}


def _map(table: Any, wanted: dict[str, str], config: SourceConfig) -> Any:
    columns = {
        ours: table[theirs] for ours, theirs in wanted.items() if not ours.startswith("consent:")
    }
    if config.event_name is not None:
        columns["event"] = ibis.literal(config.event_name)
    if config.consent:
        columns["consent"] = _consent(table, config.consent)
    rest = [c for c in table.columns if c not in (*wanted.values(), "source_row")]
    if rest:
        columns["properties"] = json_object({name: as_json(table[name]) for name in rest})
    return table.select("source_row", **columns)


def _consent(table: Any, columns: dict[str, str]) -> Any:
    """Say per purpose what a row's columns say; an empty cell says nothing."""
    members = {}
    for purpose, column in columns.items():
        text = table[column].cast("string").strip().lower().nullif("")
        cases = [(text.isin(words), f'"{state}"') for state, words in _STATES.items()]
        members[purpose] = ibis.cases(*cases, (text.notnull(), '"unknown"'))
    said = ibis.or_(*(member.notnull() for member in members.values()))
    return said.ifelse(checked(json_object(members)), ibis.null("string"))
