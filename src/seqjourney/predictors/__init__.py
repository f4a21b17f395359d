"""All models, of whatever family: which class is built for a kind, and which reads a trained one.

`blend.py` is the one that consists of others.
"""

from __future__ import annotations

from pathlib import Path

from seqjourney.config import (
    BlendConfig,
    GRUConfig,
    LoggerConfig,
    ModelConfig,
    NextCountsConfig,
    TransformerConfig,
)
from seqjourney.files import read_json
from seqjourney.sequences.task_data import Predictor

NETWORKS = ("gru", "transformer")


def build(model: ModelConfig, logger: LoggerConfig, by_horizon: bool = False) -> Predictor:
    """Return an untrained model; none for `next` tasks alone is among them.

    `by_horizon` is for `time_to` tasks, of which a baseline learns each horizon by itself.
    """
    if isinstance(model, GRUConfig | TransformerConfig):
        from seqjourney.models.network import NetworkPredictor

        return NetworkPredictor(model, logger)
    if isinstance(model, BlendConfig):
        from seqjourney.predictors.blend import Blend

        return Blend(model)
    from seqjourney import baselines
    from seqjourney.baselines.per_horizon import PerHorizon

    assert not isinstance(model, NextCountsConfig)
    return PerHorizon(model) if by_horizon else baselines.build(model)


def load(folder: Path, kind: str) -> Predictor:
    """Read the model of a run directory.

    Raises:
        DataError: a file is missing or damaged.
        KeyError, TypeError, ValueError: a file does not hold what this version writes.
    """
    if kind in NETWORKS:
        from seqjourney.models.network import NetworkPredictor

        return NetworkPredictor.load(folder)
    if kind == "blend":
        from seqjourney.predictors.blend import Blend

        return Blend.load(folder)
    from seqjourney.baselines import baseline_class
    from seqjourney.baselines.per_horizon import PerHorizon

    if "horizons" in read_json(folder / "model.json"):
        return PerHorizon.load(folder)
    return baseline_class(kind).load(folder)
