"""What the engine counts so that event names can be compared: property keys and neighbours.

Both results are small tables. They come from samples that are the same on every engine, taken by a
digest: of the row's id for the keys, of the customer or session for the neighbours.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa

from seqjourney.events.taxonomy.names import fold
from seqjourney.events.taxonomy.plan import TrackingPlan

_LONGEST = 20_000  # characters of a sampled row's properties
_MOST_KEYS = 200  # of one row


def key_shares(
    rows: Any, names: pd.DataFrame, plan: TrackingPlan, *, per_event: int = 300
) -> pd.DataFrame:
    """Estimate in which share of an event's rows each property stands.

    Args:
        rows: Ibis table with canonical `event`, `properties` (JSON text) and `event_id` or
            `source_row`.
        names: data frame with `event` and `rows`: the events to look at and their volume.
        plan: gives raw keys their canonical names, where it is plain which.
        per_event: about so many rows are read of each event.

    Returns:
        Data frame with `event`, `key` (canonical or folded), `share`; only keys that occur.
    """
    if "properties" not in rows.columns or names.empty:
        return pd.DataFrame({"event": [], "key": [], "share": []}, dtype=object)
    picked = sample(rows, names, per_event=per_event)
    picked = picked.filter(picked.properties.length() <= _LONGEST)
    sampled = picked.select("event", "properties").execute()
    canonical = _canonical_keys(plan)
    seen: dict[str, Counter[str]] = {}
    for event, text in zip(sampled["event"], sampled["properties"], strict=True):
        keys = {fold(key) for key in _keys(text)}
        seen.setdefault(event, Counter()).update({canonical.get(key, key) for key in keys})
    totals = sampled["event"].value_counts()
    found = [
        (event, key, count / int(totals[event]))
        for event, counts in sorted(seen.items())
        for key, count in sorted(counts.items())
    ]
    return pd.DataFrame(found, columns=["event", "key", "share"])


def sample(rows: Any, names: pd.DataFrame, *, per_event: int) -> Any:
    """Pick about so many rows of each event, the same ones on every engine.

    Args:
        rows: Ibis table with canonical `event`, and `event_id` or `source_row`.
        names: data frame with `event` and `rows`: the events to pick from and their volume.
        per_event: all rows of an event that has no more than this.

    Returns:
        The picked rows, lazily, with all their columns.
    """
    limits = [_digest_limit(per_event / max(int(n), 1)) for n in names["rows"]]
    columns = {"sampled_event": names["event"].tolist(), "sampled_below": limits}
    table = ibis.memtable(pa.table({c: pa.array(v, pa.string()) for c, v in columns.items()}))
    row_id = rows.event_id if "event_id" in rows.columns else rows.source_row
    marked = rows.mutate(sampled_digest=row_id.cast("string").hexdigest("md5").left(8))
    joined = marked.join(table, [("event", "sampled_event")])
    joined = joined.filter(joined.sampled_digest < joined.sampled_below)
    return joined.select(*rows.columns)


def _digest_limit(share: float) -> str:
    """The hexadecimal text below which this share of digests lies."""
    return "g" if share >= 1 else f"{int(share * 16**8):08x}"


def _keys(text: object) -> list[str]:
    try:
        content = json.loads(str(text))
    except (ValueError, RecursionError):
        return []
    return list(content)[:_MOST_KEYS] if isinstance(content, dict) else []


def _canonical_keys(plan: TrackingPlan) -> dict[str, str]:
    """Folded raw key → canonical property, for keys that mean the same in every event."""
    meanings: dict[str, set[str]] = {}
    for event in plan.events.values():
        for field, expected in event.properties.items():
            for key in (field, *expected.raw):
                meanings.setdefault(fold(key), set()).add(field)
    return {key: next(iter(fields)) for key, fields in meanings.items() if len(fields) == 1}


def neighbours(
    rows: Any,
    names: pd.DataFrame,
    *,
    by: str = "customer_id",
    order: tuple[str, ...],
    most_rows: int = 2_000_000,
) -> pd.DataFrame:
    """Count which event follows which within a customer or a session.

    Args:
        rows: Ibis table with canonical `event` and the columns of `by` and `order`.
        names: data frame with `event` and `rows`: pairs with any other event are left out.
        by: the column whose rows form one sequence.
        order: columns that put a sequence in a total order, such as timestamp and event_id; those
            that `rows` lacks are left out.
        most_rows: of a larger log, about so many rows are read, in whole sequences.

    Returns:
        Data frame with `event`, `next`, `rows`.
    """
    order = tuple(column for column in order if column in rows.columns and column != by)
    picked = rows.select(by, "event", *order)
    picked = picked.filter(picked[by].notnull())
    share = most_rows / max(int(names["rows"].sum()), 1)
    if share < 1:
        digest = picked[by].cast("string").hexdigest("md5").left(8)
        picked = picked.filter(digest < _digest_limit(share))
    after = picked.event.lead(1).over(ibis.window(group_by=by, order_by=order))
    pairs = picked.select("event", next=after)
    pairs = pairs.group_by("event", "next").aggregate(rows=pairs.count())
    kept = names["event"].tolist()
    pairs = pairs.filter(pairs.event.isin(kept), pairs.next.isin(kept))
    return pairs.execute().sort_values(["event", "next"], ignore_index=True)
