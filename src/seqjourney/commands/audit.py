"""`audit`: prepared data → is it ready, for which tasks, and what should be done first?

Reads a prepared folder (`manifest.json`, `events/`, `tasks/`, and `identity/` and `consent.parquet`
where there are any); writes `audit.json`, `audit.md` and `audit.html`. Heavy imports happen inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqjourney.cli import say, shown, table
from seqjourney.errors import ConfigError

if TYPE_CHECKING:
    from seqjourney.events.audit.examine import Audit

HOLDOUTS = (0.1, 0.5)


@dataclass(frozen=True)
class AuditResult:
    """The content of audit.json and where the three files are."""

    content: dict[str, Any]
    json: Path
    markdown: Path
    html: Path


def audit(
    prepared: str | Path,
    tasks: Sequence[str] | None = None,
    output: str | Path | None = None,
    *,
    holdouts: Sequence[float] = HOLDOUTS,
    memory_limit: str = "4GB",
    threads: int | None = None,
    command: str | None = None,
    progress: bool = True,
) -> AuditResult:
    """Audit prepared data and write the report.

    Args:
        prepared: folder written by `prepare`.
        tasks: names of tasks that were cut on it; None means all of them.
        output: where the report goes; None means `outputs/<data>_audit`.
        holdouts: shares of the monthly customers that might be held out; the first is judged.
        memory_limit: of the engine; larger intermediate results spill to disk.
        threads: of the engine; None means all cores.
        command: printed in the report under "how to reproduce"; None means the call of this
            function.
        progress: show what is being done.

    Raises:
        ConfigError: a holdout is not a share.
        DataError: the folder is not prepared, a task was not cut, or a file is damaged.
    """
    import tempfile

    from rich.console import Console

    from seqjourney.events.audit.examine import examine
    from seqjourney.events.audit.report import to_plain, write_report
    from seqjourney.events.audit.tasks import find_tasks
    from seqjourney.events.engine import connect
    from seqjourney.events.log import read_manifest

    for share in holdouts:
        if not 0 < share < 1:
            raise ConfigError(f"holdouts={share:g}: a share between 0 and 1, such as 0.1, is held.")
    prepared = Path(prepared)
    name = read_manifest(prepared)["name"]
    chosen = find_tasks(prepared, tasks)
    output = Path(output) if output is not None else Path("outputs") / f"{name}_audit"
    command = command or _call(prepared, tasks, output, holdouts)
    output.mkdir(parents=True, exist_ok=True)
    with (
        # Beside the report: a temporary folder of the system may be too small to spill to.
        tempfile.TemporaryDirectory(prefix=".audit-", dir=output) as scratch,
        Console(stderr=True, quiet=not progress).status("Opening the event log ...") as status,
        connect(Path(scratch), memory_limit=memory_limit, threads=threads) as backend,
    ):
        found = examine(backend, prepared, chosen, holdouts, status.update)
    written = write_report(output, found, command)
    _print(found, written["audit.html"])
    return AuditResult(
        to_plain(found, command), written["audit.json"], written["audit.md"], written["audit.html"]
    )


def _call(
    prepared: Path, tasks: Sequence[str] | None, output: Path, holdouts: Sequence[float]
) -> str:
    # Only the last part of a path: a report travels, and the machine's folders do not.
    named = "None" if tasks is None else repr(list(tasks))
    return (
        "from seqjourney.commands.audit import audit\n"
        f"audit({prepared.name!r}, {named}, {output.name!r}, holdouts={tuple(holdouts)!r})"
    )


def _print(found: Audit, html: Path) -> None:
    """Say the answer, then what fails and what warns."""
    from seqjourney.events.audit.thresholds import FAIL, WARN

    say(found.answer.sentence)
    rows = [row for status in (FAIL, WARN) for row in found.rows if row.status == status]
    if rows:
        columns = {"": "left", "check": "left", "found": "left"}
        named = [(r.status, r.name + (f" ({r.task})" if r.task else ""), r.found) for r in rows]
        table(columns, named)
    passed = sum(row.status == "pass" for row in found.rows)
    say(f"{passed} of {len(found.rows)} checks pass.", f"Report: {shown(html)}")
