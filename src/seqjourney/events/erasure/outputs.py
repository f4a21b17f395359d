"""One customer out of the outputs: runs, predictions, exports and whatever else lies there.

Every file changes whole or not at all, and the ledger is written before each change, so that a
killed erasure goes on where it was and counts nothing twice. Runs that were trained on the customer
are found by `trained_on.parquet`; the hash is then taken out of it, so that what proves the
training is the ledger alone, under its key.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqjourney.events.customers import FOLDER, Customer
from seqjourney.events.erasure.files import can_erase, erase_from, names_customer
from seqjourney.events.ledger import LEDGER, OF_RUN, Entry, Ledger, oblige, sha256_of
from seqjourney.files import locked, read_json


def refuse_while_written(outputs: Path) -> None:
    """Refuse to erase while another process writes a folder of the outputs.

    What it has read and not yet written could not be found.

    Raises:
        DataError: names the folder and the process.
    """
    for lock in outputs.rglob(".*.lock"):
        place = lock.with_name(lock.name.removeprefix(".").removesuffix(".lock"))
        if place.is_dir():
            with locked(place, "forget"):
                pass


def erase_outputs(
    outputs: Path, customer: Customer, data: str, ledger: Ledger, entry: Entry
) -> None:
    """Erase a customer from everything that lies in the outputs.

    Args:
        outputs: folder of all runs, with the ledger in it.
        customer: who.
        data: name of the data set; runs on another are somebody else's.
        ledger: written after every step.
        entry: of this request.
    """
    for place, folders, files in os.walk(outputs):
        here = Path(place)
        if _of_other_data(here, data):
            folders.clear()
            continue
        for name in list(folders):
            folder = here / name
            unfinished = name.endswith(".partial") and not _of_other_data(folder, data)
            if unfinished or name.removesuffix(".old") == customer.folder(data):
                # A training that was interrupted has seen the customer; an export is about them.
                shutil.rmtree(folder)
                folders.remove(name)
        _oblige(here, customer, ledger, entry)
        for name in sorted(files):
            file = here / name
            if name in (LEDGER, OF_RUN) or file.is_symlink():
                continue
            if file.suffix == ".partial":  # of a process that was killed
                file.unlink()
                continue
            _erase_output(file, customer, ledger, entry)


def _of_other_data(folder: Path, data: str) -> bool:
    """Whether a folder is a run, finished or not, its scores, or an export, of another data set."""
    if folder.name.startswith(FOLDER) and (folder / "index.json").is_file():
        content = read_json(folder / "index.json")
        return isinstance(content, dict) and content.get("data") not in (data, None)
    if (folder / "manifest.json").is_file():
        content = read_json(folder / "manifest.json")
        job = content.get("job") if isinstance(content, dict) else None
        return isinstance(job, dict) and job.get("data_set") not in (data, None)
    for name in ("run.json", "settings.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            settings = content.get("config", content) if isinstance(content, dict) else {}
            return settings.get("data", {}).get("name") not in (data, None)
    return False


def _oblige(run: Path, customer: Customer, ledger: Ledger, entry: Entry) -> None:
    """Note that a run was trained on the customer, in the ledger and in the run."""
    trained_on = run / "trained_on.parquet"
    if not trained_on.is_file():
        return
    seen = pq.read_table(trained_on, filters=pc.field("customer_hash") == customer.hash)
    if len(seen):
        name = str(run.relative_to(ledger.folder))
        if name not in entry.runs:
            entry.runs.append(name)
            ledger.save()
        oblige(run, entry)


def _erase_output(file: Path, customer: Customer, ledger: Ledger, entry: Entry) -> None:
    name = str(file.relative_to(ledger.folder))
    target = file.with_name(file.name + ".partial")
    if can_erase(file):
        try:
            erased = erase_from(file, customer, target)
            if erased:
                entry.erased[name] = vars(erased).copy()
                ledger.save()  # before the swap: counted once, whenever the command is killed
                target.replace(file)
        finally:
            target.unlink(missing_ok=True)
    if file.suffix != ".parquet" and names_customer(file, customer):
        entry.left[name] = sha256_of(file)
        ledger.save()
