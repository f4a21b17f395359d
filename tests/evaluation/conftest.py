"""Synthetic predictions of several models, written like any model would write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqjourney.evaluation.calibration import PlattCalibrator
from seqjourney.evaluation.predictions import write_predictions

CUTOFFS = (("validation", "2011-04-01"), ("validation", "2011-06-01"), ("test", "2011-09-09"))
NOISE = {"gru": 0.6, "transformer": 0.62, "lightgbm": 0.7, "recency_rule": 1.6}


def make_frames(n: int = 400, seed: int = 0, names: dict[str, float] | None = None):
    """One frame per model: the same snapshots, the truth plus each model's own noise."""
    draw = np.random.default_rng(seed)
    parts = []
    for split, cutoff in CUTOFFS:
        truth = draw.normal(size=n)
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": [f"C{i:05d}" for i in draw.choice(2 * n, n, replace=False)],
                    "cutoff": pd.Timestamp(cutoff, tz="UTC"),
                    "task": "churn",
                    "split": split,
                    "label": (truth + draw.logistic(size=n) * 0.6 > 0.6).astype("int8"),
                    "weight": 1.0,
                    "slice_tenure": draw.choice(["new", "old", "<b>odd</b>"], n, p=[0.4, 0.5, 0.1]),
                    "truth": truth,
                }
            )
        )
    base = pd.concat(parts, ignore_index=True)
    validation = (base["split"] == "validation").to_numpy()
    frames = []
    for model, noise in (names or NOISE).items():
        score = base["truth"].to_numpy() + noise * draw.normal(size=len(base))
        if "rule" in model:
            score = np.round(score)
        fitted = PlattCalibrator.fit(score[validation], base["label"].to_numpy()[validation])
        frames.append(
            base.drop(columns="truth").assign(
                score=score, probability=fitted(score), model=model, run=f"run_{model}"
            )
        )
    return frames


@pytest.fixture(scope="session")
def synthetic() -> Callable[..., list[pd.DataFrame]]:
    return make_frames


@pytest.fixture(scope="session")
def frames() -> list[pd.DataFrame]:
    return make_frames()


@pytest.fixture
def make_runs(tmp_path: Path) -> Callable[..., list[Path]]:
    def make(frames: list[pd.DataFrame]) -> list[Path]:
        paths = []
        for number, frame in enumerate(frames):
            folder = tmp_path / "runs" / str(number)
            write_predictions(frame, folder / "predictions.parquet")
            paths.append(folder)
        return paths

    return make
