"""Which questions a `next` task asks, what their answers are, and what training sees of them."""

import numpy as np
import pandas as pd
import pytest

from chains import START_US, as_histories, chain, next_task
from seqjourney.config import NextTaskConfig
from seqjourney.errors import ConfigError, DataError
from seqjourney.sequences.next_cases import build_next_data, past
from seqjourney.sequences.tokenizer import DAY_US, FIRST

DAY = pd.Timedelta(days=1)
MOMENTS = {"train": ["2023-03-01"], "validation": ["2023-02-01"], "test": ["2023-04-01"]}


def in_time(cutoffs: dict[str, list[str]]) -> NextTaskConfig:
    return next_task(split="time", cutoffs=cutoffs, horizon="1d", even_spacing=False)


def asked(data, split: str) -> set[tuple[str, int, str]]:
    words = data.store.dictionaries["item"]
    rows = data.of(split).snapshots
    return {(r.customer_id, r.end, words[r.target]) for r in rows.itertuples()}


def test_the_last_event_is_the_test_and_the_one_before_it_validates():
    store = as_histories([["a", "b", "c", "d"], ["b", "a"], ["c", "a", "b"]])
    data = build_next_data(store, next_task())
    assert asked(data, "test") == {("c0000", 3, "d"), ("c0002", 2, "b")}
    assert asked(data, "validation") == {("c0000", 2, "c"), ("c0002", 1, "a")}
    # Too short to leave anything out; the third has nothing before its only training event.
    assert asked(data, "train") == {("c0000", 1, "b"), ("c0001", 1, "a")}


def test_what_training_never_saw_is_no_answer():
    store = as_histories([["a", "b", "a", "new"], ["b", "a", "b", "a"]])
    data = build_next_data(store, next_task())
    assert data.tokenizer.vocabulary["item"] == ["a", "b"] or data.values == 2
    labels = data.of("test").snapshots.set_index("customer_id")["label"]
    assert labels["c0000"] < FIRST <= labels["c0001"]


def test_given_splits_ask_what_they_name_and_train_on_no_other_history():
    store = as_histories(
        [["a", "b", "c"], ["b", "c", "a"], ["a", "x", "b"]],
        [["train"] * 3, ["validation"] * 3, ["history", "history", "test"]],
    )
    data = build_next_data(store, next_task(split="given", given="fold"))
    assert asked(data, "train") == {("c0000", 1, "b"), ("c0000", 2, "c")}
    assert asked(data, "validation") == {("c0001", 1, "c"), ("c0001", 2, "a")}
    assert asked(data, "test") == {("c0002", 2, "b")}
    assert set(data.tokenizer.vocabulary) == {"item"}  # never the split itself
    assert "x" not in data.tokenizer.vocabulary["item"]


def test_an_answer_that_training_would_see_is_refused():
    store = as_histories(
        [["a", "x", "b"], ["b", "c", "a"], ["a", "b", "c"]],
        [["history", "test", "train"], ["train"] * 3, ["validation"] * 3],
    )
    with pytest.raises(DataError, match=r"'c0000' has a validation or test event before a train"):
        build_next_data(store, next_task(split="given", given="fold"))


def test_at_cutoffs_only_what_follows_within_the_horizon_is_asked():
    store = as_histories([list("abcdefgh"), list("abc"), list("abcd"), list("hgfedcba")])
    cutoffs = {
        split: [str(pd.Timestamp(START_US, unit="us", tz="UTC") + days * DAY)]
        for split, days in (("train", 2.5), ("validation", 2.5), ("test", 4.5))
    }
    data = build_next_data(store, in_time(cutoffs))
    assert asked(data, "validation") == {("c0000", 3, "d"), ("c0002", 3, "d"), ("c0003", 3, "e")}
    assert asked(data, "test") == {("c0000", 5, "f"), ("c0003", 5, "c")}
    train = data.of("train").snapshots
    assert set(train["end"]) == {1, 2}
    # Asked at some moment between the last event and the one to come.
    past_days = (train["cutoff"] - pd.Timestamp(START_US, unit="us", tz="UTC")) / DAY
    assert (past_days >= train["end"] - 1).all() and (past_days < train["end"]).all()
    assert past_days.mod(1).std() > 0.1


def test_training_at_cutoffs_does_not_change_with_what_comes_later():
    def built(last: str):
        store = as_histories([[*list("abcdab"), last], [*list("bcdabc"), "a"]])
        moment = pd.Timestamp(START_US, unit="us", tz="UTC")
        cutoffs = {"train": [str(moment + 3 * DAY)], "validation": [str(moment + 3 * DAY)],
                   "test": [str(moment + 4 * DAY)]}  # fmt: skip
        return build_next_data(
            store, next_task(split="time", cutoffs=cutoffs, horizon="1d", even_spacing=False)
        )

    a, b = built("d"), built("unheard")
    assert a.tokenizer == b.tokenizer
    keys = ["customer_id", "end", "cutoff", "label"]
    pd.testing.assert_frame_equal(a.of("train").snapshots[keys], b.of("train").snapshots[keys])


def test_windows_of_training_and_validation_that_overlap_are_refused():
    with pytest.raises(ConfigError, match="validation begins before train"):
        build_next_data(
            chain(20), next_task(split="time", cutoffs=MOMENTS, horizon="1d", even_spacing=False)
        )


def test_an_unknown_field_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"task.field=sku: .* only item"):
        build_next_data(chain(5), next_task(field="sku"))


def test_a_split_without_questions_is_refused():
    with pytest.raises(DataError, match="nothing is asked in validation"):
        build_next_data(as_histories([["a", "b"], ["b", "a"]]), next_task())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "time"}, "needs cutoffs"),
        ({"split": "time", "cutoffs": MOMENTS, "horizon": "1d"}, "even_spacing has no cutoffs"),
        ({"split": "given"}, "needs `given`"),
        ({"given": "fold"}, "needs `given`"),
        ({"negatives": 1}, "256"),
        ({"sampled": 100}, "give repeats: false"),
    ],
)
def test_a_task_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        next_task(**changes)


def test_even_spacing_has_no_calendar():
    data = build_next_data(chain(200), next_task())
    assert data.tokenizer.event_cycles == data.tokenizer.snapshot_cycles == ()
    assert build_next_data(chain(200), next_task(even_spacing=False)).tokenizer.event_cycles


def test_past_lists_each_history_from_its_last_event():
    data = build_next_data(as_histories([["a", "b", "c", "d"], ["c", "a", "b"]]), next_task())
    test = data.of("test")
    question, ago, row = past(test)
    assert question.tolist() == [0, 0, 0, 1, 1]
    assert ago.tolist() == [0, 1, 2, 0, 1]
    assert row.tolist() == [2, 1, 0, 5, 4]
    question, ago, row = past(test, most=1)
    assert (question.tolist(), ago.tolist(), row.tolist()) == ([0, 1], [0, 0], [2, 5])


def test_questions_after_events_stand_at_the_event():
    data = build_next_data(chain(10), next_task(even_spacing=False))
    at = data.snapshots["cutoff"].dt.tz_convert(None).to_numpy("M8[us]").astype(np.int64)
    assert (at == START_US + (data.snapshots["end"] - 1) * DAY_US).all()


def test_of_an_order_only_the_order_counts():
    histories = [list("abcd"), list("bcab")]
    seconds = build_next_data(as_histories(histories, step_us=1_000_000), next_task())
    years = build_next_data(as_histories(histories, step_us=365 * DAY_US), next_task())
    assert seconds.tokenizer == years.tokenizer
    pd.testing.assert_frame_equal(seconds.snapshots, years.snapshots)
    assert seconds.store.times[:, 0].tolist() == [DAY_US * i for i in (0, 1, 2, 3)] * 2
