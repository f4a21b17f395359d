"""`train` on a `next` task: one model → a run directory with its ranks.

The way of a run: cut the questions → fit on training, settings chosen on validation → rank the
true values of validation and test. Nothing looks at the test's ranks before `evaluate`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.cli import say, shown
from seqjourney.commands.run_folder import finished_run, write_customers, writing_run
from seqjourney.config import (
    GRUConfig,
    NextConfig,
    NextCountsConfig,
    TransformerConfig,
)
from seqjourney.errors import ConfigError
from seqjourney.events.log import read_manifest
from seqjourney.files import write_json
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
    """Train one model and write its run directory, whole or not at all; see `writing_run`.

    Raises:
        DataError, ConfigError: the data is not prepared, or does not fit the task or the model.
    """
    started = time.monotonic()
    if consent_policy(config.prepared) is not None:
        raise ConfigError(
            f"data={config.data.name} needs consent, which next tasks do not read yet; they take "
            "data of a single table only."
        )
    if (validation := finished_run(config)) is not None:
        return NextRun(config.run_dir, validation)
    predictor = build_next_predictor(config)
    with writing_run(config) as partial:
        data = build_next_data(
            open_store(config.prepared / "store"), config.task, config.data.label_only_events
        )
        predictor.fit(data, config.trainer, config.seed, partial)
        run = _write(config, data, predictor, partial, started)
    told = ", ".join(f"{name} {value:.4f}" for name, value in run.validation.items())
    seconds = time.monotonic() - started
    say(f"{config.model.name}: validation {told} ({seconds:.0f} s) -> {shown(run.folder)}")
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
    partial: Path,
    started: float,
) -> NextRun:
    from seqjourney.evaluation.next_answered import LISTED, answered, write_answered
    from seqjourney.evaluation.next_best import Best, joined, noting
    from seqjourney.evaluation.next_metrics import gains
    from seqjourney.evaluation.next_ranks import (
        draw_negatives,
        expected,
        rank_values,
        ranks_table,
        write_ranks,
    )

    tables: list[pd.DataFrame] = []
    best: list[Best] = []
    for split in ("validation", "test"):
        asked, best = data.of(split), []
        scores = noting(
            asked, predictor.scores(asked), LISTED, best, log_scores=predictor.log_scores
        )
        ranks = rank_values(asked, scores, draw_negatives(asked))
        tables.append(ranks_table(asked, ranks, config.model.name, config.run_name))
    write_answered(answered(data, joined(best)), partial)
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
    write_customers(data, partial / "trained_on.parquet")
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
    return NextRun(config.run_dir, metrics)


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
