"""Which features are computed: fixed on the training period, saved beside every baseline.

`FeatureSpec.build` decides from the tokenizer (what training knew) and the task (its horizon);
`features.py` turns a spec into numbers. A spec travels as JSON, so a saved baseline needs neither
the task's configuration nor the tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from seqjourney.config import span_name

if TYPE_CHECKING:
    from seqjourney.config import TaskConfig
    from seqjourney.sequences.tokenizer import Tokenizer

DAY = timedelta(days=1)
WINDOWS_DAYS = (7, 14, 30, 60, 90, 180, 365)
# For horizons too short for windows in days.
WINDOWS_HORIZONS = (0.25, 0.5, 1, 2, 3, 6, 12)
SHORT_HORIZON = 3 * DAY
TOP_EVENTS = 12
TOP_CHANNELS = 8
# Beyond this many values a category is no longer worth a one-hot column each.
MOST_CATEGORIES = 50


@dataclass(frozen=True)
class FeatureSpec:
    """What `point_in_time_features` computes."""

    target: tuple[str, ...]
    """Target events that may serve as features; empty when all of them serve labels only."""
    excluded: tuple[str, ...]
    """Events that serve labels only: no feature sees them."""
    events: tuple[str, ...]
    """Event names with counts and recency of their own, most frequent first."""
    channels: tuple[str, ...]
    """Channels with counts of their own, most frequent first."""
    categories: Mapping[str, tuple[str, ...]]
    """Values of each categorical field whose last value is a feature; its code is the position."""
    numeric: tuple[str, ...]
    """Numeric fields other than `value`."""
    has_value: bool
    """Whether events carry money."""
    windows: Mapping[str, int]
    """Length in microseconds of each window, by the label that feature names carry; ascending."""
    unit_us: int
    """Unit of all times, and length of an active period, in microseconds: a day, or a quarter of
    a short horizon."""
    cycles: tuple[str, ...]
    """Calendar cycles (`year`, `week`, `day`) that training cutoffs cover wholly. Others are left
    out: a model cannot know what a month means that it never saw."""

    @classmethod
    def build(
        cls,
        task: TaskConfig,
        tokenizer: Tokenizer,
        train_cutoffs: pd.Series,
        log_start: pd.Timestamp,
    ) -> FeatureSpec:
        """Choose the features of a task from what was known in training.

        A window longer than the log at most training cutoffs is left out: it would mean something
        else in training than later.
        """
        vocabulary = tokenizer.vocabulary
        hidden = set(tokenizer.label_only_events)
        events = tuple(name for name in vocabulary["event"] if name not in hidden)
        categories = {
            field: tuple(values)
            for field, values in vocabulary.items()
            if field != "event" and 0 < len(values) <= MOST_CATEGORIES
        }
        short = task.horizon < SHORT_HORIZON
        windows = (
            [factor * task.horizon for factor in WINDOWS_HORIZONS]
            if short
            else [days * DAY for days in WINDOWS_DAYS]
        )
        middle = pd.Timestamp(train_cutoffs.sort_values().iloc[len(train_cutoffs) // 2])
        windows = [length for length in windows if length <= middle - log_start] or windows[:1]
        return cls(
            target=tuple(name for name in task.target if name not in hidden),
            excluded=tuple(sorted(hidden)),
            events=events[:TOP_EVENTS],
            channels=tuple(vocabulary.get("channel", ())[:TOP_CHANNELS]),
            categories={"event": events[:MOST_CATEGORIES], **categories},
            numeric=tuple(name for name in tokenizer.numeric_fields if name != "value"),
            has_value="value" in tokenizer.numeric_fields,
            windows={span_name(window): _microseconds(window) for window in windows},
            unit_us=period_us(task.horizon),
            cycles=_covered_cycles(train_cutoffs),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain containers for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FeatureSpec:
        """Read what `to_json` gave, after a trip through a file."""
        categories = {field: tuple(values) for field, values in content["categories"].items()}
        plain: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in content.items()
        }
        return cls(**{**plain, "categories": categories})

    @property
    def categorical_features(self) -> dict[str, int]:
        """Return the features that are codes, each with its number of known values."""
        codes = {f"last_{field}": len(values) for field, values in self.categories.items()}
        count = len(self.categories["event"])
        return {**codes, "last_event_2": count, "last_event_3": count}


def period_us(horizon: timedelta) -> int:
    """Return the length of an active period: a day, or a quarter of a short horizon."""
    return _microseconds(horizon / 4 if horizon < SHORT_HORIZON else DAY)


def _microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _covered_cycles(cutoffs: pd.Series) -> tuple[str, ...]:
    """Return the cycles of which the cutoffs saw every month, weekday or hour."""
    seen = {
        "year": (cutoffs.dt.month.nunique(), 12),
        "week": (cutoffs.dt.day_of_week.nunique(), 7),
        "day": (cutoffs.dt.hour.nunique(), 24),
    }
    return tuple(cycle for cycle, (count, whole) in seen.items() if count == whole)


def calendar_features(cutoffs: pd.Series, cycles: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the position of each cutoff within its cycles, as points on a circle (UTC)."""
    hour = cutoffs.dt.hour + cutoffs.dt.minute / 60
    phases = {
        "year": (cutoffs.dt.day_of_year - 1) / 365.25,
        "week": (cutoffs.dt.day_of_week + hour / 24) / 7,
        "day": hour / 24,
    }
    found = {}
    for cycle in cycles:
        angle = 2 * np.pi * phases[cycle].to_numpy(dtype=np.float64)
        found[f"{cycle}_sin"], found[f"{cycle}_cos"] = np.sin(angle), np.cos(angle)
    return found
