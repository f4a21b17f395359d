"""What a training shows: a short bar where somebody watches, else a line now and then."""

from types import SimpleNamespace

import pytest

from seqjourney.models.head import AVERAGE_PRECISION, LOSS, Monitor
from seqjourney.models.next_training import MONITOR as NEXT_MONITOR
from seqjourney.models.progress import Bar, Lines, progress


def test_the_bar_is_for_a_terminal_and_lines_for_a_pipe(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: False))
    assert [type(one) for one in progress(True)] == [Lines]
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    assert [type(one) for one in progress(True)] == [Bar]
    assert progress(False) == []


def test_the_bar_shows_one_metric_by_a_short_name():
    bar = Bar()
    shown = {AVERAGE_PRECISION.name: 0.625, "v_num": "", "train_loss": 0.5}
    module = SimpleNamespace(monitor=AVERAGE_PRECISION)
    assert bar.get_metrics(SimpleNamespace(progress_bar_metrics=shown), module) == {"AP": 0.625}
    assert bar.get_metrics(SimpleNamespace(progress_bar_metrics={}), module) == {}


@pytest.mark.parametrize("monitor", [AVERAGE_PRECISION, LOSS, NEXT_MONITOR])
def test_a_line_comes_once_a_minute_at_most(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    clock = iter([0.0, 59.0, 61.0, 100.0, 122.0])
    monkeypatch.setattr("seqjourney.models.progress.time.monotonic", lambda: next(clock))
    lines = Lines()
    lines.on_fit_start(None, None)
    for epoch in range(4):
        now = {"is_global_zero": True, "current_epoch": epoch, "max_epochs": 60}
        trainer = SimpleNamespace(**now, callback_metrics={monitor.name: 0.5 + epoch / 100})
        lines.on_validation_end(trainer, SimpleNamespace(monitor=monitor))
    assert capsys.readouterr().out.splitlines() == [
        f"epoch 2 of at most 60: {monitor.name.replace('_', ' ')} 0.5100",
        f"epoch 4 of at most 60: {monitor.name.replace('_', ' ')} 0.5300",
    ]
