"""Why this score? Leave out one happening of a history at a time and ask the model again.

What happened at one moment under one name counts as one happening: the lines of an invoice come
and go together. Its effect is the score with it minus the score without it (occlusion: Zeiler &
Fergus 2014, for images). Effects do not add up to the score, and two happenings that say the same
hide each other; but each number is a plain answer of the model to a plain question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.evaluation.histories import as_data, histories_of
from seqjourney.files import read_parquet, replacing_file
from seqjourney.sequences.task_data import TaskData

Score = Callable[[TaskData], np.ndarray]

FILE = "explanations.parquet"
MOST_HAPPENINGS = 100
# Where on the list of test snapshots the report's examples stand, in per cent from its top.
EXAMPLES_PERCENT = (0, 10, 50)
SHOWN = 6
_KEY = ["customer_id", "cutoff"]
_DAY_US = 86_400_000_000


def explain(score: Score, data: TaskData, context: int) -> pd.DataFrame:
    """Ask about every snapshot of the data without each of its latest happenings.

    Args:
        score: of a network, which reads the store alone.
        data: few snapshots; each costs up to `MOST_HAPPENINGS` answers.
        context: of the network; what lies before it is not seen and not listed.

    Returns:
        One row per snapshot and happening, in order of time: `customer_id`, `cutoff`, `event`,
        `events` (how many tokens it has), `days_before` the cutoff, `score` and `score_without`.
    """
    parts = [_explain(score, data, context, position) for position in range(len(data.snapshots))]
    columns = [*_KEY, "event", "events", "days_before", "score", "score_without"]
    if not parts:
        return data.snapshots.head(0).reindex(columns=columns)
    return pd.concat(parts, ignore_index=True)[columns]


def _explain(score: Score, data: TaskData, context: int, position: int) -> pd.DataFrame:
    row = data.snapshots.iloc[[position]].reset_index(drop=True)
    history = histories_of(data, row, context)
    code = history.categorical[:, data.store.categorical_fields.index("event")]
    happenings = (
        pd.DataFrame({"at": history.times[:, 0], "code": code, "events": 1})
        .groupby(["at", "code"], as_index=False)
        .sum()
        .tail(MOST_HAPPENINGS)
        .reset_index(drop=True)
    )
    # (happenings + 1, tokens) bool: row 0 is the whole history.
    kept = np.ones((len(happenings) + 1, len(code)), bool)
    kept[1:] = (history.times[:, 0] != happenings["at"].to_numpy()[:, None]) | (
        code != happenings["code"].to_numpy()[:, None]
    )
    asked, tokens = np.nonzero(kept)
    variants = replace(
        history,
        times=history.times[tokens],
        categorical=history.categorical[tokens],
        numeric=history.numeric[tokens],
        owner=asked,
        cutoff_us=np.repeat(history.cutoff_us, len(kept)),
    )
    rows = row.loc[np.zeros(len(kept), int)].reset_index(drop=True)
    scores = score(as_data(data, rows, variants))
    names = [*data.store.dictionaries["event"], ""]  # the last for -1, missing
    return happenings.assign(
        customer_id=row["customer_id"].iloc[0],
        cutoff=row["cutoff"].iloc[0],
        event=[names[c] for c in happenings["code"]],
        days_before=(history.cutoff_us[0] - happenings["at"]) / _DAY_US,
        score=scores[0],
        score_without=scores[1:],
    )


def write_examples(
    score: Score,
    data: TaskData,
    context: int,
    test: pd.DataFrame,
    calibrate: Callable[[np.ndarray], np.ndarray],
    folder: Path,
) -> None:
    """Explain a few test snapshots in `explanations.parquet`; nothing is chosen by labels.

    Args:
        score: of a network.
        data: the task.
        context: of the network.
        test: the test's snapshots with their `score`.
        calibrate: scores -> probabilities.
        folder: of the run.
    """
    ranked = test[test["end"] > 0].sort_values("score", ascending=False, kind="stable")
    last = len(ranked) - 1
    places = sorted({last * percent // 100 for percent in EXAMPLES_PERCENT if last >= 0})
    chosen = ranked.iloc[places].drop(columns="score")
    found = explain(score, replace(data, snapshots=chosen.reset_index(drop=True)), context)
    found = found.merge(chosen[_KEY].assign(place=[place + 1 for place in places]), on=_KEY)
    scores = found[["score", "score_without"]].to_numpy(np.float64)
    found[["probability", "probability_without"]] = calibrate(scores)
    with replacing_file(folder / FILE) as partial_file:
        found.to_parquet(partial_file, index=False)


def example_results(path: Path) -> list[dict[str, Any]]:
    """Read a run's examples for the report; empty where it has none.

    Without ids, and with times to the hour (for two days) or the day: a report travels.

    Returns:
        Per example its `place` on the list, its `probability` and `happenings`, strongest first:
        `event`, `events`, `days_before` and `effect`, the probability that would be lost.
    """
    file = (path if path.is_dir() else path.parent) / FILE
    if not file.is_file():
        return []
    rows = read_parquet(file)
    rows["effect"] = rows["probability"] - rows["probability_without"]
    days = rows["days_before"]
    rows["days_before"] = ((24 * days).round() / 24).where(days < 2, days.round())
    examples = []
    for _, history in rows.groupby(_KEY, sort=False):
        strongest = history["effect"].abs().sort_values(ascending=False, kind="stable").index
        told = history.loc[strongest[:SHOWN], ["event", "events", "days_before", "effect"]]
        examples.append(
            {
                "place": int(history["place"].iloc[0]),
                "probability": float(history["probability"].iloc[0]),
                "happenings": told.to_dict("records"),
            }
        )
    return examples
