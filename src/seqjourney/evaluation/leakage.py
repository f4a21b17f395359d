"""Leakage checks: refuse to train or evaluate when something from after a cutoff could be used.

`check_task_data` looks at what a model is about to be given: split windows, snapshot ends, the
tokenizer, and fields that give the answer away. `check_future_blind` looks at what a trained model
does: every event after a cutoff is changed or removed, and no score may move. `check_predictions`
looks at a predictions file alone.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import numpy as np
import pandas as pd

from seqjourney.config import TaskConfig
from seqjourney.errors import LeakageError
from seqjourney.sequences.store import SequenceStore, known_before
from seqjourney.sequences.task_data import HorizonPredictor, Predictor, TaskData, ValuePredictor
from seqjourney.sequences.tokenizer import DAY_US

TOO_GOOD_AUC = 0.99
_FEWEST_OF_A_CLASS = 30
_SPLITS = ("train", "validation", "test")


def check_task_data(data: TaskData) -> None:
    """Check everything that can be known before training.

    Raises:
        LeakageError: names the rule that is broken and where.
    """
    check_windows(data.snapshots, data.task.horizon)
    check_ends(data)
    check_tokenizer(data)
    check_fields(data)
    if data.task.customer_holdout:
        split = data.snapshots.groupby("split")["customer_id"]
        seen = set(split.get_group("train")) | set(split.get_group("validation"))
        if shared := seen & set(split.get_group("test")):
            raise LeakageError(
                f"customer '{min(shared)}' is held out for the test but also in training or "
                "validation; delete the task's folder and run again."
            )


def check_together(data: TaskData) -> None:
    """Check that tasks which one network learns keep to each other's splits.

    Each task's training windows close before its own validation, and its labels are settled then.
    With the same first validation and test cutoffs this holds between any two tasks, too.

    Raises:
        LeakageError: they differ in these, or in the customers who are held out.
    """
    task = data.task
    for other in (one.data.task for one in data.also):
        assert task.cutoffs is not None and other.cutoffs is not None
        for split in _SPLITS[1:]:
            mine, its = min(task.cutoffs.of(split)), min(other.cutoffs.of(split))
            if mine != its:
                raise LeakageError(
                    f"tasks '{task.name}' and '{other.name}' cannot be learned together: their "
                    f"first {split} cutoffs are {mine:%Y-%m-%d %H:%M} and {its:%Y-%m-%d %H:%M}, so "
                    f"one would learn from what the {split} of the other asks. Give both the same "
                    "first validation and test cutoffs (task.cutoffs), or train them apart."
                )
        if task.customer_holdout != other.customer_holdout:
            raise LeakageError(
                f"tasks '{task.name}' and '{other.name}' cannot be learned together: "
                f"customer_holdout is {task.customer_holdout:g} and {other.customer_holdout:g}, so "
                "one would learn from customers whom the other holds out. Give both the same."
            )
        if task.certify != other.certify:
            raise LeakageError(
                f"tasks '{task.name}' and '{other.name}' cannot be learned together: certify is "
                f"{task.certify:g} and {other.certify:g}, so one would be tuned on customers who "
                "certify the other. Give both the same."
            )


def check_windows(snapshots: pd.DataFrame, horizon: timedelta) -> None:
    """Every label window must close before the next split's first cutoff."""
    present = [s for s in _SPLITS if (snapshots["split"] == s).any()]
    for earlier, later in itertools.pairwise(present):
        last = snapshots["cutoff"][snapshots["split"] == earlier].max()
        first = snapshots["cutoff"][snapshots["split"] == later].min()
        if last + horizon > first:
            raise LeakageError(
                f"splits overlap: the {earlier} label window of cutoff {last:%Y-%m-%d %H:%M} "
                f"closes at {last + horizon:%Y-%m-%d %H:%M}, after the first {later} cutoff "
                f"{first:%Y-%m-%d %H:%M}. Move task.cutoffs apart or shorten task.horizon."
            )


def check_ends(data: TaskData) -> None:
    """A snapshot must see all tokens known at its cutoff and none known later."""
    customer = data.snapshots["customer_index"].to_numpy(np.int64)
    end = data.snapshots["end"].to_numpy(np.int64)
    cutoff = _microseconds(data.snapshots["cutoff"])
    first, stop = data.store.offsets[customer], data.store.offsets[customer + 1]
    wrong = (end < 0) | (first + end > stop)
    known_at = data.store.times[:, 1]
    if len(known_at):
        last = np.clip(first + end - 1, 0, len(known_at) - 1)
        following = np.clip(first + end, 0, len(known_at) - 1)
        wrong |= (end > 0) & (known_at[last] > cutoff)
        wrong |= (first + end < stop) & (known_at[following] <= cutoff)
    if wrong.any():
        row = data.snapshots.iloc[int(np.argmax(wrong))]
        raise LeakageError(
            f"the snapshot of customer '{row['customer_id']}' at {row['cutoff']:%Y-%m-%d %H:%M} "
            f"({int(wrong.sum()):,} in all) does not end at the last event known by then; "
            "the store and the snapshots are not of one making. Run scripts/prepare.py again."
        )


def check_tokenizer(data: TaskData) -> None:
    """Vocabulary and scales must come from what was known in the training period."""
    tokenizer = data.tokenizer
    until = datetime.fromisoformat(tokenizer.fitted_until)
    training = data.snapshots["cutoff"][data.snapshots["split"] == "train"]
    if until > training.max():
        raise LeakageError(
            f"the tokenizer was fitted on events until {until:%Y-%m-%d %H:%M}, but the last "
            f"training cutoff is {training.max():%Y-%m-%d %H:%M}; fit it on the training period."
        )
    seen = _codes_known(data.store, round(until.timestamp() * 1e6))
    for field, words in tokenizer.vocabulary.items():
        position = data.store.categorical_fields.index(field)
        dictionary = data.store.dictionaries[field]
        known = {dictionary[code] for code in np.flatnonzero(seen[position])}
        for word in words:
            if word not in known:
                raise LeakageError(
                    f"the tokenizer knows '{word}' of field '{field}', which nobody had seen by "
                    f"{until:%Y-%m-%d %H:%M}; its vocabulary was fitted on later data."
                )


def check_fields(data: TaskData) -> None:
    """Refuse a field whose last value alone separates the training labels almost perfectly.

    Such a column is nearly always written after the fact (a status, a churn date, a total over
    the whole history). Fields in `task.trusted_fields` are let through.
    """
    from sklearn.metrics import roc_auc_score

    training = data.of("train").snapshots
    label = training["label"].to_numpy()
    known = training["end"].to_numpy(np.int64) > 0
    if min((label[known] == 0).sum(), (label[known] == 1).sum()) < _FEWEST_OF_A_CLASS:
        return
    customer = training["customer_index"].to_numpy(np.int64)[known]
    last = data.store.offsets[customer] + training["end"].to_numpy(np.int64)[known] - 1
    label = label[known]
    half = customer % 2 == 0
    readings = {}
    for position, field in enumerate(data.store.numeric_fields):
        values = data.store.numeric[last, position].astype(np.float64)
        readings[field] = (np.nan_to_num(values, nan=np.nanmin(values, initial=0) - 1), label)
    for position, field in enumerate(data.store.categorical_fields):
        codes = data.store.categorical[last, position]
        # Rates learned on half of the customers, judged on the others: many categories alone
        # must not look like knowledge.
        rates = pd.Series(label[half]).groupby(codes[half]).mean()
        scores = pd.Series(codes[~half]).map(rates).fillna(label[half].mean()).to_numpy()
        readings[field] = (scores, label[~half])
    for field, (scores, truth) in readings.items():
        if field in data.task.trusted_fields or len(np.unique(truth)) < 2:
            continue
        auc = roc_auc_score(truth, scores)
        if max(auc, 1 - auc) >= TOO_GOOD_AUC:
            raise LeakageError(
                f"field '{field}' alone tells the training labels apart (ROC-AUC "
                f"{max(auc, 1 - auc):.3f}): it is almost surely written after the fact. Leave it "
                "out of the data config, or name it in task.trusted_fields if it is known in time."
            )


def check_predictions(predictions: pd.DataFrame, horizon: timedelta | None) -> None:
    """Check the cutoffs of a predictions file: validation closes before the test begins."""
    if horizon is not None:
        check_windows(predictions, horizon)


def check_future_blind(predictor: Predictor, data: TaskData, customers: int = 200) -> float:
    """Change or remove every event after a cutoff and compare scores.

    Args:
        predictor: a trained model.
        data: the task; the first validation cutoff is used, so the test stays unseen.
        customers: how many to try.

    Returns:
        The largest difference, at most a rounding error.

    Raises:
        LeakageError: a score moved.
    """
    validation = data.of("validation").snapshots
    cutoff = validation["cutoff"].min()
    rows = validation[validation["cutoff"] == cutoff]
    rows = rows.iloc[np.linspace(0, len(rows) - 1, min(customers, len(rows))).astype(int)]
    sample = _sample(data, rows.reset_index(drop=True))
    before = _answers(predictor, sample)
    after = _answers(predictor, _with_another_future(sample, cutoff))
    difference = float(np.max(np.abs(before - after) / (1 + np.abs(before))))
    if not difference <= 1e-5:
        what, worst = np.unravel_index(np.argmax(np.abs(before - after)), before.shape)
        raise LeakageError(
            f"changing events after {cutoff:%Y-%m-%d %H:%M} changed the "
            f"{_names(data.task)[what]} of customer "
            f"'{rows['customer_id'].iloc[worst]}' from {before[what, worst]:.6g} to "
            f"{after[what, worst]:.6g}: the model sees the future."
        )
    return difference


def _names(task: TaskConfig) -> list[str]:
    """Say what `_answers` returns."""
    by_horizon = [f"score by {horizon}" for horizon in task.by_horizon()]
    return by_horizon or ["score", "expected amount"]


def _answers(predictor: Predictor, data: TaskData) -> np.ndarray:
    """Return scores, and of a `sum` task amounts: (1 or 2, n); of a `time_to` task (K, n)."""
    if data.task.kind == "time_to":
        return cast("HorizonPredictor", predictor).score_each(data).T
    if data.task.kind == "sum":
        return np.stack(cast("ValuePredictor", predictor).score_and_amount(data))
    return predictor.score(data)[None]


def _sample(data: TaskData, rows: pd.DataFrame) -> TaskData:
    """Return the same task on a few customers, with arrays of its own."""
    store = data.store
    customers = rows["customer_index"].to_numpy(np.int64)
    spans = [np.arange(store.offsets[c], store.offsets[c + 1]) for c in customers]
    tokens = np.concatenate(spans) if spans else np.zeros(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
    small = replace(
        store,
        customer_ids=store.customer_ids[customers],
        offsets=offsets,
        categorical=np.array(store.categorical[tokens]),
        numeric=np.array(store.numeric[tokens]),
        times=np.array(store.times[tokens]),
    )
    events = data.events
    if events is not None:
        events = events.filter(events.customer_id.isin(rows["customer_id"].tolist()))
    rows = rows.assign(customer_index=np.arange(len(rows)))
    return replace(data, store=small, events=events, snapshots=rows)


def _with_another_future(data: TaskData, cutoff: pd.Timestamp) -> TaskData:
    """Return the same past with a different future.

    Every second customer has none at all, so that counting over the whole history shows; the
    others' events get other times, names and numbers.
    """
    import ibis

    old = data.store
    later = old.times[:, 1] > round(cutoff.timestamp() * 1e6)
    customer = np.repeat(np.arange(len(old.customer_ids)), np.diff(old.offsets))
    kept = ~later | (customer % 2 == 1)
    counts = np.bincount(customer[kept], minlength=len(old.customer_ids))
    moved = later[kept, None]
    store: SequenceStore = replace(
        old,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        times=old.times[kept] + np.where(moved, 3 * DAY_US, 0),
        categorical=np.where(moved, -1, old.categorical[kept]).astype(np.int32),
        numeric=np.where(moved, -7 * old.numeric[kept] + 1, old.numeric[kept]).astype(np.float32),
    )
    events = data.events
    if events is not None:
        future = events.known_at > ibis.literal(cutoff.to_pydatetime())
        ended = events.customer_id.isin(old.customer_ids[::2].tolist())
        events = events.filter(~(future & ended))
        future = events.known_at > ibis.literal(cutoff.to_pydatetime())
        changed = {
            "timestamp": events.timestamp + ibis.interval(days=3),
            "known_at": events.known_at + ibis.interval(days=3),
            "event": ibis.literal("another event"),
        }
        changed |= {c: events[c] * -7 + 1 for c in events.columns if events[c].type().is_floating()}
        events = events.mutate(
            **{c: future.ifelse(value, events[c]) for c, value in changed.items()}
        )
    return replace(data, store=store, events=events)


def _codes_known(store: SequenceStore, moment_us: int) -> list[np.ndarray]:
    seen = [np.zeros(len(store.dictionaries[f]) + 1, bool) for f in store.categorical_fields]
    for rows, known in known_before(store, moment_us):
        for position, flags in enumerate(seen):
            flags[np.unique(store.categorical[rows, position][known])] = True
    return [flags[:-1] for flags in seen]


def _microseconds(times: pd.Series) -> np.ndarray:
    return times.dt.tz_convert(None).to_numpy("datetime64[us]").astype(np.int64)
