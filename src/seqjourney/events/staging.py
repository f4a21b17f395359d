"""One source's rows, read once: typed, flagged and written where the next steps can reread them.

Reading raw files is the dear part, so it happens once. `stage` writes every row, good or bad, to
Parquet in the engine's own folder, a part for each bucket of customers and one for bad rows. What
must be known of all rows (how many are bad, why, which clocks they use) is counted on those.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pandas as pd

from seqjourney.config import DataConfig
from seqjourney.errors import ConfigError, DataError
from seqjourney.events import engine
from seqjourney.events.cleaning import CORE, NO_OFFSET, OFFSET, actor_of, bucket_of, typed
from seqjourney.events.sources import Source
from seqjourney.events.suppression import Suppression, withhold_erased

_BAD, _ERASED = "bad", "erased"  # parts beside those of buckets
_TIMES = (
    "Times must be ISO 8601, such as 2024-12-31 14:05, or numbers since 1970 with "
    "data.timestamp_unit=s, ms or us."
)


@dataclass(frozen=True)
class Staged:
    """Typed rows of one source, on disk."""

    source: Source
    rows: Any
    """Ibis table of all rows; `part` is `b` and a bucket's digit, or `bad`."""
    columns: tuple[str, ...]
    """Of the event log, in order."""
    read: int
    quarantined: dict[str, int]
    """Bad rows by reason, most frequent first."""
    erased: int
    """Rows of customers who have been erased; they stand in no log and no quarantine."""

    def events(self, bucket: str | None = None) -> Any:
        """Return the events that good rows make, of one bucket or of all."""
        part = self.rows.part
        rows = self.rows.filter(
            part.notin([_BAD, _ERASED]) if bucket is None else part == f"b{bucket}"
        )
        return rows if self.source.combine is None else self.source.combine(rows)

    @property
    def bad(self) -> Any:
        """Return the rows that cannot be used, with their `problem`."""
        return self.rows.filter(self.rows.part == _BAD)


def stage(
    backend: Any, source: Source, config: DataConfig, folder: Path, erased: Suppression
) -> Staged:
    """Type a source's rows and write them to a folder of parts; `erased` says whom to leave out.

    Raises:
        DataError: no row, too many that cannot be used, or clocks that cannot be told apart.
        ConfigError: a declared field does not exist.
    """
    rows = typed(source.rows, config)
    if erased.requests:
        rows = withhold_erased(rows, erased)
    gone = rows.erased if erased.requests else ibis.literal(False)
    usable = rows.problem.isnull().ifelse("b" + bucket_of(rows.customer_id), _BAD)
    parts = rows.mutate(actor=actor_of(rows.event, config), part=gone.ifelse(_ERASED, usable)).drop(
        *(["erased"] * bool(erased.requests))
    )
    events = parts if source.combine is None else source.combine(parts)
    columns = _log_columns(events, config)
    written = engine.materialise(backend, parts, folder, partition_by="part")
    if written is None:
        raise DataError(f"{config.path} has no rows.")
    counted = backend.execute(
        written.group_by("problem", "clock", erased=written.part == _ERASED).aggregate(
            rows=written.count(), first=written.source_row.min()
        )
    )
    stay = counted[~counted["erased"]]
    problems = stay.groupby("problem").agg(rows=("rows", "sum"), first=("first", "min"))
    problems = problems.sort_values("rows", ascending=False)
    assert config.path is not None  # the config sees to it
    check_problems(problems, int(counted["rows"].sum()), config.path, config)
    _check_clocks(counted, config)
    return Staged(
        source=source,
        rows=written,
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
            inner = (*CORE, "part", "source_row", "problem", "clock")
            known = ", ".join(c for c in events.columns if c not in inner)
            raise ConfigError(f"source '{config.source}' has no field '{field}'; it has: {known}.")
    return (*CORE, *(f for f in ("channel", "value", *fields) if f in events.columns))


def check_problems(problems: pd.DataFrame, total: int, where: str, config: DataConfig) -> None:
    """Refuse input that cannot be meant so.

    Args:
        problems: `rows` and `first` (row) by problem, the most frequent first.
        total: rows of the source, bad ones included.
        where: the source's path, for messages.
        config: says how many bad rows are too many.
    """
    bad = int(problems["rows"].sum())
    if not bad:
        return
    worst = problems.iloc[0]
    example = f"'{worst.name}' first at data row {int(worst['first']) + 1} of {where}"
    if config.on_bad_rows == "stop":
        raise DataError(
            f"{bad:,} of {total:,} rows cannot be used: {example}. "
            "Mend them, or set data.on_bad_rows=quarantine."
        )
    if bad == total or bad / total > config.max_quarantined_share:
        raise DataError(
            f"{bad:,} of {total:,} rows cannot be used (limit "
            f"data.max_quarantined_share={config.max_quarantined_share:g}): {example}. "
            "Does every data.* key name the right column? "
            + (_TIMES if str(worst.name).startswith("unreadable") else "")
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
