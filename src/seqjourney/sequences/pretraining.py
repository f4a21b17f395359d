"""Questions for pretraining: at any moment of any history, what comes next, and when?

No label is needed, so all customers teach whose events may be learned from. A question stands at
a moment drawn evenly from between two moments at which something became known: there a snapshot
has its cutoff, too. The last one of a history stands before the end of what training may know,
and all that is known of its answer is that nothing came until then.

"Next" is the next event to become known, the order of the store. Shapes: C customers, Q questions,
F categorical and K numeric fields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from seqjourney.errors import DataError
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import FIRST, UNKNOWN, Tokenizer, signed_log

MOST_WORDS = 512
"""Of a vocabulary that are told apart in an answer; rarer ones count as unknown."""
_VALIDATION_SHARE = 0.1


def pretraining_questions(data: TaskData, seed: int) -> TaskData:
    """Ask after every moment of every history that training may know.

    Customers are split, not times: a tenth of them (at least one) says when to stop.

    Args:
        data: of the task that is trained for afterwards. Customers held out for its test teach
            nothing, nor do those who may not be learned from.
        seed: draws the moments, and whom to stop by.

    Returns:
        The data with other snapshots: `customer_id`, `customer_index`, `cutoff`, `end`, `split`
        (train or validation), `label` (0) and `weight` as ever, and `following` (int64, row of
        the store that came next, -1 if nothing did) and `wait_us` (int64, from the cutoff to it,
        or to the end of what may be known).

    Raises:
        DataError: fewer than two customers have a history to learn from.
    """
    store = data.store
    until_us = round(datetime.fromisoformat(data.tokenizer.fitted_until).timestamp() * 1e6)
    teaches = np.ones(len(store.customer_ids), bool)
    if data.learnable is not None:
        teaches &= data.learnable
    if data.task.customer_holdout:
        tested = data.snapshots["split"] == "test"
        teaches[data.snapshots.loc[tested, "customer_index"].to_numpy()] = False
    known_at = np.asarray(store.times[:, 1])
    customer = np.repeat(np.arange(len(teaches)), np.diff(store.offsets))
    row = np.flatnonzero(teaches[customer] & (known_at <= until_us))
    customer, start = customer[row], known_at[row]
    followed = np.zeros(len(row), bool)  # by an event of the same customer that may be known
    followed[:-1] = customer[1:] == customer[:-1]
    stop = np.full(len(row), until_us)
    stop[:-1] = np.where(followed[:-1], start[1:], until_us)
    random = np.random.default_rng([seed, 1])
    moment = start + (random.random(len(row)) * (stop - start)).astype(np.int64)
    order = random.permutation(np.unique(customer))
    if len(order) < 2:
        raise DataError(
            f"task '{data.task.name}': {len(order)} customers have events to learn from before the "
            "last training cutoff, too few for pretraining; set model.pretrain_epochs=0."
        )
    validating = np.isin(customer, order[: max(1, round(_VALIDATION_SHARE * len(order)))])
    asked = stop > start  # several events that became known together are one step
    questions = pd.DataFrame(
        {
            "customer_id": store.customer_ids[customer],
            "customer_index": customer,
            "cutoff": pd.to_datetime(moment, unit="us", utc=True).as_unit("us"),
            "end": row + 1 - store.offsets[customer],
            "split": np.where(validating, "validation", "train"),
            "label": np.int8(0),
            "weight": 1.0,
            "following": np.where(followed, row + 1, -1),
            "wait_us": stop - moment,
        }
    )[asked]
    if questions["split"].nunique() < 2:
        raise DataError(
            f"task '{data.task.name}': histories before the last training cutoff are too few for "
            "pretraining; set model.pretrain_epochs=0."
        )
    return replace(data, snapshots=questions.reset_index(drop=True))


@dataclass(frozen=True)
class Following:
    """The answers to the questions of one split."""

    classes: np.ndarray
    """(Q, F + K) int16: of each field of the event that came next; 0 if nothing did."""
    came: np.ndarray
    """(Q,) bool: whether anything did, as far as may be known."""
    wait_us: np.ndarray
    """(Q,) int64: until it did, or for how long it is known that nothing did."""

    @classmethod
    def of(cls, questions: TaskData) -> Following:
        """Look the answers up in the store."""
        store, tokenizer = questions.store, questions.tokenizer
        following = questions.snapshots["following"].to_numpy(np.int64)
        came = following >= 0
        classes = np.zeros((len(came), len(class_counts(tokenizer))), np.int16)
        rows = following[came]
        maps = tokenizer.code_maps(store.dictionaries)
        for position, field in enumerate(tokenizer.categorical_fields):
            ids = maps[position][store.categorical[rows, store.categorical_fields.index(field)]]
            ids[ids >= FIRST + MOST_WORDS] = UNKNOWN
            classes[came, position] = ids
        for position, field in enumerate(tokenizer.numeric_fields):
            values = store.numeric[rows, store.numeric_fields.index(field)]
            inner = tokenizer.scales[field].edges[1:-1]
            bins = 1 + np.searchsorted(np.asarray(inner), signed_log(values), side="right")
            place = len(tokenizer.vocabulary) + position
            classes[came, place] = np.where(np.isnan(values), 0, bins)
        return cls(classes, came, questions.snapshots["wait_us"].to_numpy(np.int64))


def class_counts(tokenizer: Tokenizer) -> list[int]:
    """Return how many classes each field of an event has, (F + K).

    Of a categorical field they are its token ids, of a numeric one 0 for missing and then the
    quantile bins of training.
    """
    words = [FIRST + min(MOST_WORDS, len(words)) for words in tokenizer.vocabulary.values()]
    return words + [max(1, len(s.edges) - 1) + 1 for s in tokenizer.scales.values()]
