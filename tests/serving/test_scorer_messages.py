"""What a scorer says of itself, and of what it cannot score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import seqjourney
from seqjourney.errors import DataError


def test_a_scorer_says_what_it_is_and_takes_frames_alone(run_of: Callable[[str], Path]):
    scorer = seqjourney.load(run_of("recency"))
    assert repr(scorer) == "Scorer(model='recency', task='buys', data='small')"
    for ask in (scorer.score, scorer.explain):
        with pytest.raises(DataError, match=r"must be a pandas frame, not str; read a file"):
            ask("events.csv")  # type: ignore[operator]
