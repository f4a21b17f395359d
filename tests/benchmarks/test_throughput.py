"""What the throughput benchmark takes for granted about its logs, slopes and clock."""

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "benchmarks"))
logs = pytest.importorskip("throughput_logs")
ours = pytest.importorskip("throughput_ours")
plot = pytest.importorskip("throughput_plot")
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
