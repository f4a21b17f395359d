"""The opponents of every network, with the same interface and the same predictions file.

Two rules need no learning. Logistic regression and gradient boosting learn from point-in-time
features, a few hundred numbers that say what was known of a customer at a cutoff. BG/NBD and
Pareto/NBD know only when a customer first and last bought and how often.
Read `feature_spec.py`, `feature_queries.py`, `features.py`, then `rules.py`, `logistic.py` and
`boosting.py` with its two libraries; then `purchase_counts.py` and `btyd.py`. `build` turns a
configuration into a baseline. For tasks that sum, `past_value.py` is the rule, `two_part.py` what
boosted trees do, and `purchase_values.py` with `gamma_gamma.py` says what a purchase is worth.
`next_counts.py` answers `next` tasks, whose interface is `sequences.next_cases.NextPredictor`.
"""

from __future__ import annotations

from importlib import import_module

from seqjourney.config import BaselineConfig
from seqjourney.sequences.task_data import Predictor

# Named, not imported: a rule should not wait for LightGBM.
BASELINES = {
    "base_rate": "rules:BaseRate",
    "recency": "rules:Recency",
    "logistic": "logistic:Logistic",
    "lightgbm": "boosting_lightgbm:LightGBM",
    "catboost": "boosting_catboost:CatBoost",
    "bgnbd": "btyd:BuyTillYouDie",
    "paretonbd": "btyd:BuyTillYouDie",
    "past_value": "past_value:PastValue",
}


def baseline_class(kind: str) -> type[Predictor]:
    """Return the class of a baseline, for `load` or to build it."""
    module, name = BASELINES[kind].split(":")
    found: type[Predictor] = getattr(import_module(f"seqjourney.baselines.{module}"), name)
    return found


def build(config: BaselineConfig) -> Predictor:
    """Return an unfitted baseline."""
    chosen = baseline_class(config.kind)
    return chosen(config)  # type: ignore[call-arg]


__all__ = ["BASELINES", "baseline_class", "build"]
