"""One source's rows, read once: typed, flagged and kept where the next steps can reread them.

Reading raw files is the dear part, so it happens once. `stage` keeps every row, good or bad, in
memory or in the engine's own folder (`engine.stage`). What must be known of all rows (how many are
bad, why, which clocks they use) is counted on those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from seqjourney.config import DataConfig
from seqjourney.errors import ConfigError, DataError
from seqjourney.events import engine
from seqjourney.events.cleaning import CORE, NO_OFFSET, OFFSET, actor_of, typed
from seqjourney.events.hashing import holds_email
from seqjourney.events.sources import Source
from seqjourney.events.sources.shapes import wrong_kind
from seqjourney.events.suppression import Suppression, withhold_erased

_ERASED = "erased"  # a problem of its own: the rows are counted and nothing else
_LONGEST_VALUE = 80  # letters of a bad value that a message shows
_TIMES = (
    "Times must be ISO 8601, such as 2024-12-31 14:05, or numbers since 1970 with "
    "data.timestamp_unit=s, ms or us."
)


@dataclass(frozen=True)
class Staged:
    """Typed rows of one source."""

    source: Source
    rows: Any
    """Ibis table of all rows, see `engine.stage`; those with a `problem` are no events."""
    columns: tuple[str, ...]
    """Of the event log, in order."""
    read: int
    quarantined: dict[str, int]
    """Bad rows by reason, most frequent first."""
    erased: int
    """Rows of customers who have been erased; they stand in no log and no quarantine."""

    def events(self, rows: Any) -> Any:
        """Return the events that the good ones of some or all rows make."""
        rows = engine.where_null(rows, "problem")
        return rows if self.source.combine is None else self.source.combine(rows)

    @property
    def bad(self) -> Any:
        """Return the rows that cannot be used, with their `problem`."""
        problem = self.rows.problem
        return self.rows.filter(problem.notnull() & (problem != _ERASED))


def stage(
    backend: Any, source: Source, config: DataConfig, folder: Path, erased: Suppression
) -> Staged:
    """Type a source's rows and keep them, in `folder` if need be; `erased` says whom to leave out.

    Raises:
        DataError: no row, too many that cannot be used, or clocks that cannot be told apart.
        ConfigError: a declared field does not exist.
    """
    rows = typed(source.rows, config)
    rows = rows.mutate(actor=actor_of(rows.event, config))
    if erased.requests:
        rows = withhold_erased(rows, erased)
        rows = rows.mutate(problem=rows.erased.ifelse(_ERASED, rows.problem)).drop("erased")
    events = rows if source.combine is None else source.combine(rows)
    columns = _log_columns(events, config)
    kept = engine.stage(backend, rows, folder)
    if kept is None:
        raise DataError(f"{config.path} has no rows.")
    address = holds_email(kept.customer_id)
    counted = backend.execute(
        kept.group_by("problem", "clock").aggregate(
            rows=kept.count(),
            first=kept.source_row.min(),
            addresses=address.sum().fill_null(0),
            first_address=kept.source_row.min(where=address),
        )
    )
    stay = counted[counted["problem"] != _ERASED]
    problems = stay.groupby("problem").agg(rows=("rows", "sum"), first=("first", "min"))
    problems = problems.sort_values("rows", ascending=False)
    assert config.path is not None  # the config sees to it
    check_problems(backend, source, problems, int(counted["rows"].sum()), config.path, config)
    _check_clocks(counted, config)
    _check_addresses(counted, source, config)
    return Staged(
        source=source,
        rows=kept,
        columns=columns,
        read=int(counted["rows"].sum()),
        quarantined={str(reason): int(n) for reason, n in problems["rows"].items()},
        erased=int(counted["rows"].sum() - stay["rows"].sum()),
    )


def _log_columns(events: Any, config: DataConfig) -> tuple[str, ...]:
    """Return the columns of the event log; refuse a declared field that the source lacks."""
    fields = (*config.categorical, *config.numeric)
    for field in fields:
        if field not in events.columns:
            inner = (*CORE, "source_row", "problem", "clock")
            known = ", ".join(c for c in events.columns if c not in inner)
            raise ConfigError(f"source '{config.source}' has no field '{field}'; it has: {known}.")
    return (*CORE, *(f for f in ("channel", "value", *fields) if f in events.columns))


def check_problems(
    backend: Any,
    source: Source,
    problems: pd.DataFrame,
    total: int,
    where: str,
    config: DataConfig,
    kind: str = "table",
) -> None:
    """Refuse input that cannot be meant so.

    Args:
        backend: from `events.engine.connect`.
        source: what was read.
        problems: `rows` and `first` (row) by problem, the most frequent first; instead of `first`,
            lines that are no records have a `place`.
        total: rows of the source, bad ones included.
        where: the source's path, for messages.
        config: says how many bad rows are too many.
        kind: whose export the source is said to be.
    """
    bad = int(problems["rows"].sum())
    if not bad:
        return
    stop = config.on_bad_rows == "stop"
    if not stop and bad < total and bad / total <= config.max_quarantined_share:
        return
    worst, found = str(problems.index[0]), problems.iloc[0]
    if pd.isna(found["first"]):
        example = f"'{worst}' first at {found['place']}"
    else:
        first = int(found["first"])
        value = _value(backend, source, worst, first)
        example = f"'{worst}'{value} first at data row {source.record_of(first) + 1} of {where}"
    if stop:
        raise DataError(
            f"{bad:,} of {total:,} rows cannot be used: {example}. "
            "Mend them, or set data.on_bad_rows=quarantine."
        )
    hint = wrong_kind(kind, source.files)
    if not hint and kind == "table":
        hint = "Does every data.* key name the right column?"
    if not hint:
        hint = "Mend them." if bad == total else "Mend them, or raise the limit."
    if worst.startswith(("unreadable", "timestamp", "known_at")) and kind == "table":
        hint += f" {_TIMES}"
    raise DataError(
        f"{bad:,} of {total:,} rows cannot be used (limit "
        f"data.max_quarantined_share={config.max_quarantined_share:g}): {example}. {hint}"
    )


def _value(backend: Any, source: Source, problem: str, row: int) -> str:
    """Return what a bad row holds in the column that is at fault, for a message."""
    named = re.search(r"bad '(.+)'|\b(timestamp|known_at)\b", problem)
    columns = [f"unreadable_{named[2]}", named[1] or named[2]] if named else []
    held = [column for column in columns if column in source.rows.columns]
    if not held:
        return ""
    at = source.rows.filter(source.rows.source_row == row)
    found = backend.execute(at.select(value=engine.as_text(at[held[0]])).limit(1))["value"].dropna()
    return f" ({str(found.iloc[0])[:_LONGEST_VALUE]!r})" if len(found) else ""


def _check_addresses(counted: pd.DataFrame, source: Source, config: DataConfig) -> None:
    """Refuse e-mail addresses as customer ids, for the log would hold them as they are."""
    if not source.files or not (rows := int(counted["addresses"].sum())):
        return  # events in memory, which scoring reads, are not kept
    first = source.record_of(int(counted["first_address"].min())) + 1
    column = config.customer or "customer_id"
    raise DataError(
        f"{config.path}: column '{column}' holds e-mail addresses in {rows:,} rows, first at data "
        f"row {first}, and the log would hold them in plain text. Replace them by a hash first; or "
        f"give the table as one of data.sources (kind: table) with identifiers: {{email: {column}}}"
        ", which stores keyed hashes alone."
    )


def _check_clocks(counted: pd.DataFrame, config: DataConfig) -> None:
    """Refuse times with an offset beside times without, unless the config says how to read them."""
    rows = counted["rows"]
    known, unknown = (int(rows[counted["clock"] & bit > 0].sum()) for bit in (OFFSET, NO_OFFSET))
    if config.timezone is None and known and unknown:
        raise DataError(
            f"{config.path} mixes time zones: {known:,} rows have times with a UTC offset and "
            f"{unknown:,} rows have times without. Say how to read the latter, for example "
            "data.timezone=UTC."
        )
