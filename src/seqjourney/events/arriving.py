"""One of many sources, read once: its raw rows typed, settled and written for the next steps.

What depends on the row alone happens here: times and numbers are read, identifiers that name
nobody are dropped and personal ones hashed, money becomes a net value in one currency, the channel
is told from the evidence, and e-mail addresses are cut out of the remaining properties. What
depends on other rows (names, customers, duplicates) comes later.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pandas as pd

from seqjourney.config import DataConfig, SourceConfig
from seqjourney.errors import DataError
from seqjourney.events import hashing, money
from seqjourney.events.channels import classify
from seqjourney.events.cleaning import UTC_MICROSECONDS, typed
from seqjourney.events.identity.observed import without_blocked
from seqjourney.events.rejects import Reject
from seqjourney.events.sources import Source, open_source
from seqjourney.events.sources.commerce import refund_whole_orders

_TEXTS = (
    "actor", "session_id", "group_id", "previous_id", "message_id", "currency", "user_agent",
    "page_url", "referrer", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
    "click_id", "order_id",
)  # fmt: skip
_KEPT = {
    "source": "string",
    "source_row": "int64",
    "event_id": "string",
    "event": "string",
    "timestamp": UTC_MICROSECONDS,
    "known_at": UTC_MICROSECONDS,
    "actor": "string",
    "session_id": "string",
    "group_id": "string",
    "previous_id": "string",
    "message_id": "string",
    "user_agent": "string",
    "channel": "string",
    "ai_engine": "string",
    "ai_evidence": "string",
    "ai_confidence": "string",
    "value": "float64",
    "currency": "string",
    "rate": "float64",
    **dict.fromkeys(money.COLUMNS, "float64"),
    "order_id": "string",
    "consent": "string",
    "properties": "string",
    "problem": "string",
}


@dataclass(frozen=True)
class Arrived:
    """Typed rows of one source, on disk."""

    label: str
    source: Source
    rows: Any
    """Ibis table: `_KEPT`, the source's `id_<type>` columns and declared fields."""
    rejects: tuple[Reject, ...]

    @property
    def identifiers(self) -> list[str]:
        """Return its `id_<type>` columns."""
        return [name for name in self.rows.columns if name.startswith("id_")]


def arrive(
    backend: Any,
    source_config: SourceConfig,
    config: DataConfig,
    key: str,
    rates: pd.DataFrame | None,
    file: Path,
) -> Arrived:
    """Read one source and write its typed rows to a file.

    Args:
        backend: from `events.engine.connect`.
        source_config: the source.
        config: the data config it stands in.
        key: by which personal identifiers are hashed.
        rates: of currencies, from `money.read_rates`.
        file: Parquet, to be written.

    Raises:
        DataError: the source cannot be read, has no row, or has lines that are no records while
            `on_malformed` is `stop`.
    """
    label = source_config.label
    source = open_source(backend, source_config)
    rows = _settle(source.rows, source_config, config, key, rates)
    backend.to_parquet(rows, file, compression="snappy")
    written = backend.read_parquet(str(file))
    if "order_id" in source.rows.columns:
        written = refund_whole_orders(written)
        written = written.mutate(value=ibis.coalesce(written.value, -written.money_refund))
    rejects = tuple(source.rejected(backend))
    if rejects and config.on_malformed == "stop":
        first = rejects[0]
        raise DataError(
            f"{first.file}, line {first.line}: {first.reason}. {len(rejects):,} lines of source "
            f"'{label}' are no records. Mend them, or set data.on_malformed=quarantine to keep "
            "them aside and go on."
        )
    if not rejects and not int(backend.execute(written.count())):
        raise DataError(f"{source_config.path} has no rows (source '{label}').")
    return Arrived(label, source, written, rejects)


def _settle(
    raw: Any,
    source_config: SourceConfig,
    config: DataConfig,
    key: str,
    rates: pd.DataFrame | None,
) -> Any:
    ids = [name for name in raw.columns if name.startswith("id_")]
    fields = (*config.categorical, *config.numeric)
    own = [field for field in fields if field in raw.columns]
    texts = (*_TEXTS, "consent", "properties", *ids)
    rows = typed(raw, config, source_config, texts=texts, numbers=money.COLUMNS)
    rows = without_blocked(rows, config.identity)
    rows = classify(rows)
    rows = money.with_rate(rows.mutate(value=money.net_value(rows)), config, rates)
    named = ibis.or_(*(rows[name].notnull() for name in ids)) if ids else ibis.literal(False)
    problem = ibis.cases(
        (rows.problem.notnull(), rows.problem),
        (rows.automated.fill_null(False), "automated agent"),
        (~named, "no identifier"),
    )
    worth, rate = rows.value, rows.rate
    currency = rows.currency.upper() if "currency" in rows.columns else ibis.null("string")
    amounts = {name: rows[name] * rate for name in money.COLUMNS if name in rows.columns}
    hashed = {name: make(rows[name], key) for name, make in hashing.HASHED.items() if name in ids}
    if "properties" in rows.columns:
        hashed["properties"] = hashing.redacted(rows.properties)
    settled = rows.mutate(
        source=ibis.literal(source_config.label),
        event=hashing.redacted(rows.event),
        event_id=rows.event_id.cast("string"),
        value=worth * rate,
        rate=rate,
        currency=worth.notnull().ifelse(currency, ibis.null("string")),
        problem=problem,
        **hashed,
        **amounts,
    )
    columns = {
        name: settled[name].cast(kind) if name in settled.columns else ibis.null(kind)
        for name, kind in _KEPT.items()
    }
    return settled.select(**columns, **{name: settled[name] for name in (*ids, *own)})
