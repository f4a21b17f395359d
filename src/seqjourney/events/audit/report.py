"""Write audit.json, audit.md and audit.html: all three, or none.

Names from the data are harmless before they come here (`names.harmless`); the HTML and the Markdown
escape their own markup, and the JSON writes `<`, `>` and `&` as escapes, so that it can be pasted
into a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from seqjourney.events.audit import pictures, task_checks
from seqjourney.events.audit.examine import Audit
from seqjourney.events.audit.names import harmless
from seqjourney.events.audit.power import ALPHA, POWER
from seqjourney.events.audit.rows import percent
from seqjourney.events.audit.thresholds import FAIL, NOT_APPLICABLE, PASS, WARN
from seqjourney.page import NO_BREAK, render, write_together

FILES = ("audit.json", "audit.md", "audit.html")
FORMAT = 1
STATUSES = (FAIL, WARN, PASS, NOT_APPLICABLE)  # in the order of the table
_DATE = re.compile(r"\b\d{4}-\d{2}(?:-\d{2})?\b")


def write_report(output: Path, audit: Audit, command: str) -> dict[str, Path]:
    """Render the three files, then write them; returns name -> path.

    Args:
        output: the report's folder, made when it is not there.
        audit: what was found.
        command: how to do it again.
    """
    content = to_plain(audit, command)
    page = content | {
        "verdict": audit.answer,
        "sorted_rows": sorted(audit.rows, key=lambda row: STATUSES.index(row.status)),
        "statuses": STATUSES,
        "pictures": _pictures(audit),
        "plans": audit.holdouts,
    }
    made = (_json(content), _render("audit.md.j2", page), _render("audit.html.j2", page))
    return write_together(output, dict(zip(FILES, made, strict=True)))


def to_plain(audit: Audit, command: str) -> dict[str, Any]:
    """Return the content of audit.json: plain containers, every number unrounded."""
    from importlib.metadata import version

    calendar, answer = audit.calendar, audit.answer
    return {
        "format": FORMAT,
        "data": {
            "name": str(audit.manifest["name"]),
            "fingerprint": audit.manifest.get("fingerprint"),
            "events": audit.customers.events,
            "customers": audit.customers.customers,
            "first": calendar.first.isoformat(),
            "last": calendar.last.isoformat(),
            "monthly_customers": calendar.monthly_customers,
            "command": command,
            "version": version("seqjourney"),
        },
        "answer": {
            "data_ready": answer.data_ready,
            "ready": list(answer.ready),
            "not_yet": list(answer.not_yet),
            "sentence": answer.sentence,
            "more": answer.more,
        },
        "rows": [asdict(row) for row in audit.rows],
        "months": [
            row | {"month": f"{row['month']:%Y-%m}"} for row in calendar.months.to_dict("records")
        ],
        "silences": [
            row | {"start": row["start"].isoformat(), "end": row["end"].isoformat()}
            for row in calendar.silences.head(20).to_dict("records")
        ],
        "event_types": {
            "number": audit.event_types.number,
            "frequent": [
                {"event": harmless(name), "events": n} for name, n in audit.event_types.frequent
            ],
        },
        "events_per_customer": audit.customers.events_per_customer,
        "late": asdict(audit.late) if audit.late else None,
        "identity": asdict(audit.identity) if audit.identity else None,
        "drift": {name: [asdict(step) for step in steps] for name, steps in audit.drift.items()},
        "tasks": {facts.task.name: _task(facts) for facts in audit.tasks},
        "holdouts": [asdict(plan) | {"relative": plan.relative} for plan in audit.holdouts],
        "test": {"power": POWER, "alpha": ALPHA, "sides": 2},
    }  # fmt: skip


def _task(facts: Any) -> dict[str, Any]:
    return {
        "kind": facts.task.kind,
        "horizon": task_checks.length(facts.task.horizon),
        "base_rate": facts.base_rate,
        "recency_auc": facts.recency_auc,
        "outcomes": {split: asdict(o) for split, o in facts.outcomes.items()},
        "base_rates": [
            row | {"cutoff": row["cutoff"].isoformat()}
            for row in facts.base_rates.to_dict("records")
        ],
    }  # fmt: skip


def _json(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _pictures(audit: Audit) -> dict[str, Markup]:
    drawn = {"months": pictures.months(audit.calendar.months)}
    if audit.late is not None:
        drawn["late"] = pictures.late_curve(audit.late)
    if any(audit.drift.values()):
        drawn["drift"] = pictures.drift_strip(audit.drift)
    if audit.identity is not None and audit.identity.per_customer:
        drawn["identifiers"] = pictures.per_customer(audit.identity.per_customer, "identifiers")
    drawn["events"] = pictures.per_customer(audit.customers.events_per_customer, "events")
    return drawn


def _render(template: str, page: Mapping[str, Any]) -> str:
    return render(
        "seqjourney.events.audit",
        template,
        page,
        day=lambda iso: f"{datetime.fromisoformat(iso):%Y-%m-%d}",
        effect=task_checks.effect,
        percent=percent,
        capital=lambda text: text[:1].upper() + text[1:],
        tight=tight,
    )


def tight(text: str) -> Markup:
    """Escape text for the page; a date, and a number with its per cent, stay on one line."""
    whole = str(escape(text)).replace(" %", f"{NO_BREAK}%")
    return Markup(_DATE.sub(r'<span class="keep">\g<0></span>', whole))
