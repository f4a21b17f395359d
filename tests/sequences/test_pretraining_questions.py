"""Pretraining asks only what training may know, of those who may be learned from."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from seqjourney.errors import DataError
from seqjourney.sequences.pretraining import (
    MOST_WORDS,
    Following,
    class_counts,
    pretraining_questions,
)
from seqjourney.sequences.task_data import TaskData
from seqjourney.sequences.tokenizer import FIRST, MISSING, UNKNOWN, signed_log


def until_us(data: TaskData) -> int:
    return round(datetime.fromisoformat(data.tokenizer.fitted_until).timestamp() * 1e6)


def test_a_question_knows_what_a_snapshot_at_its_moment_would(small_data: TaskData):
    asked = pretraining_questions(small_data, 0).snapshots
    store, until = small_data.store, until_us(small_data)
    cutoffs = asked["cutoff"].dt.tz_convert(None).to_numpy("datetime64[us]").astype(np.int64)
    assert len(asked) > 400
    assert (asked["following"] >= 0).any() and (asked["following"] < 0).any()
    for customer, end, cutoff, following, wait in zip(
        asked["customer_index"], asked["end"], cutoffs, asked["following"], asked["wait_us"],
        strict=True,
    ):  # fmt: skip
        known = store.times[store.offsets[customer] : store.offsets[customer + 1], 1]
        assert (known <= cutoff).sum() == end > 0
        later = known[(known > cutoff) & (known <= until)]
        if following < 0:
            assert not len(later) and cutoff + wait == until
        else:
            assert store.times[following, 1] == later[0] == cutoff + wait
            assert following == store.offsets[customer] + end
    # Every moment of every history is asked after once.
    moments = sum(
        len(np.unique(known[known < until]))
        for known in np.split(np.asarray(store.times[:, 1]), store.offsets[1:-1])
    )
    assert len(asked) == moments


def test_what_became_known_later_changes_no_question(small_data: TaskData):
    store, until = small_data.store, until_us(small_data)
    late = store.times[:, 1] > until
    assert 0 < late.sum() < len(late)
    categorical, numeric, times = (
        np.array(a) for a in (store.categorical, store.numeric, store.times)
    )
    categorical[late], numeric[late] = -1, 99.0
    times[late] += 86_400_000_000
    changed = replace(
        small_data, store=replace(store, categorical=categorical, numeric=numeric, times=times)
    )
    before, after = (pretraining_questions(data, 0) for data in (small_data, changed))
    assert before.snapshots.equals(after.snapshots)
    for name in ("classes", "came", "wait_us"):
        a, b = (getattr(Following.of(questions), name) for questions in (before, after))
        np.testing.assert_array_equal(a, b)


def test_who_may_not_be_learned_from_or_is_held_out_teaches_nothing(small_data: TaskData):
    learnable = np.ones(len(small_data.store.customer_ids), bool)
    learnable[::3] = False
    task = small_data.task.model_copy(update={"customer_holdout": 0.2})
    snapshots = small_data.snapshots.copy()
    mine = snapshots["customer_index"] % 5 == 1
    snapshots = snapshots[mine == (snapshots["split"] == "test")]
    data = replace(small_data, task=task, snapshots=snapshots, learnable=learnable)
    asked = set(pretraining_questions(data, 0).snapshots["customer_index"])
    tested = set(snapshots.loc[snapshots["split"] == "test", "customer_index"])
    everybody = set(pretraining_questions(small_data, 0).snapshots["customer_index"])
    assert tested & everybody
    assert asked == everybody - tested - set(np.flatnonzero(~learnable))


def test_customers_are_either_learned_from_or_validated_on(small_data: TaskData):
    asked = pretraining_questions(small_data, 0).snapshots
    splits = asked.groupby("customer_index")["split"].nunique()
    assert (splits == 1).all()
    assert 0.03 < (asked["split"] == "validation").mean() < 0.25
    assert not asked.equals(pretraining_questions(small_data, 1).snapshots)


def test_answers_are_the_fields_of_the_next_event(small_data: TaskData):
    words = small_data.tokenizer
    questions = pretraining_questions(small_data, 0)
    answers = Following.of(questions)
    counts = class_counts(words)
    assert answers.classes.shape[1] == len(counts) == len(words.vocabulary) + len(words.scales)
    assert (answers.classes.max(0) < counts).all()
    store = questions.store
    following = questions.snapshots["following"].to_numpy()
    event = store.categorical_fields.index("event")
    amount = words.numeric_fields.index("value")
    edges = np.array(words.scales["value"].edges)
    for row, classes, came in zip(following, answers.classes, answers.came, strict=True):
        assert came == (row >= 0)
        if not came:
            assert not classes.any()
            continue
        name = store.dictionaries["event"][store.categorical[row, event]]
        assert words.vocabulary["event"][classes[0] - FIRST] == name
        value = store.numeric[row, store.numeric_fields.index("value")]
        found = classes[len(words.vocabulary) + amount]
        assert found == 0 if np.isnan(value) else edges[found - 1] <= signed_log(value) + 1e-6
    channel = answers.classes[answers.came, list(words.vocabulary).index("channel")]
    assert (channel == MISSING).any()


def test_rare_words_are_one_class(small_data: TaskData):
    many = [*small_data.tokenizer.vocabulary["event"], *(f"w{i}" for i in range(MOST_WORDS))]
    many = many[4:] + many[:4]  # the events that occur come last
    words = replace(
        small_data.tokenizer, vocabulary=small_data.tokenizer.vocabulary | {"event": many}
    )
    questions = pretraining_questions(replace(small_data, tokenizer=words), 0)
    assert class_counts(words)[0] == FIRST + MOST_WORDS
    answers = Following.of(questions)
    assert (answers.classes[answers.came, 0] == UNKNOWN).all()


def test_a_log_without_histories_is_refused(small_data: TaskData):
    nobody = np.zeros(len(small_data.store.customer_ids), bool)
    with pytest.raises(DataError, match="pretrain_epochs=0"):
        pretraining_questions(replace(small_data, learnable=nobody), 0)
