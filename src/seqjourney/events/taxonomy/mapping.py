"""Raw event names → canonical ones, for every row at the price of one join.

`read_names` counts the distinct names (a small table), `resolve` looks each up in the plan, and
`canonical` joins the answer to the rows. Precedence: `source/name`, exact name, pattern (the one
with the most letters); a name that nothing matches keeps its folded form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa

from seqjourney.events.taxonomy import json_text
from seqjourney.events.taxonomy.names import fold, match_key, slashed
from seqjourney.events.taxonomy.plan import TrackingPlan, entries

_LONGEST_MATCHED = 400  # characters that patterns look at


@dataclass(frozen=True)
class Rules:
    """A plan made ready to look names up in."""

    exact: dict[str, str]
    """Match key (perhaps `source/name`) → canonical name."""
    patterns: tuple[tuple[str, re.Pattern[str], str], ...]
    """(text that must be in it, pattern, canonical name), the most telling first."""
    qualified: bool
    """Whether an entry may name a source."""


def rules(plan: TrackingPlan) -> Rules:
    """Make a plan ready to look names up in."""
    exact, patterns = {}, {}
    for name, entry, key in entries(plan):
        if "*" in entry:
            patterns[key] = name
        else:
            exact[key] = name
    order = sorted(patterns, key=lambda key: (key.count("*") - len(key), key))
    compiled = []
    for key in order:
        pieces = key.split("*")
        pattern = re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)
        compiled.append((max(pieces, key=len), pattern, patterns[key]))
    return Rules(exact, tuple(compiled), any("/" in key for key in (*exact, *patterns)))


def lookup(found: Rules, source: str | None, name: str) -> str | None:
    """Return the canonical name of one raw name, or None where the plan has none."""
    text = slashed(name)
    key = text.replace("_", "")
    keys = [key, fold(name).replace("_", "")] if "/" in name else [key]
    if source and found.qualified:
        keys.insert(0, f"{match_key(source)}/{key}")
    for candidate in keys:
        if candidate in found.exact:
            return found.exact[candidate]
    text = text[:_LONGEST_MATCHED]
    qualified = f"{slashed(source)}/{text}" if source and found.qualified else text
    for needle, pattern, canonical_name in found.patterns:
        if needle in qualified and (pattern.fullmatch(text) or pattern.fullmatch(qualified)):
            return canonical_name
    return None


def read_names(rows: Any) -> pd.DataFrame:
    """Count the distinct raw names, the one pass over the rows that is needed.

    Args:
        rows: Ibis table with `event` (or, once mapped, `original_event`) and perhaps `source`.

    Returns:
        Data frame with `source` (None where there is none), `name`, `rows`; the frequent first.
    """
    name = rows.original_event if "original_event" in rows.columns else rows.event
    source = rows.source if "source" in rows.columns else ibis.null("string")
    picked = rows.select(source=source.cast("string"), name=name.cast("string"))
    picked = picked.filter(picked.name.notnull())
    counted = picked.group_by("source", "name").aggregate(rows=picked.count()).execute()
    counted = counted.astype({"source": object, "name": object, "rows": "int64"})
    counted["source"] = counted["source"].where(counted["source"].notna(), None)
    return counted.sort_values(
        ["rows", "name", "source"], ascending=[False, True, True], ignore_index=True
    )


def resolve(names: pd.DataFrame, plan: TrackingPlan) -> pd.DataFrame:
    """Look every raw name up in the plan.

    Args:
        names: what `read_names` counted.
        plan: the tracking plan.

    Returns:
        The same rows with `event` (canonical, or folded where the plan has none), `actor` (the
        plan's, or None) and `mapped`.
    """
    found = rules(plan)
    sources: list[str | None] = names["source"].tolist()
    raw: list[str] = names["name"].tolist()
    hits = [lookup(found, source, name) for source, name in zip(sources, raw, strict=True)]
    events = [hit or fold(name) for hit, name in zip(hits, raw, strict=True)]
    actors = [plan.events[hit].actor if hit else None for hit in hits]
    return names.assign(
        event=pd.Series(events, dtype=object, index=names.index),
        actor=pd.Series(actors, dtype=object, index=names.index),
        mapped=pd.Series([hit is not None for hit in hits], dtype=bool, index=names.index),
    )


def canonical(rows: Any, plan: TrackingPlan, names: pd.DataFrame | None = None) -> Any:
    """Give every row its canonical event name, and an actor where it has none.

    Args:
        rows: Ibis table with `event`, and perhaps `source` and `actor`.
        plan: the tracking plan.
        names: `read_names(rows)`, when it was counted already; else it is counted here.

    Returns:
        The rows, lazily, with `original_event` (as it was), `event` and `actor`.
    """
    found = resolve(read_names(rows) if names is None else names, plan)
    with_source = "source" in rows.columns and rules(plan).qualified
    if not with_source:
        found = found.drop_duplicates("name")
    kept = ["name", "event", "actor", *(["source"] if with_source else [])]
    # No nulls: a memtable's missing text arrives on Spark as the text of "not a number".
    texts = {f"taxonomy_{c}": [value or "" for value in found[c]] for c in kept}
    table = ibis.memtable(pa.table({c: pa.array(v, pa.string()) for c, v in texts.items()}))
    on: list[Any] = [("event", "taxonomy_name")]
    if with_source:
        on.append((ibis._.source.fill_null(""), "taxonomy_source"))
    joined = rows.left_join(table, on)
    others = {c: joined[c] for c in rows.columns if c not in ("event", "actor", "original_event")}
    given = [joined.actor] if "actor" in rows.columns else []
    return joined.select(
        **others,
        original_event=joined.event,
        event=ibis.coalesce(joined.taxonomy_event, joined.event),
        actor=ibis.coalesce(*given, joined.taxonomy_actor.nullif("")),
    )


@dataclass(frozen=True)
class Coverage:
    """How much of the volume, and how many names, the plan knows."""

    rows: int
    mapped_rows: int
    names: int
    mapped_names: int

    @property
    def share_of_rows(self) -> float:
        """Mapped share of volume; 1 where there is nothing to map."""
        return self.mapped_rows / self.rows if self.rows else 1.0

    @property
    def share_of_names(self) -> float:
        """Mapped share of distinct names (per source)."""
        return self.mapped_names / self.names if self.names else 1.0


def coverage(resolved: pd.DataFrame) -> Coverage:
    """Sum up what `resolve` found."""
    mapped = resolved[resolved["mapped"]]
    return Coverage(
        int(resolved["rows"].sum()), int(mapped["rows"].sum()), len(resolved), len(mapped)
    )


def property_keys(plan: TrackingPlan, field: str) -> dict[str | None, tuple[str, ...]]:
    """Return the raw JSON keys that hold a canonical property.

    Args:
        plan: the tracking plan.
        field: canonical name of a property.

    Returns:
        Canonical event → keys. The key None stands for all other events: there the property goes
        by its own name.
    """
    found: dict[str | None, tuple[str, ...]] = {None: (field,)}
    for name, event in plan.events.items():
        if field in event.properties and event.properties[field].raw:
            found[name] = (field, *event.properties[field].raw)
    return found


def with_properties(rows: Any, plan: TrackingPlan, fields: Iterable[str]) -> Any:
    """Add canonical properties as columns, read out of the JSON text of each row.

    Args:
        rows: Ibis table with canonical `event` and `properties` (JSON text of an object).
        plan: the tracking plan, which says under which keys each property stands.
        fields: canonical names of properties; they become columns of `rows`.

    Returns:
        The rows, lazily, with one text column per field: a string's content, a number or boolean
        as it is written, else null (also for lists and objects). Cast them with `try_cast`.
    """
    wanted: dict[str, tuple[tuple[str, ...], Any]] = {}
    parts: dict[str, list[str]] = {}
    for number, field in enumerate(fields):
        by_keys: dict[tuple[str, ...], list[str]] = {}
        for name, keys in property_keys(plan, field).items():
            if name is not None:
                by_keys.setdefault(keys, []).append(name)
        special = sorted(name for names in by_keys.values() for name in names)
        other = ~rows.event.isin(special) if special else None
        choices: list[tuple[tuple[str, ...], Any]] = [((field,), other)]
        choices += [(keys, rows.event.isin(names)) for keys, names in by_keys.items()]
        columns = {f"taxonomy_{number}_{i}": choice for i, choice in enumerate(choices)}
        wanted |= columns
        parts[field] = list(columns)
    kept = tuple(column for column in rows.columns if column not in parts)
    read = json_text.with_literals(rows, wanted, kept)
    # At most one part is not empty, as each row has one event.
    joined = {field: _concatenated(read, columns) for field, columns in parts.items()}
    read = read.select(*kept, **joined)
    return read.mutate(**{field: json_text.text(read[field]) for field in parts})


def _concatenated(rows: Any, columns: list[str]) -> Any:
    text = rows[columns[0]]
    for column in columns[1:]:
        text = text + rows[column]
    return text
