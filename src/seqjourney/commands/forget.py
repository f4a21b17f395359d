"""`forget`: erase one customer everywhere, say which models saw them, and keep them out.

The way: find the customer → ledger entry → runs and whatever else lies in the outputs, file by file
→ the prepared folder, built anew beside the old one and swapped in one step (`forget_prepared`) →
the outputs once more, for what was written in the meantime: only from the swap on does `train`
refuse to publish what it made of the old data → the old folder removed → ledger closed. Until the
old folder goes its identity tables still tell who is meant, so a command that was killed is simply
given again: it goes on with the same ledger entry and counts nothing twice.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from seqjourney.cli import say, shown, table
from seqjourney.commands.forget_prepared import Counts, prepare_without
from seqjourney.config import Strict
from seqjourney.config.types import Duration, Moment
from seqjourney.errors import DataError
from seqjourney.events import hashing
from seqjourney.events.customers import Customer, find_customer, stored_forms
from seqjourney.events.erasure import erase_outputs, refuse_while_written
from seqjourney.events.identity.rules import split
from seqjourney.events.ledger import LEDGER, Entry, Ledger, sha256_of
from seqjourney.events.log import read_manifest
from seqjourney.events.suppression import FILE as SUPPRESSION
from seqjourney.events.suppression import (
    HashKey,
    Suppression,
    read_suppression,
)
from seqjourney.files import locked, old_folder, recover_folder, remove_leftovers


def written(value: object) -> object:
    """Take an id as it was typed; what YAML would read as something else must be quoted."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"write it in quotes: \"'{value}'\"")
    return value


class ForgetConfig(Strict):
    """Whom to erase, and where."""

    customer: Annotated[str | None, BeforeValidator(written)] = None
    """The customer id ..."""
    identifier: Annotated[str | None, BeforeValidator(written)] = None
    """... or any identifier of theirs, `type:value`."""
    request: Annotated[str | None, BeforeValidator(written)] = None
    """Name of the request in the ledger, such as a ticket; unset: made up."""
    received: Moment | None = None
    """When the request came; unset: now. The deadline counts from here."""
    deadline: Duration = timedelta(days=30)
    """By when models that saw the customer must be retrained."""
    data: str
    """Name of the data set."""
    processed: Path = Path("data/processed")
    """Where prepared data lies."""
    outputs: Path = Path("outputs")
    """Folder of all runs; the ledger lies in it."""

    @property
    def prepared(self) -> Path:
        """Folder of the prepared data."""
        return self.processed / self.data


def forget(config: ForgetConfig, *, progress: bool = True) -> Entry:
    """Erase a customer from prepared data and everything that was made of it.

    Returns:
        The ledger's entry: what was erased where, and which runs must be retrained by when.

    Raises:
        DataError: nobody is meant, or files that cannot be rewritten still name the customer (all
            else is done then, and the message lists them); or another process is writing the data.
    """
    from rich.console import Console

    status = Console(stderr=True, quiet=not progress).status
    if config.received is not None and config.received > datetime.now(tz=UTC):
        raise DataError(f"received={config.received:%Y-%m-%d %H:%M} lies in the future.")
    prepared, data = config.prepared, config.data
    # The ledger is of all data sets; an erasure from another one must not write it meanwhile.
    with locked(prepared, "forget"), locked(config.outputs / LEDGER, "forget"):
        refuse_while_written(config.outputs)
        recover_folder(prepared)
        read_manifest(prepared)
        secret = hashing.read_key(config.processed)
        key = HashKey.of(secret)
        suppression = read_suppression(prepared, secret)
        ledger = Ledger(config.outputs)
        customer: Customer | None
        earlier = None
        try:
            customer = _find(config, prepared, secret)
        except DataError:
            entry = _earlier(config, secret, suppression, ledger)
            if entry is None:
                raise
            earlier = entry.finished
            # Erased from the prepared data already; what a killed command left undone is done now.
            customer = _erased_customer(config, secret, entry)
        else:
            entry = _begin(config, ledger, key.hash(customer.id), data)
            with status("Erasing from runs and other outputs ..."):
                erase_outputs(config.outputs, customer, data, ledger, entry)
            with status("Erasing from the prepared data ..."):
                listed = suppression.adding(entry.request, customer.names, key)
                keep = partial(_keep, ledger, entry)
                prepare_without(prepared, customer, listed, entry.request, keep)
        if customer is not None:
            with status("Looking for what was written in the meantime ..."):
                erase_outputs(config.outputs, customer, data, ledger, entry)
        remove_leftovers(prepared)
        _close(ledger, entry)
    _report(config, entry, earlier)
    return entry


def _find(config: ForgetConfig, prepared: Path, secret: str) -> Customer:
    return find_customer(
        prepared, customer=config.customer, identifier=config.identifier, secret=secret
    )


def _erased_customer(config: ForgetConfig, secret: str, entry: Entry) -> Customer | None:
    """Return who was erased: as the old data knew them while it is there, else as they are asked.

    An identifier alone tells nobody any more when the old data is gone, but then all was done: it
    goes last.
    """
    try:
        customer = _find(config, old_folder(config.prepared), secret)
    except (DataError, OSError, ValueError):  # gone, in part or as a whole
        return Customer(config.customer) if config.customer else None
    return customer if HashKey.of(secret).hash(customer.id) == entry.customer else None


def _earlier(
    config: ForgetConfig, secret: str, suppression: Suppression, ledger: Ledger
) -> Entry | None:
    """Return the entry of a customer who is not in the prepared data any more."""
    if config.customer is not None:
        return ledger.of_customer(HashKey.of(secret).hash(config.customer), config.data)
    name, value = split(config.identifier or "")
    requests = [suppression.request_of(name, form) for form in stored_forms(name, value, secret)]
    return next((e for r in requests if (e := ledger.of_request(r)) is not None), None)


def _begin(config: ForgetConfig, ledger: Ledger, customer: str, data: str) -> Entry:
    """Open the ledger's entry, or go on with one that was not finished."""
    entry = ledger.of_customer(customer, data)
    if entry is not None and entry.finished is None:
        return entry
    received = config.received or datetime.now(tz=UTC).replace(microsecond=0)
    name = config.request or f"erasure-{received:%Y%m%d}-{secrets.token_hex(4)}"
    entry = Entry(name, received, received + config.deadline, data, customer)
    ledger.add(entry)
    return entry


def _keep(ledger: Ledger, entry: Entry, counts: Counts) -> None:
    entry.erased.update(counts)
    ledger.save()


def _close(ledger: Ledger, entry: Entry) -> None:
    """Finish the entry.

    Raises:
        DataError: files that cannot be rewritten still name the customer.
    """
    for name, content in list(entry.left.items()):
        file = ledger.folder / name
        if not file.exists() or sha256_of(file) != content:
            del entry.left[name]
    if not entry.left:
        entry.finished = entry.finished or datetime.now(tz=UTC).replace(microsecond=0)
    ledger.save()
    if entry.left:
        raise DataError(
            f"everything else is erased, but {len(entry.left)} files name the customer and cannot "
            f"be rewritten: {', '.join(entry.left)} (in {shown(ledger.folder)}). Delete them, or "
            "train or export them again; then run the same command once more to close request "
            f"{entry.request}."
        )


def _report(config: ForgetConfig, entry: Entry, earlier: datetime | None) -> None:
    """Say what was erased; `earlier` is when, if it was not now."""
    groups: dict[str, list[int]] = {}
    for name, counts in entry.erased.items():
        group = groups.setdefault(_kind(name), [0, 0])
        group[0] += counts["rows"]
        group[1] += counts["mentions"]
    rows = [(k, f"{r:,}", f"{m:,}") for k, (r, m) in sorted(groups.items()) if r or m]
    if earlier is not None:
        say(f"This customer was already erased, on {earlier:%Y-%m-%d}.")
    say(f"Erased from {entry.data} (request {entry.request}):")
    table({"": "left", "rows": "right", "mentions": "right"}, rows)
    if entry.runs:
        say(
            f"Trained on this customer, to be trained again by {entry.retrain_by:%Y-%m-%d} "
            "(seqjourney.load refuses them after that):",
            *(f"  {shown(config.outputs / run)}" for run in entry.runs),
        )
    else:
        say("No model was trained on this customer: none has to be trained again.")
    say(
        f"Ledger: {shown(config.outputs / LEDGER)}",
        "Reports were made with this customer in them; scripts/evaluate.py writes them anew.",
        "The raw files are not touched: delete the customer there too. Until then prepare keeps "
        f"them out by {shown(config.prepared / SUPPRESSION)}.",
    )


def _kind(name: str) -> str:
    """Return what a file of the ledger is, for people."""
    first = name.split("/")[0]
    if first == "events":
        return "events"
    return Path(name).stem if "/" in name or "." in name else first
