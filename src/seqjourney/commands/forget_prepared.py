"""The prepared folder of `forget`: the same without one customer, swapped in whole.

Only files that name the customer are written again, the others are linked. The store and the tasks'
snapshots are made from the new log, so that none of their dictionaries or scales remembers the
customer. The manifest's fingerprint changes: an interrupted training cannot go on with a
checkpoint that saw the customer. Its `first` and `last` stay: they say which time the data covers,
and cutoffs derived from them must not move. What it said of names (`taxonomy`) goes: it was counted
over raw rows, which are not here.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from seqjourney.cli import say
from seqjourney.config import DataConfig, TaskConfig, parse
from seqjourney.errors import DataError
from seqjourney.events import consent
from seqjourney.events.customers import IDENTIFIERS, Customer
from seqjourney.events.engine import connect
from seqjourney.events.erasure import can_erase, erase_from
from seqjourney.events.identity.suspects import by_size
from seqjourney.events.log import digest, event_log_files, read_manifest
from seqjourney.events.suppression import FILE as SUPPRESSION
from seqjourney.events.suppression import Suppression, write_suppression
from seqjourney.files import read_json, replacing_folder, write_json
from seqjourney.sequences import cutting
from seqjourney.sequences.store import write_store

Counts = dict[str, dict[str, int]]
"""File -> `rows` and `mentions` that were taken out of it."""
Keep = Callable[[Counts], None]
_QUARANTINE = Path("quarantine.parquet")
_APART = ("manifest.json", SUPPRESSION)  # written on purpose, and hold no identifier


def prepare_without(
    prepared: Path, customer: Customer, suppression: Suppression, request: str, keep: Keep
) -> None:
    """Build a prepared folder anew without a customer; the old one stays until it is whole.

    It then stands beside the new one, as `.old`, for whoever must still know who was meant.

    Args:
        prepared: folder written by `prepare`.
        customer: who.
        suppression: the list that the new folder gets.
        request: name of the request.
        keep: is told what was taken out of each file just before the swap.

    Raises:
        DataError: the log holds nobody else.
    """
    manifest = read_manifest(prepared)
    data = parse(DataConfig, manifest["config"], str(prepared / "manifest.json"))
    counts: Counts = {}
    with replacing_folder(prepared, keep_old=True) as folder:
        for file in sorted(f for f in prepared.rglob("*") if f.is_file()):
            inner = file.relative_to(prepared)
            if inner.parts[0] in ("store", "tasks") or str(inner) in _APART:
                continue
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            bad_rows = inner == _QUARANTINE
            if can_erase(file) and (e := erase_from(file, customer, target, bad_rows=bad_rows)):
                counts[str(inner)] = vars(e).copy()
            else:
                _link(file, target)
        _write_store(prepared, folder, data, counts)
        _update_manifest(prepared, folder, data, manifest, counts, request)
        _cut_tasks(prepared, folder, data, counts)
        write_suppression(suppression, folder)
        keep(counts)


def _link(file: Path, target: Path) -> None:
    """Take a file over as it is; it is never written in place, so that both may share it."""
    try:
        target.hardlink_to(file)
    except OSError:  # another file system, or one without links
        shutil.copy2(file, target)


def _write_store(prepared: Path, folder: Path, data: DataConfig, counts: Counts) -> None:
    """Write the store again from the new log, with dictionaries that hold nothing of the old."""
    files = event_log_files(folder)
    if not any(pq.read_metadata(file).num_rows for file in files):
        raise DataError(
            f"{prepared} holds nobody else: delete the whole folder to erase its only customer."
        )
    write_store(files, data, folder / "store")
    tokens = [read_json(p / "store" / "store.json")["events"] for p in (prepared, folder)]
    counts["store"] = {"rows": tokens[0] - tokens[1], "mentions": 0}


def _update_manifest(
    prepared: Path,
    folder: Path,
    data: DataConfig,
    manifest: dict[str, Any],
    counts: Counts,
    request: str,
) -> None:
    """Account for the rows that went, and give the log a fingerprint of its own."""
    bad_rows_went = counts.get(str(_QUARANTINE), {"rows": 0})["rows"] > 0
    quarantined = _quarantined(folder / _QUARANTINE) if bad_rows_went else None
    by_source = _events_by_source(folder)
    events = sum(by_source.values())
    changed = {
        "rows": _account(manifest["rows"], events, quarantined),
        "events": events,
        "customers": read_json(folder / "store" / "store.json")["customers"],
        "fingerprint": digest([manifest["fingerprint"], request]),
    }
    if "sources" in manifest:
        changed["sources"] = {
            name: _account(account, by_source.get(name, 0), quarantined, name)
            for name, account in manifest["sources"].items()
        }
    if "identity" in manifest:
        changed["identity"] = {**manifest["identity"], **_identity(manifest, folder, counts)}
        _update_report(prepared, folder, changed["identity"])
    if "consent" in manifest:
        with connect(folder, memory_limit=data.memory_limit, threads=data.threads) as backend:
            said = consent.read_statements(backend, folder)
            changed["consent"] = consent.describe_consent(said, data.consent, folder)
    kept = {key: value for key, value in manifest.items() if key != "taxonomy"}
    write_json(folder / "manifest.json", {**kept, **changed})


def _account(
    account: dict[str, Any],
    events: int,
    quarantined: pd.DataFrame | None,
    source: str | None = None,
) -> dict[str, Any]:
    """Correct an account of rows; `erased` is what makes it add up again."""
    account = {"erased": 0, **account, "events": events}
    if quarantined is not None:
        mine = quarantined if source is None else quarantined[quarantined["source"] == source]
        reasons = mine["problem"].value_counts()
        account["quarantined"] = {str(reason): int(n) for reason, n in reasons.items()}
    left = {k: v for k, v in account.items() if k not in ("in", "erased")}
    account["erased"] = account["in"] - sum(
        sum(n.values()) if isinstance(n, dict) else n for n in left.values()
    )
    return account


def _identity(manifest: dict[str, Any], folder: Path, counts: Counts) -> dict[str, Any]:
    """Count the identities that are left, in the words of `Resolution.summary`."""
    table = pq.read_table(folder / IDENTIFIERS, columns=["customer_id", "linked_at"])
    held = np.asarray(table["customer_id"].value_counts().field("counts"))
    links = counts.get("identity/links.parquet", {"rows": 0})["rows"]
    left: dict[str, Any] = {
        "identifiers": len(table),
        "links": manifest["identity"]["links"] - links,
        "customers": len(held),
        "of_one_identifier": int((held == 1).sum()),
        "largest": int(held.max(initial=0)),
        "linked_later": len(table) - table["linked_at"].null_count,
    }
    shared, refused = (folder / "identity" / f"{name}.parquet" for name in ("shared", "refused"))
    if shared.exists():
        left["shared"] = pq.read_metadata(shared).num_rows
    if refused.exists():
        rules = Counter(pq.read_table(refused, columns=["rule"])["rule"].to_pylist())
        left["refused"] = dict(sorted(rules.items()))
    return left


def _update_report(prepared: Path, folder: Path, identity: dict[str, Any]) -> None:
    """Correct `identity/report.json`: the summary, the suspects, and the customers by size."""
    path = folder / "identity" / "report.json"
    if not path.exists():
        return
    report = {**read_json(path), **identity}
    if report.get("suspects"):
        gone = Counter(_reasons(prepared)) - Counter(_reasons(folder))
        left = {reason: n - gone[reason] for reason, n in report["suspects"].items()}
        report["suspects"] = {reason: n for reason, n in left.items() if n > 0}
    if "identifiers_per_customer" in report:
        whose = pq.read_table(folder / IDENTIFIERS, columns=["customer_id"])["customer_id"]
        report["identifiers_per_customer"] = by_size(whose.value_counts().field("counts"))
    write_json(path, report)


def _reasons(folder: Path) -> list[str]:
    """Read why each suspect listed in a prepared folder is one."""
    file = folder / "identity" / "suspects.parquet"
    return pq.read_table(file, columns=["reason"])["reason"].to_pylist()


def _events_by_source(folder: Path) -> Counter[str]:
    """Count the events of each source; those of a log with one source under no name."""
    counted: Counter[str] = Counter()
    for file in event_log_files(folder):
        if "source" not in pq.read_schema(file).names:
            counted[""] += pq.read_metadata(file).num_rows
            continue
        column = pq.read_table(file, columns=["source"], read_dictionary=["source"])["source"]
        counted.update({c["values"]: c["counts"] for c in column.value_counts().to_pylist()})
    return counted


def _quarantined(file: Path) -> pd.DataFrame:
    """Read why each bad row that is left is bad; the file goes with the last of them."""
    names = [name for name in ("source", "problem") if name in pq.read_schema(file).names]
    left = pq.read_table(file, columns=names).to_pandas()
    if not len(left):
        file.unlink()
    return left


def _cut_tasks(prepared: Path, folder: Path, data: DataConfig, counts: Counts) -> None:
    """Cut the tasks' snapshots again; a task that cannot be is cut by the next training."""
    old = read_manifest(prepared)["fingerprint"]
    for file in sorted((prepared / "tasks").rglob("task.json")):
        described = read_json(file)
        if "configured" not in described:  # of an earlier version
            continue
        task = parse(TaskConfig, described["configured"], str(file))
        if _fingerprint(old, task) != described["fingerprint"]:
            continue
        try:
            with connect(folder, memory_limit=data.memory_limit, threads=data.threads) as backend:
                cut = cutting.load_task_data(backend, folder, task).snapshots
        except DataError as error:
            say(f"The task '{task.folder}' cannot be cut without this customer: {error}")
            continue
        gone = described["snapshots"] - len(cut)
        counts[f"tasks/{task.folder}/snapshots.parquet"] = {"rows": gone, "mentions": 0}


def _fingerprint(data: str, task: TaskConfig) -> str:
    return digest([cutting.FORMAT, data, task.model_dump(mode="json")])
