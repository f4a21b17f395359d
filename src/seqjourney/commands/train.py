"""`train`: one model on one task → a run directory that stands on its own.

The way of a run: open the data and cut its snapshots → leakage check → fit on training, settings
chosen on validation → calibrate on validation → change the future and see that no score moves →
write predictions of validation and test, and of a network's what it answers to poorer histories.
The test's labels go into the predictions file; no model, threshold or calibrator looks at them.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from seqjourney import predictors
from seqjourney.cli import say, shown
from seqjourney.commands.run_folder import write_customers, writing_run
from seqjourney.config import (
    Config,
    GRUConfig,
    NextCountsConfig,
    TaskConfig,
    TransformerConfig,
)
from seqjourney.errors import ConfigError
from seqjourney.events.engine import connect
from seqjourney.events.log import read_manifest
from seqjourney.files import write_json
from seqjourney.provenance import describe_revision, describe_versions
from seqjourney.sequences.cutting import load_task_data
from seqjourney.sequences.task_data import HorizonPredictor, Predictor, TaskData, ValuePredictor


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    validation: dict[str, float]
    """Metrics on the validation split, `average_precision` and `roc_auc`; of a `sum` task also
    `normalised_gini`, of a `time_to` task `concordance` (and the others by the longest horizon)."""
    note: str = ""
    """What went wrong with the calibration, if anything."""

    @property
    def objective(self) -> float:
        """What a sweep maximises: average precision, or of a `sum` task the normalised Gini."""
        return self.validation.get("normalised_gini", self.validation["average_precision"])


def train(config: Config) -> Run:
    """Train one model and write its run directory, whole or not at all; see `writing_run`.

    Raises:
        LeakageError: a time rule is broken.
        DataError, ConfigError: the data is not prepared, or does not fit the task.
    """
    started = time.monotonic()
    with (
        writing_run(config) as partial,
        tempfile.TemporaryDirectory(dir=partial, prefix="scratch-") as scratch,
        connect(
            Path(scratch), memory_limit=config.data.memory_limit, threads=config.data.threads
        ) as backend,
    ):
        data = load_task_data(backend, config.prepared, config.task)
        run = _train(config, data, partial, started)
    shown_metrics = ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in run.validation.items())
    say(
        f"{config.model.name}: validation {shown_metrics} ({time.monotonic() - started:.0f} s) "
        f"-> {shown(run.folder)}"
    )
    if run.note and config.model.kind != "base_rate":  # which is flat by design
        say(f"{config.model.name}: {run.note}")
    return run


def _train(config: Config, data: TaskData, partial: Path, started: float) -> Run:
    from seqjourney.commands.answers import answer
    from seqjourney.evaluation.ablation import score_ablations, write_ablations
    from seqjourney.evaluation.leakage import check_future_blind, check_task_data
    from seqjourney.evaluation.occlusion import write_examples
    from seqjourney.evaluation.predictions import write_predictions

    check_task_data(data)
    predictor = _predictor(config)
    predictor.fit(data, config.trainer, config.seed, partial)
    scored = pd.concat([data.of("validation").snapshots, data.of("test").snapshots])
    scored = scored.reset_index(drop=True)
    answers = answer(predictor, replace(data, snapshots=scored))
    moved = check_future_blind(predictor, data)
    predictions = answers.predictions.assign(
        model=config.model.name,
        run=config.run_name,
    )
    write_predictions(predictions, partial / "predictions.parquet")
    if isinstance(config.model, GRUConfig | TransformerConfig):  # others read the log as well
        context = config.model.context
        write_ablations(score_ablations(predictor, data, context, config.seed), partial)
        test = scored.assign(score=answers.scores)[scored["split"] == "test"]
        write_examples(predictor.score, data, context, test, answers.calibrator, partial)
    predictor.save(partial)
    data.tokenizer.save(partial / "tokenizer.json")
    write_json(partial / "validation.json", answers.validation)
    write_json(partial / "task.json", describe_task(data))
    write_customers(data, partial / "trained_on.parquet", data.learnable)
    write_json(
        partial / "run.json",
        {
            "config": config.model_dump(mode="json"),
            "model": config.model.name,
            "kind": config.model.kind,
            **answers.about,
            "chosen": getattr(predictor, "chosen_", {}),
            "validation": answers.validation,
            "data_fingerprint": read_manifest(config.prepared)["fingerprint"],
            "consent": read_manifest(config.prepared).get("consent", "not in this event log"),
            "future_changed_score_by": moved,
            "seconds": round(time.monotonic() - started, 1),
            "revision": describe_revision(),
            "versions": describe_versions(),
        },
    )
    notes = "; ".join(note for note in answers.notes if note)
    return Run(config.run_dir, answers.validation, notes)


def _predictor(config: Config) -> Predictor:
    """Build the model; refuse, before the long work, one that does not answer such a task."""
    name, task = config.model.name, config.task
    if isinstance(config.model, NextCountsConfig):
        raise ConfigError(
            f"model={name} answers next tasks only, and {task.name} is an {task.kind} task."
        )
    predictor = predictors.build(config.model, config.logger, by_horizon=task.kind == "time_to")
    if task.kind == "sum" and not isinstance(predictor, ValuePredictor):
        raise ConfigError(
            f"task '{task.name}' asks how much, and model={name} says only who. Choose past_value, "
            "base_rate, bgnbd, paretonbd, lightgbm, catboost, gru or transformer."
        )
    if task.kind == "time_to" and not isinstance(predictor, HorizonPredictor):
        raise ConfigError(
            f"task '{task.name}' asks by when, and model={name} knows one horizon only. Choose any "
            "other model of occurrences, or ask about one horizon (kind occurrence)."
        )
    if task.kind != "sum" and config.model.kind == "past_value":
        raise ConfigError(
            f"model={name} says what customers will bring in, which '{task.name}' does not ask; it "
            "is for tasks of kind sum."
        )
    return predictor


def describe_task(data: TaskData) -> dict[str, Any]:
    """Describe a task for the report: what, when, who and who not."""
    task = data.task
    assert task.cutoffs is not None
    rule = task.eligible
    who = " or ".join(rule.events) if rule.events else "an event of their own"
    eligibility = f"customers with {who} before the cutoff"
    if rule.within:
        eligibility += f", within the last {_span(rule.within)}"
    if task.above_own:
        eligibility += f", with an earlier {task.value} of {' or '.join(task.target)}"
    if rule.without:
        eligibility += f", and no {' or '.join(rule.without)} yet"
    return {
        "name": task.name,
        "kind": task.kind,
        "horizon": _span(task.horizon),
        "description": _what(task),
        "by_horizon": {
            asked.name: {"horizon": _span(asked.horizon), "description": _what(asked)}
            for asked in task.by_horizon().values()
        },
        "eligibility": eligibility,
        "excluded": data.excluded,
        "cutoffs": {
            split: [f"{c:%Y-%m-%d %H:%M}" for c in task.cutoffs.of(split)]
            for split in ("train", "validation", "test")
        },
        "task": task.model_dump(mode="json"),
    }


def _what(task: TaskConfig) -> str:
    happening = " or ".join(task.target)
    if task.above is not None:
        bar = f"their own {task.above} so far" if task.above_own else f"{task.above:g}"
        happening += f" with {task.value} above {bar},"
    what = f"{happening} within {_span(task.horizon)} after the cutoff"
    return {
        "occurrence": what,
        "absence": f"no {what}",
        "sum": f"net {task.value} of {what}, and whether it is above zero",
        "time_to": f"when the first {what}",
    }[task.kind]


def _span(length: timedelta) -> str:
    days = length.total_seconds() / 86400
    return f"{days:g} days" if days >= 1 else f"{days * 24:g} hours"
