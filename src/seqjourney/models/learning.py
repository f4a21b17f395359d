"""How any of our networks is trained with Lightning: stopping, resuming, curves, devices."""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from seqjourney.config import LoggerConfig, TrainerConfig
from seqjourney.errors import ConfigError, DataError

if TYPE_CHECKING:
    from seqjourney.models.training import AveragedTraining
    from seqjourney.sequences.datamodule import JourneyDataModule


def begin(trainer: TrainerConfig, seed: int) -> None:
    """Set threads and seeds, before anything is drawn."""
    import pytorch_lightning as pl

    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    with _quiet():
        pl.seed_everything(seed, verbose=False)


def learn(
    training: AveragedTraining,
    module: JourneyDataModule,
    trainer: TrainerConfig,
    checkpoints: Path,
    curves: list[Any],
) -> tuple[float, dict[str, int]]:
    """Train until validation gets no better; `training.model` then has the best averaged weights.

    `checkpoints` is the folder of what a resume needs.

    Returns:
        Their validation score, and how many `epochs` and `steps` they took.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    from seqjourney.models.progress import Bar, progress
    from seqjourney.models.training import RandomState, ResumableCheckpoint, SpawnedProcesses

    monitor, mode = training.monitor.name, training.monitor.mode
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor=monitor,
        mode=mode,
        save_weights_only=True,
        enable_version_counter=False,
    )
    resumable = checkpoints / "latest.ckpt"
    every = trainer.checkpoint_every_steps
    latest = [] if every is None else [ResumableCheckpoint(resumable, every)]
    shown = progress(trainer.progress)
    most, patience = epochs_of(trainer, module.training_batches(trainer.devices))
    stop = EarlyStopping(monitor, mode=mode, patience=patience)
    with _quiet():
        lightning = pl.Trainer(
            accelerator=accelerator_for(trainer.accelerator),
            devices=trainer.devices,
            strategy=SpawnedProcesses() if trainer.devices > 1 else "auto",
            use_distributed_sampler=False,  # our batch sampler shares the work itself
            max_epochs=most,
            gradient_clip_val=trainer.gradient_clip,
            precision=trainer.precision,
            limit_train_batches=trainer.limit_batches,
            limit_val_batches=trainer.limit_batches,
            num_sanity_val_steps=0,
            callbacks=[best, *latest, stop, RandomState(), *shown],
            logger=curves,
            log_every_n_steps=10,
            enable_progress_bar=any(isinstance(one, Bar) for one in shown),
            enable_model_summary=False,
        )
        with _interruptible():
            lightning.fit(
                training,
                datamodule=module,
                ckpt_path=str(resumable) if trainer.resume and resumable.exists() else None,
                weights_only=False,
            )
    if not best.best_model_path:
        raise DataError("training ended before its first validation; raise the limits.")
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    prefix = "averaged.module."
    weights = {
        name.removeprefix(prefix): value
        for name, value in state["state_dict"].items()
        if name.startswith(prefix)
    }
    training.model.load_state_dict(weights)
    training.model.eval().cpu()
    return state[monitor], {"epochs": state["epoch"] + 1, "steps": state["global_step"]}


def loggers(config: LoggerConfig, folder: Path, model: str) -> list[Any]:
    """Return what writes training curves: a CSV always, Weights & Biases if asked."""
    from pytorch_lightning.loggers import CSVLogger, WandbLogger

    curve = folder / "logs" / "metrics.csv"
    if curve.exists():  # of the run that is resumed; Lightning would delete it
        parts = len(list(curve.parent.glob("metrics*.csv")))
        curve.rename(curve.with_name(f"metrics.{parts}.csv"))
    found: list[Any] = [CSVLogger(folder, name="logs", version="")]
    if config.wandb:
        try:
            found.append(
                WandbLogger(
                    project=config.project,
                    name=f"{folder.parent.name}/{model}",
                    save_dir=folder,
                    offline=config.offline,
                )
            )
        except ModuleNotFoundError:
            raise DataError(
                "logger.wandb=true needs the 'wandb' extra: pip install 'seqjourney[wandb]'."
            ) from None
    return found


def epochs_of(trainer: TrainerConfig, batches: int) -> tuple[int, int]:
    """Return the most epochs and the patience of a training with so many batches an epoch.

    On small data eight epochs of patience end before the learning rate has even warmed up.
    """
    steps = trainer.max_epochs * max(1, batches)
    if trainer.limit_batches is not None or steps >= trainer.least_steps:
        return trainer.max_epochs, trainer.patience
    longer = trainer.least_steps / steps
    return math.ceil(trainer.max_epochs * longer), math.ceil(trainer.patience * longer)


def accelerator_for(choice: str) -> str:
    """Resolve `auto`; never Apple's MPS, which lacks the float64 that times need."""
    if choice == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu, but torch sees no CUDA GPU; use auto or cpu.")
    if choice != "auto":
        return choice
    return "gpu" if torch.cuda.is_available() else "cpu"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl+C stay an interruption: Lightning makes it an exit and goes deaf to further ones."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's tips and notices about devices and workers off the screen."""
    loggers = [
        logging.getLogger(name)
        for name in (
            "pytorch_lightning",
            "lightning_fabric",
            "lightning.pytorch",
            "lightning.fabric",
        )
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchdata")
        warnings.filterwarnings("ignore", message=".*(isinstance\\(treespec|LeafSpec).*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
