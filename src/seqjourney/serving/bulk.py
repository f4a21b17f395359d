"""Scoring in bulk: every customer of a source, shard by shard, into Parquet files.

A shard is a stretch of customers in the order of the store, with so few customers and events that
memory does not grow with the source but for the ids of its customers. It appears whole or not at
all, says inside which job it belongs to, and carries checksums, so that a job that was killed goes
on where it stopped and a damaged shard is made again (`bulk_job` binds a folder to one job).
Networks score shards side by side, one core each. A baseline computes features by a query of the
whole log per shard.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from seqjourney.config import TaskConfig
from seqjourney.evaluation.gate import Certificate
from seqjourney.files import explaining_full_disk, locked, replacing_file
from seqjourney.sequences.task_data import TaskData
from seqjourney.serving.bulk_job import Job, begin, claimed, finish
from seqjourney.serving.bulk_source import Customers, Source, opened
from seqjourney.serving.flagging import may_be_acted_on
from seqjourney.serving.next_scorer import NextScorer
from seqjourney.serving.scorer import Scorer
from seqjourney.serving.tokens import moment_us, snapshots_of

MOST_CUSTOMERS = 50_000
MOST_EVENTS = 4_000_000
"""Of one shard; a customer with more events is a shard alone."""
MOST_ROWS = 1_000_000
"""Of one shard, where a customer is answered with several rows."""
_PIECES, _WORTH_A_PIECE = 8, 1_000
"""Even a small job has so many shards, of so many customers at least, that all cores have one."""
FLAGGED = "flagged.parquet"
_MARK = b"seqjourney"


@dataclass(frozen=True)
class Scored:
    """A finished job."""

    folder: Path
    customers: int
    without_events: int
    """Customers of whom nothing was known at the cutoff; their score is null. Of a next task
    without repeats also those who have had every value."""
    withheld: int
    """Customers who may not be scored."""
    shards: int
    made: int
    """Shards that this call had to make; the others were there already."""
    cutoff: datetime
    flagged: int | None
    """Customers who may be acted on; None without a certificate."""


def score_in_bulk(
    scorer: Scorer | NextScorer,
    source: Source,
    job: Job,
    output: Path,
    cutoff: datetime | None,
    *,
    threads: int | None = None,
    side_by_side: bool = True,
    progress: bool = True,
    certificate: Certificate | None = None,
) -> Scored:
    """Score every customer of a source, or the rest of them.

    Args:
        scorer: from `seqjourney.load`.
        source: from `bulk_source`.
        job: names this scoring; a folder takes one job only.
        output: folder of `shard-00000.parquet` and so on; those of this job that are whole stay.
        cutoff: the moment that is asked about; None means when the last event became known.
        threads: unset means all cores.
        side_by_side: whether the model may score several shards at once.
        progress: show a bar, where standard error is a terminal.
        certificate: of this model; with it those who may be acted on go into `flagged.parquet`.

    Returns:
        What was scored.

    Raises:
        DataError: the folder is another job's, the source cannot be used or changed meanwhile, or
            another process is writing the folder; or the certificate does not hold for the
            customers, whose scores are there all the same.
    """
    cores = threads or os.cpu_count() or 1
    with locked(output, "score"), claimed(output, job):
        (output / FLAGGED).unlink(missing_ok=True)  # of an earlier certificate
        for left in output.glob("scratch-*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with (
            explaining_full_disk(output),
            tempfile.TemporaryDirectory(dir=output, prefix="scratch-") as scratch,
            opened(source, scorer, Path(scratch), cores) as customers,
        ):
            moment = moment_us(customers.store, cutoff)
            pieces = _PIECES if side_by_side else 1
            shards = Shards(scorer, source, job, output, customers, moment, pieces)
            shards.remove_others()
            todo = [number for number in range(len(shards)) if not shards.is_whole(number)]
            if todo:
                begin(output, job)
            workers = min(cores, len(todo)) if side_by_side and todo else 1
            try:
                with _bar(shards, todo, progress) as advance, _threads_each(cores // workers):
                    _each(shards.make, todo, workers, cores // workers, advance)
                if certificate is not None:
                    assert isinstance(scorer, Scorer)
                    eligible = scorer.eligible(customers.events, shards.cutoff)
                source.require_unchanged()
            except BaseException:
                if source.changed:  # an erased customer may be in any of them
                    shards.remove()
                raise
        counts = shards.counts()
        finish(output, job, **counts, shards=len(shards), moment=shards.cutoff.isoformat())
        flagged = None if certificate is None else shards.flag(certificate, eligible)
    return Scored(
        output, **counts, shards=len(shards), made=len(todo), cutoff=shards.cutoff, flagged=flagged
    )


def plan_shards(
    offsets: np.ndarray, most_customers: int = MOST_CUSTOMERS, most_events: int = MOST_EVENTS
) -> list[int]:
    """Return where to cut the customers of a store, (shards + 1) bounds.

    Args:
        offsets: (customers + 1,) of the store.
        most_customers: of a shard.
        most_events: of a shard of several customers.
    """
    bounds, customers = [0], len(offsets) - 1
    while bounds[-1] < customers:
        first = bounds[-1]
        within = int(np.searchsorted(offsets, offsets[first] + most_events, "right")) - 1
        bounds.append(min(customers, first + most_customers, max(first + 1, within)))
    return bounds


class Shards:
    """The shards of a job, each made, recognised and counted by its number."""

    def __init__(
        self,
        scorer: Scorer | NextScorer,
        source: Source,
        job: Job,
        output: Path,
        customers: Customers,
        moment: int,
        pieces: int = 1,
    ):
        self._scorer, self._source, self._job, self._output = scorer, source, job, output
        self._customers, self._moment = customers, moment
        piece = -(-len(customers.store.customer_ids) // pieces)
        most = min(
            MOST_CUSTOMERS, max(piece, _WORTH_A_PIECE), max(1, MOST_ROWS // scorer.rows_each)
        )
        self._bounds = plan_shards(customers.store.offsets, most, MOST_EVENTS)
        self._schema = pa.schema(scorer.columns)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def cutoff(self) -> datetime:
        """The moment that is asked about."""
        return pd.Timestamp(self._moment, unit="us", tz="UTC").to_pydatetime()

    def customers_of(self, number: int) -> int:
        """Return how many customers a shard has."""
        return self._bounds[number + 1] - self._bounds[number]

    def file_of(self, number: int) -> Path:
        """Return a shard's file."""
        return self._output / f"shard-{number:05d}.parquet"

    def make(self, number: int) -> None:
        """Score the customers of a shard and write it."""
        first, last = self._bounds[number], self._bounds[number + 1]
        snapshots = snapshots_of(self._customers.store, self._moment, first, last)
        data = TaskData(
            cast("TaskConfig", self._scorer.task),
            self._customers.events,
            self._customers.store,
            self._scorer.tokenizer,
            snapshots,
        )
        frame = self._scorer.score_data(data, self._customers.withheld(data))
        frame = frame.assign(model=self._job.model, run=self._job.run)
        table = pa.Table.from_pandas(frame, self._schema, preserve_index=False)
        table = table.replace_schema_metadata({_MARK: self._mark(number)})
        with replacing_file(self.file_of(number)) as partial:
            pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
            self._source.require_unchanged()

    def is_whole(self, number: int) -> bool:
        """Whether a shard is there, of this job, complete and undamaged."""
        try:
            table = self._read(number, self._schema.names)
        except (OSError, ValueError):  # Arrow's errors are kinds of these
            return False
        mark = (table.schema.metadata or {}).get(_MARK)
        return mark == self._mark(number) and len(table) == self.customers_of(number)

    def remove_others(self) -> None:
        """Remove shards that another version cut."""
        ours = {self.file_of(number) for number in range(len(self))}
        for file in self._output.glob("shard-*.parquet"):
            if file not in ours:
                file.unlink()

    def remove(self) -> None:
        """Remove all shards."""
        for file in self._output.glob("shard-*"):
            file.unlink(missing_ok=True)

    def counts(self) -> dict[str, int]:
        """Count customers over all shards, by what became of them."""
        counts = dict.fromkeys(("customers", "without_events", "withheld"), 0)
        for number in range(len(self)):
            table = self._read(number, self._schema.names)
            counts["customers"] += len(table)
            withheld = (
                table["withheld"].null_count if "withheld" in table.column_names else len(table)
            )
            counts["withheld"] += len(table) - withheld
            counts["without_events"] += table["score"].null_count - (len(table) - withheld)
        return counts

    def flag(self, certificate: Certificate, eligible: np.ndarray) -> int:
        """Write those who may be acted on into one file that carries the certificate.

        Raises:
            DataError: the certificate does not hold for these customers.
        """
        table = pa.concat_tables(self._read(n, self._schema.names) for n in range(len(self)))
        scored = table.select(["customer_id", "cutoff", "score"]).to_pandas()
        chosen = table.filter(pa.array(may_be_acted_on(certificate, scored, eligible)))
        told = {_MARK: json.dumps(certificate.to_dict()).encode()}
        with replacing_file(self._output / FLAGGED) as partial:
            pq.write_table(chosen.replace_schema_metadata(told), partial, compression="zstd")
        return len(chosen)

    def _read(self, number: int, columns: list[str]) -> pa.Table:
        """Read a shard; of several rows of a customer, the first."""
        file = self.file_of(number)
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            table = parquet.read(columns=columns)
        if "rank" not in columns:
            return table
        return table.filter(pc.fill_null(pc.equal(table["rank"], 1), fill_value=True))

    def _mark(self, number: int) -> bytes:
        first, last = self._bounds[number : number + 2]
        return f"{self._job.mark} at {self._moment}, customers {first} to {last}".encode()


def _each(
    make: Callable[[int], None],
    todo: list[int],
    workers: int,
    threads: int,
    advance: Callable[[int], None],
) -> None:
    """Make shards side by side; at the first error, those that are not begun are left."""
    with ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        making = {pool.submit(make, number): number for number in todo}
        try:
            for done in as_completed(making):
                done.result()
                advance(making[done])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _threads_each(count: int) -> Iterator[None]:
    """Give each worker its share of the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _bar(shards: Shards, todo: list[int], progress: bool) -> Iterator[Callable[[int], None]]:
    """Show how many customers are done, where somebody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("Scoring customers", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not (progress and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        total = sum(shards.customers_of(number) for number in range(len(shards)))
        left = sum(shards.customers_of(number) for number in todo)
        task = bar.add_task("", total=total, completed=total - left)
        yield lambda number: bar.advance(task, shards.customers_of(number))
