"""Prepared data plus a task → `TaskData`, cut once and kept beside the data.

`tasks/<name>/` (of a shifted task `tasks/shift_30d/<name>/`) under the prepared folder holds
`snapshots.parquet`, `tokenizer.json` (fitted on what was known at the last training cutoff) and
`task.json` (the task as configured and as resolved, who was left out and why, and a fingerprint).
A task that changed, or data that was prepared again, is cut anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from seqjourney.config import TaskConfig, parse
from seqjourney.errors import DataError
from seqjourney.events import engine
from seqjourney.events.consent import ConsentPolicy, keep_allowed
from seqjourney.events.log import digest, event_log_files, read_event_log, read_manifest
from seqjourney.files import locked, read_json, read_parquet, replacing_folder, write_json
from seqjourney.sequences.cutoffs import resolve_cutoffs
from seqjourney.sequences.snapshots import (
    SPLITS,
    check_classes,
    check_events,
    cut_snapshots,
)
from seqjourney.sequences.store import SequenceStore, open_store
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer, fit_tokenizer

FORMAT = 2
PART_EVENTS = 250_000
"""Of the customers whose snapshots are cut at a time; a file of the log is the least."""


def load_task_data(backend: Any, prepared: Path, task: TaskConfig) -> TaskData:
    """Open prepared data for a task, cutting its snapshots on first use.

    Args:
        backend: an engine from `events.engine.connect`.
        prepared: folder written by `prepare`.
        task: as configured; unset cutoffs are derived from the data.

    Raises:
        DataError: not prepared, truncated, or the task does not fit the data.
    """
    manifest = read_manifest(prepared)
    store = open_store(prepared / "store")
    events = read_event_log(backend, prepared)
    first, last = (datetime.fromisoformat(manifest[key]) for key in ("first", "last"))
    resolve_cutoffs(task, first, last)  # which refuses, before anything is written
    folder = prepared / "tasks" / task.folder
    wanted = digest([FORMAT, manifest["fingerprint"], task.model_dump(mode="json")])
    with locked(folder, "train", wait=True):  # runs side by side cut a task once
        described = read_json(folder / "task.json") if (folder / "task.json").exists() else {}
        if not isinstance(described, dict) or described.get("fingerprint") != wanted:
            cut_task(backend, prepared, task, wanted)
            described = read_json(folder / "task.json")
        snapshots = read_parquet(folder / "snapshots.parquet")
        if len(snapshots) != described["snapshots"]:
            raise DataError(
                f"{folder / 'snapshots.parquet'} was changed; delete {folder}, run again."
            )
        resolved = parse(TaskConfig, described["task"], str(folder / "task.json"))
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
    until_us = round(datetime.fromisoformat(tokenizer.fitted_until).timestamp() * 1e6)
    return TaskData(
        resolved,
        events,
        store,
        tokenizer,
        snapshots,
        learnable=learnable_customers(backend, prepared, store, until_us),
        excluded=described["excluded"],
        fingerprint=manifest["fingerprint"],
    )


def cut_task(
    backend: Any, prepared: Path, task: TaskConfig, fingerprint: str, part_events: int = PART_EVENTS
) -> None:
    """Write the snapshots and the tokenizer of a task beside its data.

    Args:
        backend: from `events.engine.connect`.
        prepared: folder written by `prepare`.
        task: as configured.
        fingerprint: of data and task, by which `load_task_data` knows what was cut.
        part_events: customers are cut in parts of about so many events.

    Raises:
        DataError: a named event does not occur, a cutoff lies outside the data, or a split has no
            snapshot or only one class.
    """
    manifest = read_manifest(prepared)
    store = open_store(prepared / "store")
    label_only = tuple(manifest["config"]["label_only_events"])
    first, last = (datetime.fromisoformat(manifest[key]) for key in ("first", "last"))
    resolved = resolve_cutoffs(task, first, last)
    check_events(read_event_log(backend, prepared), resolved)
    policy = consent_policy(prepared)
    excluded: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    labels: Counter[tuple[str, int]] = Counter()
    by_horizon = {asked: Counter[tuple[str, int]]() for asked in resolved.by_horizon()}
    with replacing_folder(prepared / "tasks" / task.folder) as folder, ExitStack() as stack:
        writer = None
        for files in _parts(event_log_files(prepared), part_events):
            events = engine.read_parquet(backend, files)
            cut, left_out = cut_snapshots(events, resolved, store.customer_ids, label_only)
            for split, reasons in left_out.items():
                excluded[split].update(reasons)
            if policy:
                cut, uncovered = keep_allowed(backend, cut, prepared, policy)
                for split, reasons in uncovered.items():
                    excluded.setdefault(split, Counter()).update(reasons)
            labels.update(zip(cut["split"], cut["label"].tolist(), strict=True))
            for position, counts in enumerate(by_horizon.values()):
                came = (cut["interval"] <= position).astype(int)
                counts.update(zip(cut["split"], came.tolist(), strict=True))
            if len(cut):
                table = pa.Table.from_pandas(cut, preserve_index=False)
                if writer is None:
                    file = folder / "snapshots.parquet"
                    writer = stack.enter_context(pq.ParquetWriter(file, table.schema))
                writer.write_table(table)
        check_classes(labels, task)
        for asked, counts in by_horizon.items():
            check_classes(counts, resolved.by_horizon()[asked])
        stack.close()
        assert resolved.cutoffs is not None
        cutoffs_us = [round(c.timestamp() * 1e6) for c in resolved.cutoffs.of("train")]
        tokenizer = fit_tokenizer(
            store,
            max(cutoffs_us),
            cutoffs_us,
            customers=learnable_customers(backend, prepared, store, max(cutoffs_us)),
            label_only_events=label_only,
        )
        tokenizer.save(folder / "tokenizer.json")
        write_json(
            folder / "task.json",
            {
                "fingerprint": fingerprint,
                "configured": task.model_dump(mode="json"),
                "task": resolved.model_dump(mode="json"),
                "snapshots": labels.total(),
                "excluded": {
                    split: {reason: n for reason, n in reasons.items() if n}
                    for split, reasons in excluded.items()
                },
            },
        )


def _parts(files: Sequence[Path], events: int) -> Iterator[list[Path]]:
    """Group the files of an event log, of about so many events each group."""
    part: list[Path] = []
    rows = 0
    for file in files:
        more = pq.read_metadata(file).num_rows
        if part and rows + more > events:
            yield part
            part, rows = [], 0
        part.append(file)
        rows += more
    yield part


def consent_policy(prepared: Path) -> ConsentPolicy | None:
    """Return the consent that prepared data needs; a single table states none."""
    config = read_manifest(prepared)["config"]
    if not config.get("sources"):
        return None
    return parse(ConsentPolicy, config["consent"], str(prepared / "manifest.json"))


def learnable_customers(
    backend: Any, prepared: Path, store: SequenceStore, moment_us: int
) -> np.ndarray:
    """Return whose tokens may be learned from at a moment, by tokenizer or network, (C,) bool.

    As with snapshots, both the state of consent at that moment and the latest one must allow it.
    The latest one is known only later: it decides who is left out, as the law asks, and nothing
    else of it reaches the vocabulary.
    """
    policy = consent_policy(prepared)
    if policy is None:
        return np.ones(len(store.customer_ids), bool)
    asked = pd.DataFrame({"customer_id": store.customer_ids})
    asked["cutoff"] = pd.Timestamp(moment_us, unit="us", tz="UTC")
    allowed, _ = keep_allowed(backend, asked, prepared, policy)
    return np.isin(store.customer_ids, allowed["customer_id"].to_numpy())
