"""A network as a `Predictor`: trained with Lightning, saved as plain data, loaded with one call."""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from seqjourney.config import (
    GRUConfig,
    LoggerConfig,
    NetworkConfig,
    TrainerConfig,
    TransformerConfig,
    parse,
)
from seqjourney.errors import ConfigError, DataError
from seqjourney.files import replacing_file
from seqjourney.models.model import JourneyModel
from seqjourney.models.value_head import ValueScale
from seqjourney.sequences.batching import Batch, BucketBatchSampler, Collator, build_windows
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import Tokenizer

if TYPE_CHECKING:
    from seqjourney.models.training import AveragedTraining
    from seqjourney.sequences.datamodule import JourneyDataModule

FILE = "model.pt"
_FORMAT = 1
_SCORING_TOKENS = 32_768


class NetworkPredictor:
    """GRU or transformer over tokens and snapshot tokens."""

    per_buyer = True

    def __init__(self, config: NetworkConfig, logger: LoggerConfig | None = None):
        self.config = config
        self._logger = logger or LoggerConfig()
        self.tokenizer: Tokenizer | None = None
        self.model: JourneyModel | None = None
        self._base_rate = 0.5
        self._scale: ValueScale | None = None
        self._accelerator = "auto"
        self.validation_score_ = float("nan")
        self.chosen_: dict[str, Any] = {}

    def fit(self, data: TaskData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Train until validation gets no better (see `training.MONITOR`); keep the best weights.

        `folder/checkpoints` holds what a resume needs and goes when training has ended.
        """
        import pytorch_lightning as pl

        from seqjourney.models.training import JourneyTraining
        from seqjourney.sequences.datamodule import JourneyDataModule

        self._accelerator = trainer.accelerator
        if trainer.threads is not None:
            torch.set_num_threads(trainer.threads)
        with quiet():
            pl.seed_everything(seed, verbose=False)
        # Processes of DDP cannot share a connection to the engine, and need none.
        data = replace(data, events=None)
        self.tokenizer = data.tokenizer
        labels = data.of("train").snapshots["label"]
        self._base_rate = float(labels.mean())
        if data.task.kind == "sum":
            self._scale = ValueScale.of(data.of("train").snapshots["value"].to_numpy())
        self.model = JourneyModel(self.config, self.tokenizer, self._base_rate, self._scale)
        module = JourneyDataModule(
            data,
            context=self.config.context,
            batch_tokens=self.config.batch_tokens,
            seed=seed,
            workers=trainer.workers,
        )
        training = JourneyTraining(self.model, self.config, module.mean_batch_weight())
        found = learn(
            training, module, trainer, folder, loggers(self._logger, folder, self.config.name)
        )
        self.model.load_state_dict(found["weights"])
        self.model.eval().cpu()
        self.validation_score_ = found["score"]
        self.chosen_ = {"epochs": found["epochs"], "steps": found["steps"]}

    @property
    def context(self) -> int:
        """How many of the latest events it sees at most."""
        return self.config.context

    def score(self, data: TaskData) -> np.ndarray:
        """Return the log-odds before calibration, one per snapshot."""
        answers = self._answers(data)
        return answers if self._scale is None else scores_and_amounts(answers)[0]

    def score_and_amount(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-odds, and the expected amount of a buyer; of a `sum` task."""
        return scores_and_amounts(self._answers(data))

    def _answers(self, data: TaskData) -> np.ndarray:
        assert self.model is not None and self.tokenizer is not None
        device = "cuda" if accelerator_for(self._accelerator) == "gpu" else "cpu"
        tokens = max(_SCORING_TOKENS, self.config.batch_tokens)
        return score_windows(self.model, data, self.tokenizer, self.config.context, tokens, device)

    def first_batch(self, data: TaskData, sequences: int) -> Batch:
        """Return one batch of up to so many windows, to compare models on."""
        assert self.tokenizer is not None
        data = replace(data, tokenizer=self.tokenizer)
        windows = build_windows(data, self.config.context)
        return Collator(data, windows)(range(min(sequences, len(windows))))

    def save(self, folder: Path) -> None:
        """Write `model.pt`: settings, tokenizer and weights as plain data."""
        assert self.model is not None and self.tokenizer is not None
        with replacing_file(folder / FILE) as partial:
            torch.save(
                {
                    "format": _FORMAT,
                    "config": self.config.model_dump(mode="json"),
                    "tokenizer": self.tokenizer.to_dict(),
                    "base_rate": self._base_rate,
                    "scale": None if self._scale is None else asdict(self._scale),
                    "validation_score": self.validation_score_,
                    "weights": self.model.state_dict(),
                },
                partial,
            )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `model.pt`; nothing in it is executed."""
        path = folder / FILE
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise DataError(f"{path} is missing; train the model first.") from None
        except Exception as error:  # zip, pickle and torch raise many kinds for a damaged file
            raise DataError(f"{path} is damaged ({type(error).__name__}); train again.") from error
        if content.get("format") != _FORMAT:
            raise DataError(f"{path} was written by another version of seqjourney; train again.")
        gru = content["config"]["kind"] == "gru"
        kind: type[NetworkConfig] = GRUConfig if gru else TransformerConfig
        config = parse(kind, content["config"], str(path))
        network = cls(config)
        network.tokenizer = Tokenizer.from_dict(content["tokenizer"])
        network._base_rate = content["base_rate"]
        scale = content.get("scale")
        network._scale = None if scale is None else ValueScale(**scale)
        network.model = JourneyModel(
            config, network.tokenizer, content["base_rate"], network._scale
        )
        network.model.load_state_dict(content["weights"])
        network.model.eval()
        network.validation_score_ = content["validation_score"]
        return network


def learn(
    training: AveragedTraining,
    module: JourneyDataModule,
    trainer: TrainerConfig,
    folder: Path,
    curves: list[Any],
) -> dict[str, Any]:
    """Train until validation gets no better.

    Returns:
        The best averaged `weights`, their `score`, and how many `epochs` and `steps` they took.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    from seqjourney.models.progress import Bar, progress
    from seqjourney.models.training import (
        VALUE_MONITOR,
        RandomState,
        ResumableCheckpoint,
        SpawnedProcesses,
    )

    checkpoints = folder / "checkpoints"
    monitor, mode = training.monitor, "min" if training.monitor == VALUE_MONITOR else "max"
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor=monitor,
        mode=mode,
        save_weights_only=True,
        enable_version_counter=False,
    )
    resumable = checkpoints / "latest.ckpt"
    latest = ResumableCheckpoint(resumable, trainer.checkpoint_every_steps)
    shown = progress(trainer.progress)
    most, patience = epochs_of(trainer, module.training_batches(trainer.devices))
    stop = EarlyStopping(monitor, mode=mode, patience=patience)
    with quiet():
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
            callbacks=[best, latest, stop, RandomState(), *shown],
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
    return {
        "weights": weights,
        "score": state[monitor],
        "epochs": state["epoch"] + 1,
        "steps": state["global_step"],
    }


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


def score_windows(
    model: torch.nn.Module,
    data: TaskData,
    tokenizer: Tokenizer,
    context: int,
    batch_tokens: int = _SCORING_TOKENS,
    device: str = "cpu",
) -> np.ndarray:
    """Run a network, trained or exported, over all snapshots of the data.

    Returns:
        (snapshots,) float64; of a `sum` task (snapshots, 2), see `ValueAnswers`.
    """
    model = model.eval()
    if device != "cpu":  # moving, even to where it is, is not for threads that share a GRU
        model = model.to(device)
    data = replace(data, tokenizer=tokenizer)
    windows = build_windows(data, context)
    collate = Collator(data, windows)
    scores = np.zeros(0)
    with torch.inference_mode():
        for chosen in BucketBatchSampler(windows, batch_tokens, seed=None):
            batch = collate(chosen)
            answers = model(*batch.to(device).inputs).float().cpu().numpy()
            asked = batch.rows.numpy() >= 0
            if not len(scores):
                scores = np.full((len(data.snapshots), *answers.shape[2:]), np.nan)
            scores[batch.rows.numpy()[asked]] = answers[asked]
    if device != "cpu":
        model.cpu()
    return scores


def scores_and_amounts(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take a `sum` task's answers apart: (n, 2) -> log-odds (n,), amounts of money (n,)."""
    score, log_amount = answers.reshape(-1, 2).T
    return score, np.exp(log_amount)


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
def quiet() -> Iterator[None]:
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
