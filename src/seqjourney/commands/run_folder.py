"""The folder of a run, whatever its task: claimed, resumed, and put in its place whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.cli import say, shown
from seqjourney.config import Config, NextConfig
from seqjourney.config.task import QUESTION
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.log import read_manifest
from seqjourney.files import explaining_full_disk, in_parents, read_json, swap_folder, write_json
from seqjourney.sequences.next_cases import NextData
from seqjourney.sequences.task_data import TaskData

_ASIDE = {"output", "processed", "logger"}
_HOW_DATA_IS_READ = {"path", "engine", "memory_limit", "threads", "tasks"}
_HOW_TRAINING_RUNS = {"resume", "progress", "threads", "workers", "checkpoint_every_steps"}
"""Settings that say where and how fast, not what comes out."""


@contextmanager
def writing_run(config: Config | NextConfig) -> Iterator[Path]:
    """Yield the folder in which a run is made; at the end it is put in its place.

    A run that is interrupted or fails leaves `<run>.partial` when training had written a
    checkpoint, from which `trainer.resume=true` goes on exactly; any other leaves nothing.

    Raises:
        DataError, ConfigError: the data is not prepared, or otherwise than the configuration
            says, or was prepared again meanwhile.
    """
    folder = config.run_dir
    partial = folder.with_name(folder.name + ".partial")
    fingerprint = read_manifest(config.prepared)["fingerprint"]
    _check_same_data(config)
    refuse_another_task(config)
    with in_parents(folder), explaining_full_disk(folder):
        _claim(partial, _settings(config), resume=config.trainer.resume)
        try:
            yield partial
        except BaseException:
            if _can_resume(partial):
                say(f"Unfinished: {shown(partial)}; trainer.resume=true goes on from there.")
            else:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        if read_manifest(config.prepared)["fingerprint"] != fingerprint:
            shutil.rmtree(partial, ignore_errors=True)
            raise DataError(
                f"{config.prepared} was prepared again, or a customer was erased from it, while "
                "the model was trained; nothing was written. Train again."
            )
        shutil.rmtree(partial / "checkpoints", ignore_errors=True)
        (partial / "settings.json").unlink()
        swap_folder(partial, folder)


def finished_run(config: Config | NextConfig) -> dict[str, float] | None:
    """Return the validation metrics of the very run that is asked for, if it need not be trained.

    That is so where `trainer.resume=true` asks to go on with a run that has ended: it is left as
    it is, so that a list of runs that was interrupted can be given again.

    Raises:
        DataError: the data is not prepared.
        ConfigError: a finished run stands there that was trained with other settings.
    """
    folder = config.run_dir
    if not config.trainer.resume or not (folder / "run.json").is_file():
        return None
    if (folder.with_name(folder.name + ".partial") / "settings.json").exists():
        return None  # a later training was interrupted
    about = read_json(folder / "run.json")
    before = about["config"] | {"data_fingerprint": about["data_fingerprint"]}
    if changes := _differences(_comparable(before), _comparable(_settings(config))):
        raise ConfigError(
            f"{shown(folder)} is a finished run with other settings ({'; '.join(changes[:5])}), so "
            "there is nothing to resume. To train it anew, leave out trainer.resume; to keep it, "
            "give another name=... or output=..."
        )
    say(
        f"{shown(folder)} is finished and left as it is; to train it again, leave out "
        "trainer.resume."
    )
    return dict(about["validation"])


def refuse_another_task(config: Config | NextConfig) -> None:
    """Refuse to put a run in the place of one that was asked another question.

    Other settings of the same question (a model's width) replace a run; another question's runs
    could no longer be compared with those beside it.

    Raises:
        ConfigError: that is what would happen.
    """
    file = config.run_dir / "run.json"
    if not file.is_file():
        return
    before, now = (
        {key: task[key] for key in QUESTION if key in task}
        for task in (read_json(file)["config"]["task"], config.task.model_dump(mode="json"))
    )
    if changes := _differences(before, now):
        raise ConfigError(
            f"{shown(config.run_dir)} is a run of another task ({'; '.join(changes)}), which this "
            f"one would replace. Give this one a name of its own, name={config.name}_2 "
            "task.name=..., or delete the other first."
        )


def _settings(config: Config | NextConfig) -> dict[str, Any]:
    """Return what must be the same for a training to be the same one."""
    fingerprint = read_manifest(config.prepared)["fingerprint"]
    return config.model_dump(mode="json") | {"data_fingerprint": fingerprint}


def _comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not about the result."""
    kept = {key: value for key, value in settings.items() if key not in _ASIDE}
    for part, aside in (("data", _HOW_DATA_IS_READ), ("trainer", _HOW_TRAINING_RUNS)):
        kept[part] = {key: value for key, value in settings[part].items() if key not in aside}
    return kept


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    """Say of each key how it was and how it is; one that is new since then was not another."""
    if isinstance(before, dict) and isinstance(now, dict):
        each = ((before[k], now.get(k), f"{key}.{k}" if key else k) for k in before)
        return [line for old, new, k in each for line in _differences(old, new, k)]
    return [f"{key} was {before!r}, is {now!r}"] if before != now else []


def _check_same_data(config: Config | NextConfig) -> None:
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
    for key in told.keys() - _HOW_DATA_IS_READ:
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


def _claim(partial: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Make the folder of an unfinished run ours, or go on with the one that is there."""
    mark = partial / "settings.json"
    if resume and mark.exists():
        if changes := _differences(_comparable(read_json(mark)), _comparable(settings)):
            raise ConfigError(
                f"{partial} is an interrupted run of another configuration, or of data that was "
                f"prepared again since ({'; '.join(changes[:5])}); resume needs the same. "
                "To start anew, leave out trainer.resume."
            )
        for scratch in partial.glob("scratch-*"):  # of a process that was killed
            shutil.rmtree(scratch, ignore_errors=True)
        return
    if resume:
        say(f"Nothing to resume at {shown(partial)}; starting anew.")
    if _can_resume(partial):
        say(
            f"{shown(partial)}, an interrupted training, is started anew; to go on with one, give "
            "trainer.resume=true."
        )
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(mark, settings)


def _can_resume(partial: Path) -> bool:
    """Whether training, or a pretraining before it, has left a checkpoint."""
    return any((partial / "checkpoints").rglob("latest.ckpt"))


def write_customers(
    data: TaskData | NextData, path: Path, learnable: np.ndarray | None = None
) -> None:
    """Record whom the model was trained on, hashed, so that an erasure can name its models.

    They are the customers of a training or validation snapshot, and all others of whom the
    tokenizer has seen a token: its vocabulary and scales know them too.

    Args:
        data: with all snapshots.
        path: of the file.
        learnable: (C,) bool, whose tokens it might see; everybody's if unset.
    """
    import ibis

    store = data.store
    until_us = round(datetime.fromisoformat(data.tokenizer.fitted_until).timestamp() * 1e6)
    seen = store.offsets[:-1] < store.offsets[1:]  # (C,) bool: has a token
    seen[seen] = store.times[store.offsets[:-1][seen], 1] <= until_us  # each one's first known
    if learnable is not None:
        seen &= learnable
    used = data.snapshots["split"].isin(["train", "validation"])
    seen[data.snapshots.loc[used, "customer_index"].to_numpy()] = True
    hashed = (
        ibis.memtable(pd.DataFrame({"customer_id": store.customer_ids[seen]}))
        .select(customer_hash=ibis._.customer_id.hexdigest("sha256"))
        .order_by("customer_hash")
    )
    hashed.to_pandas().to_parquet(path, index=False)
