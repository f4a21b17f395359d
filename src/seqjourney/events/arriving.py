"""One of many sources, read once: its raw rows typed, settled and written for the next steps.

What depends on the row alone happens here: times and numbers are read, identifiers that name
nobody are dropped and personal ones hashed, money becomes a net value in one currency, what tells
the channel is reduced to that, and e-mail addresses are cut out of the remaining properties. What
is the same for many rows (channels, names, customers) or depends on others comes later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import ibis
import pandas as pd

from seqjourney.config import DataConfig, SourceConfig
from seqjourney.errors import DataError
from seqjourney.events import engine, hashing, money
from seqjourney.events.channels import visits
from seqjourney.events.cleaning import typed
from seqjourney.events.identity.observed import without_blocked
from seqjourney.events.rejects import OF_OTHERS, Reject
from seqjourney.events.sources import Source, open_source
from seqjourney.events.sources.commerce import refund_whole_orders
from seqjourney.events.sources.shapes import wrong_kind

_IDS = ("previous_id", "session_id", "group_id")
NOBODY = "no identifier"
"""Problem of a row that does not say whose it is."""
_TEXTS = (
    "actor", "session_id", "group_id", "previous_id", "message_id", "order_id", "currency",
    "user_agent", *visits.COLUMNS,
)  # fmt: skip
_KEPT = (
    "source", "source_row", "event_id", "event", "timestamp", "known_at", "actor", "session_id",
    "group_id", "previous_id", "message_id", "order_id", "user_agent", "visiting", *visits.COLUMNS,
    "given_channel", "value", "currency", "rate", *money.COLUMNS, "consent", "properties",
    "problem",
)  # fmt: skip

_AGAIN = 1 << 55  # what is added to the number of a row that is read a second time


@dataclass(frozen=True)
class Arrived:
    """Typed rows of one source, on disk."""

    label: str
    source: Source
    rows: Any
    """Ibis table: those of `_KEPT` that the source has, its `id_<type>` columns and declared
    fields."""
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
    written = engine.materialise(backend, rows, file)
    assert written is not None  # it is not partitioned
    stop = config.on_malformed == "stop"
    found = []
    for reject in source.rejected(backend):
        if stop and not reject.sound:  # at the first, for a file may hold millions of them
            _refuse(reject, source_config, source)
        found.append(reject)
    rejects = tuple(found)
    if any(reject.sound for reject in rejects):
        more, rejects = _read_again(backend, source_config, rejects, file)
        rows = _settle(more, source_config, config, key, rates)
        again = engine.materialise(backend, rows, file.with_suffix(".again.parquet"))
        assert again is not None
        written = _stacked(written, again)
        source = replace(source, rows=_stacked(source.rows, more))
    if rejects and stop:
        _refuse(rejects[0], source_config, source)
    if not rejects and not int(backend.execute(written.count())):
        raise DataError(f"{source_config.path} has no rows (source '{label}').")
    if "order_id" in source.rows.columns:
        written = refund_whole_orders(written)
        written = written.mutate(value=ibis.coalesce(written.value, -written.money_refund))
    return Arrived(label, source, written, rejects)


def _refuse(reject: Reject, source_config: SourceConfig, source: Source) -> NoReturn:
    """Stop because of a line that is no record, and say what to do."""
    hint = wrong_kind(source_config.kind, source.files) if reject.reason == OF_OTHERS else ""
    raise DataError(
        f"{reject.file}, line {reject.line}: {reject.reason} (source '{source_config.label}'). "
        + (
            hint
            or "Mend this line and others like it, or set data.on_malformed=quarantine to keep "
            "them aside and go on."
        )
    )


def _read_again(
    backend: Any, source_config: SourceConfig, rejects: tuple[Reject, ...], file: Path
) -> tuple[Any, tuple[Reject, ...]]:
    """Give sound lines a second reading: the engine drops the line after one that is cut off.

    Returns:
        The raw rows of those lines, numbered behind all others, and what remains rejected.
    """
    sound = [reject for reject in rejects if reject.sound]
    lines = file.with_suffix(".again.jsonl")
    lines.write_text("".join(f"{reject.text}\n" for reject in sound), encoding="utf-8")
    source = open_source(backend, source_config.model_copy(update={"path": str(lines)}))
    still = {reject.line for reject in source.rejected(backend)}
    bad = {id(reject) for line, reject in enumerate(sound, start=1) if line in still}
    rows = source.rows.mutate(source_row=source.rows.source_row + _AGAIN)
    return rows, tuple(r for r in rejects if not r.sound or id(r) in bad)


def _stacked(first: Any, second: Any) -> Any:
    """Lay tables of one kind on one another, as the first names its columns."""
    kinds = first.schema()
    return first.union(
        second.select(
            **{
                name: second[name].cast(kind) if name in second.columns else ibis.null(kind)
                for name, kind in kinds.items()
            }
        )
    )


def _settle(
    raw: Any,
    source_config: SourceConfig,
    config: DataConfig,
    key: str,
    rates: pd.DataFrame | None,
) -> Any:
    ids = [name for name in raw.columns if name.startswith("id_")]
    fields = (*config.categorical, *config.numeric)
    own = [field for field in fields if field in raw.columns and field not in _KEPT]
    texts = (*_TEXTS, "consent", "properties", *ids)
    rows = typed(raw, config, source_config, texts=texts, numbers=money.COLUMNS)
    rows = without_blocked(rows, config.identity)
    rows = money.with_rate(rows.mutate(value=money.net_value(rows)), config, rates)
    named = ibis.or_(*(rows[name].notnull() for name in ids)) if ids else ibis.literal(False)
    problem = ibis.cases(
        (rows.problem.notnull(), rows.problem),
        (~named, NOBODY),
    )
    worth, rate = rows.value, rows.rate
    currency = rows.currency.upper() if "currency" in rows.columns else ibis.null("string")
    amounts = {name: rows[name] * rate for name in money.COLUMNS if name in rows.columns}
    hashed = {
        name: hashing.HASHED.get(name, hashing.hashed_address)(rows[name], key)
        for name in (*ids, *_IDS)
        if name in rows.columns
    }
    event_id = rows.event_id
    if not event_id.type().is_string():  # row numbers, which shall sort as such
        event_id = event_id.cast("string").lpad(12, "0")
    hashed["event_id"] = hashing.hashed_id(event_id, key)
    for name in ("properties", "consent"):
        if name in rows.columns:
            hashed[name] = hashing.redacted(rows[name])
    for name in ("event", *own):
        if name in rows.columns and name not in config.numeric:
            hashed[name] = hashing.without_addresses(rows[name])
    shown = visits.evidence(rows)
    if "given_channel" in shown:
        shown["given_channel"] = hashing.without_addresses(shown["given_channel"])
    visited = [rows[name].notnull() for name in ("page_url", "referrer") if name in rows.columns]
    if "user_agent" in rows.columns:
        shown["user_agent"] = rows.user_agent.fill_null("")
        shown["visiting"] = ibis.or_(ibis.literal(False), *visited)
    settled = rows.mutate(
        source=ibis.literal(source_config.label),
        value=worth * rate,
        rate=rate,
        currency=worth.notnull().ifelse(currency, ibis.null("string")),
        problem=problem,
        **hashed,
        **amounts,
        **shown,
    )
    kept = [name for name in _KEPT if name in settled.columns]
    return settled.select(*kept, *ids, *own)
