"""Fixtures of the audit tests: a prepared log that has everything, and hostile names everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_data import HOSTILE, add_company, events, task

from seqjourney.commands.audit import AuditResult, audit
from seqjourney.config import DataConfig, parse


@pytest.fixture(scope="session")
def plain_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single table, prepared: no identity, no consent, no taxonomy; never to be changed."""
    from seqjourney.commands.prepare import prepare

    folder = tmp_path_factory.mktemp("audited")
    events().to_parquet(folder / "events.parquet")
    settings = {
        "name": "hostile", "path": str(folder / "events.parquet"), "threads": 1,
        "customer": "customer", "timestamp": "at", "known_at": "known", "event": "event",
        "value": "amount", "numeric": ["=SUM(A1)"],
    }  # fmt: skip
    config = parse(DataConfig, settings, "data")
    rare = task(name="rare", horizon="7d", target=[HOSTILE[7]])
    return prepare(config, folder / "processed", [task(), rare], progress=False)


@pytest.fixture(scope="session")
def full_prepared(plain_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an identity graph, consent, a taxonomy and quarantined rows."""
    folder = tmp_path_factory.mktemp("full") / "hostile"
    shutil.copytree(plain_prepared, folder)
    add_company(folder)
    return folder


@pytest.fixture(scope="session")
def audited(full_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    """The audit of the data that has everything."""
    folder = tmp_path_factory.mktemp("audit") / "out"
    return audit(full_prepared, None, folder, threads=1, progress=False)


@pytest.fixture(scope="session")
def rows_of() -> Callable[[AuditResult], dict[tuple[str, str | None], dict[str, Any]]]:
    """Return an audit's rows by key and task; the two drift rows by their names."""

    def by_key(result: AuditResult) -> dict[tuple[str, str | None], dict[str, Any]]:
        rows = result.content["rows"]
        keys = [(row["name"] if row["key"] == "drift" else row["key"], row["task"]) for row in rows]
        assert len(keys) == len(set(keys))
        return dict(zip(keys, rows, strict=True))

    return by_key
