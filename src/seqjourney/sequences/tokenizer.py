"""The tokenizer: which categories a model knows and on what scale it reads numbers.

Fitted only on tokens known before the training period ends, and saved as JSON that a person can
read. Category ids: 0 padding, 1 unknown (not seen in training), 2 missing, then the vocabulary,
most frequent first. Numbers stay raw in the tokens; a model applies the scales in its own first
layer, so that an exported model carries them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqjourney.errors import DataError
from seqjourney.files import read_json, write_json
from seqjourney.sequences.store import SequenceStore, known_before

PADDING, UNKNOWN, MISSING = 0, 1, 2
FIRST = 3
DAY_US = 86_400_000_000
_QUANTILES = 16
_SAMPLE = 1_000_000


@dataclass(frozen=True)
class NumericScale:
    """Scale of one numeric field: of sign(x) log(1 + |x|), and quantile edges of the same."""

    mean: float
    std: float
    edges: tuple[float, ...]


@dataclass(frozen=True)
class Tokenizer:
    """Vocabularies and scales, fitted on tokens known at `fitted_until`."""

    fitted_until: str  # ISO 8601, UTC
    fitted_tokens: int
    vocabulary: dict[str, list[str]]
    scales: dict[str, NumericScale]
    label_only_events: tuple[str, ...]
    event_cycles: tuple[str, ...]
    snapshot_cycles: tuple[str, ...]
    history_us: int = 365 * DAY_US
    """From the first event to the last training cutoff: no longer span was ever shown."""

    @property
    def categorical_fields(self) -> tuple[str, ...]:
        """Categorical fields in token order."""
        return tuple(self.vocabulary)

    @property
    def numeric_fields(self) -> tuple[str, ...]:
        """Numeric fields in token order."""
        return tuple(self.scales)

    def code_maps(self, dictionaries: dict[str, list[str]]) -> list[np.ndarray]:
        """Return per field the array that turns a store's codes into ids (last entry: missing)."""
        maps = []
        for field, words in self.vocabulary.items():
            ids = {word: FIRST + position for position, word in enumerate(words)}
            known = [ids.get(word, UNKNOWN) for word in dictionaries[field]]
            maps.append(np.array([*known, MISSING], np.int64))  # code -1 picks the last
        return maps

    def save(self, path: Path) -> None:
        """Write readable JSON."""
        write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, object]:
        """Return plain data that `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict) -> Tokenizer:
        """Read what `to_dict` gave."""
        try:
            scales = {
                field: NumericScale(s["mean"], s["std"], tuple(s["edges"]))
                for field, s in content["scales"].items()
            }
            rest: dict[str, Any] = {
                key: tuple(content[key])
                for key in ("label_only_events", "event_cycles", "snapshot_cycles")
            }
            rest["history_us"] = content["history_us"]
            return cls(
                content["fitted_until"],
                content["fitted_tokens"],
                content["vocabulary"],
                scales,
                **rest,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"not a tokenizer of this version; prepare the data and train again ({error!r})."
            ) from None

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a saved tokenizer."""
        content = read_json(path)
        try:
            return cls.from_dict(content)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def signed_log(values: np.ndarray) -> np.ndarray:
    """Return sign(x) log(1 + |x|)."""
    return np.sign(values) * np.log1p(np.abs(values))


def fit_tokenizer(
    store: SequenceStore,
    until_us: int,
    cutoffs_us: Sequence[int],
    *,
    customers: np.ndarray | None = None,
    label_only_events: Sequence[str] = (),
    min_count: int = 5,
    max_words: int = 10_000,
) -> Tokenizer:
    """Fit on the tokens known at `until_us`.

    Args:
        store: the sequence store.
        until_us: end of the training period, microseconds UTC.
        cutoffs_us: training cutoffs; a calendar cycle that they do not cover is left out.
        customers: whose tokens may be learned from, (C,) bool; all without it.
        label_only_events: recorded, so that no feature uses them either.
        min_count: rarer categories are unknown.
        max_words: largest vocabulary of a field.

    Raises:
        DataError: nothing was known by then.
    """
    from datetime import UTC, datetime

    counts = [np.zeros(len(store.dictionaries[f]) + 1, np.int64) for f in store.categorical_fields]
    moments = [np.zeros(3) for _ in store.numeric_fields]  # n, sum, sum of squares
    samples: list[list[np.ndarray]] = [[] for _ in store.numeric_fields]
    # Every `stride`-th known token: which ones must not depend on how many come later.
    known_tokens = sum(int(known.sum()) for _, known in known_before(store, until_us, customers))
    stride = max(1, known_tokens // _SAMPLE)
    total, times, first_us = 0, [], until_us
    for rows, known in known_before(store, until_us, customers):
        happened = store.times[rows, 0][known]
        first_us = min(first_us, int(happened.min(initial=until_us)))
        times.append(happened[-total % stride :: stride])
        total += len(happened)
        for position, count in enumerate(counts):
            codes = store.categorical[rows, position][known]
            count += np.bincount(codes % len(count), minlength=len(count))
        for position, moment in enumerate(moments):
            values = store.numeric[rows, position][known]
            values = signed_log(values[np.isfinite(values)].astype(np.float64))
            samples[position].append(values[-int(moment[0]) % stride :: stride])
            moment += len(values), values.sum(), (values**2).sum()
    end = datetime.fromtimestamp(until_us / 1e6, UTC).isoformat()
    if total == 0:
        raise DataError(f"no event was known by {end}, the end of training; use later cutoffs.")
    vocabulary = {}
    for field, count in zip(store.categorical_fields, counts, strict=True):
        words = store.dictionaries[field]
        order = np.argsort(-count[:-1], kind="stable")[:max_words]
        vocabulary[field] = [words[code] for code in order if count[code] >= min_count]
    scales = {
        field: _scale(moment, np.concatenate(sample) if sample else np.zeros(0))
        for field, moment, sample in zip(store.numeric_fields, moments, samples, strict=True)
    }
    return Tokenizer(
        fitted_until=end,
        fitted_tokens=total,
        vocabulary=vocabulary,
        scales=scales,
        label_only_events=tuple(label_only_events),
        event_cycles=covered_cycles(np.concatenate(times)),
        snapshot_cycles=covered_cycles(np.asarray(cutoffs_us, np.int64)),
        history_us=until_us - first_us,
    )


def covered_cycles(times_us: np.ndarray) -> tuple[str, ...]:
    """Return the calendar cycles that times cover wholly: of `day`, `week`, `year`.

    A model must not read a phase of the calendar that training never showed it: with weekly
    cutoffs, the weekday is a constant in training and noise afterwards.
    """
    covered = []
    hours, days = times_us // (DAY_US // 24), times_us // DAY_US
    if len(np.unique(hours % 24)) >= 12:
        covered.append("day")
    if len(np.unique(days % 7)) >= 6:  # many shops close on one day
        covered.append("week")
    if len(times_us) and days.max() - days.min() >= 365:
        covered.append("year")
    return tuple(covered)


def _scale(moment: np.ndarray, sample: np.ndarray) -> NumericScale:
    n, total, squares = moment
    if n == 0:
        return NumericScale(0.0, 1.0, ())
    mean = total / n
    std = float(np.sqrt(max(squares / n - mean**2, 0.0)))
    if std < 1e-6 * (1 + abs(mean)):  # one number only; what remains is rounding
        std = 1.0
    edges = np.unique(np.quantile(sample, np.linspace(0, 1, _QUANTILES + 1)))
    return NumericScale(float(mean), std, tuple(float(edge) for edge in edges))
