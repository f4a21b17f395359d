"""Questions of a `next` task: at which points of which histories, and what came next.

A question is a snapshot whose label is the id of the value that follows, in the vocabulary of the
task's field. Training asks after every event, so that one causal pass over a history learns from
all of it; the same windows, batches and snapshot tokens serve as for any other task.

"Next" is the next event to become known, the order of the store. Shapes: N events, C customers,
Q questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pandas as pd

from seqjourney.config import NextTaskConfig, TrainerConfig
from seqjourney.errors import ConfigError, DataError
from seqjourney.sequences.store import SequenceStore
from seqjourney.sequences.tokenizer import DAY_US, FIRST, Tokenizer, fit_tokenizer

SPLITS = ("train", "validation", "test")
_AT_ONCE, _CELLS = 512, 2**25


@dataclass(frozen=True)
class NextData:
    """One `next` task on one store.

    `snapshots` has one row per question: `customer_id`, `customer_index`, `end` (events known),
    `cutoff`, `split`, `label` (int64 id of what follows; below `FIRST` it is not in the
    vocabulary), `target` (int32, its code in the store) and `weight`.
    """

    task: NextTaskConfig
    store: SequenceStore
    tokenizer: Tokenizer
    snapshots: pd.DataFrame

    def of(self, split: str) -> Self:
        """Return the same data with only the questions of one split."""
        chosen = self.snapshots[self.snapshots["split"] == split].reset_index(drop=True)
        return replace(self, snapshots=chosen)

    @property
    def values(self) -> int:
        """How many values may be answered: those of the vocabulary."""
        return len(self.tokenizer.vocabulary[self.task.field])

    def ids(self) -> np.ndarray:
        """Return the id of the field in every event, (N,) int64."""
        field = self.store.categorical_fields.index(self.task.field)
        position = self.tokenizer.categorical_fields.index(self.task.field)
        codes = self.tokenizer.code_maps(self.store.dictionaries)[position]
        return codes[self.store.categorical[:, field]]


def past(data: NextData, most: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List what each question's history holds, one entry per known event.

    Args:
        data: with the questions.
        most: only so many of the latest events of each history.

    Returns:
        question (P,), how many events ago (P,) with 0 for the last, and row of the store (P,).
    """
    end = data.snapshots["end"].to_numpy(np.int64)
    count = end if most is None else np.minimum(end, most)
    question = np.repeat(np.arange(len(end)), count)
    ago = np.arange(len(question)) - np.repeat(np.cumsum(count) - count, count)
    customer = data.snapshots["customer_index"].to_numpy(np.int64)[question]
    return question, ago, data.store.offsets[customer] + end[question] - 1 - ago


def seen(data: NextData) -> tuple[np.ndarray, np.ndarray]:
    """List the values that are no candidates, as each question's history holds them.

    Returns:
        question (P,), ascending, and position among the values (P,); empty where values repeat.
    """
    if data.task.repeats:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    question, _, row = past(data)
    value = data.ids()[row] - FIRST
    return question[value >= 0], value[value >= 0]


def questions_at_once(values: int) -> int:
    """Return of how many questions the scores of all values are held at once: 32 M of them."""
    return max(1, min(_AT_ONCE, _CELLS // values))


class NextPredictor(Protocol):
    """A model of what comes next, network or baseline."""

    log_scores: bool
    """Whether scores are logarithms of shares, up to a constant; else, shares up to a factor."""

    def fit(self, data: NextData, trainer: TrainerConfig, seed: int, folder: Path) -> None:
        """Learn from `train`; choose settings on `validation`; never look at `test`."""
        ...

    def scores(self, data: NextData) -> Iterator[np.ndarray]:
        """Yield, for consecutive stretches of the questions, a score per value, (q, V).

        Column v is the value with id `FIRST + v`; higher means likelier.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model as plain data."""
        ...


def build_next_data(
    store: SequenceStore, task: NextTaskConfig, label_only_events: tuple[str, ...] = ()
) -> NextData:
    """Cut the questions of a task and fit its tokenizer on what training may see.

    Args:
        store: of prepared data.
        task: what is asked.
        label_only_events: events that the store leaves out, for the tokenizer to record.

    Raises:
        ConfigError: a field is not in the store.
        DataError: a split has no question, or training would see the answer of another one.
    """
    for key in ("field", "given"):
        name = getattr(task, key)
        if name is not None and name not in store.categorical_fields:
            raise ConfigError(
                f"task.{key}={name}: the data has no such field, only "
                f"{', '.join(store.categorical_fields)}. Name it in data.categorical and prepare."
            )
    if task.even_spacing:
        store = evenly_spaced(store)
    if task.split == "time":
        questions, learned = _asked_at_cutoffs(store, task)
    else:
        roles = leave_one_out(store) if task.split == "leave_one_out" else given(store, task)
        questions, learned = _asked_after_events(store, roles)
    target = store.categorical[:, store.categorical_fields.index(task.field)]
    row = store.offsets[questions["customer_index"]] + questions.pop("end_row")
    questions["target"] = target[row].astype(np.int32)
    questions = questions[questions["target"] >= 0].reset_index(drop=True)
    for split in SPLITS:
        if not (questions["split"] == split).any():
            raise DataError(f"task {task.name}: nothing is asked in {split}; mend its split.")
    tokenizer = _fit(store, task, learned, label_only_events)
    data = NextData(task, store, tokenizer, questions)
    position = tokenizer.categorical_fields.index(task.field)
    ids = tokenizer.code_maps(store.dictionaries)[position]
    questions["label"] = ids[questions["target"].to_numpy()]
    questions["weight"] = 1.0
    # A value that training hardly met cannot be learned as an answer, only missed as one.
    learnable = (questions["split"] != "train") | (questions["label"] >= FIRST)
    return replace(data, snapshots=questions[learnable].reset_index(drop=True))


def evenly_spaced(store: SequenceStore) -> SequenceStore:
    """Return the store with each history's events a day apart, whatever their times were."""
    position = np.arange(len(store.times)) - np.repeat(store.offsets[:-1], np.diff(store.offsets))
    times = np.repeat(position[:, None] * DAY_US, 2, axis=1)
    return replace(store, times=times)


def leave_one_out(store: SequenceStore) -> np.ndarray:
    """Say in which split each event is asked: (N,) -1 never, else a position in `SPLITS`.

    Histories of fewer than three events are for training only, as in SASRec's protocol.
    """
    lengths = np.diff(store.offsets)
    roles = np.zeros(len(store.times), np.int8)
    long_enough = store.offsets[1:][lengths >= 3]
    roles[long_enough - 1], roles[long_enough - 2] = 2, 1
    return roles


def given(store: SequenceStore, task: NextTaskConfig) -> np.ndarray:
    """Read from a field in which split each event is asked; see `leave_one_out`."""
    assert task.given is not None
    words = store.dictionaries[task.given]
    roles = [SPLITS.index(word) if word in SPLITS else -1 for word in words]
    codes = store.categorical[:, store.categorical_fields.index(task.given)]
    return np.array([*roles, -1], np.int8)[codes]


def _asked_after_events(store: SequenceStore, roles: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Return questions right after the event before each asked one, and what training sees."""
    customer = np.repeat(np.arange(len(store.offsets) - 1), np.diff(store.offsets))
    position = np.arange(len(roles)) - store.offsets[customer]
    # Up to a customer's last training question; its later events belong to other splits.
    last = np.full(len(store.offsets) - 1, -1)
    np.maximum.at(last, customer[roles == 0], position[roles == 0])
    early = np.flatnonzero((roles > 0) & (position < last[customer]))
    if len(early):
        raise DataError(
            f"customer '{store.customer_ids[customer[early[0]]]}' has a validation or test event "
            f"before a training one ({len(early):,} such events): training would see the answer. "
            "Order each history's events as train, validation, test."
        )
    asked = np.flatnonzero((roles >= 0) & (position > 0))
    return _table(store, customer[asked], position[asked], store.times[asked - 1, 1],
                  np.array(SPLITS, object)[roles[asked]]), position <= last[customer]  # fmt: skip


def _asked_at_cutoffs(
    store: SequenceStore, task: NextTaskConfig
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return training questions between events and the others at their cutoffs.

    A training question stands at a moment drawn evenly from before the next event becomes known:
    at a cutoff, too, some time has passed since the last event, and that tells something.
    """
    assert task.cutoffs is not None and task.horizon is not None
    cutoffs = {
        split: np.array([round(c.timestamp() * 1e6) for c in task.cutoffs.of(split)])
        for split in SPLITS
    }
    horizon = round(task.horizon.total_seconds() * 1e6)
    ends = {split: cutoffs[split][[0, -1]] for split in SPLITS}
    for earlier, later in (("train", "validation"), ("validation", "test")):
        window = 0 if earlier == "train" else horizon  # training targets end at its last cutoff
        if ends[earlier][1] + window > ends[later][0]:
            raise ConfigError(
                f"task.cutoffs: {later} begins before {earlier} has ended, its windows included."
            )
    customer = np.repeat(np.arange(len(store.offsets) - 1), np.diff(store.offsets))
    position = np.arange(len(store.times)) - store.offsets[customer]
    known = store.times[:, 1]
    learned = known <= ends["train"][1]
    asked = np.flatnonzero(learned & (position > 0))
    wait = known[asked] - known[asked - 1]
    moment = known[asked - 1] + (np.random.default_rng(0).random(len(asked)) * wait).astype(
        np.int64
    )
    tables = [_table(store, customer[asked], position[asked], moment, "train")]
    for split in SPLITS[1:]:
        for cutoff in cutoffs[split]:
            before = np.concatenate([[0], np.cumsum(known <= cutoff)])
            end = before[store.offsets[1:]] - before[store.offsets[:-1]]
            follows = np.flatnonzero((end > 0) & (end < np.diff(store.offsets)))
            next_known = known[store.offsets[follows] + end[follows]]
            follows = follows[next_known <= cutoff + horizon]
            at = np.full(len(follows), cutoff)
            tables.append(_table(store, follows, end[follows], at, split))
    return pd.concat(tables, ignore_index=True), learned


def _table(
    store: SequenceStore,
    customer: np.ndarray,
    end: np.ndarray,
    cutoffs_us: np.ndarray,
    split: str | np.ndarray,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": store.customer_ids[customer],
            "customer_index": customer.astype(np.int64),
            "cutoff": pd.to_datetime(cutoffs_us, unit="us", utc=True).as_unit("us"),
            "end": end.astype(np.int64),
            "end_row": end.astype(np.int64),
            "split": split,
        }
    )


def _fit(
    store: SequenceStore,
    task: NextTaskConfig,
    learned: np.ndarray,
    label_only_events: tuple[str, ...],
) -> Tokenizer:
    """Fit on the events that training sees, and on nothing that says how the data is split."""
    kept = [f for f, name in enumerate(store.categorical_fields) if name != task.given]
    before = np.concatenate([[0], np.cumsum(learned)])
    seen = replace(
        store,
        offsets=before[store.offsets],
        categorical=store.categorical[learned][:, kept],
        numeric=store.numeric[learned],
        times=store.times[learned],
        categorical_fields=tuple(store.categorical_fields[f] for f in kept),
    )
    times = np.asarray(seen.times[:, 1])
    tokenizer = fit_tokenizer(
        seen,
        int(times.max(initial=0)),
        times.tolist(),
        label_only_events=label_only_events,
        min_count=task.min_count,
        max_words=task.most_values,
    )
    if task.even_spacing:
        tokenizer = replace(tokenizer, event_cycles=(), snapshot_cycles=())
    return tokenizer
