"""Prepared data → everything that the audit says: rows, answer, tables for the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqjourney.events import engine
from seqjourney.events.audit import checks, measure, power, task_checks
from seqjourney.events.audit.drift import EVENT_MIX, Step, drift
from seqjourney.events.audit.power import Holdout
from seqjourney.events.audit.rows import Row
from seqjourney.events.audit.tasks import TaskFacts, task_facts
from seqjourney.events.audit.verdict import Verdict, verdict
from seqjourney.events.identity.rules import IdentityRules
from seqjourney.events.log import event_log_files, read_event_log, read_manifest

_NOT_FIELDS = ("event_id", "source_row", "ai_confidence")  # numbers that no customer produced


@dataclass(frozen=True)
class Audit:
    """All that the three files are written from."""

    manifest: Mapping[str, Any]
    rows: list[Row]
    answer: Verdict
    calendar: measure.Calendar
    customers: measure.Customers
    event_types: measure.EventTypes
    late: measure.Late | None
    identity: measure.Identity | None
    drift: dict[str, list[Step]]
    tasks: list[TaskFacts]
    holdouts: list[Holdout]


def examine(
    backend: Any,
    prepared: Path,
    tasks: Sequence[str],
    holdout_shares: Sequence[float],
    saying: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Measure and judge prepared data.

    Args:
        backend: an engine from `events.engine.connect`; a table of customers is put into it.
        prepared: folder written by `prepare`.
        tasks: tasks that were cut on it (see `tasks.find_tasks`).
        holdout_shares: shares of the monthly customers that might be held out; the first is judged.
        saying: told what is being measured.

    Raises:
        DataError: the folder is not prepared, or a file of it is missing.
    """
    manifest = read_manifest(prepared)
    log = read_event_log(backend, prepared)
    saying("Counting customers and months ...")
    by_month = measure.per_customer_month(backend, log)
    calendar = measure.calendar(log, by_month)
    customers = measure.customers(by_month)
    types = measure.event_types(log)
    saying("Looking for late and repeated events ...")
    late = measure.late(log)
    buckets = [engine.read_parquet(backend, file) for file in event_log_files(prepared)]
    repeats = measure.repeats(buckets)
    identity = measure.identity(backend, prepared, by_month, personal_types(manifest))
    consent = measure.consent_states(backend, prepared, by_month)
    saying("Comparing months ...")
    names = [name for name, _ in types.frequent]
    steps = drift(log, names, _numeric(log), calendar.months)
    facts = []
    for name in tasks:
        saying(f"Looking at the task {name} ...")
        facts.append(task_facts(backend, log, prepared, name, label_only_events(manifest)))
    mix = {EVENT_MIX: steps[EVENT_MIX]}
    fields = {name: found for name, found in steps.items() if name not in mix}
    rows = [
        checks.history(calendar),
        checks.active_customers(calendar),
        checks.event_types(types),
        checks.gaps(calendar),
        checks.quarantined(manifest["rows"]),
        checks.duplicates(manifest["rows"], repeats, has_event_id(manifest)),
        checks.late(late),
        checks.identity(identity),
        checks.fragmentation(customers, identity),
        checks.mapped(manifest),
        checks.consent(consent, manifest["config"].get("consent", {}).get("purpose")),
        checks.drift("Drift of the event mix", mix),
        checks.drift("Drift of numeric fields", fields),
    ]
    plans: list[Holdout] = []
    for task in facts:
        own = _plan(task, calendar, holdout_shares)
        rows += task_checks.task_rows(task, calendar, own)
        plans += own
    if not facts:
        rows += task_checks.no_task()
    answer = verdict(rows, [task.task.name for task in facts])
    return Audit(
        manifest, rows, answer, calendar, customers, types, late, identity, steps, facts, plans
    )


def _plan(task: TaskFacts, calendar: measure.Calendar, shares: Sequence[float]) -> list[Holdout]:
    """Acting on an absence (churn) should make it rarer, on an occurrence more frequent."""
    if not 0 < task.base_rate < 1:
        return []
    direction = -1 if task.task.kind == "absence" else 1
    monthly = round(calendar.monthly_customers)
    return power.plan(task.task.name, task.base_rate, monthly, shares, direction)


def _numeric(log: Any) -> list[str]:
    schema = log.schema().items()
    return [n for n, kind in schema if kind.is_numeric() and n not in _NOT_FIELDS]


def label_only_events(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the events that serve labels only; they make nobody recent."""
    return tuple(manifest["config"].get("label_only_events") or ())


def personal_types(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the identifier types that name a person, as the data's identity rules have them."""
    rules = manifest["config"].get("identity") or {}
    return tuple(rules.get("personal") or IdentityRules().personal)


def has_event_id(manifest: Mapping[str, Any]) -> bool:
    """Whether the source gave events an id by which repeats can be told."""
    config = manifest["config"]
    # Each of several sources brings its vendor's own rule for duplicates.
    return bool(config.get("event_id") or config.get("sources"))
