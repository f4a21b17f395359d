"""Where the customers of a bulk scoring come from: prepared data, or an event log in Parquet.

Both end as a memory-mapped sequence store with an event log beside it. Prepared data is used as it
stands; an event log takes the road of `prepare` in a scratch folder first, with the fields that the
model's tokenizer names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ibis
import pandas as pd

from seqjourney.config import DataConfig
from seqjourney.errors import DataError
from seqjourney.events import engine
from seqjourney.events.consent import FILE as STATEMENTS
from seqjourney.events.consent import allowed_snapshots, read_statements
from seqjourney.events.files import find_files, kind_of
from seqjourney.events.log import (
    digest,
    event_log_files,
    read_event_log,
    read_manifest,
    write_event_log,
)
from seqjourney.events.sources import Source as RawSource
from seqjourney.events.sources import open_source
from seqjourney.events.suppression import FILE as ERASED
from seqjourney.files import describe_file
from seqjourney.sequences.store import SequenceStore, open_store, write_store
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer
from seqjourney.serving.loaded import Loaded
from seqjourney.serving.tokens import config_of

Withheld = Callable[[TaskData], "pd.Series | None"]


@dataclass(frozen=True)
class Source:
    """What is to be scored, known before anything large is read."""

    name: str
    fingerprint: str
    """Of the content: another one means other events."""
    prepared: Path | None
    """Folder written by `prepare`; None for an event log still to be prepared."""
    config: DataConfig | None = None
    """How to read the event log."""
    processed: Path | None = None
    """Of an event log: where the prepared data lies whose erasures count for it, too."""

    @property
    def changed(self) -> bool:
        """Whether prepared data is not what it was when scoring began."""
        return bool(
            self.prepared and read_manifest(self.prepared)["fingerprint"] != self.fingerprint
        )

    def require_unchanged(self) -> None:
        """Refuse prepared data that is not what it was when scoring began.

        Raises:
            DataError: it was prepared again, or a customer was erased from it.
        """
        if self.changed:
            raise DataError(
                f"{self.prepared} was prepared again, or a customer was erased from it, while it "
                "was scored; no scores were kept. Run the same command again."
            )


@dataclass(frozen=True)
class Customers:
    """An opened source."""

    store: SequenceStore
    events: Any
    """Ibis table of the event log."""
    withheld: Withheld
    """Snapshots → why each may not be scored, null where it may; None where nobody asks."""


def prepared_source(folder: Path, scorer: Loaded) -> Source:
    """Take prepared data as it stands.

    Raises:
        DataError: it is not prepared, its fields are not the model's, or it records no consent
            where the model's data needed one.
    """
    manifest = read_manifest(folder)
    label_only = tuple(manifest["config"]["label_only_events"])
    if set(label_only) != set(scorer.tokenizer.label_only_events):
        raise DataError(
            f"{folder} was prepared with data.label_only_events={list(label_only)}, the model was "
            f"trained with {list(scorer.tokenizer.label_only_events)}. Prepare it in the same way."
        )
    need = scorer.consent
    silent = not (folder / STATEMENTS).exists()
    if need.purpose is not None and need.unknown == "withhold" and silent:
        raise DataError(
            f"this model may score only customers who granted '{need.purpose}', and {folder} "
            "records no consent. Prepare the data with data.sources that state it."
        )
    return Source(folder.name, manifest["fingerprint"], folder)


def events_source(path: str, scorer: Loaded, processed: Path | None = None) -> Source:
    """Take an event log: Parquet with the columns that `Scorer.score` asks of a frame.

    Args:
        path: file, folder or glob.
        scorer: from `seqjourney.load`.
        processed: where the data lies that the model was trained on; who was erased from it since
            is not scored.

    Raises:
        DataError: no Parquet files, or a column is missing.
    """
    import pyarrow.parquet as pq

    files = find_files(path)
    if kind_of(files[0]) != "parquet":
        raise DataError(f"{path}: an event log to be scored must be Parquet; prepare it otherwise.")
    try:
        columns = pq.read_schema(files[0]).names
    except (OSError, ValueError) as error:
        raise DataError(f"{files[0]} is damaged ({error}); write it again.") from None
    also = scorer.consent_column(columns, path)
    config = config_of(columns, scorer.tokenizer, scorer.reading, also, path)
    told = config.model_dump(mode="json", exclude={"path", "latest"})
    contents = [describe_file(file)["sha256"] for file in files]
    plain = [part for part in Path(path).parts if not set(part) & set("*?[")]
    name = Path(plain[-1]).stem if plain else ""
    config = config.model_copy(update={"name": scorer.trained_on})
    erased = processed and processed / scorer.trained_on / ERASED
    if erased and erased.exists():
        told["erased"] = describe_file(erased)["sha256"]
    return Source(name or "events", digest([told, contents]), None, config, processed)


@contextmanager
def opened(
    source: Source, scorer: Loaded, scratch: Path, threads: int | None = None
) -> Iterator[Customers]:
    """Open a source; an event log is prepared in `scratch` first.

    Raises:
        DataError: damaged, rows that cannot be used, or fields that are not the model's.
    """
    folder = source.prepared or scratch / "prepared"
    if source.config is not None:
        folder.mkdir(parents=True)
        config = source.config.model_copy(update={"threads": threads})
        write_event_log(config, folder, _open_for_a_moment, processed=source.processed)
        write_store(event_log_files(folder), config, folder / "store")
    store = open_store(folder / "store")
    require_fields(store, scorer.tokenizer, folder)
    with engine.connect(scratch, threads=threads) as backend:
        events = read_event_log(backend, folder)
        if source.prepared:
            withheld = _by_statements(backend, folder, scorer)
        else:
            withheld = _by_column(backend, events, scorer)
        yield Customers(store, events, withheld)


def _open_for_a_moment(backend: Any, config: DataConfig) -> RawSource:
    """Open an event log of which nothing is kept: e-mail addresses may be its ids."""
    return replace(open_source(backend, config), files=())


def require_fields(store: SequenceStore, tokenizer: Tokenizer, folder: Path) -> None:
    """Refuse a store whose fields are not those that the model reads.

    Raises:
        DataError: names the fields.
    """
    lacking = [f for f in tokenizer.categorical_fields if f not in store.categorical_fields]
    if lacking:
        raise DataError(
            f"{folder} has no field '{lacking[0]}', which the model reads; its categorical fields "
            f"are {', '.join(store.categorical_fields)}. Prepare it with data.categorical as in "
            "training."
        )
    if store.numeric_fields != tokenizer.numeric_fields:
        raise DataError(
            f"{folder} has the numeric fields {', '.join(store.numeric_fields) or 'none'}; the "
            f"model reads {', '.join(tokenizer.numeric_fields) or 'none'}, in this order. Prepare "
            "it with data.value and data.numeric as in training."
        )


def _by_statements(backend: Any, folder: Path, scorer: Loaded) -> Withheld:
    """Judge by the consent statements of prepared data, at the cutoff and by the latest state."""
    if scorer.consent.purpose is None:
        return lambda _: None
    statements = read_statements(backend, folder)
    one_at_a_time = threading.Lock()  # the engine's connection is one

    def judge(data: TaskData) -> pd.Series:
        keys = ["customer_id", "cutoff"]
        asked = ibis.memtable(data.snapshots[keys])
        with one_at_a_time:
            marked = allowed_snapshots(asked, statements, scorer.consent)
            found = engine.fetch_arrow(backend, marked).to_pandas()
        reasons = data.snapshots[keys].merge(found, on=keys, how="left")["withheld"]
        return reasons.astype(object).where(reasons.notna(), None).set_axis(data.snapshots.index)

    return judge


def _by_column(backend: Any, events: Any, scorer: Loaded) -> Withheld:
    """Judge by the event log's own column `consent`, as `Scorer.score` does."""
    if scorer.consent.purpose is None or "consent" not in events.columns:
        return lambda _: None
    said = events.filter(events.consent.notnull())
    said = engine.keep(
        backend, "said", said.select("customer_id", "timestamp", "known_at", "consent")
    )
    one_at_a_time = threading.Lock()

    def judge(data: TaskData) -> pd.Series:
        asked = ibis.memtable(data.snapshots[["customer_id"]])
        with one_at_a_time:
            return scorer.withheld(replace(data, events=said.semi_join(asked, "customer_id")))

    return judge
