"""`train` on a `next` task: one model → a run directory with its ranks.

The way of a run: cut the questions → fit on training, settings chosen on validation → rank the
true values of validation and test. Nothing looks at the test's ranks before `evaluate`.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.cli import say, shown
from seqjourney.commands.train import check_same_data, claim
from seqjourney.config import (
    GRUConfig,
    NextConfig,
    NextCountsConfig,
    TransformerConfig,
)
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.log import read_manifest
from seqjourney.files import explaining_full_disk, swap_folder, write_json
from seqjourney.provenance import describe_revision, describe_versions
from seqjourney.sequences.cutting import consent_policy
from seqjourney.sequences.next_cases import NextData, NextPredictor, build_next_data
from seqjourney.sequences.store import open_store
from seqjourney.sequences.tokenizer import FIRST

PROTOCOLS = {
    "time": "by time: asked at cutoffs, after all that training saw",
    "leave_one_out": "leave one out, the split of a protocol and not one by time",
    "given": "given with the data, the split of a protocol and not one by time",
}
RANKS = "ranks.parquet"


@dataclass(frozen=True)
class NextRun:
    """A finished run."""

    folder: Path
    validation: dict[str, float]
    """Metrics on the validation split: `mrr@20` and `hit@10`, against all values."""


def train_next(config: NextConfig) -> NextRun:
    """Train one model and write its run directory, whole or not at all.

    A network's run that is interrupted leaves `<run>.partial`, from which `trainer.resume=true`
    goes on.

    Raises:
        DataError, ConfigError: the data is not prepared, or does not fit the task or the model.
    """
    started = time.monotonic()
    folder = config.run_dir
    partial = folder.with_name(folder.name + ".partial")
    fingerprint = read_manifest(config.prepared)["fingerprint"]
    check_same_data(config)
    if consent_policy(config.prepared) is not None:
        raise ConfigError(
            f"data={config.data.name} needs consent, which next tasks do not read yet; they take "
            "data of a single table only."
        )
    predictor = build_next_predictor(config)
    settings = config.model_dump(mode="json") | {"data_fingerprint": fingerprint}
    claim(partial, settings, resume=config.trainer.resume)
    try:
        with explaining_full_disk(folder):
            data = build_next_data(open_store(config.prepared / "store"), config.task)
            predictor.fit(data, config.trainer, config.seed, partial)
            run = _write(config, data, predictor, folder, partial, started)
    except BaseException:
        if (partial / "checkpoints" / "latest.ckpt").exists():
            say(f"Unfinished: {shown(partial)}; trainer.resume=true goes on from there.")
        else:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if read_manifest(config.prepared)["fingerprint"] != fingerprint:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(
            f"{config.prepared} was prepared again, or a customer was erased from it, while the "
            "model was trained; nothing was written. Train again."
        )
    shutil.rmtree(partial / "checkpoints", ignore_errors=True)
    swap_folder(partial, folder)
    told = ", ".join(f"{name} {value:.4f}" for name, value in run.validation.items())
    seconds = time.monotonic() - started
    say(f"{config.model.name}: validation {told} ({seconds:.0f} s) -> {shown(folder)}")
    return run


def build_next_predictor(config: NextConfig) -> NextPredictor:
    """Return the untrained model that a configuration asks for.

    Raises:
        ConfigError: the model answers other tasks.
    """
    if isinstance(config.model, GRUConfig | TransformerConfig):
        from seqjourney.models.next_network import NextNetworkPredictor

        return NextNetworkPredictor(config.model, config.logger)
    if isinstance(config.model, NextCountsConfig):
        from seqjourney.baselines.next_counts import NextCounts

        return NextCounts(config.model)
    raise ConfigError(
        f"model={config.model.name} does not answer next tasks; these do: gru, transformer, "
        "popularity, recent, markov, rules."
    )


def _write(
    config: NextConfig,
    data: NextData,
    predictor: NextPredictor,
    folder: Path,
    partial: Path,
    started: float,
) -> NextRun:
    from seqjourney.evaluation.next_metrics import gains
    from seqjourney.evaluation.next_ranks import (
        draw_negatives,
        expected,
        rank_values,
        ranks_table,
        write_ranks,
    )

    tables = []
    for split in ("validation", "test"):
        asked = data.of(split)
        ranks = rank_values(asked, predictor.scores(asked), draw_negatives(asked))
        tables.append(ranks_table(asked, ranks, config.model.name, f"{config.name}/{folder.name}"))
    write_ranks(pd.concat(tables, ignore_index=True), partial / RANKS)
    validation = tables[0][tables[0]["ranking"] == "full"]
    metrics = {
        name: float(np.average(expected(validation, gains()[name]), weights=validation["weight"]))
        for name in ("mrr@20", "hit@10")
    }
    predictor.save(partial)
    data.tokenizer.save(partial / "tokenizer.json")
    write_json(partial / "validation.json", metrics)
    write_json(partial / "task.json", _describe(data))
    _write_customers(data, partial / "trained_on.parquet")
    write_json(
        partial / "run.json",
        {
            "config": config.model_dump(mode="json"),
            "model": config.model.name,
            "kind": config.model.kind,
            "chosen": getattr(predictor, "chosen_", {}),
            "validation": metrics,
            "data_fingerprint": read_manifest(config.prepared)["fingerprint"],
            "seconds": round(time.monotonic() - started, 1),
            "revision": describe_revision(),
            "versions": describe_versions(),
        },
    )
    (partial / "settings.json").unlink()
    return NextRun(folder, metrics)


def _describe(data: NextData) -> dict[str, Any]:
    asked = data.snapshots.groupby("split").size()
    unknown = data.snapshots["label"] < FIRST
    return {
        "name": data.task.name,
        "kind": data.task.kind,
        "description": f"which {data.task.field} comes next, of {data.values:,}",
        "split": PROTOCOLS[data.task.split],
        "even_spacing": data.task.even_spacing,
        "questions": {split: int(count) for split, count in asked.items()},
        "never_seen_in_training": {
            split: int(count)
            for split, count in unknown.groupby(data.snapshots["split"]).sum().items()
        },
        "task": data.task.model_dump(mode="json"),
    }


def _write_customers(data: NextData, path: Path) -> None:
    """Record whom the model was trained on, hashed, so that an erasure can name its models.

    They are the customers of a training or validation question, and all of whom the tokenizer may
    have seen an event.
    """
    store = data.store
    until = round(datetime.fromisoformat(data.tokenizer.fitted_until).timestamp() * 1e6)
    seen = store.offsets[:-1] < store.offsets[1:]
    seen[seen] = store.times[store.offsets[:-1][seen], 1] <= until
    used = data.snapshots["split"].isin(["train", "validation"])
    seen[data.snapshots.loc[used, "customer_index"].to_numpy()] = True
    hashes = sorted(sha256(str(name).encode()).hexdigest() for name in store.customer_ids[seen])
    pd.DataFrame({"customer_hash": hashes}).to_parquet(path, index=False)
