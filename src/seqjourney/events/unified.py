"""The log of many sources, and what lies beside it: identities, consent, the review, the counts.

`write_unified` gathers the sources, enforces consent, writes the log bucket by bucket, and accounts
for every row of every source: in = events + duplicates + quarantined + withheld.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from seqjourney.config import DataConfig
from seqjourney.events import consent, engine, hashing, taxonomy
from seqjourney.events.arriving import Arrived
from seqjourney.events.emails import add_open_times
from seqjourney.events.gathering import Gathered, gather
from seqjourney.events.identity.rules import IdentityRules
from seqjourney.events.identity.suspects import suspicious
from seqjourney.events.suppression import Suppression
from seqjourney.events.taxonomy.mapping import coverage
from seqjourney.files import describe_file, write_json

ORDER = ("customer_id", "timestamp", "source", "event_id")
REVIEW = "taxonomy_review.yaml"


def write_unified(
    backend: Any,
    config: DataConfig,
    folder: Path,
    scratch: Path,
    key: str,
    erased: Suppression,
    earlier: Path | None = None,
    also: Callable[[pa.Table], None] | None = None,
) -> dict[str, Any]:
    """Write the log of many sources into `folder`.

    Args:
        backend: from `events.engine.connect`.
        config: with `sources`.
        folder: of the prepared data.
        scratch: an empty folder.
        key: by which personal identifiers are hashed.
        erased: whom not to bring back.
        earlier: a prepared folder whose review decisions are kept.
        also: is given the log as it is written, see `engine.write_buckets`.

    Returns:
        What the manifest says of it: `rows`, `sources`, `identity`, `taxonomy`, `consent`.
    """
    gathered = gather(backend, config, key, erased, scratch)
    said = consent.statements(gathered.said, config.consent, config.identity.personal)
    said = said.order_by("customer_id", "purpose", "since", "speaker")
    # Changes alone, so they are few; written like this, the file is the same from any engine.
    pq.write_table(engine.fetch_arrow(backend, said), folder / consent.FILE)
    said = engine.read_parquet(backend, folder / consent.FILE)
    consent.check_purpose(said, config.consent)
    intervals = engine.keep(backend, "consent_intervals", consent.timeline(said))

    def events_of(rows: Any) -> Any:
        judged = consent.enforce(rows, intervals, config.consent)
        rows = add_open_times(judged.filter(judged.withheld.isnull()))
        if "machine_open" in config.categorical:  # a category is text
            rows = rows.mutate(machine_open=rows.machine_open.cast("string"))
        return rows

    columns = gathered.columns
    place = folder / "events"
    engine.write_buckets(
        backend, gathered.rows, events_of, place, columns=columns, order=ORDER, also=also
    )
    every = gathered.every
    arrived = backend.execute(every.group_by("source", "problem").aggregate(rows=every.count()))
    _write_quarantine(backend, gathered, arrived, folder / "quarantine.parquet")
    _write_identity(gathered, config.identity, folder / "identity")
    log = engine.read_parquet(backend, sorted((folder / "events").glob("*/*.parquet")))
    findings = taxonomy.examine(log, gathered.plan, gathered.names)
    taxonomy.write_review(
        folder / REVIEW, findings, gathered.plan, earlier=earlier / REVIEW if earlier else None
    )
    judged = consent.enforce(gathered.rows, intervals, config.consent)
    by_source = _account(backend, gathered, judged, log, arrived)
    return {
        "rows": _total(by_source),
        "files": [describe_file(file) for one in gathered.arrived for file in one.source.files],
        "sources": by_source,
        "identity": gathered.resolution.summary,
        "taxonomy": _describe_names(findings),
        "consent": consent.describe_consent(said, config.consent, folder),
    }


def _write_quarantine(backend: Any, gathered: Gathered, arrived: pd.DataFrame, path: Path) -> None:
    """Keep what cannot be used as it came, as text, with the reason; nothing if all can.

    Args:
        backend: from `events.engine.connect`.
        gathered: the sources; those without a bad row are not read again.
        arrived: how many rows there are by `source` and `problem`.
        path: to be written.
    """
    faulty = set(arrived["source"][arrived["problem"].notna()])
    bad = gathered.every.filter(gathered.every.problem.notnull())
    tables = [_bad_rows(one, bad) for one in gathered.arrived if one.label in faulty]
    rejects = [
        {
            "source": one.label,
            "file": str(reject.file),
            "line": reject.line,
            "problem": reject.reason,
            "text": hashing.redacted_text(reject.text),
        }
        for one in gathered.arrived
        for reject in one.rejects
    ]
    if rejects:
        tables.append(ibis.memtable(pd.DataFrame(rejects)))
    if not tables:
        return
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    kinds = {"source_row": "int64", "line": "int64"}
    every = ibis.union(
        *(
            table.select(
                **{
                    name: table[name].cast(kinds.get(name, "string"))
                    if name in table.columns
                    else ibis.null(kinds.get(name, "string"))
                    for name in names
                }
            )
            for table in tables
        )
    )
    personal = [n for n in names if n not in (*kinds, "source", "file", "problem", "properties")]
    every = every.mutate(**{name: hashing.without_addresses(every[name]) for name in personal})
    order = [name for name in ("source", "source_row", "file", "line") if name in names]
    engine.write_parquet(backend, every, path, order=order)
    if not pq.read_metadata(path).num_rows:
        path.unlink()


def _bad_rows(one: Arrived, bad: Any) -> Any:
    """Return a source's unusable rows as it wrote them, but for what is personal."""
    raw = one.source.rows
    texts = {c: engine.as_text(raw[c]) for c in raw.columns if c not in hashing.HASHED}
    if "properties" in texts:
        texts["properties"] = hashing.redacted(texts["properties"])
    texts["source_row"] = raw.source_row
    mine = bad.filter(bad.source == one.label).select("source", "source_row", "problem")
    return mine.inner_join(raw.select(**texts), "source_row")


def _write_identity(gathered: Gathered, rules: IdentityRules, folder: Path) -> None:
    """Write whose every identifier is, what was refused, and what a person should look at."""
    folder.mkdir()
    found = gathered.resolution
    suspects = suspicious(found, rules)
    order = [("identifier_type", "ascending"), ("identifier", "ascending")]
    pq.write_table(found.assignment.sort_by(order), folder / "identifiers.parquet")
    pq.write_table(found.shared.sort_by(order), folder / "shared.parquet")
    pq.write_table(gathered.links, folder / "links.parquet")
    pq.write_table(found.refused, folder / "refused.parquet")
    suspects.findings.to_parquet(folder / "suspects.parquet", index=False)
    write_json(
        folder / "report.json",
        {**found.summary, "suspects": suspects.totals, "identifiers_per_customer": suspects.sizes},
    )


def _account(
    backend: Any, gathered: Gathered, judged: Any, log: Any, arrived: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """Say what became of every row of every source.

    Raises:
        RuntimeError: the rows of a source do not add up, which is a bug of ours.
    """
    held = judged.filter(judged.withheld.notnull())
    withheld = backend.execute(
        held.group_by("source", reason="withheld").aggregate(rows=held.count())
    )
    events = backend.execute(log.group_by("source").aggregate(rows=log.count()))
    written = dict(zip(events["source"], events["rows"], strict=True))
    accounts: dict[str, dict[str, Any]] = {}
    for one in gathered.arrived:
        counted = arrived[arrived["source"] == one.label]
        bad = counted[counted["problem"].notna()]
        reasons = Counter(dict(zip(bad["problem"], map(int, bad["rows"]), strict=True)))
        reasons.update(reject.reason for reject in one.rejects)
        mine = withheld[withheld["source"] == one.label]
        account: dict[str, Any] = {
            "in": int(counted["rows"].sum()) + len(one.rejects),
            "quarantined": dict(reasons.most_common()),
            "duplicates": gathered.duplicates.get(one.label, 0),
            "erased": gathered.erased.get(one.label, 0),
            "withheld_for_consent": {
                str(reason): int(n) for reason, n in zip(mine["reason"], mine["rows"], strict=True)
            },
            "events": int(written.get(one.label, 0)),
        }
        if 2 * account["in"] != _rows(account):
            raise RuntimeError(f"source '{one.label}': {account} does not add up")
        accounts[one.label] = account
    return accounts


def _rows(account: dict[str, Any]) -> int:
    """Add up what came in and all that became of it."""
    return sum(sum(n.values()) if isinstance(n, dict) else n for n in account.values())


def _total(accounts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Add the accounts of all sources up, in the words of a manifest."""
    quarantined: Counter[str] = Counter()
    for account in accounts.values():
        quarantined.update(account["quarantined"])
    each = list(accounts.values())
    return {
        "in": sum(account["in"] for account in each),
        "quarantined": dict(quarantined.most_common()),
        "duplicates": sum(account["duplicates"] for account in each),
        "events": sum(account["events"] for account in each),
        "merged": 0,
        "erased": sum(account["erased"] for account in each),
        "withheld_for_consent": sum(
            sum(account["withheld_for_consent"].values()) for account in each
        ),
    }


def _describe_names(findings: taxonomy.Findings) -> dict[str, Any]:
    """Say how much of the volume the plan knows, for the manifest."""
    broken = int(findings.violations["rows"].sum())
    return {**asdict(coverage(findings.resolved)), "violations": broken}
