"""`train`: one model on one task → a run directory that stands on its own.

The way of a run: open the data and cut its snapshots → leakage check → fit on training, settings
chosen on validation → calibrate on validation → change the future and see that no score moves →
write predictions of validation and test, and of a network's what it answers to poorer histories.
The test's labels go into the predictions file; no model, threshold or calibrator looks at them.
Tasks that a network learns as well (`also`) are each written as a run of their own below the run.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from seqjourney import predictors
from seqjourney.cli import say, shown
from seqjourney.commands.run_folder import finished_run, write_customers, writing_run
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
from seqjourney.sequences.cutoffs import CERTIFICATION
from seqjourney.sequences.cutting import load_task_data
from seqjourney.sequences.task_data import (
    Beside,
    HorizonPredictor,
    Predictor,
    TaskData,
    ValuePredictor,
)

if TYPE_CHECKING:
    from seqjourney.models.network import NetworkPredictor


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    validation: dict[str, float]
    """Metrics on the validation split, `average_precision` and `roc_auc`; of a `sum` task also
    `normalised_gini`, of a `time_to` task `concordance` and `mean_average_precision`, over its
    horizons (and the others by the longest horizon)."""
    note: str = ""
    """What went wrong with the calibration, if anything."""

    @property
    def objective(self) -> float:
        """What a sweep maximises: average precision, of a `time_to` task its mean over horizons,
        of a `sum` task the normalised Gini.
        """
        names = ("normalised_gini", "mean_average_precision", "average_precision")
        return next(self.validation[name] for name in names if name in self.validation)


def train(config: Config) -> Run:
    """Train one model and write its run directory, whole or not at all; see `writing_run`.

    Raises:
        LeakageError: a time rule is broken.
        DataError, ConfigError: the data is not prepared, or does not fit the task.
    """
    started = time.monotonic()
    if (validation := finished_run(config)) is not None:
        return Run(config.run_dir, validation)
    with (
        writing_run(config) as partial,
        tempfile.TemporaryDirectory(dir=partial, prefix="scratch-") as scratch,
        connect(
            Path(scratch), memory_limit=config.data.memory_limit, threads=config.data.threads
        ) as backend,
    ):
        data = load_task_data(backend, config.prepared, config.task)
        also = [
            Beside(load_task_data(backend, config.prepared, one.task), one.weight)
            for one in config.also
        ]
        runs = _train(config, replace(data, also=tuple(also)), partial, started)
    for task, run in zip(["", *(f", {one.task.name}" for one in config.also)], runs, strict=True):
        name = config.model.name + task
        metrics = ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in run.validation.items())
        say(
            f"{name}: validation {metrics} ({time.monotonic() - started:.0f} s) "
            f"-> {shown(run.folder)}"
        )
        if run.note and config.model.kind != "base_rate":  # which is flat by design
            say(f"{name}: {run.note}")
    return runs[0]


def _train(config: Config, data: TaskData, partial: Path, started: float) -> list[Run]:
    """Train, and write a run for the task and below it, `also/<task>`, one for each beside it."""
    from seqjourney.evaluation.leakage import check_task_data, check_together

    for one in (data, *(beside.data for beside in data.also)):
        check_task_data(one)
    check_together(data)
    predictor = _predictor(config)
    predictor.fit(data, config.trainer, config.seed, partial)
    write_customers(data.together(), partial / "trained_on.parquet", data.learnable)
    about = {}
    if data.also:
        weights = {beside.data.task.name: beside.weight for beside in data.also}
        about["learned_together"] = {config.task.name: 1.0} | weights
    runs = [_write_run(config, predictor, data, partial, config.run_name, started, about)]
    for told, beside in zip(config.also, data.also, strict=True):
        name = told.task.name
        place = Path("also") / name
        (partial / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(partial / "trained_on.parquet", partial / place)
        changes = {"task": told.task, "also": (), "run": config.run_dir / place}
        own = config.model_copy(update=changes)
        other = cast("NetworkPredictor", predictor).others[name]
        its = replace(beside.data, tokenizer=data.tokenizer)
        called = f"{config.run_name}/{place.as_posix()}"
        runs.append(_write_run(own, other, its, partial / place, called, started, about))
    return runs


def _write_run(
    config: Config,
    predictor: Predictor,
    data: TaskData,
    folder: Path,
    called: str,
    started: float,
    about: dict[str, Any],
) -> Run:
    """Ask a trained model about validation and test, and write all that a run holds.

    Args:
        config: of this task.
        predictor: trained.
        data: of this task.
        folder: where to.
        called: the run, in predictions.
        started: when the training did, for the duration.
        about: more for run.json, plain data.
    """
    from seqjourney.commands.answers import answer
    from seqjourney.evaluation.ablation import score_ablations, write_ablations
    from seqjourney.evaluation.leakage import check_future_blind
    from seqjourney.evaluation.occlusion import write_examples
    from seqjourney.evaluation.predictions import write_predictions

    told = [data.of(split).snapshots for split in ("validation", CERTIFICATION, "test")]
    scored = pd.concat(told, ignore_index=True)
    answers = answer(predictor, replace(data, snapshots=scored))
    moved = check_future_blind(predictor, data)
    predictions = answers.predictions.assign(
        model=config.model.name,
        run=called,
    )
    write_predictions(predictions, folder / "predictions.parquet")
    if isinstance(config.model, GRUConfig | TransformerConfig):  # others read the log as well
        context = config.model.context
        write_ablations(score_ablations(predictor, data, context, config.seed), folder)
        test = scored.assign(score=answers.scores)[scored["split"] == "test"]
        write_examples(predictor.score, data, context, test, answers.calibrator, folder)
    predictor.save(folder)
    data.tokenizer.save(folder / "tokenizer.json")
    write_json(folder / "validation.json", answers.validation)
    write_json(folder / "task.json", describe_task(data))
    write_json(
        folder / "run.json",
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
            **about,
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
