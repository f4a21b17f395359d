"""The suppression list: who was erased must not come back with the next `prepare`.

`erased.json` in the prepared folder holds, per erasure request, keyed hashes of every identifier
that the customer had: with the company's key (`hashing.read_key`) one can recognise them, without
it one learns nothing. `prepare` carries the list over and calls `withhold_erased` on cleaned rows
before identities are resolved. To let a customer back (they signed up again), delete their request
from the list. What other people's rows say of the erased (somebody's `referred_by`) comes back for
as long as the raw files say it: erase there too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from seqjourney.errors import DataError
from seqjourney.events import hashing
from seqjourney.events.identity.rules import IdentityRules
from seqjourney.files import read_json, write_json

FILE = "erased.json"
OF_ALIAS = "anonymous"
"""The type of `previous_id`."""
CUSTOMER = "customer"
"""The type under which a customer id itself is listed."""
_PERSONAL: tuple[str, ...] = IdentityRules().personal


@dataclass(frozen=True)
class HashKey:
    """A secret that turns identifiers into hashes which only its holder can recognise.

    Two nested keyed SHA-256, as in HMAC but over text, so that every engine computes the same one.
    """

    inner: str
    outer: str

    @classmethod
    def of(cls, secret: str) -> HashKey:
        """Derive the two keys of the nested hash from a secret."""
        return cls(*(_derived(secret, part) for part in ("inner", "outer")))

    @property
    def check(self) -> str:
        """A hash of nothing, by which a file says with which key it was written."""
        return self.hash("")[:16]

    def hash(self, text: str) -> str:
        """Return the keyed hash of a text, 64 hex digits."""
        inner = hashlib.sha256((self.inner + text).encode()).hexdigest()
        return hashlib.sha256((self.outer + inner).encode()).hexdigest()

    def column(self, text: Any) -> Any:
        """Return the keyed hashes of an Ibis text column; null stays null."""
        inner = (ibis.literal(self.inner) + text).hexdigest("sha256")
        return (ibis.literal(self.outer) + inner).hexdigest("sha256")


def _derived(secret: str, part: str) -> str:
    return hmac.new(secret.encode(), f"seqjourney {part}".encode(), "sha256").hexdigest()


@dataclass(frozen=True)
class Suppression:
    """Whom to keep out: request → keyed hashes of `type:value`."""

    requests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    key: HashKey | None = None
    """With which the hashes were made; not needed while the list is empty."""

    @property
    def hashes(self) -> list[str]:
        """All hashes, sorted."""
        return sorted({value for values in self.requests.values() for value in values})

    def request_of(self, identifier_type: str, identifier: str) -> str | None:
        """Return the request by which an identifier was erased."""
        if self.key is None:
            return None
        wanted = self.key.hash(f"{identifier_type}:{identifier}")
        return next((name for name, values in self.requests.items() if wanted in values), None)

    def adding(self, request: str, names: Iterable[tuple[str, str]], key: HashKey) -> Suppression:
        """Return a list that also keeps out `(type, value)` identifiers."""
        hashes = {key.hash(f"{name}:{value}") for name, value in names}
        hashes |= set(self.requests.get(request, ()))
        return Suppression({**self.requests, request: tuple(sorted(hashes))}, key)


def read_suppression(prepared: Path, secret: str) -> Suppression:
    """Read the list of a prepared folder; an empty one where nobody was erased.

    Args:
        prepared: folder written by `prepare`; may not exist yet.
        secret: from `hashing.read_key`.

    Raises:
        DataError: the list is damaged, or was written with another key.
    """
    file = prepared / FILE
    if not file.exists():
        return Suppression()
    content = read_json(file)
    try:
        requests = {r["request"]: tuple(r["hashes"]) for r in content["requests"]}
        check = content["key"]
    except (KeyError, TypeError):
        raise DataError(f"{file} is not a list of erased customers; restore it.") from None
    if not requests:
        return Suppression()
    key = HashKey.of(secret)
    if key.check != check:
        raise DataError(
            f"{file} was written with another key, with which alone those on it can be recognised. "
            f"Put that key back ({hashing.VARIABLE}, or {hashing.FILE} beside the prepared data)."
        )
    return Suppression(requests, key)


def write_suppression(suppression: Suppression, folder: Path) -> None:
    """Write the list into a prepared folder; nothing where nobody was erased."""
    if suppression.key is None:
        return
    requests = [{"request": r, "hashes": list(h)} for r, h in suppression.requests.items()]
    write_json(folder / FILE, {"format": 1, "key": suppression.key.check, "requests": requests})


def withhold_erased(
    rows: Any, suppression: Suppression, personal: Sequence[str] = _PERSONAL
) -> Any:
    """Mark the rows of erased customers, and take their identifiers out of other people's rows.

    A row is an erased customer's if it carries a suppressed identifier of a person, or a suppressed
    device and no identifier of anybody else. A row of somebody else on such a device stays, without
    the device: a family's tablet must not bring the erased back, nor take the others along.

    Args:
        rows: cleaned rows with identifiers `id_<type>` (hashed where they are stored hashed),
            perhaps `previous_id`, or, of a source that has customer ids alone, `customer_id`.
        suppression: from `read_suppression`.
        personal: identifier types that name a person (`identity.personal`).

    Returns:
        `rows` with a further column `erased`.
    """
    if suppression.key is None:
        return rows.mutate(erased=ibis.literal(False))
    columns = {c: c.removeprefix("id_") for c in rows.columns if c.startswith("id_")}
    columns |= {"previous_id": OF_ALIAS} if "previous_id" in rows.columns else {}
    columns = columns or {"customer_id": CUSTOMER}
    marked, flags = rows, {}
    for number, (column, name) in enumerate(sorted(columns.items())):
        found = _listed(rows, column, name, suppression)
        if not len(found):
            continue
        flag = f"__erased_{number}"
        listed = ibis.memtable(pa.table({flag: found}))
        marked = marked.left_join(listed, marked[column] == listed[flag])
        flags[column] = flag
    if not flags:
        return rows.mutate(erased=ibis.literal(False))

    def hit(column: str) -> Any:
        return marked[flags[column]].notnull() if column in flags else ibis.literal(False)

    persons = [c for c, name in columns.items() if name in personal or name == CUSTOMER]
    others = [c for c in columns if c not in persons]
    person = _any(hit(c) for c in persons)
    somebody = _any(marked[c].notnull() & ~hit(c) for c in persons)
    device = _any(hit(c) for c in others)
    kept = {c: hit(c).ifelse(ibis.null(rows[c].type()), marked[c]) for c in flags if c in others}
    return marked.mutate(erased=person | (device & ~somebody), **kept).select(
        *rows.columns, "erased"
    )


def _any(conditions: Iterable[Any]) -> Any:
    return ibis.or_(ibis.literal(False), *conditions)


def _listed(rows: Any, column: str, name: str, suppression: Suppression) -> pa.Array:
    """Return the values of an identifier column that are on the list; usually none, at most few."""
    assert suppression.key is not None
    values = rows.filter(rows[column].notnull()).select(value=column).distinct()
    hashed = values.mutate(hash=suppression.key.column(f"{name}:" + values.value.cast("string")))
    listed = ibis.memtable(pa.table({"hash": pa.array(suppression.hashes, pa.string())}))
    found = hashed.semi_join(listed, "hash").select("value").to_pyarrow()
    return found["value"].combine_chunks()
