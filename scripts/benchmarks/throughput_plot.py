"""Cost and memory against the size of the log, as one small SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from seqjourney.evaluation.pictures import COLOURS, DASHES
from seqjourney.files import replacing_file


@dataclass(frozen=True)
class Point:
    """What one stage costs at one size."""

    events: float
    """Of the log."""
    seconds: float
    peak_mib: float


def draw_growth(stages: Mapping[str, Sequence[Point]], file: Path) -> None:
    """Draw seconds and peak memory of each stage; the same points give the same bytes."""
    style: Any = {"svg.hashsalt": "throughput", "svg.fonttype": "none", "font.size": 9.5}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.4, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        cost, memory = figure.subplots(1, 2)
        for position, (stage, points) in enumerate(stages.items()):
            look: Any = {"color": COLOURS[position], "linestyle": DASHES[position % len(DASHES)]}
            events = [point.events for point in points]
            cost.plot(events, [p.seconds for p in points], marker="o", label=stage, **look)
            memory.plot(events, [p.peak_mib for p in points], marker="o", **look)
        _axes(cost, "Seconds", log=True)
        _line_of_slope_one(cost, stages)
        _axes(memory, "Peak memory (MiB)", log=False)
        memory.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=len(stages) + 1, frameon=False)
        with replacing_file(file) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None})


def _axes(axes: Axes, title: str, *, log: bool) -> None:
    axes.set_xscale("log")
    if log:
        axes.set_yscale("log")
    axes.set_xlabel("events read")
    axes.set_title(title, loc="left")
    axes.grid(color="#e3e3e3", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def _line_of_slope_one(axes: Axes, stages: Mapping[str, Sequence[Point]]) -> None:
    """Show what cost in proportion to events looks like, below all stages."""
    points = [point for stage in stages.values() for point in stage]
    fewest, most = min(p.events for p in points), max(p.events for p in points)
    start = 0.5 * min(p.seconds * fewest / p.events for p in points)
    axes.plot(
        [fewest, most], [start, start * most / fewest], color="#8c8c8c", label="in proportion"
    )
