"""Events with hostile names, and the files that a log of several sources has beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.config import TaskConfig, parse
from small_logs import as_table

HOSTILE = (
    "<script>alert(1)</script>",
    "=HYPERLINK(\"http://evil.example\",\"x\")",
    "+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|x",
    "|pipe| [link](javascript:alert(1)) `code` www.evil.example",
    "\u202eesrever\u0007\r\n# heading",
    "\"'&<img src=x onerror=alert(1)>",
    "-1+1",
    "{{ 7 * 7 }}{% raw %}",
    "日本語" * 40,
)  # fmt: skip
PLAIN = ("visit", "purchase")


def in_utc(log: pd.DataFrame) -> Any:
    """Give a clean log to an in-memory engine that counts months as `connect` has it do."""
    table = as_table(log)
    table.get_backend().raw_sql("SET TimeZone = 'UTC'")
    return table


def events(customers: int = 300, days: int = 430, seed: int = 0) -> pd.DataFrame:
    """Draw events with late news, a hostile name now and then, and a field that changes in May."""
    random = np.random.default_rng(seed)
    n = 12_000
    day = random.integers(0, days, n)
    at = pd.Timestamp("2023-01-01", tz="UTC") + pd.to_timedelta(
        day * 86_400 + random.integers(0, 86_400, n), unit="s"
    )
    late = pd.to_timedelta(np.where(random.random(n) < 0.1, random.integers(1, 200, n), 0), "h")
    names = np.array([*PLAIN, *HOSTILE], dtype=object)
    shares = np.array([0.5, 0.3] + [0.02] * len(HOSTILE))
    scale = np.where(at.month == 5, 50.0, 1.0)
    return pd.DataFrame(
        {
            "customer": [f"c{i:04d}" for i in random.integers(0, customers, n)],
            "at": at,
            "known": at + late,
            "event": random.choice(names, n, p=shares),
            "amount": random.normal(10, 3, n).round(2),
            "=SUM(A1)": (random.lognormal(1, 0.5, n) * scale).round(3),
        }
    )


def task(**changes: Any) -> TaskConfig:
    settings = {
        "name": "buys", "kind": "occurrence", "target": ["purchase"], "horizon": "30d",
        "cutoffs": {
            "train": {"start": "2023-04-01", "end": "2023-08-01", "every": "30d"},
            "validation": ["2023-10-01"], "test": ["2023-12-01"],
        },
    }  # fmt: skip
    return parse(TaskConfig, settings | changes, "task")


def add_company(folder: Path) -> None:
    """Write the files that a log of several sources has, with hostile names in each."""
    customers = [f"c{i:04d}" for i in range(300)]
    rows = [("user", f"u{c}", c) for c in customers[:200]]
    rows += [("anonymous", f"a{c}{i}", c) for c in customers for i in range(int(c[1:]) % 4)]
    rows += [(HOSTILE[0], "x", customers[0]), (HOSTILE[1], "y", customers[0])]
    identifiers = pd.DataFrame(rows, columns=["identifier_type", "identifier", "customer_id"])
    identifiers["linked_at"] = pd.Timestamp("2023-01-01", tz="UTC")
    (folder / "identity").mkdir()
    identifiers.to_parquet(folder / "identity" / "identifiers.parquet", index=False)
    states = [(c, "analytics", "granted") for c in customers[:270]]
    states += [(c, HOSTILE[2], "denied") for c in customers[:90]]
    consent = pd.DataFrame(states, columns=["customer_id", "purpose", "state"])
    consent["since"] = consent["known_at"] = pd.Timestamp("2023-01-01", tz="UTC")
    consent["speaker"], consent["personal"] = "customer", True
    consent.to_parquet(folder / "consent.parquet", index=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["taxonomy"] = {"rows": 10_000, "mapped_rows": 9_000, "names": 9, "mapped_names": 7}
    manifest["rows"]["quarantined"] = {"crm": {HOSTILE[6]: 300}, HOSTILE[3]: 100}
    manifest["rows"]["in"] += 400
    (folder / "manifest.json").write_text(json.dumps(manifest))
