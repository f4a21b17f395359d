"""Who is meant: a customer id, or any identifier of theirs, → one `Customer` of a prepared folder.

Erasure and export both begin here. In a log of several sources customer ids are ours, so that a
person is looked up by what the company calls them, `user:123`; a log of one source has its own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqjourney.errors import DataError
from seqjourney.events import hashing
from seqjourney.events.identity.rules import split
from seqjourney.events.suppression import CUSTOMER

IDENTIFIERS = Path("identity") / "identifiers.parquet"
FOLDER = "customer-"
"""How the name of a folder with one customer's data begins."""
_HASHED = {"email": hashing.hashed_email, "phone": hashing.hashed_phone}
_SHORTEST_DIGITS = 9
_SHORTEST_MIXED = 5


@dataclass(frozen=True)
class Customer:
    """One customer, and everything by which they can be recognised."""

    id: str
    identifiers: tuple[tuple[str, str], ...] = ()
    """`(type, value)` as stored: e-mail addresses and telephone numbers are keyed hashes."""
    written: tuple[str, ...] = ()
    """Further spellings, such as the address by which they were looked up."""

    @property
    def hash(self) -> str:
        """The hash by which a run's `trained_on.parquet` knows the customer."""
        return hashlib.sha256(self.id.encode()).hexdigest()

    def folder(self, data: str) -> str:
        """Return the name of a folder with what a data set has of them; it gives no id away."""
        digest = hashlib.sha256(f"{data}:{self.id}".encode()).hexdigest()
        return f"{FOLDER}{digest[:16]}"

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """The customer id and the identifiers, as `(type, value)`."""
        return ((CUSTOMER, self.id), *self.identifiers)

    @property
    def telling(self) -> tuple[str, ...]:
        """Names that point at this customer wherever they stand, longest first.

        A short number or a plain word (`17`, `test`) does not: in text it nearly always means
        something else, and is looked for only in columns that hold ids.
        """
        values = {value for _, value in self.names} | set(self.written)
        return tuple(sorted((v for v in values if _is_telling(v)), key=lambda v: (-len(v), v)))


def _is_telling(value: str) -> bool:
    digits = sum(character.isdigit() for character in value)
    if re.fullmatch(r"[\d.\-+ ]*", value):
        return digits >= _SHORTEST_DIGITS
    return "@" in value or (digits > 0 and len(value) >= _SHORTEST_MIXED)


def find_customer(
    prepared: Path,
    *,
    customer: str | None = None,
    identifier: str | None = None,
    secret: str | None = None,
) -> Customer:
    """Find a customer of prepared data.

    Args:
        prepared: folder written by `prepare`.
        customer: their customer id.
        identifier: or any identifier, as `type:value`; e-mail addresses and telephone numbers as
            they are or as the log holds them, hashed.
        secret: from `hashing.read_key`; recognises an e-mail address or a telephone number that is
            given as it is.

    Raises:
        DataError: both or neither are given, or nobody has it.
    """
    if (customer is None) == (identifier is None):
        raise DataError("say who: either customer=<customer id> or identifier=type:value.")
    if identifier is not None:
        return _by_identifier(prepared, identifier, secret)
    assert customer is not None
    identifiers = _identifiers_of(prepared, customer)
    if not identifiers and not _has_events(prepared, customer):
        hint = (
            "Customer ids are this log's own; look a person up by what your systems call them: "
            "identifier=type:value, such as identifier=user:123."
            if (prepared / IDENTIFIERS).exists()
            else "It must be written exactly as in the source."
        )
        raise DataError(f"{prepared} has no customer '{customer}'. {hint}")
    return Customer(customer, identifiers)


def _by_identifier(prepared: Path, identifier: str, secret: str | None) -> Customer:
    name, value = split(identifier)
    if not name:
        raise DataError(f"identifier '{identifier}' must be written type:value, as in user:123.")
    file = prepared / IDENTIFIERS
    if not file.exists():
        raise DataError(
            f"{prepared} has no identifiers, as its source has customer ids of its own: "
            f"use customer={value}."
        )
    forms = stored_forms(name, value, secret)
    table = pq.read_table(
        file, filters=(pc.field("identifier_type") == name) & pc.field("identifier").isin(forms)
    )
    if not len(table):
        types = sorted(set(pq.read_table(file, columns=["identifier_type"])[0].to_pylist()))
        raise DataError(
            f"{prepared} knows nobody by the {name} '{value}'. It knows people by: "
            f"{', '.join(types)}."
        )
    customer = table["customer_id"][0].as_py()
    return Customer(customer, _identifiers_of(prepared, customer), (value,))


def stored_forms(name: str, value: str, secret: str | None) -> list[str]:
    """Return how an identifier may be written in the log: as given, or hashed by cleaning."""
    if secret is None:
        return [value]
    import ibis

    make = _HASHED.get(name, hashing.hashed_address)
    hashed = make(ibis.literal(value.strip()), secret).to_pyarrow().as_py()
    return [value] if hashed in (None, value) else [value, hashed]


def _identifiers_of(prepared: Path, customer: str) -> tuple[tuple[str, str], ...]:
    file = prepared / IDENTIFIERS
    if not file.exists():
        return ()
    columns = ["identifier_type", "identifier"]
    table = pq.read_table(file, columns=columns, filters=pc.field("customer_id") == customer)
    return tuple(sorted(zip(*(table[c].to_pylist() for c in columns), strict=True)))


def bucket_file(prepared: Path, customer: str) -> Path:
    """Return the file of the event log that holds a customer's events, if it has any."""
    bucket = hashlib.md5(customer.encode(), usedforsecurity=False).hexdigest()[0]
    return prepared / "events" / f"bucket={bucket}" / "part-0.parquet"


def _has_events(prepared: Path, customer: str) -> bool:
    file = bucket_file(prepared, customer)
    if not file.exists():
        raise DataError(f"{prepared} holds no whole event log; run scripts/prepare.py first.")
    matching = pc.field("customer_id") == customer
    return len(pq.read_table(file, columns=["customer_id"], filters=matching)) > 0
