"""The catalogue of metrics: their names, what each says in one line, and all of them at once.

`METRICS` fixes the names in metrics.json and the definitions printed in the report. The formulas
live in `ranking.py` (is the order right?) and `probability.py` (are the probabilities right?).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqjourney.evaluation.probability import ECE_BINS, probability_metrics
from seqjourney.evaluation.ranking import (
    DEPTHS_PERCENT,
    RECALLS_PERCENT,
    Ranking,
    accumulate,
    rank,
    ranking_metrics,
)


@dataclass(frozen=True)
class Metric:
    """One metric as a reader meets it; `shown` says how to print it."""

    name: str
    title: str
    meaning: str
    better: Literal["higher", "lower", "one", "zero"] = "higher"
    shown: Literal["number", "percent", "factor", "days", "money"] = "number"


_ALL = [
    Metric("average_precision", "Average precision",
           "Precision averaged over the ranked list, each time one more positive is found; "
           "a random order scores the base rate, a perfect one 1."),
    Metric("average_precision_over_base", "Average precision / base rate",
           "How many times better than a random order.", shown="factor"),
    Metric("roc_auc", "ROC-AUC",
           "The chance that a random positive is ranked above a random negative; "
           "0.5 is a coin, ties count half."),
    *(Metric(f"precision_at_{d}", f"Precision in the top {d}\u00a0%",
             f"Of the {d}\u00a0% ranked highest, the share with the outcome.", shown="percent")
      for d in DEPTHS_PERCENT),
    *(Metric(f"recall_at_{d}", f"Recall in the top {d}\u00a0%",
             f"Of all customers with the outcome, the share among the {d}\u00a0% ranked highest.",
             shown="percent")
      for d in DEPTHS_PERCENT),
    *(Metric(f"lift_at_{d}", f"Lift in the top {d}\u00a0%",
             f"Precision in the top {d}\u00a0% divided by the base rate.", shown="factor")
      for d in DEPTHS_PERCENT),
    *(Metric(f"precision_at_recall_{r}", f"Precision when {r}\u00a0% are found",
             f"Going down the list until {r}\u00a0% of the positives are found: the share of "
             "positives on the way.", shown="percent")
      for r in RECALLS_PERCENT),
    Metric("gini", "Gini",
           "2 × AUC − 1: the area that the gain curve wins over the diagonal, as a share of a "
           "perfect ranking's."),
    Metric("log_loss", "Log loss",
           "Mean surprise at what happened, given the probability; lower is better.", "lower"),
    Metric("brier", "Brier score",
           "Mean squared distance between probability and outcome; lower is better.", "lower"),
    Metric("brier_skill", "Brier skill",
           "1 − Brier / (base rate × (1 − base rate)): 0 is no better than always saying the "
           "base rate."),
    Metric("ece", "Calibration error (ECE)",
           f"Mean distance between promised and observed share over {ECE_BINS} bins of equal "
           "mass; lower is better. Chance alone keeps it above zero.", "lower"),
    Metric("calibration_slope", "Calibration slope",
           "1 is calibrated; below 1 the probabilities are too extreme, above 1 too timid.",
           "one"),
    Metric("calibration_intercept", "Calibration intercept",
           "0 is calibrated (read together with the slope).", "zero"),
]  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
HEADLINE = "average_precision"


def all_metrics(
    label: np.ndarray,
    score: np.ndarray,
    probability: np.ndarray,
    weights: np.ndarray | None = None,
    ties: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """All metrics of one model: label, score, probability (n,), weights (R, n) -> {name: (R,)}.

    Without weights every row counts once and R is 1.
    """
    weights = np.ones((1, len(label))) if weights is None else np.atleast_2d(weights)
    return ranked_metrics(rank(label, score, ties), label, probability, weights)


def ranked_metrics(
    ranking: Ranking, label: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """As `all_metrics`, for a score that is already sorted."""
    values = ranking_metrics(accumulate(ranking, weights))
    values |= probability_metrics(label, probability, weights)
    return {name: values[name] for name in METRICS}
