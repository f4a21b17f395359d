"""The answer in one plain sentence: which model ranks best, and is that clear?

Everything is read from a task's entry in metrics.json, so the sentence can never say more than
the numbers below it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from seqjourney.evaluation.metrics import HEADLINE, METRICS, Metric
from seqjourney.evaluation.value import VALUE_HEADLINE, VALUE_METRICS
from seqjourney.page import NO_BREAK, decimal

# The predictions contract has no column for a model's family, so its name has to say it.
NEURAL_WORDS = frozenset(
    ("gru", "lstm", "rnn", "transformer", "tcn", "mamba", "mlp", "neural", "nn", "bert", "gpt")
)


@dataclass(frozen=True)
class Verdict:
    """`best` is the first by the headline metric, `rival` the model that it is held against.

    `clear` is True when the 95 % interval of the paired difference excludes zero.
    """

    best: str
    rival: str | None
    clear: bool | None
    sentence: str


def headline_of(results: Mapping[str, Any]) -> Metric:
    """Return the metric by which a task's models are ranked."""
    return VALUE_METRICS[VALUE_HEADLINE] if "value" in results else METRICS[HEADLINE]


def is_neural(model: str) -> bool:
    """Whether a model's name contains a word for a neural network, such as `gru_small`."""
    return not NEURAL_WORDS.isdisjoint(re.split(r"[^a-z]+", model.lower()))


def verdict(results: Mapping[str, Any], trials: Collection[str] = ()) -> Verdict:
    """Hold the best model against the best of the other kind (neural or not), else the next.

    Trial runs (`evaluation.trials`) have no say where there is anything else.
    """
    everyone = list(results["models"])  # best first
    models = [model for model in everyone if model not in trials] or everyone
    headline = headline_of(results)
    best, name = models[0], headline.title[0].lower() + headline.title[1:]
    of_best = _with_interval(results["models"][best][headline.name])
    if len(models) == 1:
        sentence = f"{best} was evaluated alone: {name} {of_best}."
        return Verdict(best, None, None, sentence)
    others = [m for m in models[1:] if is_neural(m) != is_neural(best)]
    rival = others[0] if others else models[1]
    if not others:
        kind = "the next best model"
    else:
        kind = "the best non-neural model" if is_neural(best) else "the best neural model"
    gap = comparison(results, best, rival, headline.name)
    clear = _excludes_zero(gap)
    sentence = (
        f"{best} ranks best {'and is clearly' if clear else 'but is not clearly'} ahead of "
        f"{rival}, {kind}: {name} {of_best} against "
        f"{_with_interval(results['models'][rival][headline.name])}, "
        f"a difference of {_with_interval(gap, 'difference')}."
    )
    return Verdict(best, rival, clear, sentence)


def comparison(results: Mapping[str, Any], a: str, b: str, metric: str) -> dict[str, Any]:
    """Return the entry of `comparisons` for a pair in the order in which it is stored."""
    return next(
        entry
        for entry in results["comparisons"]
        if (entry["a"], entry["b"], entry["metric"]) == (a, b, metric)
    )


def not_clearly_worse(results: Mapping[str, Any]) -> set[str]:
    """Models whose headline metric is not clearly below the best model's."""
    best, headline = next(iter(results["models"])), headline_of(results).name
    return {
        entry["b"]
        for entry in results["comparisons"]
        if entry["a"] == best and entry["metric"] == headline and not _excludes_zero(entry)
    }


def _excludes_zero(entry: Mapping[str, Any]) -> bool:
    low, high = entry["low"], entry["high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def _with_interval(entry: Mapping[str, Any], key: str = "value") -> str:
    value, low, high = (
        "" if entry[part] is None else decimal(entry[part]) for part in (key, "low", "high")
    )
    return (
        f"{value} (95 % interval {low} to {high})".replace(" %", f"{NO_BREAK}%") if low else value
    )
