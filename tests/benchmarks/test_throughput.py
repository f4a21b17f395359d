"""What the throughput benchmark takes for granted about its logs, slopes and clock."""

import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "benchmarks"))
logs = pytest.importorskip("throughput_logs")
ours = pytest.importorskip("throughput_ours")
plot = pytest.importorskip("throughput_plot")
profile = pytest.importorskip("throughput_profile")
rows = pytest.importorskip("throughput_rows")


def write_base(folder: Path) -> Path:
    file = folder / "base.parquet"
    customers = [f"c{number % 50}" for number in range(200)]
    events = [f"e{number}" for number in range(200)]
    pd.DataFrame({"customer_id": customers, "event_id": events}).to_parquet(file)
    return file


def test_a_larger_log_has_every_event_once_for_each_copy(tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    assert logs.write_log(write_base(tmp_path), 3, file, threads=1) == 600
    written = pd.read_parquet(file)
    assert written["event_id"].is_unique
    assert written.groupby("customer_id").size().tolist() == [4] * 150


def test_a_smaller_log_has_whole_customers(tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    assert 0 < logs.write_log(write_base(tmp_path), 0.5, file, threads=1) < 200
    assert set(pd.read_parquet(file).groupby("customer_id").size()) == {4}


def test_cost_in_proportion_has_exponent_one() -> None:
    points = [plot.Point(events, 3e-6 * events, 100.0) for events in (1e5, 1e6, 1e7)]
    figure = rows.exponent(points)
    assert (figure.value, figure.low, figure.high) == pytest.approx((1.0, 1.0, 1.0))
    assert figure.low <= figure.value <= figure.high


def test_the_picture_of_the_same_costs_has_the_same_bytes(tmp_path: Path) -> None:
    points = {"prepare": [plot.Point(1e5, 1.0, 100.0), plot.Point(1e6, 9.0, 110.0)]}
    for name in ("a.svg", "b.svg"):
        plot.draw_growth(points, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_the_clock_counts_events_and_snapshots_after_the_warm_up() -> None:
    class Batch:
        categorical = torch.tensor([[[1], [2], [0]], [[3], [0], [0]]])
        rows = torch.tensor([[0, 1], [2, -1]])

    clock = ours.Clock(warm_up=1)
    with pytest.raises(ValueError, match="too few"):
        clock.measured()
    for waited in (5.0, 0.25):
        clock.waited += waited
        clock.batch_ended(Batch())
    measured = clock.measured()
    assert (measured["events"], measured["labels"], measured["waited"]) == (3, 3, 0.25)


def test_the_seconds_of_a_watched_function_leave_out_those_of_another_within(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module: Any = ModuleType("watched_module")
    module.inner = lambda: "done"
    module.outer = lambda: module.inner()
    monkeypatch.setitem(sys.modules, "watched_module", module)
    plain = module.inner
    # The clock stands at 0, 1, 4, 9: outer starts, inner starts, inner ends, outer ends.
    ticks = (number**2 for number in itertools.count())
    monkeypatch.setattr(profile.time, "perf_counter", lambda: float(next(ticks)))
    parts = {part: ("watched_module", part) for part in ("inner", "outer")}
    with profile.watched(parts) as seconds:
        assert module.outer() == "done"
    assert seconds == {"inner": 3.0, "outer": 6.0}
    assert module.inner is plain


def test_the_parts_of_a_prepare_and_of_a_training_step_are_all_there(
    small_log: Any, tmp_path: Path
) -> None:
    data = small_log.config.model_dump(mode="json")
    parts = profile.profile_prepare(data, str(tmp_path))["parts"]
    assert set(parts) == {*profile.PREPARE, "rest"}
    assert all(seconds > 0 for seconds in parts.values())
    model = {"kind": "transformer", "name": "t", "width": 8, "batch_tokens": 256}
    parts = profile.profile_step(
        str(tmp_path / data["name"]),
        small_log.task.model_dump(mode="json"),
        model,
        threads=torch.get_num_threads(),
        warm_up=1,
    )["parts"]
    assert len(parts) == profile.HEAVIEST + 1 and list(parts)[-1] == "all others"
    heaviest = list(parts.values())[:-1]
    assert heaviest == sorted(heaviest, reverse=True) and heaviest[-1] > 0
    made = rows.profile_rows("training step", "transformer", 1_800, parts)
    assert sum(row["share"] for row in made) == pytest.approx(1.0, abs=1e-3)
