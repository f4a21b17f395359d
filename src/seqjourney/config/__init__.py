"""What a run can be told: every configuration key, its meaning and its default.

Hydra composes YAML from `configs/`; `parse` turns the result into these frozen models and refuses
an unknown key with the nearest match. Durations are written `30d`, `6h`, `90m`, `45s` or `2w`.
Read in this order: `data` (where events come from), `task` (what is predicted, when) and
`next_task` (what comes next), `model` (one class per kind), `run` (the trainer, and all of it in
`Config`), `gate` (when a model may be acted on; `evaluate` asks).
"""

from seqjourney.config.data import DataConfig, SourceConfig
from seqjourney.config.gate import GateConfig
from seqjourney.config.model import (
    BaselineConfig,
    BaseRateConfig,
    BGNBDConfig,
    BlendConfig,
    CatBoostConfig,
    GRUConfig,
    LightGBMConfig,
    LogisticConfig,
    ModelConfig,
    NetworkConfig,
    NextCountsConfig,
    ParetoNBDConfig,
    PastValueConfig,
    RecencyConfig,
    TransformerConfig,
)
from seqjourney.config.next_task import NextTaskConfig
from seqjourney.config.parsing import kinds_with, parse, siblings
from seqjourney.config.run import (
    Also,
    Config,
    LoggerConfig,
    NextConfig,
    RunConfig,
    TrainerConfig,
    config_of_run,
    served_config,
)
from seqjourney.config.task import CutoffRange, Cutoffs, Eligible, TaskConfig, period_of
from seqjourney.config.types import Strict, nearest, span_name

__all__ = [
    "Also",
    "BGNBDConfig",
    "BaseRateConfig",
    "BaselineConfig",
    "BlendConfig",
    "CatBoostConfig",
    "Config",
    "CutoffRange",
    "Cutoffs",
    "DataConfig",
    "Eligible",
    "GRUConfig",
    "GateConfig",
    "LightGBMConfig",
    "LoggerConfig",
    "LogisticConfig",
    "ModelConfig",
    "NetworkConfig",
    "NextConfig",
    "NextCountsConfig",
    "NextTaskConfig",
    "ParetoNBDConfig",
    "PastValueConfig",
    "RecencyConfig",
    "RunConfig",
    "SourceConfig",
    "Strict",
    "TaskConfig",
    "TrainerConfig",
    "TransformerConfig",
    "config_of_run",
    "kinds_with",
    "nearest",
    "parse",
    "period_of",
    "served_config",
    "siblings",
    "span_name",
]
