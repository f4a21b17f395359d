"""Made-up worlds in which the true precision above every threshold is known.

A customer has a score, standard normal, and the outcome with the odds
`exp(intercept + slope * score)`. Many times over, calibration customers are drawn and the gate is
asked; then the world goes on as it was, or changes. A certificate is broken when the true precision
of those it flags is below the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqjourney.config import GateConfig
from seqjourney.evaluation.drift import Reference
from seqjourney.evaluation.gate import LEARNING_SHARE, learn_then_test

GRID = np.linspace(-8, 8, 8_001)
SHARED = 0.8
"""Correlation of the score of one of several models with what drives the outcome."""


@dataclass(frozen=True)
class World:
    """What is drawn, and what happens after calibration."""

    name: str
    customers: int = 3_000
    intercept: float = -1.0
    slope: float = 1.8
    holds: bool = True
    """Whether the assumptions of the gate do: customers like those of calibration, independent,
    never seen by the model."""
    odds: float = 0.0
    """Change of the log-odds at equal scores."""
    moved: float = 0.0
    """How far all scores move."""
    repeats: int = 1
    """Snapshots of each customer, taken for so many customers."""
    models: int = 1
    """Of which the best on the calibration customers is certified."""


WORLDS = (
    World("as calibrated, 600 customers", customers=600, slope=2.5),
    World("as calibrated, 3,000 customers"),
    World("as calibrated, 10,000 customers", customers=10_000, slope=1.5),
    World("every threshold just below the target", intercept=1.3857, slope=0.0),
    World("same scores, odds fall by a tenth", holds=False, odds=float(np.log(0.9))),
    World("same scores, odds fall by a half", holds=False, odds=float(np.log(0.5))),
    World("scores fall a little, odds with them", holds=False, moved=-0.25),
    World("scores fall, odds stay behind", holds=False, moved=0.5, odds=-0.9),
    World("five snapshots of a customer counted as five", holds=False, repeats=5),
    World("best of 20 models on the same customers", holds=False, models=20),
)


def simulate(world: World, gate: GateConfig, draws: int, seed: int) -> dict[str, Any]:
    """Ask the gate in many draws of a world; return what came of it, as shares of the draws."""
    draw = np.random.default_rng(seed)
    curve = _curve(world)
    certified, broken, refused, in_use = 0, 0, 0, 0
    precisions = []
    for _ in range(draws):
        score, label, learning = _calibration(world, draw)
        found = learn_then_test(score, label, learning, gate.precision, gate.confidence)
        if not found.passed or found.threshold is None:
            continue
        certified += 1
        precision = _precision(found.threshold, curve, world.moved)
        precisions.append(precision)
        later = draw.normal(world.moved, size=world.customers)
        drifted = Reference.of(score, found.threshold).compare(later).found
        broken += precision < gate.precision
        refused += drifted
        in_use += precision < gate.precision and not drifted
    return {
        "certified": certified / draws,
        "realised": float(np.mean(precisions)) if precisions else None,
        "broken": broken / draws,
        "refused": refused / draws,
        "broken_in_use": in_use / draws,
    }


def _calibration(
    world: World, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    people = world.customers // world.repeats
    drives = draw.normal(size=people)
    label = draw.random(people) < _sigmoid(world.intercept + world.slope * drives)
    learning = draw.random(people) < LEARNING_SHARE
    score = drives
    if world.models > 1:
        noise = draw.normal(size=(world.models, people))
        scores = SHARED * drives + np.sqrt(1 - SHARED**2) * noise  # (M, n), all as good
        top = np.argpartition(-scores, people // 10, axis=1)[:, : people // 10]
        score = scores[label[top].mean(axis=1).argmax()]
    jitter = 1e-3 * draw.normal(size=people * world.repeats)
    score = np.repeat(score, world.repeats).astype(np.float64) + jitter
    return score, np.repeat(label, world.repeats), np.repeat(learning, world.repeats)


def _curve(world: World) -> np.ndarray:
    """Chance of the outcome at each score of the grid, after calibration."""
    shared = SHARED if world.models > 1 else 1.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    drives = shared * GRID[:, None] + np.sqrt(1 - shared**2) * nodes
    chances = _sigmoid(world.intercept + world.odds + world.slope * drives)
    return np.asarray(chances @ weights / weights.sum())


def _precision(threshold: float, curve: np.ndarray, moved: float) -> float:
    above = np.exp(-((GRID - moved) ** 2) / 2) * (threshold <= GRID)
    return float(above @ curve / above.sum())


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
