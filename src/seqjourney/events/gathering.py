"""Many sources → one table of events that each belong to a customer.

The way of a row: its connector → typed, identifiers hashed, channel and money settled (`arriving`),
written once → its canonical name (taxonomy) → whose it is, and since when that was known
(identity) → may it be used (consent, erasure) → a part by bucket. What cannot go on is kept with
its reason, and every row of every source is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa

from seqjourney.config import DataConfig
from seqjourney.errors import ConfigError, DataError
from seqjourney.events import engine, taxonomy
from seqjourney.events.arriving import NOBODY, Arrived, arrive
from seqjourney.events.channels import agents, visits
from seqjourney.events.cleaning import CORE, actor_of, sensible, trimmed
from seqjourney.events.identity import observed
from seqjourney.events.identity.resolve import Resolution, resolve
from seqjourney.events.money import COLUMNS, check_currencies, read_rates
from seqjourney.events.sources.shapes import wrong_kind
from seqjourney.events.staging import check_problems
from seqjourney.events.suppression import Suppression, withhold_erased
from seqjourney.files import read_arrow

_OPENS = ("hours_to_open", "machine_open")
_LOG = (
    *CORE, "source", "original_event", "channel", "ai_engine", "ai_evidence", "ai_confidence",
    "value", *COLUMNS, "currency", "session_id", "group_id", *_OPENS, "properties",
)  # fmt: skip


@dataclass(frozen=True)
class Gathered:
    """Events of many sources, each with its customer."""

    every: Any
    """Ibis table of all rows of all sources, good or bad (`problem`)."""
    rows: Any
    """Ibis table of all rows that belong to a customer, see `engine.stage`."""
    said: Any
    """Ibis table of the rows that may say something of consent: `rows`, and those with a problem
    that name a customer, since who refuses in a row that is unusable has refused all the same."""
    columns: tuple[str, ...]
    """Of the event log, in order."""
    arrived: list[Arrived]
    duplicates: dict[str, int]
    """By source: rows that repeat another's id."""
    erased: dict[str, int]
    """By source: rows of customers who have been erased."""
    links: pa.Table
    """Identifiers seen together, see `identity.observed.links`."""
    resolution: Resolution
    plan: taxonomy.TrackingPlan
    names: pd.DataFrame
    """Raw event names with their volume, see `taxonomy.read_names`."""


def gather(
    backend: Any, config: DataConfig, key: str, erased: Suppression, scratch: Path
) -> Gathered:
    """Bring the sources of a data config together.

    Args:
        backend: from `events.engine.connect`.
        config: with `sources`.
        key: by which personal identifiers are hashed.
        erased: whom not to bring back.
        scratch: an empty folder for what is read again.

    Raises:
        DataError, ConfigError: see `arriving.arrive`, `money`, `identity` and `taxonomy`.
    """
    rates = read_rates(config)
    arrived = [
        arrive(backend, source, config, key, rates, scratch / f"arrived-{i}.parquet")
        for i, source in enumerate(config.sources)
    ]
    every = _union(arrived, config)
    usable = _check_problems(backend, every, arrived, config)
    every = _without_agents(backend, every)
    good = every.filter(every.problem.isnull()).drop("problem")
    # An amount without a rate has no value: its currency is what is left of it.
    paid = good.value.notnull() | good.currency.notnull()
    check_currencies(backend, good.filter(paid), config)
    plan = _plan(config)
    names = taxonomy.read_names(good)
    marked = withhold_erased(good.drop("rate"), erased, config.identity.personal)
    repeated, kept = _unrepeated(backend, marked.filter(~marked.erased).drop("erased"))
    duplicates = {} if repeated is None else _by_source(backend, repeated)
    _check_duplicates(duplicates, usable, config)
    links, resolution, owned = _own(backend, kept, config)
    owned = _with_channels(backend, owned)
    rows = _with_fields(taxonomy.canonical(owned, plan, names), plan, config)
    rows = rows.mutate(actor=rows.actor.fill_null(actor_of(rows.event, config)))
    placed = engine.stage(backend, rows, scratch / "parts")
    if placed is None:
        raise DataError(f"no row of '{config.name}' can be used; see data.sources and their paths.")
    return Gathered(
        every=every,
        rows=placed,
        said=_said(placed, every, resolution, config),
        columns=_log_columns(placed, config),
        arrived=arrived,
        duplicates=duplicates,
        erased=_by_source(backend, marked.filter(marked.erased)) if erased.requests else {},
        links=links,
        resolution=resolution,
        plan=plan,
        names=names,
    )


def _check_problems(
    backend: Any, rows: Any, arrived: list[Arrived], config: DataConfig
) -> dict[str, int]:
    """Refuse a source of which too much cannot be used; return how much of each can.

    Who is nobody is no fault of a row.
    """
    counts = rows.group_by("source", "problem").aggregate(
        rows=rows.count(), first=rows.source_row.min()
    )
    counted = backend.execute(counts)
    usable = {}
    for source, one in zip(config.sources, arrived, strict=True):
        mine = counted[counted["source"] == one.label].set_index("problem")
        faults = mine[mine.index.notna() & (mine.index != NOBODY)][["rows", "first"]]
        lines = [(r.reason, f"line {r.line} of {r.file}") for r in one.rejects]
        rejects = pd.DataFrame(lines, columns=["why", "place"]).groupby("why")
        rejected = rejects.agg(rows=("place", "size"), place=("place", "first"))
        faults = pd.concat([faults, rejected]).astype({"rows": "int64"})
        total = int(mine["rows"].sum()) + len(one.rejects)
        by_size = faults.sort_values("rows", ascending=False)
        where = f"{source.path} (source '{one.label}')"
        check_problems(backend, one.source, by_size, total, where, config, source.kind)
        nobody = mine["rows"].get(NOBODY, 0)
        if nobody == total and (hint := wrong_kind(source.kind, one.source.files)):
            raise DataError(f"no row of {where} says whose it is. {hint}")
        usable[one.label] = total - int(faults["rows"].sum())
    return usable


def _check_duplicates(
    duplicates: dict[str, int], usable: dict[str, int], config: DataConfig
) -> None:
    """Refuse a source whose ids are not ids of events."""
    for label, count in duplicates.items():
        if count > config.max_quarantined_share * usable[label]:
            raise DataError(
                f"source '{label}': {count:,} of {usable[label]:,} rows repeat an event id (limit "
                f"data.max_quarantined_share={config.max_quarantined_share:g}); does event_id name "
                "a column that is unique to an event?"
            )


def _without_agents(backend: Any, rows: Any) -> Any:
    """Call it a problem that a machine made a row."""
    if "user_agent" not in rows.columns:
        return rows
    seen = rows.select(
        user_agent=rows.user_agent.fill_null(""), visiting=rows.visiting.fill_null(False)
    )
    machines = engine.keep(backend, "machines", visits.automated_agents(seen))
    if not int(backend.execute(machines.count())):
        return rows
    machines = machines.mutate(machine=True)
    wide = rows.left_join(machines, ["user_agent", "visiting"])
    problem = ibis.coalesce(wide.problem, ibis.cases((wide.machine, agents.PROBLEM)))
    return wide.select(*(c for c in rows.columns if c != "problem"), problem=problem)


def _with_channels(backend: Any, rows: Any) -> Any:
    """Tell each row's channel from its evidence."""
    keys = [name for name in (*visits.COLUMNS, "given_channel") if name in rows.columns]
    if not keys:
        return rows.mutate(**{name: ibis.null("string") for name in visits.RESULTS})
    filled = rows.mutate(**{name: rows[name].fill_null("") for name in keys})
    known = engine.keep(backend, "visits", visits.classify_distinct(filled))
    return filled.left_join(known, keys).select(
        *(c for c in rows.columns if c not in keys), *visits.RESULTS
    )


def _by_source(backend: Any, rows: Any) -> dict[str, int]:
    counted = backend.execute(rows.group_by("source").aggregate(rows=rows.count()))
    return {str(row.source): int(row.rows) for row in counted.itertuples()}


def _plan(config: DataConfig) -> taxonomy.TrackingPlan:
    """Read the tracking plan, and what the user has accepted in a review of it."""
    plan = taxonomy.read_plan(config.taxonomy)
    if config.taxonomy_review is None:
        return plan
    return taxonomy.accepted(Path(config.taxonomy_review).expanduser(), plan)


def _unrepeated(backend: Any, rows: Any) -> tuple[Any | None, Any]:
    """Part the rows into those that repeat an id of their source (None: none does) and the rest.

    Of rows with the same id the earliest known stays.
    """
    ids = rows.group_by("source", "event_id").having(rows.count() > 1).aggregate(n=rows.count())
    ids = engine.keep(backend, "repeated_ids", ids)
    if not int(backend.execute(ids.count())):
        return None, rows
    rank = ibis.row_number().over(
        group_by=["source", "event_id"], order_by=["known_at", "timestamp", "source_row"]
    )
    again = rows.semi_join(ids, ["source", "event_id"]).mutate(rank=rank)
    again = again.filter(again["rank"] > 0).select("source", "source_row")
    again = engine.keep(backend, "repeated", again)
    return again, rows.anti_join(again, ["source", "source_row"])


def _own(backend: Any, rows: Any, config: DataConfig) -> tuple[pa.Table, Resolution, Any]:
    """Find whose every row is; an event is known of a customer when both were known."""
    rules = config.identity
    seen = engine.keep(backend, "combinations", observed.combinations(rows, rules))
    links = engine.fetch_arrow(backend, observed.links(seen, rules))
    if config.probable_links is not None:
        more = read_arrow(Path(config.probable_links).expanduser())
        links = pa.concat_tables([links, more], promote_options="default")
    identifiers = engine.fetch_arrow(backend, observed.identifiers(seen, rules))
    resolution = resolve(identifiers, links, rules)
    found = observed.row_identifier(rows, rules, resolution.shared)
    columns = ["identifier_type", "identifier", "customer_id", "linked_at"]
    owners = ibis.memtable(resolution.assignment.select(columns))
    owned = found.inner_join(owners, ["identifier_type", "identifier"])
    known_at = ibis.greatest(owned.known_at, owned.linked_at.fill_null(owned.known_at))
    return links, resolution, owned.mutate(known_at=known_at).drop("identifier", "linked_at")


def _said(rows: Any, every: Any, resolution: Resolution, config: DataConfig) -> Any:
    """Add to a log's rows those with a problem that speak of consent; see `Gathered.said`."""
    if "consent" not in every.columns:
        return rows
    spoken = every.filter(
        every.problem.notnull() & every.consent.notnull() & every.timestamp.notnull()
    )
    found = observed.row_identifier(spoken, config.identity, resolution.shared)
    owners = resolution.assignment.select(["identifier_type", "identifier", "customer_id"])
    owned = found.inner_join(ibis.memtable(owners), ["identifier_type", "identifier"])
    columns = ["customer_id", "consent", "timestamp", "known_at"]
    columns += [name for name in every.columns if name.startswith("id_")]
    return rows.select(*columns).union(owned.select(*columns))


def _with_fields(rows: Any, plan: taxonomy.TrackingPlan, config: DataConfig) -> Any:
    """Take declared fields that no source has as a column out of the remaining properties."""
    there = (*rows.columns, *_OPENS)
    fields = [f for f in (*config.categorical, *config.numeric) if f not in there]
    if not fields:
        return rows
    if "properties" not in rows.columns:
        raise ConfigError(
            f"data.categorical or data.numeric names '{fields[0]}', which no source has as a "
            "column, and none has further properties."
        )
    rows = taxonomy.with_properties(rows, plan, fields)
    return rows.mutate(
        **{
            field: sensible(rows[field].try_cast("float64"))
            if field in config.numeric
            else trimmed(rows[field])
            for field in fields
        }
    )


def _log_columns(rows: Any, config: DataConfig) -> tuple[str, ...]:
    fields = (*config.categorical, *config.numeric)
    return tuple(dict.fromkeys(c for c in (*_LOG, *fields) if c in rows.columns or c in _OPENS))


def _union(arrived: list[Arrived], config: DataConfig) -> Any:
    """Lay the sources on one another, with nulls where one lacks what another has."""
    kinds: dict[str, Any] = {}
    for one in arrived:
        for name, kind in one.rows.schema().items():
            known = kinds.setdefault(name, kind)
            if known != kind:  # a declared field that is text here and a number there
                kinds[name] = "float64" if name in config.numeric else "string"
    return ibis.union(
        *(
            one.rows.select(
                **{
                    name: one.rows[name].cast(kind) if name in one.rows.columns else ibis.null(kind)
                    for name, kind in kinds.items()
                }
            )
            for one in arrived
        )
    )
