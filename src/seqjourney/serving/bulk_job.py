"""What a folder of scores is about: one run, one state of the data, one cutoff, one back end.

`manifest.json` says so from the first moment on, and when all is there also how many customers
were scored. A folder that is another job's, or holds anything else, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seqjourney.cli import say, shown
from seqjourney.errors import DataError
from seqjourney.events.log import digest
from seqjourney.files import read_json, write_json

MANIFEST = "manifest.json"
_FORMAT = 2
_STATES = {"data_fingerprint", "run_fingerprint"}
"""Of a job: where nothing else differs, the data were prepared or the run trained again."""


@dataclass(frozen=True)
class Job:
    """What a folder of scores is about; two folders with equal jobs hold equal scores."""

    run: str
    model: str
    run_fingerprint: str
    backend: str
    data: str
    data_set: str
    """Whose customers they are, for an erasure: the data set's name."""
    data_fingerprint: str
    cutoff: str
    """As asked for, ISO 8601; `latest` is the moment when the last event became known."""
    k: int | None = None
    """Of a `next` task, how many values a customer is given."""

    @property
    def mark(self) -> str:
        """What each shard says of its job."""
        return digest([_FORMAT, self.told])

    @property
    def told(self) -> dict[str, Any]:
        """The job as plain data."""
        return {key: value for key, value in vars(self).items() if value is not None}


@contextmanager
def claimed(output: Path, job: Job) -> Iterator[None]:
    """Keep a folder for a job, or find it kept for the same one.

    Where the block fails before anything was scored, the folder is free again.

    Raises:
        DataError: it is another job's, or holds something else.
    """
    _claim(output, job)
    try:
        yield
    except BaseException:
        if not any(output.glob("shard-*")):
            (output / MANIFEST).unlink(missing_ok=True)
            output.rmdir()
        raise


def _claim(output: Path, job: Job) -> None:
    file = output / MANIFEST
    if file.exists():
        content = read_json(file)
        found = content.get("job") if isinstance(content, dict) else None
        if not isinstance(found, dict):
            raise DataError(f"{file} is not a manifest of scores; choose another output=...")
        different = [key for key, value in vars(job).items() if found.get(key) != value]
        if different and set(different) <= _STATES:
            say(f"{shown(output)} holds scores of an earlier state of the data or the model.")
            for shard in output.glob("shard-*"):
                shard.unlink()
            begin(output, job)
            return
        for key, value in vars(job).items():
            if key in different:
                raise DataError(
                    f"{output} holds the scores of another job: its {key.replace('_', ' ')} is "
                    f"{found.get(key)}, this one's is {value}. Choose another output=..., or "
                    "delete that folder."
                )
        return
    if output.exists() and any(output.iterdir()):
        raise DataError(f"{output} holds files that are no scores; choose another output=...")
    output.mkdir(parents=True, exist_ok=True)
    begin(output, job)


def begin(output: Path, job: Job) -> None:
    """Write into the manifest that not all is there."""
    write_json(output / MANIFEST, _manifest(job))


def finish(output: Path, job: Job, **found: Any) -> None:
    """Write into the manifest that all is there, and what was found."""
    now = datetime.now(tz=UTC).isoformat(timespec="seconds")
    write_json(output / MANIFEST, {**_manifest(job), **found, "finished": now})


def _manifest(job: Job) -> dict[str, Any]:
    return {"format": _FORMAT, "job": job.told}
