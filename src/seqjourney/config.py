"""What a run can be told: every configuration key, its meaning and its default.

Hydra composes YAML from `configs/`; `parse` turns the result into these frozen models and refuses
an unknown key with the nearest match. Durations are written `30d`, `6h`, `90m`, `45s` or `2w`.
Read in this order: `DataConfig` (where events come from), `TaskConfig` (what is predicted, when),
the model configs (one per kind), `TrainerConfig`, `Config` (all of it).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from seqjourney.errors import ConfigError

_MOST_NAMED = 30  # in a message
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _duration(value: object) -> object:
    """Read `30d` as 30 days; leave anything else to pydantic (ISO 8601 such as `P30D`)."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", value)):
        return timedelta(**{_UNITS[match[2]]: float(match[1])})
    if isinstance(value, bool | int | float):
        raise ValueError(f"a duration needs a unit: write '{value}d' for {value} days")
    return value


def _utc(value: object) -> object:
    """Read a date or time; one without an offset is UTC."""
    if hasattr(value, "year") and not isinstance(value, datetime):
        value = str(value)  # YAML reads 2011-01-15 as a date
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration must be longer than nothing")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)]
Moment = Annotated[datetime, BeforeValidator(_utc)]


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"no such time zone.{nearest(value, available_timezones())}")
    return value


Zone = Annotated[str, AfterValidator(_zone)]


Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Strict):
    """Where events come from and how their columns are named."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Names the prepared folder, `data/processed/<name>`."""
    source: Literal["table", "online_retail"] = "table"
    """`table`: any CSV or Parquet, one row per event. `online_retail`: UCI's invoice lines."""
    path: str
    """A file, a folder or a glob of CSV (also gzipped) or Parquet."""
    customer: str | None = None
    """Column with the customer's id."""
    timestamp: str | None = None
    """Column with the time at which the event happened."""
    timestamp_unit: Literal["s", "ms", "us"] | None = None
    """Unit of numeric times since 1970-01-01 UTC; required when the column is numeric."""
    timezone: Zone | None = None
    """Zone of times that carry no offset. Unset means UTC, and mixing both kinds is an error."""
    event: str | None = None
    """Column with the event's name; leave out when `event_name` names all of them."""
    event_name: str | None = None
    """The one name of all events, for tables without an event column."""
    known_at: str | None = None
    """Column with the time at which the company could know of the event; else `timestamp`."""
    event_id: str | None = None
    """Column with a unique id; repeated ids are dropped and counted. Else the row's position."""
    channel: str | None = None
    """Column with the channel."""
    value: str | None = None
    """Column with money: one currency, net of tax, refunds negative."""
    categorical: tuple[str, ...] = ()
    """Further columns that become categorical token fields."""
    numeric: tuple[str, ...] = ()
    """Further columns that become numeric token fields."""
    company_events: tuple[str, ...] = ()
    """Events that the company initiates (an e-mail sent); they make nobody active."""
    label_only_events: tuple[str, ...] = ()
    """Events that serve labels only and never become tokens."""
    earliest: Moment = datetime(1990, 1, 1, tzinfo=UTC)
    """Events before this are quarantined as absurd."""
    latest: Moment | None = None
    """Events after this are quarantined as absurd; unset means one day from now."""
    on_bad_rows: Literal["quarantine", "stop"] = "quarantine"
    """What happens to rows that cannot be used."""
    max_quarantined_share: float = Field(0.5, ge=0, le=1)
    """More than this share of bad rows stops `prepare`: the columns are probably wrong."""
    memory_limit: str = Field("4GB", pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B$")
    """Memory for the engine; larger data spills to disk."""
    threads: int | None = Field(None, ge=1)
    """Threads of the engine; unset means all cores."""
    tasks: tuple[str, ...] = ()
    """Task configs whose snapshots `prepare` cuts; `train` cuts any other on first use."""

    @model_validator(mode="after")
    def _check_columns(self) -> DataConfig:
        if self.source == "table":
            missing = [key for key in ("customer", "timestamp") if getattr(self, key) is None]
            if missing:
                raise ValueError(f"data.{missing[0]} must name a column (source: table)")
            if (self.event is None) == (self.event_name is None):
                raise ValueError("set exactly one of data.event (a column) and data.event_name")
        fields = (*self.categorical, *self.numeric)
        taken = {"customer_id", "timestamp", "known_at", "event", "event_id", "actor", "bucket"}
        taken |= {"channel", "value", "source_row", "problem"}
        lower = [field.lower() for field in fields]  # the engine's columns know no case
        for field in fields:
            if field.lower() in taken:
                raise ValueError(f"field '{field}' has the name of a core column; use its own key")
            if lower.count(field.lower()) > 1:
                raise ValueError(f"field '{field}' is declared twice")
        return self


class Eligible(_Strict):
    """Who counts at a cutoff."""

    events: tuple[str, ...] | None = None
    """Events that make a customer count; unset means any event of the customer's own."""
    within: Duration | None = None
    """How recent such an event must be; unset means ever."""
    without: tuple[str, ...] = ()
    """Customers with one of these events before the cutoff do not count (converted already)."""


class CutoffRange(_Strict):
    """Cutoffs from `start` to `end`, both included, every `every`."""

    start: Moment
    end: Moment
    every: Duration

    @model_validator(mode="after")
    def _check_order(self) -> CutoffRange:
        if self.end < self.start:
            raise ValueError(
                f"end {self.end:%Y-%m-%d %H:%M} lies before start {self.start:%Y-%m-%d %H:%M}"
            )
        return self

    def moments(self) -> tuple[datetime, ...]:
        """Return the cutoffs, ascending."""
        count = (self.end - self.start) // self.every
        return tuple(self.start + step * self.every for step in range(count + 1))


Moments = Annotated[tuple[Moment, ...], Field(min_length=1)]


class Cutoffs(_Strict):
    """The cutoffs of the three splits; every list ascending, no label windows overlapping."""

    train: CutoffRange | Moments
    validation: CutoffRange | Moments
    test: CutoffRange | Moments

    def of(self, split: str) -> tuple[datetime, ...]:
        """Return the cutoffs of a split (train, validation, test), ascending."""
        chosen: CutoffRange | tuple[datetime, ...] = getattr(self, split)
        return chosen.moments() if isinstance(chosen, CutoffRange) else tuple(sorted(set(chosen)))


class TaskConfig(_Strict):
    """What is predicted, for whom, and when."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    kind: Literal["occurrence", "absence"]
    """`occurrence`: a target event happens within the horizon. `absence`: none does."""
    target: tuple[str, ...] = Field(min_length=1)
    """Events that count as the target."""
    horizon: Duration
    """Length of the label window, `(cutoff, cutoff + horizon]`."""
    eligible: Eligible = Eligible()
    cutoffs: Cutoffs | None = None
    """Unset: derived from the data's time span and the horizon."""
    customer_holdout: float = Field(0.0, ge=0, lt=1)
    """Share of customers kept out of training and validation; the test then has only them."""
    trusted_fields: tuple[str, ...] = ()
    """Fields that may tell the labels apart almost perfectly without counting as a leak."""


class _Network(_Strict):
    name: str
    width: int = Field(64, ge=4)
    """Width D of tokens and hidden states."""
    layers: int = Field(1, ge=1)
    members: int = Field(1, ge=1)
    """Networks that learn side by side and answer with their mean."""
    dropout: float = Field(0.2, ge=0, lt=1)
    context: int = Field(512, ge=2)
    """Most recent events that a snapshot sees: between half of this and all of it."""
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(50, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    average_decay: float = Field(0.98, ge=0, lt=1)
    """Per step; validation and the checkpoint use this exponential average of the weights."""
    batch_tokens: int = Field(4096, ge=64)
    """Token budget of a batch, padding and snapshot tokens included."""


class GRUConfig(_Network):
    """Recurrent backbone: one state per event."""

    kind: Literal["gru"]


class TransformerConfig(_Network):
    """Causal transformer with rotary attention on real time."""

    kind: Literal["transformer"]
    heads: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _check_heads(self) -> TransformerConfig:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 x heads ({self.heads})")
        return self


class BaseRateConfig(_Strict):
    """Everyone gets the training base rate."""

    kind: Literal["base_rate"]
    name: str


class RecencyConfig(_Strict):
    """Customers ranked by the time since their last event alone."""

    kind: Literal["recency"]
    name: str


class LogisticConfig(_Strict):
    """Logistic regression on point-in-time features; the penalty is chosen on validation."""

    kind: Literal["logistic"]
    name: str
    penalties: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    """Inverse strengths C that are tried."""


class LightGBMConfig(_Strict):
    """Gradient boosting on point-in-time features, tuned by random search on validation."""

    kind: Literal["lightgbm"]
    name: str
    trials: int = Field(10, ge=1)
    rounds: int = Field(400, ge=1)
    """Most boosting rounds; validation stops earlier."""


NetworkConfig = GRUConfig | TransformerConfig
ModelConfig = Annotated[
    GRUConfig
    | TransformerConfig
    | BaseRateConfig
    | RecencyConfig
    | LogisticConfig
    | LightGBMConfig,
    Field(discriminator="kind"),
]


class TrainerConfig(_Strict):
    """How a network is trained; baselines use only `threads` and `progress`."""

    max_epochs: int = Field(60, ge=1)
    patience: int = Field(8, ge=1)
    """Epochs without a better validation average precision before training stops."""
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
    """Threads of torch and LightGBM; unset means their default."""
    checkpoint_every_steps: int = Field(200, ge=1)
    """How often a resumable checkpoint is written within an epoch."""
    resume: bool = False
    """Go on from the interrupted run of the same configuration."""
    limit_batches: int | None = Field(None, ge=1)
    """Only so many batches an epoch: a quick check that everything runs."""
    progress: bool = True


class LoggerConfig(_Strict):
    """Where training curves go besides the CSV that is always written."""

    wandb: bool = False
    project: str = "seqjourney"
    offline: bool = True
    """Weights & Biases without network or account; sync later with `wandb sync`."""


class Config(_Strict):
    """One run: this data, this task, this model."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the experiment; runs go to `<output>/<name>/<model>`."""
    seed: int = Field(0, ge=0)
    output: Path = Path("outputs")
    processed: Path = Path("data/processed")
    """Where prepared data lies."""
    run: Path | None = None
    """Overrides the run's folder."""
    data: DataConfig
    task: TaskConfig
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
        return self.run or self.output / self.name / self.model.name


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest known word, or a list of the known ones."""
    known = sorted(known)
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if match:
        return f" Did you mean '{match[0]}'?"
    shown = [name if len(name) <= 60 else name[:57] + "..." for name in known[:_MOST_NAMED]]
    more = f" and {len(known) - len(shown):,} more" if len(known) > len(shown) else ""
    return f" Known: {', '.join(shown)}{more}."


def parse(schema: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Validate a mapping against a config model.

    Args:
        schema: one of the config models of this module.
        values: plain containers, as YAML gives them.
        where: what the mapping is, for messages (`configuration`, a file's path).

    Raises:
        ConfigError: names every wrong key with its value and what is expected.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = [_explain(schema, detail) for detail in error.errors()]
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def _explain(schema: type[BaseModel], detail: Mapping[str, Any]) -> str:
    """Say in one line what is wrong with one key."""
    path = [str(part) for part in detail["loc"]]
    # The tag of a union (model kind) stands in pydantic's location but not in the user's YAML.
    key = ".".join(p for i, p in enumerate(path) if not (i == 1 and path[0] == "model"))
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{key}'.{nearest(path[-1], siblings(schema, path))}"
    if detail["type"] == "missing":
        return f"'{key}' is required"
    message = detail["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(detail["input"], Mapping) else f" (got {detail['input']!r})"
    return f"{key + ': ' if key else ''}{message}{shown}"


def siblings(schema: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys that are known where the last part of the path stands."""
    models: list[Any] = [schema]
    for part in path[:-1]:
        found: list[Any] = []
        for model in models:
            field = model.model_fields.get(part)
            if field is not None:
                found += _models_in(field.annotation)
            elif "kind" in model.model_fields:  # the part is a union's tag
                tags = getattr(model.model_fields["kind"].annotation, "__args__", ())
                found += [model] if part in tags else []
        models = found or models
    return [name for model in models for name in model.model_fields]


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
