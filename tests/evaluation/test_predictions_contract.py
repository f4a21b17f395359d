import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqjourney.errors import DataError
from seqjourney.evaluation import predictions
from seqjourney.evaluation.predictions import (
    SCHEMA,
    join_runs,
    read_predictions,
    write_predictions,
)


def test_what_is_written_is_read_back(frames, tmp_path):
    file = write_predictions(frames[0], tmp_path / "run" / "predictions.parquet")
    assert pq.read_schema(file).names == [*SCHEMA.names, "slice_tenure"]
    back = read_predictions(file.parent)
    pd.testing.assert_frame_equal(
        back, frames[0][back.columns.to_list()], check_dtype=False, check_column_type=False
    )


def test_another_engines_text_columns_are_read(frames, tmp_path):
    write_predictions(frames[0], tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    for place, name in enumerate(table.column_names):
        if table[name].type == pa.string():
            kind = pa.dictionary(pa.int32(), pa.string()) if name == "task" else pa.large_string()
            table = table.set_column(place, name, table[name].cast(kind))
    pq.write_table(table, tmp_path / "b.parquet")
    assert read_predictions(tmp_path / "b.parquet").equals(read_predictions(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="score"), "score"),
        (lambda f: f.assign(score=np.nan), "score"),
        (lambda f: f.assign(score=np.inf), "column score must be a finite number"),
        (lambda f: f.assign(probability=1.2), "column probability must lie between 0 and 1"),
        (lambda f: f.assign(probability=np.nan), "probability"),
        (lambda f: f.assign(label=2), "column label must be 0 or 1"),
        (lambda f: f.assign(weight=-1.0), "column weight must be 0 or more"),
        (lambda f: f.assign(split="train"), "split 'train' is unknown"),
        (lambda f: f.assign(run=["a", *["b"] * (len(f) - 1)]), "one file per run"),
        (lambda f: f.assign(model="two\nlines"), "printable"),
        (lambda f: f.assign(cutoff=f["cutoff"].dt.tz_localize(None)), "no time zone"),
        (lambda f: f.head(0), "no rows"),
    ],
)
def test_a_bad_frame_is_not_written_and_the_old_file_stays(frames, tmp_path, change, message):
    file = write_predictions(frames[0], tmp_path / "predictions.parquet")
    before = file.read_bytes()
    with pytest.raises(DataError, match=message):
        write_predictions(change(frames[0]), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_a_writer_that_dies_leaves_the_old_file(frames, tmp_path, monkeypatch):
    file = write_predictions(frames[0], tmp_path / "predictions.parquet")
    before = file.read_bytes()

    def half(table, path):
        path.write_bytes(b"PAR1 half")
        raise OSError("killed")

    monkeypatch.setattr(predictions.pq, "write_table", half)
    with pytest.raises(OSError, match="killed"):
        write_predictions(frames[1], file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_reading_names_the_file_and_the_column(frames, tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*no predictions file"):
        read_predictions(tmp_path / "nowhere")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"broken\.parquet: not readable"):
        read_predictions(tmp_path / "broken.parquet")
    write_predictions(frames[0], tmp_path / "good.parquet")
    table = pq.read_table(tmp_path / "good.parquet")
    wrong = table.set_column(4, "label", table["label"].cast(pa.int64()))
    pq.write_table(wrong, tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match=r"wrong\.parquet: column label is int64 and must be int8"):
        read_predictions(tmp_path / "wrong.parquet")
    pq.write_table(table.drop_columns(["weight", "run"]), tmp_path / "less.parquet")
    with pytest.raises(DataError, match=r"column\(s\) weight, run are missing"):
        read_predictions(tmp_path / "less.parquet")


def test_runs_are_lined_up_whatever_the_order_of_their_rows(frames):
    shuffled = frames[1].sample(frac=1, random_state=0)
    straight, mixed = join_runs(frames[:2])[0], join_runs([frames[0], shuffled])[0]
    np.testing.assert_array_equal(straight.scores["transformer"], mixed.scores["transformer"])
    test = mixed.split("test")
    assert len(test.snapshots) == 400
    assert test.slices == ["slice_tenure"]


def test_several_tasks_are_kept_apart_and_need_not_be_in_every_run(frames):
    two = pd.concat([frames[0], frames[0].assign(task="conversion")])
    tasks = join_runs([two, frames[1]])
    assert [(t.task, list(t.scores)) for t in tasks] == [
        ("churn", ["gru", "transformer"]),
        ("conversion", ["gru"]),
    ]


def test_models_of_one_name_are_told_apart_by_their_run(frames):
    other = frames[0].assign(run="second")
    assert list(join_runs([frames[0], other])[0].scores) == ["gru (run_gru)", "gru (second)"]
    with pytest.raises(DataError, match="given 2 times"):
        join_runs([frames[0], frames[0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.iloc[:-3], "'transformer' lacks 3 of 'gru''s and has 0.*customer C"),
        (lambda f: f.assign(label=1 - f["label"]), "column label differs.*customer C"),
        (lambda f: f.assign(weight=2.0), "column weight differs.*1.0 against 2.0"),
        (lambda f: f.assign(slice_tenure="new"), "column slice_tenure differs"),
        (lambda f: pd.concat([f, f.head(2)]), "2 snapshot.* more than once.*customer C"),
    ],
)
def test_runs_that_were_asked_other_questions_are_refused(frames, change, message):
    with pytest.raises(DataError, match=message):
        join_runs([frames[0], change(frames[1])])


def test_a_test_split_without_both_outcomes_is_refused(frames):
    test = frames[0]["split"] == "test"
    with pytest.raises(DataError, match="the test split is empty"):
        join_runs([frames[0][~test]])
    lost = frames[0].assign(label=frames[0]["label"].where(~test, 0))
    with pytest.raises(DataError, match=r"all 400 test snapshots have label 0.*horizon"):
        join_runs([lost])
    with pytest.raises(DataError, match="no run"):
        join_runs([])


def valued(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The same rows as a task that sums would have them."""
    size = np.random.default_rng(seed).lognormal(3, 1, len(frame))
    came = frame["label"] * np.random.default_rng(0).lognormal(3, 1, len(frame))
    return frame.assign(value=came, expected_value=size)


def test_values_are_written_read_and_joined(frames, tmp_path):
    file = write_predictions(valued(frames[0]), tmp_path / "predictions.parquet")
    names = [*SCHEMA.names, "value", "expected_value", "slice_tenure"]
    assert pq.read_schema(file).names == names
    back = [read_predictions(file), valued(frames[1], 1)]
    (task,) = join_runs(back)
    test = task.split("test")
    assert set(test.expected) == {"gru", "transformer"}
    assert (test.snapshots["label"] == (test.snapshots["value"] > 0)).all()
    rows = back[0][back[0]["split"] == "test"].sort_values("customer_id")
    np.testing.assert_array_equal(test.expected["gru"], rows["expected_value"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="value"), "column expected_value stands alone"),
        (lambda f: f.assign(expected_value=-1.0), "expected_value must be 0 or more"),
        (lambda f: f.assign(expected_value=np.inf), "expected_value must be 0 or more"),
        (lambda f: f.assign(expected_value=np.nan), "column expected_value has .* empty"),
        (lambda f: f.assign(value=5.0), "label must be 1 where value is above 0"),
        (lambda f: f.assign(expected_value=1), None),
    ],
)
def test_bad_values_are_refused(frames, tmp_path, change, message):
    bad = change(valued(frames[0]))
    if message is None:
        write_predictions(bad, tmp_path / "predictions.parquet")
        return
    with pytest.raises(DataError, match=message):
        write_predictions(bad, tmp_path / "predictions.parquet")


def test_runs_must_agree_on_what_came_in(frames):
    first, second = valued(frames[0]), valued(frames[1])
    with pytest.raises(DataError, match="'transformer' has no expected_value"):
        join_runs([first, frames[1]])
    # Refunds that one run has not seen.
    other = second.assign(value=second["value"] * 2)
    with pytest.raises(DataError, match="column value differs between 'gru' and 'transformer'"):
        join_runs([first, other])
