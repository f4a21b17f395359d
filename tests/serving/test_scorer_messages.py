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
    with pytest.raises(DataError, match=r"takes a pandas frame of events, not str; read a file"):
        scorer.score("events.csv")  # type: ignore[arg-type]
