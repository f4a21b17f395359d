"""`export_customer`: everything observed of one customer, in a form that other systems read.

A folder of two files, written whole or not at all: `events.jsonl` has one record a line, first the
identifiers, then the consent statements, then the events in order of time; `index.json` counts them
and says what each field is. It holds what the person provided and what was observed of them
(GDPR Article 20). What was inferred (scores, predictions) is not in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BeforeValidator

from seqjourney.cli import say, shown
from seqjourney.commands.forget import written
from seqjourney.config import Strict
from seqjourney.events import hashing
from seqjourney.events.consent.stated import FILE as CONSENT
from seqjourney.events.customers import Customer, bucket_file, find_customer
from seqjourney.events.ledger import sha256_of
from seqjourney.events.log import read_manifest
from seqjourney.files import replacing_folder, write_json

EVENTS, INDEX = "events.jsonl", "index.json"
_INFERRED = ("ai_engine", "ai_evidence", "ai_confidence")
_FIELDS = {
    "record": "what the line is: identifier, consent or event",
    "customer_id": "the id under which the person's records are kept together",
    "identifier_type": "kind of an identifier; e-mail and phone are kept as keyed hashes only",
    "identifier": "an identifier by which the person is known",
    "linked_at": "since when it was known to be theirs",
    "purpose": "what consent was asked for",
    "state": "granted, denied or unknown",
    "since": "when the consent was stated",
    "event_id": "id of an event",
    "timestamp": "when the event happened, UTC",
    "known_at": "when it became known, UTC",
    "event": "name of the event",
    "original_event": "its name at the source",
    "source": "the system that recorded it",
    "actor": "who caused it: customer, company or system",
    "channel": "through which channel it came",
    "value": "money: net, refunds negative",
    "properties": "everything else that the source recorded with the event",
}


class ExportConfig(Strict):
    """Whose data, and where it goes."""

    customer: Annotated[str | None, BeforeValidator(written)] = None
    """The customer id ..."""
    identifier: Annotated[str | None, BeforeValidator(written)] = None
    """... or any identifier of theirs, `type:value`."""
    data: str
    """Name of the data set."""
    processed: Path = Path("data/processed")
    """Where prepared data lies."""
    output: Path = Path("outputs/exports")
    """The customer's folder is made in here; `forget` erases it with the rest."""


def export_customer(config: ExportConfig) -> Path:
    """Write a customer's data.

    Returns:
        The folder, named by a hash of the data set and the id: an id may hold anything, and a
        path gives nobody away.

    Raises:
        DataError: nobody is meant.
    """
    prepared = config.processed / config.data
    read_manifest(prepared)
    customer = find_customer(
        prepared,
        customer=config.customer,
        identifier=config.identifier,
        secret=hashing.read_key(config.processed) if config.identifier else None,
    )
    target = config.output / customer.folder(config.data)
    with replacing_folder(target) as folder:
        with (folder / EVENTS).open("w", encoding="utf-8") as stream:
            counts, fields = _write_records(stream, prepared, customer)
        write_json(
            folder / INDEX,
            {
                "format": 1,
                "customer_id": customer.id,
                "data": config.data,
                "written": datetime.now(tz=UTC).isoformat(timespec="seconds"),
                "file": EVENTS,
                "sha256": sha256_of(folder / EVENTS),
                "records": counts,
                "fields": {name: _FIELDS.get(name, "recorded by the source") for name in fields},
                "left_out": "scores and predictions: they are inferred, not observed or provided",
            },
        )
    say(
        f"{counts['event']:,} events, {counts['consent']:,} consent statements and "
        f"{counts['identifier']:,} identifiers of one customer:",
        f"  {shown(target / EVENTS)}",
        f"  {shown(target / INDEX)}",
    )
    return target


def _write_records(
    stream: TextIO, prepared: Path, customer: Customer
) -> tuple[dict[str, int], list[str]]:
    """Write all records; return how many of each kind, and the fields that occur."""
    kinds = {
        "identifier": prepared / "identity" / "identifiers.parquet",
        "consent": prepared / CONSENT,
        "event": bucket_file(prepared, customer.id),
    }
    counts, fields = dict.fromkeys(kinds, 0), {"record": None}
    for kind, file in kinds.items():
        for row in _rows(file, customer) if file.exists() else ():
            record = {"record": kind, **{k: _plain(k, v) for k, v in row.items() if v is not None}}
            stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            counts[kind] += 1
            fields |= dict.fromkeys(record)
    return counts, list(fields)


def _rows(file: Path, customer: Customer) -> Iterator[dict[str, Any]]:
    """Yield a customer's rows of a Parquet file; the log has them in order of time."""
    left_out = {*_INFERRED, "first_known", "links", "speaker", "personal"}
    with pq.ParquetFile(file) as parquet:
        columns = [name for name in parquet.schema_arrow.names if name not in left_out]
        for batch in parquet.iter_batches(columns=columns):
            theirs = batch.filter(pc.equal(batch["customer_id"], customer.id))
            yield from theirs.to_pylist()


def _plain(name: str, value: Any) -> Any:
    """Return what JSON can hold; properties are JSON already."""
    if isinstance(value, datetime):
        return value.isoformat()
    if name == "properties":
        try:
            return json.loads(value, parse_constant=str)
        except (ValueError, RecursionError):
            return value
    if isinstance(value, float) and not math.isfinite(value):  # JSON knows no such number
        return str(value)
    return value
