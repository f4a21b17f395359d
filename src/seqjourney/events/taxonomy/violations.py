"""Where events break the tracking plan: a required property missing, a wrong type, a strange value.

The engine counts over the JSON text of all rows in one pass; only the counts come back. A null or
an empty text counts as missing. A property that looks alike in several events is checked once.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import Any

import pandas as pd

from seqjourney.events.taxonomy import json_text
from seqjourney.events.taxonomy.names import shown
from seqjourney.events.taxonomy.plan import Property, TrackingPlan

COLUMNS = ("event", "property", "problem", "expected", "rows", "share", "example")
MISSING, WRONG_TYPE, NOT_ALLOWED = "missing", "wrong type", "value not allowed"

_ISO_TIME = (
    r'^"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s*([Zz]|[+-]\d{2}(:?\d{2})?)?)?"$'
)
_TYPES = {
    "string": r'^"',
    "number": r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$",
    "integer": r"^-?\d+(\.0+)?$",
    "boolean": r"^(true|false)$",
    "time": rf"{_ISO_TIME}|^\d{{9,16}}$",
}


def find(rows: Any, plan: TrackingPlan) -> pd.DataFrame:
    """Count what breaks the plan, per canonical event and property.

    Args:
        rows: Ibis table with canonical `event` and `properties` (JSON text of an object).
        plan: the tracking plan.

    Returns:
        Data frame with `event`, `property`, `problem` (missing, wrong type, value not allowed),
        `expected`, `rows`, `share` of the event's volume, and `example` (a value as it is written,
        cut and without control characters); the largest share first.
    """
    if "properties" not in rows.columns:
        return _table([])
    counted = rows.group_by("event").aggregate(rows=rows.count()).execute()
    volumes = dict(zip(counted["event"], counted["rows"].astype(int), strict=True))
    checks = _checks(plan, set(volumes))
    if not checks:
        return _table([])
    wanted = {
        f"check_{i}": ((field, *expected.raw), rows.event.isin(names))
        for i, (field, expected, names) in enumerate(checks)
    }
    read = json_text.with_literals(rows, wanted, ("event",))
    fits = {
        f"fits_{i}": read[f"check_{i}"].re_search(_TYPES[expected.type])
        for i, (_, expected, _) in enumerate(checks)
    }
    read = read.mutate(**fits)
    measures: dict[str, Any] = {}
    for i, (_, expected, _) in enumerate(checks):
        measures |= _measures(read, i, expected)
    counts = read.group_by("event").aggregate(**measures).execute().set_index("event")
    records = []
    for i, (field, expected, names) in enumerate(checks):
        for name in names:
            records += _records(name, field, expected, volumes[name], counts.loc[name], i)
    return _table(records)


def _checks(plan: TrackingPlan, present: set[str]) -> list[tuple[str, Property, list[str]]]:
    """Return each distinct check once, with the events that are there and that it is for."""
    grouped: dict[tuple[str, Property], list[str]] = defaultdict(list)
    for name in sorted(present & plan.events.keys()):
        for field, expected in plan.events[name].properties.items():
            grouped[field, expected].append(name)
    return [(field, expected, names) for (field, expected), names in grouped.items()]


def _measures(rows: Any, number: int, expected: Property) -> dict[str, Any]:
    """Count values that are there, that have the type, and that are allowed, with examples."""
    literal, fits = rows[f"check_{number}"], rows[f"fits_{number}"]
    there = literal != ""
    measures = {
        f"there_{number}": there.sum(),
        f"fitting_{number}": (there & fits).sum(),
        f"unfit_{number}": literal.min(where=there & ~fits),
    }
    if expected.values:
        allowed = literal.isin(_spellings(expected))
        if expected.type in ("number", "integer"):
            numbers = [float(value) for value in expected.values if _is_number(value)]
            allowed = allowed | literal.try_cast("float64").isin(numbers).fill_null(False)
        measures[f"allowed_{number}"] = (there & fits & allowed).sum()
        measures[f"strange_{number}"] = literal.min(where=there & fits & ~allowed)
    return measures


def _spellings(expected: Property) -> list[str]:
    """The allowed values as JSON writes them, with and without escapes."""
    if expected.type in ("string", "time"):
        both = [
            json.dumps(v, ensure_ascii=ascii) for v in expected.values for ascii in (True, False)
        ]
        return sorted({*both, *expected.values} if expected.type == "time" else set(both))
    return sorted(value.lower() for value in expected.values)


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _records(
    name: str, field: str, expected: Property, volume: int, counts: Any, number: int
) -> list[tuple[Any, ...]]:
    there, fitting = int(counts[f"there_{number}"]), int(counts[f"fitting_{number}"])
    found = []
    if expected.required:
        found.append((MISSING, "required", volume - there, None))
    found.append((WRONG_TYPE, expected.type, there - fitting, counts[f"unfit_{number}"]))
    if expected.values:
        options = f"one of {shown(', '.join(expected.values))}"
        strange = fitting - int(counts[f"allowed_{number}"])
        found.append((NOT_ALLOWED, options, strange, counts[f"strange_{number}"]))
    return [
        (name, field, problem, wanted, n, n / volume, _example(example))
        for problem, wanted, n, example in found
        if n > 0
    ]


def _example(literal: Any) -> str | None:
    if literal is None or pd.isna(literal):
        return None
    return "a list or an object" if literal == json_text.NESTED else shown(literal)


def _table(records: list[tuple[Any, ...]]) -> pd.DataFrame:
    table = pd.DataFrame(records, columns=list(COLUMNS))
    table = table.astype({"rows": "int64", "share": "float64", "example": object})
    table["example"] = table["example"].where(table["example"].notna(), None)
    return table.sort_values(
        ["share", "rows", "event", "property", "problem"],
        ascending=[False, False, True, True, True],
        ignore_index=True,
    )
