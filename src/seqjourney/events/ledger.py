"""The ledger of erasures: what was asked, what was taken out where, which models must be redone.

`ledger.json` lies beside the runs and has one entry per request. It names the customer by a keyed
hash only, so that it proves an erasure to whoever holds the key and tells others nothing. A run
whose training saw the customer (its `trained_on.parquet` said so) gets `erasures.json` with the
date by which it must be retrained: the run carries its own date wherever it is copied. Training it
again writes a new folder, and with that the date is gone.

```
{"format": 1, "requests": [{"request": "...", "received": "...", "retrain_by": "...",
  "finished": "...", "data": "shop", "customer": "<keyed hash>",
  "erased": {"events/bucket=3/part-0.parquet": {"rows": 12, "mentions": 0}, ...},
  "runs": ["demo/gru"], "left": {"demo/gru/model.pt": "<sha256>"}}]}
```
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from seqjourney.errors import DataError
from seqjourney.files import read_json, write_json

LEDGER = "ledger.json"
OF_RUN = "erasures.json"
Overdue = Literal["refuse", "allow"]


@dataclass
class Entry:
    """One request for erasure, kept on disk from its first step on."""

    request: str
    received: datetime
    retrain_by: datetime
    data: str
    customer: str
    """Keyed hash of the customer id."""
    finished: datetime | None = None
    erased: dict[str, dict[str, int]] = field(default_factory=dict)
    """File → `rows` and `mentions` taken out."""
    runs: list[str] = field(default_factory=list)
    """Runs that were trained on the customer, relative to the ledger."""
    left: dict[str, str] = field(default_factory=dict)
    """Files that name the customer and cannot be rewritten → their SHA-256."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, in the order of a reader's interest."""
        times = {"received": self.received, "retrain_by": self.retrain_by}
        written = {name: moment.isoformat() for name, moment in times.items()}
        finished = self.finished.isoformat() if self.finished else None
        return {**vars(self), **written, "finished": finished}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Read what `to_dict` returns."""
        times = {k: datetime.fromisoformat(content[k]) for k in ("received", "retrain_by")}
        finished = content["finished"] and datetime.fromisoformat(content["finished"])
        return cls(**{**content, **times, "finished": finished or None})


class Ledger:
    """All requests, in the order in which they came; every change is written at once."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / LEDGER
        self.entries: list[Entry] = []
        if self.path.exists():
            content = read_json(self.path)
            try:
                self.entries = [Entry.from_dict(entry) for entry in content["requests"]]
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{self.path} is not a ledger of erasures ({error!r}). It is evidence: restore "
                    "it from a backup rather than delete it."
                ) from None

    def of_request(self, request: str | None) -> Entry | None:
        """Return the entry of a request."""
        return next((entry for entry in self.entries if entry.request == request), None)

    def of_customer(self, customer: str, data: str) -> Entry | None:
        """Return a customer's latest entry, an unfinished one first; by keyed hash."""
        theirs = [e for e in self.entries if e.customer == customer and e.data == data]
        return next((e for e in theirs if e.finished is None), theirs[-1] if theirs else None)

    def add(self, entry: Entry) -> None:
        """Add a request.

        Raises:
            DataError: the request's name is taken.
        """
        if self.of_request(entry.request) is not None:
            raise DataError(
                f"{self.path} already has a request '{entry.request}', of another customer; "
                "choose another request=..."
            )
        self.entries.append(entry)
        self.save()

    def save(self) -> None:
        """Write the ledger, whole."""
        content = {"format": 1, "requests": [entry.to_dict() for entry in self.entries]}
        write_json(self.path, content)


@dataclass(frozen=True)
class Obligation:
    """A run that must be retrained because an erased customer was in its training."""

    run: Path
    request: str
    received: datetime
    retrain_by: datetime

    def days_left(self, now: datetime | None = None) -> float:
        """Days until the date; negative when it has passed."""
        return (self.retrain_by - (now or datetime.now(tz=UTC))).total_seconds() / 86400


def oblige(run: Path, entry: Entry) -> None:
    """Write into a run by when it must be retrained."""
    file = run / OF_RUN
    known = {o.request: o for o in obligations_of(run)}
    known[entry.request] = Obligation(run, entry.request, entry.received, entry.retrain_by)
    requests = [
        {
            "request": o.request,
            "received": o.received.isoformat(),
            "retrain_by": o.retrain_by.isoformat(),
        }
        for o in known.values()
    ]
    write_json(file, {"format": 1, "requests": requests})


def obligations_of(run: Path) -> tuple[Obligation, ...]:
    """Return the erasures because of which a run must be retrained, the most urgent first.

    Raises:
        DataError: the run's list is damaged.
    """
    file = run / OF_RUN
    if not file.exists():
        return ()
    content = read_json(file)
    try:
        found = [
            Obligation(
                run,
                entry["request"],
                datetime.fromisoformat(entry["received"]),
                datetime.fromisoformat(entry["retrain_by"]),
            )
            for entry in content["requests"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is damaged ({error!r}); retrain the run.") from None
    return tuple(sorted(found, key=lambda o: (o.retrain_by, o.request)))


def open_obligations(outputs: Path) -> tuple[Obligation, ...]:
    """Return the obligations of all runs below a folder, the most urgent first."""
    found = [o for file in sorted(outputs.rglob(OF_RUN)) for o in obligations_of(file.parent)]
    return tuple(sorted(found, key=lambda o: (o.retrain_by, str(o.run), o.request)))


def overdue(run: Path, now: datetime | None = None) -> tuple[Obligation, ...]:
    """Return the obligations of a run whose date has passed."""
    moment = now or datetime.now(tz=UTC)
    return tuple(o for o in obligations_of(run) if o.retrain_by < moment)


def require_current(run: Path, overdue_models: Overdue = "refuse") -> None:
    """Refuse a run that should have been retrained by now; allowed nonetheless, warn of it.

    Raises:
        DataError: an erased customer was in its training and the date has passed.
    """
    late = overdue(run)
    if not late:
        return
    first = late[0]
    others = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
    message = (
        f"{run} was trained on a customer who has been erased, and had to be retrained by "
        f"{first.retrain_by:%Y-%m-%d} (request {first.request}{others}, received "
        f"{first.received:%Y-%m-%d}). Train it again on the prepared data, which no longer "
        "holds that customer"
    )
    if overdue_models == "allow":
        # Shown at the line that called `seqjourney.load`, which comes here by `serving.loading`.
        warnings.warn(f"{message}.", UserWarning, stacklevel=4)
        return
    raise DataError(f"{message}; to load it nonetheless: seqjourney.load(path, overdue='allow').")


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
