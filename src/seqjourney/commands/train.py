"""`train`: one model on one task → a run directory that stands on its own.

The way of a run: open the data and cut its snapshots → leakage check → fit on training, settings
chosen on validation → calibrate on validation → change the future and see that no score moves →
write predictions of validation and test, and of a network's what it answers to poorer histories.
The test's labels go into the predictions file; no model, threshold or calibrator looks at them.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from seqjourney.cli import say, shown
from seqjourney.config import (
    Config,
    GRUConfig,
    NextConfig,
    NextCountsConfig,
    TransformerConfig,
)
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.engine import connect
from seqjourney.events.log import digest, read_manifest
from seqjourney.files import explaining_full_disk, read_json, swap_folder, write_json
from seqjourney.provenance import describe_revision, describe_versions
from seqjourney.sequences.cutting import excluded_by_split, learnable_customers, load_task_data
from seqjourney.sequences.task_data import Predictor, TaskData, ValuePredictor


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    validation: dict[str, float]
    """Metrics on the validation split, `average_precision` and `roc_auc`; of a `sum` task also
    `normalised_gini`."""
    note: str = ""
    """What went wrong with the calibration, if anything."""

    @property
    def objective(self) -> float:
        """What a sweep maximises: average precision, or of a `sum` task the normalised Gini."""
        return self.validation.get("normalised_gini", self.validation["average_precision"])


def train(config: Config) -> Run:
    """Train one model and write its run directory, whole or not at all.

    A network's run that is interrupted or fails leaves `<run>.partial` when training had written
    a checkpoint, from which `trainer.resume=true` goes on exactly; any other leaves nothing.

    Raises:
        LeakageError: a time rule is broken.
        DataError, ConfigError: the data is not prepared, or does not fit the task.
    """
    started = time.monotonic()
    folder = config.run_dir
    partial = folder.with_name(folder.name + ".partial")
    settings = config.model_dump(mode="json")
    settings["data_fingerprint"] = read_manifest(config.prepared)["fingerprint"]
    claim(partial, settings, resume=config.trainer.resume)
    try:
        with (
            tempfile.TemporaryDirectory(dir=partial, prefix="scratch-") as scratch,
            explaining_full_disk(folder),
            connect(
                Path(scratch), memory_limit=config.data.memory_limit, threads=config.data.threads
            ) as backend,
        ):
            check_same_data(config)
            data = load_task_data(backend, config.prepared, config.task)
            run = _train(config, data, folder, partial, started)
    except BaseException:
        if (partial / "checkpoints" / "latest.ckpt").exists():
            say(f"Unfinished: {shown(partial)}; trainer.resume=true goes on from there.")
        else:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if read_manifest(config.prepared)["fingerprint"] != settings["data_fingerprint"]:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(
            f"{config.prepared} was prepared again, or a customer was erased from it, while the "
            "model was trained; nothing was written. Train again."
        )
    shutil.rmtree(partial / "checkpoints", ignore_errors=True)
    swap_folder(partial, folder)
    shown_metrics = ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in run.validation.items())
    say(
        f"{config.model.name}: validation {shown_metrics} ({time.monotonic() - started:.0f} s) "
        f"-> {shown(folder)}"
    )
    if run.note and config.model.kind != "base_rate":  # which is flat by design
        say(f"{config.model.name}: {run.note}")
    return run


def build_predictor(config: Config) -> Predictor:
    """Return the untrained model that a configuration asks for."""
    if isinstance(config.model, GRUConfig | TransformerConfig):
        from seqjourney.models.network import NetworkPredictor

        return NetworkPredictor(config.model, config.logger)
    from seqjourney.baselines import build

    if isinstance(config.model, NextCountsConfig):
        raise ConfigError(
            f"model={config.model.name} answers next tasks only, and {config.task.name} is an "
            f"{config.task.kind} task."
        )
    return build(config.model)


def check_same_data(config: Config | NextConfig) -> None:
    """Refuse data settings that differ from those with which the data was prepared."""
    spaced = config.task.kind == "next" and config.task.even_spacing
    if config.data.timestamp_unit == "order" and not spaced:
        raise ConfigError(
            f"data={config.data.name} has an order and no times (timestamp_unit: order), and task "
            f"'{config.task.name}' asks about times. Such data answers next tasks with "
            "even_spacing: true only."
        )
    told = config.data.model_dump(mode="json")
    prepared = read_manifest(config.prepared)["config"]
    for key in told.keys() - {"path", "engine", "memory_limit", "threads", "tasks"}:
        if _without_paths(told[key]) != _without_paths(prepared.get(key)):
            raise ConfigError(
                f"data.{key} is {told[key]!r}, but {config.prepared} was prepared with "
                f"{prepared.get(key)!r}. Prepare again, or leave the key as it was."
            )


def _without_paths(value: Any) -> Any:
    """Where the files of a source lie says nothing about what was in them."""
    if isinstance(value, dict):
        return {key: _without_paths(part) for key, part in value.items() if key != "path"}
    return [_without_paths(part) for part in value] if isinstance(value, list) else value


def claim(partial: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Make the folder of an unfinished run ours, or go on with the one that is there."""
    comparable = {**settings, "trainer": {**settings["trainer"], "resume": False}}
    mark = partial / "settings.json"
    if resume and mark.exists():
        if digest([read_json(mark)]) != digest([comparable]):
            raise ConfigError(
                f"{partial} is an interrupted run of another configuration or of data that was "
                f"prepared again since; resume needs the same. Its settings are in {mark}. "
                "To start anew, leave out trainer.resume."
            )
        for scratch in partial.glob("scratch-*"):  # of a process that was killed
            shutil.rmtree(scratch, ignore_errors=True)
        return
    if resume:
        say(f"Nothing to resume at {shown(partial)}; starting anew.")
    if (partial / "checkpoints" / "latest.ckpt").exists():
        say(
            f"{shown(partial)}, an interrupted training, is started anew; to go on with one, give "
            "trainer.resume=true."
        )
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(mark, comparable)


def _train(config: Config, data: TaskData, folder: Path, partial: Path, started: float) -> Run:
    from sklearn.metrics import average_precision_score, roc_auc_score

    from seqjourney.evaluation.ablation import score_ablations, write_ablations
    from seqjourney.evaluation.calibrator_choice import choose_calibrator
    from seqjourney.evaluation.leakage import check_future_blind, check_task_data
    from seqjourney.evaluation.occlusion import write_examples
    from seqjourney.evaluation.predictions import write_predictions

    check_task_data(data)
    predictor = build_predictor(config)
    _require_fit_for(predictor, config)
    predictor.fit(data, config.trainer, config.seed, partial)
    scored = pd.concat([data.of("validation").snapshots, data.of("test").snapshots])
    scored = scored.reset_index(drop=True)
    amounts, per_buyer = None, False
    if isinstance(predictor, ValuePredictor) and config.task.kind == "sum":
        scores, amounts = predictor.score_and_amount(_of(data, scored))
        per_buyer = predictor.per_buyer
    else:
        scores = predictor.score(_of(data, scored))
    validation = (scored["split"] == "validation").to_numpy()
    label = scored["label"].to_numpy()
    calibrator, compared = choose_calibrator(
        scores[validation],
        label[validation],
        scored["weight"].to_numpy()[validation],
        scored["customer_id"].to_numpy(object)[validation],
    )
    moved = check_future_blind(predictor, data)
    slices = [c for c in scored.columns if c.startswith("slice_")]
    predictions = scored[["customer_id", "cutoff", "split", "label", "weight", *slices]].assign(
        task=config.task.name,
        score=scores,
        probability=calibrator(scores),
        model=config.model.name,
        run=f"{config.name}/{folder.name}",
    )
    metrics = {
        "average_precision": float(average_precision_score(label[validation], scores[validation])),
        "roc_auc": float(roc_auc_score(label[validation], scores[validation])),
    }
    values = None
    if amounts is not None:
        from seqjourney.evaluation.value import normalised_gini_of
        from seqjourney.evaluation.value_calibration import ValueCalibrator

        came, weight = scored["value"].to_numpy(), scored["weight"].to_numpy()
        probability = predictions["probability"].to_numpy()
        values = ValueCalibrator.fit(
            *(a[validation] for a in (amounts, probability, came, weight)),
            per_buyer=per_buyer,
        )
        expected = values(amounts, probability)
        predictions = predictions.assign(value=came, expected_value=expected)
        metrics["normalised_gini"] = normalised_gini_of(
            *(a[validation] for a in (came, expected, weight))
        )
    write_predictions(predictions, partial / "predictions.parquet")
    if isinstance(config.model, GRUConfig | TransformerConfig):  # others read the log as well
        context = config.model.context
        write_ablations(score_ablations(predictor, data, context, config.seed), partial)
        test = scored.assign(score=scores)[~validation]
        write_examples(predictor.score, data, context, test, calibrator, partial)
    predictor.save(partial)
    data.tokenizer.save(partial / "tokenizer.json")
    write_json(partial / "validation.json", metrics)
    write_json(partial / "task.json", describe_task(data, config))
    _write_customers(config.prepared, data, partial / "trained_on.parquet")
    write_json(
        partial / "run.json",
        {
            "config": config.model_dump(mode="json"),
            "model": config.model.name,
            "kind": config.model.kind,
            "calibrator": {**calibrator.to_dict(), "compared": compared},
            **({} if values is None else {"value_calibrator": values.to_dict()}),
            "chosen": getattr(predictor, "chosen_", {}),
            "validation": metrics,
            "data_fingerprint": read_manifest(config.prepared)["fingerprint"],
            "consent": read_manifest(config.prepared).get("consent", "not in this event log"),
            "future_changed_score_by": moved,
            "seconds": round(time.monotonic() - started, 1),
            "revision": describe_revision(),
            "versions": describe_versions(),
        },
    )
    (partial / "settings.json").unlink()
    notes = [calibrator.note, values.note if values else ""]
    return Run(folder, metrics, "; ".join(note for note in notes if note))


def _require_fit_for(predictor: Predictor, config: Config) -> None:
    """Refuse, before the long work, a model that cannot say how much, or nothing else."""
    if config.task.kind == "sum" and not isinstance(predictor, ValuePredictor):
        raise ConfigError(
            f"task '{config.task.name}' asks how much, and model={config.model.name} says only "
            "who. Choose past_value, base_rate, bgnbd, paretonbd, lightgbm, catboost, gru or "
            "transformer."
        )
    if config.task.kind != "sum" and config.model.kind == "past_value":
        raise ConfigError(
            f"model={config.model.name} says what customers will bring in, which "
            f"'{config.task.name}' does not ask; it is for tasks of kind sum."
        )


def _of(data: TaskData, snapshots: pd.DataFrame) -> TaskData:
    from dataclasses import replace

    return replace(data, snapshots=snapshots)


def describe_task(data: TaskData, config: Config) -> dict[str, Any]:
    """Describe a task for the report: what, when, who and who not."""
    task = data.task
    assert task.cutoffs is not None
    happening = " or ".join(task.target)
    horizon = _span(task.horizon)
    what = f"{happening} within {horizon} after the cutoff"
    rule = task.eligible
    who = " or ".join(rule.events) if rule.events else "an event of their own"
    eligibility = f"customers with {who} before the cutoff"
    if rule.within:
        eligibility += f", within the last {_span(rule.within)}"
    if rule.without:
        eligibility += f", and no {' or '.join(rule.without)} yet"
    return {
        "name": task.name,
        "kind": task.kind,
        "horizon": horizon,
        "description": {
            "occurrence": what,
            "absence": f"no {what}",
            "sum": f"net {task.value} of {what}, and whether it is above zero",
        }[task.kind],
        "eligibility": eligibility,
        "excluded": excluded_by_split(config.prepared, task.name),
        "cutoffs": {
            split: [f"{c:%Y-%m-%d %H:%M}" for c in task.cutoffs.of(split)]
            for split in ("train", "validation", "test")
        },
        "task": task.model_dump(mode="json"),
    }


def _span(length: timedelta) -> str:
    days = length.total_seconds() / 86400
    return f"{days:g} days" if days >= 1 else f"{days * 24:g} hours"


def _write_customers(prepared: Path, data: TaskData, path: Path) -> None:
    """Record whom the model was trained on, hashed, so that an erasure can name its models.

    They are the customers of a training or validation snapshot, and all others of whom the
    tokenizer has seen a token: its vocabulary and scales know them too.
    """
    import ibis

    store = data.store
    until_us = round(datetime.fromisoformat(data.tokenizer.fitted_until).timestamp() * 1e6)
    seen = store.offsets[:-1] < store.offsets[1:]  # (C,) bool: has a token
    seen[seen] = store.times[store.offsets[:-1][seen], 1] <= until_us  # each one's first known
    seen &= learnable_customers(data.events.get_backend(), prepared, store, until_us)
    used = data.snapshots["split"].isin(["train", "validation"])
    seen[data.snapshots.loc[used, "customer_index"].to_numpy()] = True
    hashed = (
        ibis.memtable(pd.DataFrame({"customer_id": store.customer_ids[seen]}))
        .select(customer_hash=ibis._.customer_id.hexdigest("sha256"))
        .order_by("customer_hash")
    )
    hashed.to_pandas().to_parquet(path, index=False)
