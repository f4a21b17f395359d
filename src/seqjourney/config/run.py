"""One run: this data, this task, this model, trained like this."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from seqjourney.config.data import DataConfig
from seqjourney.config.model import GRUConfig, ModelConfig, TransformerConfig
from seqjourney.config.next_task import NextTaskConfig
from seqjourney.config.parsing import parse
from seqjourney.config.task import TaskConfig
from seqjourney.config.types import Name, Strict
from seqjourney.errors import ConfigError


class TrainerConfig(Strict):
    """How a network is trained; baselines use only `threads` and `progress`."""

    max_epochs: int = Field(60, ge=1)
    patience: int = Field(8, ge=1)
    """Epochs without a better validation average precision (of a `sum` task, loss) before training
    stops."""
    least_steps: int = Field(0, ge=0)
    """Where `max_epochs` epochs are fewer optimiser steps than this (on small data an epoch may be
    two), `max_epochs` and `patience` grow alike until they are as many."""
    gradient_clip: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto`: a CUDA GPU where there is one, else the CPU (times need float64, which MPS lacks)."""
    devices: int = Field(1, ge=1)
    """More than one trains with DDP."""
    workers: int = Field(0, ge=0)
    """Processes that build batches."""
    threads: int | None = Field(None, ge=1)
    """Threads of torch, LightGBM and CatBoost; unset means their default."""
    checkpoint_every_steps: int | None = Field(200, ge=1)
    """How often a resumable checkpoint is written within an epoch; unset means never, and that an
    interruption leaves nothing."""
    resume: bool = False
    """Go on from the interrupted run of the same configuration; a finished one is left as it is."""
    limit_batches: int | None = Field(None, ge=1)
    """Only so many batches an epoch: a quick check that everything runs."""
    progress: bool = True


class LoggerConfig(Strict):
    """Where training curves go besides the CSV that is always written."""

    wandb: bool = False
    project: str = "seqjourney"
    offline: bool = True
    """Weights & Biases without network or account; sync later with `wandb sync`."""


class Also(Strict):
    """Another task that the network of a run learns, with a head of its own."""

    task: TaskConfig
    weight: float = Field(gt=0, allow_inf_nan=False)
    """What its loss counts, against 1 of the main task's."""


class RunConfig(Strict):
    """What a run is told whatever its task: the data, how to train, and where it all lies."""

    name: Name
    """Name of the experiment; runs go to `<output>/<name>/<model>`."""
    seed: int = Field(0, ge=0)
    """Runs of a seed above 0 go to `<model>_seed<seed>`."""
    output: Path = Path("outputs")
    processed: Path = Path("data/processed")
    """Where prepared data lies."""
    run: Path | None = None
    """Overrides the run's folder."""
    data: DataConfig
    model: ModelConfig
    trainer: TrainerConfig = TrainerConfig()
    logger: LoggerConfig = LoggerConfig()

    @property
    def prepared(self) -> Path:
        """Folder of the prepared data."""
        return self.processed / self.data.name

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return self.run or self.output / self.name / self.period / self._folder

    @property
    def run_name(self) -> str:
        """The run as predictions name it: `<name>/[<period>/]<folder>`."""
        return (Path(self.name) / self.period / self.run_dir.name).as_posix()

    @property
    def period(self) -> str:
        """Folder of the test period within the experiment's; of the last one, none."""
        return ""

    @property
    def _folder(self) -> str:
        return f"{self.model.name}_seed{self.seed}" if self.seed else self.model.name


class Config(RunConfig):
    """One run: this data, this task, this model."""

    task: TaskConfig
    also: Annotated[tuple[Also, ...], BeforeValidator(lambda given: given or ())] = ()
    """Tasks that the network learns beside `task`; on a command line names of task configs with
    their weights, `'also={demo_ltv: 0.5}'`."""

    @property
    def period(self) -> str:
        """Folder of the test period within the experiment's; of the last one, none."""
        return self.task.period

    @model_validator(mode="after")
    def _check_also(self) -> Config:
        if self.also and not isinstance(self.model, GRUConfig | TransformerConfig):
            raise ValueError(
                f"also is for networks (gru, transformer), which learn several tasks at once; "
                f"model={self.model.name} learns one. Leave also out and train a run per task"
            )
        names = [self.task.name, *(one.task.name for one in self.also)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"task '{twice[0]}' is learned already; give one another task.name")
        return self


class NextConfig(RunConfig):
    """One run of a `next` task."""

    task: NextTaskConfig
    also: Annotated[dict[str, Any] | None, BeforeValidator(lambda given: given or None)] = None
    """Not of a `next` task."""

    @model_validator(mode="after")
    def _refuse_also(self) -> NextConfig:
        if self.also:
            raise ValueError(f"'{self.task.name}' is a next task, which is learned alone: no also")
        return self


def config_of_run(content: dict[str, Any], where: str) -> Config | NextConfig:
    """Read the configuration of a run.

    Raises:
        ConfigError: it is not one.
    """
    task = content.get("task")
    if isinstance(task, dict) and task.get("kind") == "next":
        return parse(NextConfig, content, where)
    return parse(Config, content, where)


def served_config(content: dict[str, Any], where: str) -> Config:
    """Read the configuration of a run for what takes no `next` tasks yet: the service.

    Raises:
        ConfigError: it is a run of one, or not the configuration of a run.
    """
    config = config_of_run(content, where)
    if isinstance(config, NextConfig):
        raise ConfigError(
            f"{where}: a run of a next task, which the service does not answer yet; "
            "scripts/score.py scores customers with it."
        )
    return config
