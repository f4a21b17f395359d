"""The event log: one clean Parquet table of everything that every customer did, and its manifest.

`write_event_log` streams a source through cleaning into
`events/bucket=<hex>/part-0.parquet`, sorted by `(customer_id, timestamp, event_id)` within each
bucket (of several sources by `source` before the id), with every input row accounted for in
`manifest.json` and unusable ones kept in `quarantine.parquet`. `read_event_log` opens it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from seqjourney.config import DataConfig
from seqjourney.errors import DataError
from seqjourney.events import engine
from seqjourney.events.cleaning import BUCKETS
from seqjourney.events.consent.stated import FILE as CONSENT
from seqjourney.events.hashing import read_key
from seqjourney.events.sources import Source, open_source
from seqjourney.events.staging import Staged, stage
from seqjourney.events.suppression import FILE as ERASED
from seqjourney.events.suppression import Suppression, read_suppression, write_suppression
from seqjourney.events.unified import write_unified
from seqjourney.files import describe_file, read_json, write_json

ORDER = ("customer_id", "timestamp", "event_id")
FORMAT = 1
_BESIDE = ("rates", "taxonomy", "taxonomy_review", "probable_links")
"""Keys that name files which change the log as much as its sources do."""


def write_event_log(
    config: DataConfig,
    folder: Path,
    opener: Callable[[Any, DataConfig], Source] = open_source,
    *,
    processed: Path | None = None,
    also: Callable[[pa.Table], None] | None = None,
) -> dict[str, Any]:
    """Clean a source, or many, into an event log inside `folder`.

    Args:
        config: where the events are and what their columns mean.
        folder: an existing folder, not yet seen by anyone (see `files.replacing_folder`).
        opener: opens the one source; scoring passes events that are in memory already.
        processed: folder of all prepared data: the key of hashed identifiers lies there, and what
            was prepared under this name before, whose erasures and review decisions stay.
        also: is given the log as it is written, see `engine.write_buckets`.

    Returns:
        The manifest, also written to `folder/manifest.json`.

    Raises:
        DataError: unreadable input, a missing or mistyped column, too many unusable rows, no
            usable row, or time zones that cannot be told apart.
    """
    home = processed or folder
    earlier = home / config.name
    key = read_key(home) if config.sources or (earlier / ERASED).exists() else ""
    erased = read_suppression(earlier, key)
    with (
        engine.connect(
            folder,
            memory_limit=config.memory_limit,
            threads=config.threads,
            timezone=config.timezone or "UTC",
            engine=config.engine,
        ) as backend,
        TemporaryDirectory(dir=folder, prefix="staged-") as scratch,
    ):
        if config.sources:
            place = Path(scratch)
            about = write_unified(backend, config, folder, place, key, erased, earlier, also)
        else:
            source = opener(backend, config)
            about = _write_one(backend, source, config, folder, Path(scratch), erased, also)
        log = read_event_log(backend, folder)
        summary = _summarise(backend, log)
        schema = {name: str(kind) for name, kind in log.schema().items()}
    write_suppression(erased, folder)
    manifest = {
        "format": FORMAT,
        "name": config.name,
        **about,
        **summary,
        "schema": schema,
        "config": config.model_dump(mode="json"),
    }
    manifest["fingerprint"] = _fingerprint(manifest, folder)
    write_json(folder / "manifest.json", manifest)
    return manifest


def _write_one(
    backend: Any,
    source: Source,
    config: DataConfig,
    folder: Path,
    scratch: Path,
    erased: Suppression,
    also: Callable[[pa.Table], None] | None,
) -> dict[str, Any]:
    """Write the log of one source that knows its customers."""
    staged = stage(backend, source, config, scratch / "rows", erased)
    if staged.quarantined:
        _write_quarantine(backend, staged, folder / "quarantine.parquet")
    repeated = _repeated_ids(backend, staged, config)
    _write_events(backend, staged, repeated, folder / "events", also)
    events = sum(pq.read_metadata(file).num_rows for file in event_log_files(folder))
    duplicates = 0 if repeated is None else int(backend.execute(repeated.count()))
    kept = events + duplicates + staged.erased + sum(staged.quarantined.values())
    return {
        "rows": {
            "in": staged.read,
            "quarantined": staged.quarantined,
            "duplicates": duplicates,
            "events": events,
            "merged": staged.read - kept,  # only a source that combines rows has any
            "erased": staged.erased,
            "withheld_for_consent": 0,
        },
        "files": [describe_file(file) for file in source.files],
    }


def event_log_files(prepared: Path) -> list[Path]:
    """Return the files of an event log, one per bucket.

    Raises:
        DataError: there is no log, or some of its files are gone.
    """
    files = sorted((prepared / "events").glob("bucket=*/*.parquet"))
    if len(files) != len(BUCKETS):
        raise DataError(
            f"{prepared} holds {len(files)} of the {len(BUCKETS)} files of an event log; "
            "run scripts/prepare.py again."
        )
    return files


def read_event_log(backend: Any, prepared: Path) -> Any:
    """Open a prepared event log as a lazy Ibis table; raises as `event_log_files`."""
    return engine.read_parquet(backend, event_log_files(prepared))


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


def _write_quarantine(backend: Any, staged: Staged, path: Path) -> None:
    """Keep unusable rows as they were, as text, with the reason."""
    raw = staged.source.rows
    texts = {c: engine.as_text(raw[c]) for c in raw.columns if c != "source_row"}
    reasons = staged.bad.select("source_row", "problem")
    bad = reasons.inner_join(raw.mutate(**texts), "source_row")
    engine.write_parquet(backend, bad, path, order=["source_row"], compression="snappy")


def _repeated_ids(backend: Any, staged: Staged, config: DataConfig) -> Any | None:
    """Name, of the events that share an id, all but the earliest known; None if none do."""
    if config.event_id is None:
        return None  # ids are row positions
    events = staged.events(staged.rows)
    if engine.all_differ(backend, events, "event_id"):
        return None
    ids = events.group_by("event_id").having(events.count() > 1).aggregate(again=events.count() - 1)
    ids = engine.keep(backend, "repeated_ids", ids)
    dropped = int(backend.execute(ids.again.sum().fill_null(0)))
    if not dropped:
        return None
    total = int(backend.execute(events.count()))
    if dropped > config.max_quarantined_share * total:
        raise DataError(
            f"{dropped:,} of {total:,} rows repeat an id of column '{config.event_id}' (limit "
            f"data.max_quarantined_share={config.max_quarantined_share:g}); does data.event_id "
            "name a column that is unique to an event?"
        )
    rank = ibis.row_number().over(
        group_by="event_id", order_by=["known_at", "timestamp", "source_row"]
    )
    again = events.semi_join(ids, "event_id").mutate(rank=rank)
    again = again.filter(again["rank"] > 0).select("source_row")
    return engine.keep(backend, "repeated", again)


def _summarise(backend: Any, log: Any) -> dict[str, Any]:
    totals = log.aggregate(
        events=log.count(),
        customers=log.customer_id.nunique(),
        first=log.timestamp.min(),
        last=log.timestamp.max(),
        last_known=log.known_at.max(),
    )
    row = engine.fetch_arrow(backend, totals).to_pylist()[0]
    if not row["events"]:
        raise DataError(
            "no event is left: all were quarantined, erased or withheld for consent. Look at "
            "data.consent (unknown: withhold keeps out who has said nothing) and data.sources."
        )
    return {
        "events": int(row["events"]),
        "customers": int(row["customers"]),
        **{key: row[key].isoformat() for key in ("first", "last", "last_known")},
    }


def _write_events(
    backend: Any,
    staged: Staged,
    repeated: Any | None,
    folder: Path,
    also: Callable[[pa.Table], None] | None,
) -> None:
    def events_of(rows: Any) -> Any:
        events = staged.events(rows)
        if repeated is None:
            return events
        return engine.without(backend, events, repeated, "source_row")

    columns = staged.columns
    engine.write_buckets(
        backend, staged.rows, events_of, folder, columns=columns, order=ORDER, also=also
    )


def _fingerprint(manifest: dict[str, Any], folder: Path) -> str:
    """Identify the log by its inputs and settings, not by where or when it was made."""
    ignored = ("path", "engine", "memory_limit", "threads", "tasks", *_BESIDE)
    config = {k: v for k, v in manifest["config"].items() if k not in ignored}
    config["sources"] = [
        {key: value for key, value in source.items() if key != "path"}
        for source in config["sources"]
    ]
    beside = [name for key in _BESIDE if (name := manifest["config"][key])]
    beside.append(str(folder / CONSENT))
    return digest(
        [
            manifest["format"],
            config,
            manifest["rows"],
            [file["sha256"] for file in manifest["files"]],
            [_content(name) for name in beside],
        ]
    )


def _content(name: str) -> str:
    """Return the hash of a file's content, or what is no file's name (a built-in plan's)."""
    file = Path(name).expanduser()
    if file.is_file():
        return str(describe_file(file)["sha256"])
    return name if ":" in name else ""


def digest(content: Iterable[Any]) -> str:
    """Return a short hash of JSON-able content."""
    return hashlib.sha256(json.dumps(list(content), sort_keys=True).encode()).hexdigest()[:16]
