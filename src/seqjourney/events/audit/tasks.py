"""What the audit measures of each task that was cut: outcomes, recency, base rate over time.

Reads `tasks/<task>/snapshots.parquet` and `task.json` of prepared data. Outcomes are counted in
all three splits; how much recency tells of the label is measured on training and validation alone,
because that is a statement about a predictor, and the test is for those who are done choosing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.config import TaskConfig, nearest, parse
from seqjourney.errors import DataError
from seqjourney.events import engine
from seqjourney.files import read_json

SPLITS = ("train", "validation", "test")
MOST_SNAPSHOTS = 200_000  # on which the AUC of recency is taken; its error is then about 0.001


@dataclass(frozen=True)
class Outcomes:
    """A split's snapshots, and its customers with and without the outcome."""

    snapshots: int
    positives: int
    with_outcome: int
    without: int


@dataclass(frozen=True)
class TaskFacts:
    """One task: `base_rates` has `cutoff, split, snapshots, rate`."""

    task: TaskConfig
    """Its name is that of `find_tasks`."""
    outcomes: dict[str, Outcomes]
    base_rates: pd.DataFrame
    recency_auc: float | None

    @property
    def base_rate(self) -> float:
        """Return the share with the outcome before the test."""
        seen = [self.outcomes[split] for split in SPLITS[:2] if split in self.outcomes]
        return sum(o.positives for o in seen) / max(1, sum(o.snapshots for o in seen))


def find_tasks(prepared: Path, wanted: Sequence[str] | None) -> list[str]:
    """Return the tasks that were cut on prepared data; of those, the wanted ones.

    One of an earlier test period is named with it, `shift_30d/churn`.

    Raises:
        DataError: a wanted task was not cut.
    """
    tasks = prepared / "tasks"
    files = [*sorted(tasks.glob("*/task.json")), *sorted(tasks.glob("shift_*/*/task.json"))]
    known = [file.parent.relative_to(tasks).as_posix() for file in files]
    known = [name for name in known if not name.endswith((".partial", ".old"))]
    for name in wanted or ():
        if name not in known:
            raise DataError(
                f"task '{name}' was not cut on {prepared}."
                + (nearest(name, known) if known else " None was; name one in data.tasks.")
            )
    return list(wanted) if wanted is not None else known


def task_facts(
    backend: Any, events: Any, prepared: Path, name: str, label_only: Sequence[str]
) -> TaskFacts:
    """Measure one task.

    Raises:
        DataError: its snapshots are missing.
    """
    folder = prepared / "tasks" / name
    described = read_json(folder / "task.json")
    task = parse(TaskConfig, described["task"], str(folder / "task.json"))
    task = task.model_copy(update={"name": name})
    file = folder / "snapshots.parquet"
    if not file.exists():
        raise DataError(f"{file} is missing; delete {folder} and run prepare again.")
    snapshots = engine.read_parquet(backend, file)
    positive = snapshots.label == 1
    by_cutoff = (
        snapshots.group_by("cutoff", "split")
        .aggregate(snapshots=snapshots.count(), positives=positive.sum())
        .order_by("cutoff", "split")
        .to_pandas()
    )
    people = (
        snapshots.group_by("split")
        .aggregate(
            with_outcome=snapshots.customer_id.nunique(where=positive),
            without=snapshots.customer_id.nunique(where=~positive),
        )
        .to_pandas()
        .set_index("split")
    )
    outcomes = {}
    for split in SPLITS:
        rows = by_cutoff[by_cutoff["split"] == split]
        if len(rows):
            outcomes[split] = Outcomes(
                int(rows["snapshots"].sum()), int(rows["positives"].sum()),
                int(people.loc[split, "with_outcome"]), int(people.loc[split, "without"]),
            )  # fmt: skip
    by_cutoff["rate"] = by_cutoff["positives"] / by_cutoff["snapshots"]
    return TaskFacts(
        task, outcomes, by_cutoff.drop(columns="positives"),
        recency_auc(events, snapshots, task, label_only),
    )  # fmt: skip


def recency_auc(
    events: Any, snapshots: Any, task: TaskConfig, label_only: Sequence[str]
) -> float | None:
    """Return how well the days since the last event alone rank the label; 0.5 is not at all.

    The ranking is that of the recency baseline: the last event that makes a customer eligible,
    most recent first for an occurrence, longest away first for an absence. Training and validation
    only; of many snapshots, those of a fixed sample of customers.
    """
    asked = snapshots.filter(snapshots.split.isin(SPLITS[:2])).select(
        "customer_id", "cutoff", "label"
    )
    total = int(asked.count().to_pandas())
    if total > MOST_SNAPSHOTS:
        drawn = ("recency " + asked.customer_id).hexdigest("md5").left(8)
        asked = asked.filter(drawn < f"{int(MOST_SNAPSHOTS / total * 2**32):08x}")
    counting = events.filter(~events.event.isin(list(label_only)))
    if task.eligible.events:
        counting = events.filter(events.event.isin(list(task.eligible.events)))
    counting = counting.select("customer_id", "timestamp", "known_at")
    pairs = asked.join(
        counting, [asked.customer_id == counting.customer_id, counting.known_at <= asked.cutoff]
    ).select(asked.customer_id, asked.cutoff, asked.label, counting.timestamp)
    last = pairs.group_by("customer_id", "cutoff", "label").aggregate(last=pairs.timestamp.max())
    frame = last.to_pandas()
    away = (frame["cutoff"] - frame["last"]).dt.total_seconds().to_numpy()
    return auc(frame["label"].to_numpy(), away if task.kind == "absence" else -away)


def auc(label: np.ndarray, score: np.ndarray) -> float | None:
    """Return the area under the ROC curve, ties counted half; None with one class only."""
    from scipy.stats import rankdata

    positives = int((label == 1).sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(score)[label == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))
