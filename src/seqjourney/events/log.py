"""The event log: one clean Parquet table of everything that every customer did, and its manifest.

`write_event_log` streams a source through cleaning into
`events/bucket=<hex>/part-0.parquet`, sorted by `(customer_id, timestamp, event_id)` within each
bucket, with every input row accounted for in `manifest.json` and unusable ones kept in
`quarantine.parquet`. `read_event_log` opens it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ibis

from seqjourney.config import DataConfig
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.cleaning import BUCKETS, time_offsets, typed
from seqjourney.events.engine import connect
from seqjourney.events.sources import Source, open_source
from seqjourney.files import read_json, write_json

CORE = ("customer_id", "event_id", "timestamp", "known_at", "event", "actor")
ORDER = ("customer_id", "timestamp", "event_id")
FORMAT = 1
_TIMES = (
    "Times must be ISO 8601, such as 2024-12-31 14:05, or numbers since 1970 with "
    "data.timestamp_unit=s, ms or us."
)


def write_event_log(
    config: DataConfig,
    folder: Path,
    opener: Callable[[Any, DataConfig], Source] = open_source,
) -> dict[str, Any]:
    """Clean a source into an event log inside `folder`.

    Args:
        config: where the events are and what their columns mean.
        folder: an existing folder, not yet seen by anyone (see `files.replacing_folder`).
        opener: opens the source; scoring passes events that are in memory already.

    Returns:
        The manifest, also written to `folder/manifest.json`.

    Raises:
        DataError: unreadable input, a missing or mistyped column, too many unusable rows, no
            usable row, or time zones that cannot be told apart.
    """
    with connect(
        folder,
        memory_limit=config.memory_limit,
        threads=config.threads,
        timezone=config.timezone or "UTC",
    ) as backend:
        source = opener(backend, config)
        rows = typed(source.rows, config)
        counts = _inspect(backend, source, rows, config)
        if counts["quarantined"]:
            _write_quarantine(backend, source, rows, folder / "quarantine.parquet")
        log = _stage(backend, source, rows, config)
        counts["duplicates"] = _drop_repeated_ids(backend, config)
        summary = _summarise(backend, log)
        counts["events"] = summary["events"]
        kept = counts["events"] + counts["duplicates"] + sum(counts["quarantined"].values())
        counts["merged"] = counts["in"] - kept  # only a source that combines rows has any
        counts["withheld_for_consent"] = 0
        _write_parquet(log, folder / "events")
        schema = {name: str(kind) for name, kind in log.schema().items() if name in _columns(log)}
    manifest = {
        "format": FORMAT,
        "name": config.name,
        "rows": counts,
        "customers": summary["customers"],
        "first": summary["first"],
        "last": summary["last"],
        "last_known": summary["last_known"],
        "schema": schema,
        "files": [_describe(file) for file in source.files],
        "config": config.model_dump(mode="json"),
    }
    manifest["fingerprint"] = _fingerprint(manifest)
    write_json(folder / "manifest.json", manifest)
    return manifest


def read_event_log(backend: Any, prepared: Path) -> Any:
    """Open a prepared event log as a lazy Ibis table.

    Raises:
        DataError: there is none, or some of its files are gone.
    """
    files = sorted((prepared / "events").glob("bucket=*/*.parquet"))
    if len(files) != len(BUCKETS):
        raise DataError(
            f"{prepared} holds {len(files)} of the {len(BUCKETS)} files of an event log; "
            "run scripts/prepare.py again."
        )
    return backend.read_parquet([str(file) for file in files], hive_partitioning=False)


def read_event_log_parts(backend: Any, prepared: Path) -> list[Any]:
    """Open each bucket of a prepared event log as a table of its own."""
    files = sorted((prepared / "events").glob("bucket=*/*.parquet"))
    return [backend.read_parquet(str(file), hive_partitioning=False) for file in files]


def read_manifest(prepared: Path) -> dict[str, Any]:
    """Read and check the manifest of prepared data.

    Raises:
        DataError: the folder is not prepared, or by an incompatible version.
    """
    if not (prepared / "manifest.json").exists():
        raise DataError(
            f"{prepared} is not prepared. Run: python scripts/prepare.py data={prepared.name}"
        )
    manifest = read_json(prepared / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{prepared} was written by another version; run prepare again.")
    return manifest


def _columns(log: Any) -> list[str]:
    return [name for name in log.columns if name not in ("bucket", "source_row")]


def _inspect(backend: Any, source: Source, rows: Any, config: DataConfig) -> dict[str, Any]:
    """Count input rows and problems; stop early when the input cannot be meant so."""
    found = backend.execute(
        rows.group_by("problem").aggregate(rows=rows.count(), first=rows.source_row.min())
    )
    problems = found[found["problem"].notna()].sort_values("rows", ascending=False)
    total, bad = int(found["rows"].sum()), int(problems["rows"].sum())
    where = config.path
    if total == 0:
        raise DataError(f"{where} has no rows.")
    if bad:
        worst = problems.iloc[0]
        example = f"'{worst['problem']}' first at data row {int(worst['first']) + 1} of {where}"
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
                + (_TIMES if worst["problem"].startswith("unreadable") else "")
            )
    offsets = time_offsets(source.rows) if config.timezone is None else None
    if offsets is not None:
        mix = backend.execute(offsets).iloc[0]
        if (mix > 0).all():
            raise DataError(
                f"{where} mixes time zones: "
                f"{int(mix['with_offset']):,} times have a UTC offset and {int(mix['without']):,} "
                "have none. Say how to read the latter, for example data.timezone=UTC."
            )
    return {
        "in": total,
        "quarantined": {row.problem: int(row.rows) for row in problems.itertuples()},
    }


def _write_quarantine(backend: Any, source: Source, rows: Any, path: Path) -> None:
    """Keep unusable rows as text, with the reason."""
    reasons = rows.filter(rows.problem.notnull()).select("source_row", "problem")
    raw = source.rows.mutate(
        **{c: source.rows[c].cast("string") for c in source.rows.columns if c != "source_row"}
    )
    backend.to_parquet(reasons.inner_join(raw, "source_row").order_by("source_row"), path)


def _stage(backend: Any, source: Source, rows: Any, config: DataConfig) -> Any:
    """Materialise good rows in final order in the engine's own file; memory stays bounded."""
    good = rows.filter(rows.problem.isnull()).drop("problem")
    if source.combine is not None:
        good = source.combine(good)
    extra = ["channel", "value", *config.categorical, *config.numeric]
    missing = [f for f in (*config.categorical, *config.numeric) if f not in good.columns]
    if missing:
        known = ", ".join(c for c in good.columns if c not in (*CORE, "bucket", "source_row"))
        raise ConfigError(f"source '{config.source}' has no field '{missing[0]}'; it has: {known}.")
    columns = [*CORE, *(f for f in extra if f in good.columns), "bucket", "source_row"]
    return backend.create_table("log", good.select(*columns).order_by("bucket", *ORDER))


def _drop_repeated_ids(backend: Any, config: DataConfig) -> int:
    """Keep the earliest known of the events that share an id; return how many went."""
    if config.event_id is None:
        return 0  # ids are row positions
    log = backend.table("log")
    repeated = log.group_by("event_id").having(log.count() > 1).aggregate()
    rank = ibis.row_number().over(
        group_by="event_id", order_by=["known_at", "timestamp", "source_row"]
    )
    again = log.semi_join(repeated, "event_id").mutate(rank=rank)
    again = backend.create_table("again", again.filter(again["rank"] > 0).select("source_row"))
    dropped, total = int(backend.execute(again.count())), int(backend.execute(log.count()))
    if dropped > config.max_quarantined_share * total:
        raise DataError(
            f"{dropped:,} of {total:,} rows repeat an id of column '{config.event_id}' (limit "
            f"data.max_quarantined_share={config.max_quarantined_share:g}); does data.event_id "
            "name a column that is unique to an event?"
        )
    if dropped:
        backend.raw_sql("DELETE FROM log WHERE source_row IN (SELECT source_row FROM again)")
    return dropped


def _summarise(backend: Any, log: Any) -> dict[str, Any]:
    row = backend.execute(
        log.aggregate(
            events=log.count(),
            customers=log.customer_id.nunique(),
            first=log.timestamp.min(),
            last=log.timestamp.max(),
            last_known=log.known_at.max(),
        )
    ).iloc[0]
    return {
        "events": int(row["events"]),
        "customers": int(row["customers"]),
        **{key: row[key].isoformat() for key in ("first", "last", "last_known")},
    }


def _write_parquet(log: Any, folder: Path) -> None:
    backend = log.get_backend()
    for bucket in BUCKETS:
        target = folder / f"bucket={bucket}"
        target.mkdir(parents=True)
        part = log.filter(log.bucket == bucket).select(*_columns(log)).order_by(*ORDER)
        backend.to_parquet(part, target / "part-0.parquet", compression="zstd")


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"path": str(file), "bytes": file.stat().st_size, "sha256": digest}


def _fingerprint(manifest: dict[str, Any]) -> str:
    """Identify the log by its inputs and settings, not by where or when it was made."""
    ignored = ("path", "memory_limit", "threads", "tasks")
    config = {k: v for k, v in manifest["config"].items() if k not in ignored}
    return digest(
        [
            manifest["format"],
            config,
            manifest["rows"],
            [file["sha256"] for file in manifest["files"]],
        ]
    )


def digest(content: Iterable[Any]) -> str:
    """Return a short hash of JSON-able content."""
    return hashlib.sha256(json.dumps(list(content), sort_keys=True).encode()).hexdigest()[:16]
