"""`prepare`: raw files → event log, sequence store, and the snapshots of the data's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqjourney.cli import say, shown, table
from seqjourney.config import DataConfig, TaskConfig, nearest
from seqjourney.errors import DataError
from seqjourney.events.engine import connect
from seqjourney.events.log import write_event_log
from seqjourney.files import locked, read_json, replacing_folder
from seqjourney.sequences.cutoffs import CERTIFICATION, SPLITS
from seqjourney.sequences.cutting import load_task_data
from seqjourney.sequences.store import StoreWriter

_SIMULATED = {
    "data/raw/demo": "python scripts/simulate.py",
    "data/raw/company": "python scripts/simulate.py company=true",
}
"""Folders of raw data that we make ourselves -> how."""


def prepare(
    data: DataConfig,
    processed: Path,
    tasks: Sequence[TaskConfig] = (),
    *,
    progress: bool = True,
    named: str = "data=table data.name=...",
    following: str = "data=table data.name=... 'task.target=[...]'",
) -> Path:
    """Prepare a data set; the old one stays until the new one is whole.

    Args:
        data: what to read and how.
        processed: folder of all prepared data; ours is `processed/<data.name>`.
        tasks: tasks whose snapshots and tokenizer are cut now.
        progress: show what is being done.
        named: how other scripts are told of this data, for the closing lines.
        following: the same for `train`.

    Returns:
        The prepared folder: `manifest.json`, `events/`, `store/`, `tasks/<task>/`, and
        `quarantine.parquet` when rows could not be used.

    Raises:
        DataError: the sources cannot be used (see `write_event_log`), or another `prepare` or a
            `forget` is writing this data set.
    """
    from rich.console import Console

    _require_simulated(data)
    prepared = processed / data.name
    status = Console(stderr=True, quiet=not progress).status
    with locked(prepared, "prepare"), replacing_folder(prepared) as folder:
        with (
            status("Cleaning, sorting and writing the event log and the sequence store ..."),
            StoreWriter(data, folder / "store") as store,
        ):
            manifest = write_event_log(data, folder, processed=processed, also=store.add)
        cut = []
        for task in tasks:
            with (
                status(f"Cutting the snapshots of {task.name} ..."),
                connect(folder, memory_limit=data.memory_limit, threads=data.threads) as backend,
            ):
                snapshots = load_task_data(backend, folder, task).snapshots
            counts = snapshots.groupby("split")["label"].agg(["size", "mean"])
            for split in (*SPLITS, CERTIFICATION) if task.certify else SPLITS:
                n, rate = counts.loc[split]
                cut.append((task.name, split, f"{n:,.0f}", f"{rate:.3f}"))
    _report(manifest)
    _mention_absent_events(data, prepared)
    if cut:
        columns = {"task": "left", "split": "left", "snapshots": "right", "base rate": "right"}
        table(columns, cut)
    say(
        f"Prepared data: {shown(prepared)}",
        f"Is it ready? python scripts/audit.py {named}",
        f"Next: python scripts/train.py -m {following} model=recency,logistic,lightgbm,gru",
    )
    return prepared


def _require_simulated(data: DataConfig) -> None:
    """Say how to make the raw data of the demo and the company where it is not there yet."""
    for path in (data.path, *(source.path for source in data.sources)):
        for folder, command in _SIMULATED.items():
            if path is not None and path.startswith(f"{folder}/") and not Path(folder).exists():
                raise DataError(f"{folder} is not there yet; make it with: {command}")


def _report(manifest: dict[str, Any]) -> None:
    """Say what became of every row."""
    rows = manifest["rows"]
    lines = [("rows read", rows["in"])]
    lines += [(f"  quarantined: {reason}", n) for reason, n in rows["quarantined"].items()]
    others = {
        "duplicates of an event id": rows["duplicates"],
        "merged into another event": rows["merged"],
        "of customers who were erased": rows["erased"],
        "withheld for consent": rows["withheld_for_consent"],
    }
    lines += [(f"  {what}", n) for what, n in others.items() if n]
    lines += [("events", rows["events"]), ("customers", manifest["customers"])]
    say(f"{manifest['name']}: {manifest['first'][:16]} to {manifest['last'][:16]} UTC")
    table({"": "left", "count": "right"}, [(name, f"{count:,}") for name, count in lines])
    if "sources" in manifest:
        _report_sources(manifest)


def _mention_absent_events(data: DataConfig, prepared: Path) -> None:
    """Name events of the company that never occur: a typo would make them the customers' own."""
    tokens = read_json(prepared / "store" / "store.json")["dictionaries"]["event"]
    known = {*tokens, *data.label_only_events}
    for name in data.company_events:
        if name not in known:
            say(f"Note: data.company_events: no event is called '{name}'.{nearest(name, known)}")


def _report_sources(manifest: dict[str, Any]) -> None:
    """Say the same by source, and what identity and taxonomy found."""
    columns = ("in", "quarantined", "duplicates", "erased", "withheld_for_consent", "events")
    rows = []
    for source, account in manifest["sources"].items():
        counts = [sum(n.values()) if isinstance(n := account[c], dict) else n for c in columns]
        rows.append((source, *(f"{count:,}" for count in counts)))
    headings = ("rows", "quarantined", "duplicates", "erased", "no consent", "events")
    table({"source": "left", **dict.fromkeys(headings, "right")}, rows)
    identity, names = manifest["identity"], manifest["taxonomy"]
    say(
        f"{identity['identifiers']:,} identifiers are {identity['customers']:,} customers, "
        f"{manifest['customers']:,} of them with events in the log; "
        f"{identity['shared']:,} identifiers are shared, {sum(identity['refused'].values()):,} "
        "links were refused (identity/).",
        f"{names['mapped_rows'] / max(1, names['rows']):.1%} of the volume has a canonical name "
        f"({names['violations']:,} rows break the plan: taxonomy_review.yaml).",
    )
