"""Which model answers, network or baseline, and with what settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from seqjourney.config.types import Strict


class _Network(Strict):
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
    amount_weight: float = Field(1.0, gt=0)
    """Of a `sum` task: what the likelihood of buyers' amounts weighs against the cross-entropy."""
    pretrain_epochs: int = Field(0, ge=0)
    """Most epochs of learning what comes next from all histories, labelled or not, before the task
    is learned; 0: none."""


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


class BaseRateConfig(Strict):
    """Everyone gets the training base rate."""

    kind: Literal["base_rate"]
    name: str


class PastValueConfig(Strict):
    """Customers bring in as much as they did so far; for `sum` tasks."""

    kind: Literal["past_value"]
    name: str


class RecencyConfig(Strict):
    """Customers ranked by the time since their last event alone."""

    kind: Literal["recency"]
    name: str


class LogisticConfig(Strict):
    """Logistic regression on point-in-time features; the penalty is chosen on validation."""

    kind: Literal["logistic"]
    name: str
    penalties: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    """Inverse strengths C that are tried."""


class _Boosting(Strict):
    name: str
    trials: int = Field(10, ge=1)
    """Settings that are tried."""
    rounds: int = Field(400, ge=1)
    """Most boosting rounds; validation stops earlier."""


class LightGBMConfig(_Boosting):
    """Gradient boosting on point-in-time features, tuned by random search on validation."""

    kind: Literal["lightgbm"]


class CatBoostConfig(_Boosting):
    """The same with CatBoost (extra `catboost`): symmetric trees, encoded categories."""

    kind: Literal["catboost"]


class _PurchaseModel(Strict):
    name: str
    penalties: tuple[float, ...] = Field((0.0, 0.001, 0.01, 0.1), min_length=1)
    """Weights of the squared log parameters against the mean log-likelihood that are tried."""


class BGNBDConfig(_PurchaseModel):
    """BG/NBD on earlier target events: customers leave after one of them."""

    kind: Literal["bgnbd"]


class ParetoNBDConfig(_PurchaseModel):
    """Pareto/NBD on earlier target events: customers leave at any moment."""

    kind: Literal["paretonbd"]


class NextCountsConfig(Strict):
    """Counts of what follows what, for `next` tasks.

    `popularity`: how often each value comes. `recent`: the values of the history, latest first.
    `markov`: what follows the last value, backed off to popularity. `rules`: what comes within
    `steps` events after each of the last `steps` values.
    """

    kind: Literal["popularity", "recent", "markov", "rules"]
    name: str
    steps: int = Field(10, ge=1)
    decays: tuple[float, ...] = Field((0.2, 0.5, 0.8, 1.0), min_length=1)
    """What a value one event further back counts, for `rules`; validation chooses."""
    norms: tuple[float, ...] = Field((0.0, 0.5, 1.0), min_length=1)
    """By which power of what follows a value in all its rules are divided; validation chooses."""


class BlendConfig(Strict):
    """The mean of finished runs of the same task; not for `sum` and `time_to` tasks."""

    kind: Literal["blend"]
    name: str
    runs: tuple[str, ...] = Field(min_length=2)
    """Folders of runs, beside that of the blend itself or absolute."""

    @field_validator("runs")
    @classmethod
    def _check_runs(cls, runs: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({run for run in runs if runs.count(run) > 1}):
            raise ValueError(f"names {twice[0]} twice")
        return runs


NetworkConfig = GRUConfig | TransformerConfig
BaselineConfig = (
    BaseRateConfig
    | PastValueConfig
    | RecencyConfig
    | LogisticConfig
    | LightGBMConfig
    | CatBoostConfig
    | BGNBDConfig
    | ParetoNBDConfig
)
ModelConfig = Annotated[
    NetworkConfig | BaselineConfig | BlendConfig | NextCountsConfig, Field(discriminator="kind")
]
