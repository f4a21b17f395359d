"""`score`: a trained run and many customers → a folder of predictions, shard by shard."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from seqjourney.cli import say, shown
from seqjourney.config import NextConfig, config_of_run, nearest
from seqjourney.errors import ConfigError, DataError
from seqjourney.files import read_json
from seqjourney.predictors import NETWORKS
from seqjourney.provenance import model_fingerprint

EAGER = "eager"


def score(
    run: Path,
    *,
    prepared: Path | None = None,
    events: str | None = None,
    cutoff: str | None = None,
    output: Path | None = None,
    backend: str = EAGER,
    threads: int | None = None,
    overdue: str = "refuse",
    certificate: Path | None = None,
    k: int = 10,
    progress: bool = True,
) -> Any:
    """Score every customer of prepared data or of an event log.

    Args:
        run: a trained run.
        prepared: folder written by `prepare`; unset, and without `events`, the run's own data.
        events: an event log instead: a Parquet file, a folder or a glob.
        cutoff: the moment that is asked about, UTC unless it has an offset; unset means when the
            last event became known.
        output: folder of the scores; unset means one beside the run.
        backend: eager, torchscript, onnx or torch_export; all but the first need the run to be
            exported.
        threads: unset means all cores.
        overdue: `refuse` a run that should have been retrained after an erasure, or `allow` it.
        certificate: the `certificates.json` of a report, or its folder: also say who may be acted
            on, if this model is certified.
        k: of a `next` task, how many of the likeliest values each customer is given.
        progress: show a bar on a terminal.

    Returns:
        `serving.bulk.Scored`.

    Raises:
        ConfigError: options that do not fit together, or a back end that the model does not have.
        DataError: no such run, not exported, a source that cannot be used, or a certificate that
            does not hold.
    """
    started = time.monotonic()
    from seqjourney.serving.bulk import FLAGGED, score_in_bulk
    from seqjourney.serving.bulk_job import Job
    from seqjourney.serving.bulk_source import events_source, prepared_source
    from seqjourney.serving.flagging import require_in_date

    if prepared is not None and events is not None:
        raise ConfigError("give one of data (or prepared) and events, not both.")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ConfigError(f"threads={threads}: give a whole number from 1 on; null is all cores.")
    moment = _moment(cutoff)
    if not (run / "run.json").exists():
        raise DataError(f"{run} is not a run: it has no run.json. Train the model first.")
    about = read_json(run / "run.json")
    config = config_of_run(about["config"], str(run / "run.json"))
    asks_next = isinstance(config, NextConfig)
    if asks_next and certificate is not None:
        raise ConfigError(
            f"certificate={certificate}: {run} says what comes next, and certificates are for "
            "models of who does something; leave it out."
        )
    scorer = _load(run, about, backend, overdue)
    if asks_next:
        scorer.k = k
    source = (
        events_source(events, scorer, config.processed)
        if events is not None
        else prepared_source(prepared or config.prepared, scorer)
    )
    job = Job(
        run=f"{config.name}/{run.resolve().name}",
        model=about["model"],
        run_fingerprint=model_fingerprint(run),
        backend=backend,
        data=source.name,
        data_set=config.data.name if source.prepared is None else source.name,
        data_fingerprint=source.fingerprint,
        cutoff=moment.isoformat() if moment else "latest",
        k=k if asks_next else None,
    )
    when = f"{moment:%Y%m%dT%H%M%S}" if moment else "latest"
    parts = [run.name, source.name, when, *([backend] if backend != EAGER else [])]
    parts += [f"top{k}"] if asks_next else []
    folder = output or run.parent / "scores" / "-".join(parts)
    # Whoever a certificate flagged before may not be acted on unless this one holds.
    (folder / FLAGGED).unlink(missing_ok=True)
    held = scorer.certificate(certificate) if certificate is not None else None
    if held is not None and moment is not None:
        require_in_date(held, moment)  # before the long work
    scored = score_in_bulk(
        scorer,
        source,
        job,
        folder,
        moment,
        threads=threads,
        side_by_side=_side_by_side(about["kind"], backend, asks_next=asks_next),
        progress=progress,
        certificate=held,
    )
    withheld = f", {scored.withheld:,} withheld for consent" if scored.withheld else ""
    nothing = (
        "of whom nothing is known or for whom nothing is left to come"
        if asks_next
        else "without any event by then"
    )
    say(
        f"{scored.customers:,} customers at {scored.cutoff:%Y-%m-%d %H:%M:%S} UTC: "
        f"{scored.without_events:,} {nothing}{withheld} "
        f"({scored.made} of {scored.shards} shards made now, {time.monotonic() - started:.0f} s)",
        f"Scores: {shown(scored.folder)}",
    )
    if isinstance(config, NextConfig):
        say(
            f"Up to {k:,} rows a customer, the likeliest next {config.task.field} first. "
            "Probabilities are the model's own, not calibrated; what training never saw has none."
        )
    if held is not None:
        say(
            f"To act on: {scored.flagged:,} customers; with {held.confidence:.0%} confidence at "
            f"least {held.target:.0%} of them have the outcome "
            f"-> {shown(scored.folder / FLAGGED)}"
        )
    return scored


def _load(run: Path, about: dict[str, Any], backend: str, overdue: str) -> Any:
    """Load the run, or its exported program."""
    import torch

    from seqjourney.serving.backends import FILES
    from seqjourney.serving.loading import load

    if overdue not in ("refuse", "allow"):
        raise ConfigError(f"overdue={overdue}: choose refuse or allow.")
    if backend == EAGER:
        return load(run, "allow" if overdue == "allow" else "refuse")
    found = next((name for format_, name in FILES.items() if format_ == backend), None)
    if found is None:
        choices = (EAGER, *FILES)
        raise ConfigError(
            f"backend={backend}: choose {', '.join(choices)}.{nearest(backend, choices)}"
        )
    if about["kind"] not in NETWORKS:
        raise ConfigError(
            f"backend={backend}: {run} is a {about['kind']}, and only networks (gru, transformer) "
            "are exported. Use backend=eager."
        )
    if not (run / found).exists():
        hint = (
            " (which takes no GRU)" if (about["kind"], backend) == ("gru", "torch_export") else ""
        )
        raise DataError(
            f"{run} is not exported for {backend}{hint}. Run: python scripts/export.py "
            f"run={shown(run)} format={backend}"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # an ONNX session takes its threads when it is opened
    try:
        return load(run / found, "allow" if overdue == "allow" else "refuse")
    finally:
        torch.set_num_threads(before)


def _side_by_side(kind: str, backend: str, *, asks_next: bool) -> bool:
    """Whether shards may be scored at once: features ask the one engine, a GPU is one."""
    import torch

    if kind not in NETWORKS:
        return asks_next  # counts need no features
    return backend != EAGER or not torch.cuda.is_available()


def _moment(cutoff: str | None) -> datetime | None:
    from datetime import UTC

    import pandas as pd

    if cutoff is None:
        return None
    stamp = pd.to_datetime(cutoff, errors="coerce")
    if pd.isna(stamp):
        raise ConfigError(f"cutoff={cutoff} is not a time; write it as 2024-05-31T12:00.")
    moment: datetime = stamp.to_pydatetime()
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
