"""What the processes of the throughput benchmark measured, as rows, rates and slopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from record import Figure  # type: ignore[import-not-found]  # its folder is sys.path[0]
from throughput_plot import Point  # type: ignore[import-not-found]

Runs = list[dict[str, Any]]
"""One work's measurements, round by round."""


def rates(runs: Runs, what: str) -> list[float]:
    """Return how many a second in each run."""
    return [run[what] / run["seconds"] for run in runs]


def exponent(points: Sequence[Point]) -> Figure:
    """Return the slope of log seconds over log events; low and high between neighbours."""
    events = np.log([point.events for point in points])
    seconds = np.log([point.seconds for point in points])
    slope = float(np.polyfit(events, seconds, 1)[0])
    between = np.diff(seconds) / np.diff(events)
    low, high = min(slope, *between), max(slope, *between)
    return Figure(slope, float(low), float(high), "power of events that seconds grow with")


def row(stage: str, side: str, model: str | None, log_events: int, runs: Runs) -> dict[str, Any]:
    """Return one row of the table: medians, and the highest memory."""

    def per_second(what: str) -> int | None:
        return round(median(rates(runs, what))) if what in runs[0] else None

    def share(part: str, whole: str) -> float | None:
        if part not in runs[0]:
            return None
        return round(median(run[part] / run[whole] for run in runs), 4)

    if stage.startswith(("prepare", "cut", "features")):
        runs = [{"events": log_events, **run} for run in runs]
    if "flops" in runs[0]:
        runs = [{**run, "useful": run["flops"] / run["seconds"]} for run in runs]
    return {
        "stage": stage,
        "side": side,
        "model": model,
        "log_events": log_events,
        "runs": len(runs),
        "seconds": round(median(run["seconds"] for run in runs), 3),
        "events_per_second": per_second("events"),
        "labels_per_second": per_second("labels"),
        "customers_per_second": per_second("customers") if stage == "score" else None,
        "gemm_share": share("useful", "gemm"),
        "loader_wait_share": share("waited", "seconds"),
        "peak_memory_mib": round(max(run["peak_mib"] for run in runs)),
    }


def profile_rows(
    what: str, model: str | None, log_events: int, parts: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return one row for each part of a profile: its seconds, and its share of all parts."""
    whole = sum(parts.values())
    return [
        {
            "stage": f"profile: {what}, {part}",
            "side": "ours",
            "model": model,
            "log_events": log_events,
            "runs": 1,
            "seconds": round(seconds, 3),
            "share": round(seconds / whole, 4),
        }
        for part, seconds in parts.items()
    ]
