"""When a task is asked: cutoffs of its splits, given or derived, moved back by `task.shift`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from seqjourney.config import CutoffRange, Cutoffs, TaskConfig, span_name
from seqjourney.errors import DataError

SPLITS = ("train", "validation", "test")
CERTIFICATION = "certification"
"""Snapshots at validation cutoffs that only the precision gate looks at (`task.certify`)."""
_MOST_DERIVED_CUTOFFS = 40
_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)


def resolve_cutoffs(task: TaskConfig, first: datetime, last: datetime) -> TaskConfig:
    """Return the task with explicit cutoffs that the data can answer, and nothing left to shift.

    Where the config gives none: the test cutoff is the last whole day (or hour, for horizons
    below two days) whose label window the data closes, validation has two cutoffs before it, and
    training goes back from there in steps of a quarter horizon.

    Args:
        task: the task as configured.
        first: time of the first event.
        last: time of the last event.

    Raises:
        DataError: cutoffs lie outside the data, or the data is too short for three splits.
    """
    cutoffs = task.cutoffs or _derive(task, first, last)
    if task.shift:
        cutoffs = _moved_back(task, cutoffs, first)
    task = task.model_copy(update={"cutoffs": cutoffs, "shift": timedelta(0)})
    assert task.cutoffs is not None
    for split in SPLITS:
        for cutoff in task.cutoffs.of(split):
            if cutoff < first or cutoff + task.horizon > _covered_until(last, task.horizon):
                raise DataError(
                    f"task '{task.name}': {split} cutoff {cutoff:%Y-%m-%d %H:%M} with its label "
                    f"window to {cutoff + task.horizon:%Y-%m-%d %H:%M} lies outside the data, "
                    f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC. "
                    "Change task.cutoffs, task.horizon or task.shift."
                )
    return task


def _grain(horizon: timedelta) -> timedelta:
    return timedelta(hours=1) if horizon < timedelta(days=2) else timedelta(days=1)


def _covered_until(last: datetime, horizon: timedelta) -> datetime:
    """Data that ends on a day is taken to cover that day (shops close before midnight); for
    horizons of hours, the hour.
    """
    grain = _grain(horizon)
    return last - (last - _ORIGIN) % grain + grain


def _derive(task: TaskConfig, first: datetime, last: datetime) -> Cutoffs:
    """Return the cutoffs of the last test period; data is left for as long a shift as is asked."""
    horizon, grain = task.horizon, _grain(task.horizon)
    step = max(grain, (horizon / 4) // grain * grain)
    test = _ORIGIN + (last - horizon - _ORIGIN) // grain * grain
    validation = (test - horizon - step, test - horizon)
    train_end = validation[0] - horizon
    steps = min((train_end - task.shift - first - step) // step, _MOST_DERIVED_CUTOFFS - 1)
    if steps < 0:
        raise DataError(
            f"task '{task.name}': data from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} is too "
            f"short for training, validation and test with a horizon of {horizon}"
            + (
                f" and task.shift={span_name(task.shift)}; use a smaller task.shift,"
                if task.shift
                else "; use"
            )
            + " a shorter task.horizon or give task.cutoffs."
        )
    train = CutoffRange(start=train_end - steps * step, end=train_end, every=step)
    return Cutoffs(train=train, validation=validation, test=(test,))


def _moved_back(task: TaskConfig, cutoffs: Cutoffs, first: datetime) -> Cutoffs:
    """Return the cutoffs so much earlier; an earlier origin has less past, so fewer to train on."""
    moved = {split: tuple(c - task.shift for c in cutoffs.of(split)) for split in SPLITS}
    moved["train"] = tuple(c for c in moved["train"] if c >= first)
    if not moved["train"]:
        last = max(cutoffs.of("train"))
        raise DataError(
            f"task '{task.name}': task.shift={span_name(task.shift)} moves all training cutoffs "
            f"before the data, which begins {first:%Y-%m-%d %H:%M} UTC; the last of them is "
            f"{last:%Y-%m-%d %H:%M}, so at most {(last - first).days}d are possible."
        )
    return Cutoffs(**moved)
