"""The bar of a training: only where somebody watches, and short."""

from types import SimpleNamespace

import pytest

from seqjourney.models.progress import progress_bars
from seqjourney.models.training import MONITOR


def test_in_a_pipe_there_is_no_bar(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: False))
    assert progress_bars(True) == []
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    assert progress_bars(False) == []
    assert len(progress_bars(True)) == 1


def test_the_bar_shows_one_metric_by_a_short_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    (bar,) = progress_bars(True)
    shown = {MONITOR: 0.625, "v_num": "", "train_loss": 0.5}
    assert bar.get_metrics(SimpleNamespace(progress_bar_metrics=shown), None) == {"AP": 0.625}
    assert bar.get_metrics(SimpleNamespace(progress_bar_metrics={}), None) == {}
