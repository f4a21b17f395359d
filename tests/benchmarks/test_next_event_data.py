"""The published protocols of `next_event`, read as they were published."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts/benchmarks"))

from next_event_data import DATA_SETS, TEST, TRAIN, VALIDATION, as_store, sessions

from seqjourney.config import NextTaskConfig, parse
from seqjourney.sequences.next_cases import NextData, build_next_data


@pytest.fixture
def read(real_data: Path):
    def reader(name: str) -> NextData:
        data_set = DATA_SETS[name]
        if not (real_data / data_set.file).exists():
            pytest.skip(f"no {data_set.file} under SEQJOURNEY_DATA")
        store = as_store(data_set.read(real_data), data_set.asked)
        task = {"name": name, "kind": "next", "field": data_set.asked, "split": "given"}
        task |= {"given": "split", **data_set.task}
        return build_next_data(store, parse(NextTaskConfig, task, name))

    return reader


def counts(data: NextData) -> dict[str, int]:
    return data.snapshots["split"].value_counts().to_dict()


def test_the_help_desk_log_asks_within_the_last_third_of_the_cases(read):
    data = read("helpdesk")
    assert counts(data)["test"] == 1993
    test = data.of("test").snapshots
    assert test["customer_index"].min() >= 2 * 1268 and test["end"].min() == 2
    assert len(data.store.customer_ids) == 3804 and len(data.store.times) == 13_710 + 3804
    words = data.store.dictionaries["activity"]
    assert "end" in data.tokenizer.vocabulary["activity"]
    assert "end" not in {words[target] for target in test["target"]}


def test_games_leaves_one_item_of_each_user_out(read):
    data = read("amazon_games")
    found = counts(data)
    assert found["test"] == found["validation"] == 31_013 - 112  # who has fewer than three
    assert len(data.store.dictionaries["item"]) == 23_715 and len(data.store.times) == 287_107
    assert data.values == 22_437  # the others are somebody's last two items alone


@pytest.mark.parametrize(
    ("name", "asked", "items"), [("retailrocket", 15_132, 36_968), ("diginetica", 60_858, 43_097)]
)
def test_session_benchmarks_ask_the_published_prefixes(read, real_data, name, asked, items):
    data = read(name)
    assert counts(data)["test"] == asked and len(data.store.dictionaries["item"]) == items
    published = pd.read_parquet(real_data / f"session_benchmarks/{name}_test.parquet")
    test = data.of("test").snapshots
    words = np.array(data.store.dictionaries["item"])
    codes, offsets = data.store.categorical[:, 0], data.store.offsets

    def clicks(row) -> tuple[int, ...]:
        first = offsets[row.customer_index]
        return tuple(words[codes[first : first + row.end + 1]].astype(int))

    ours = sorted(clicks(row) for row in test.itertuples())
    theirs = [(*p, t) for p, t in zip(published["prefix"], published["target"], strict=True)]
    assert ours == sorted(theirs)


def test_equal_sessions_one_after_another_stay_two(tmp_path: Path):
    folder = tmp_path / "session_benchmarks"
    folder.mkdir()
    train = pd.DataFrame({"session_id": [0, 0, 1, 1], "position": [0, 1, 0, 1],
                          "item_id": [1, 2, 3, 1]})  # fmt: skip
    train.to_parquet(folder / "tiny_train.parquet")
    rows = [([1, 2], 3), ([1], 2), ([1, 2], 3), ([1], 2), ([1], 2), ([2], 2)]
    pd.DataFrame(rows, columns=["prefix", "target"]).to_parquet(folder / "tiny_test.parquet")
    read = sessions("tiny")(tmp_path)
    _, lengths = np.unique(read.history, return_counts=True)
    assert lengths.tolist() == [2, 2, 3, 3, 2, 2]
    assert (read.split == TEST).sum() == len(rows)
    assert set(read.split[:4]) <= {TRAIN, VALIDATION}
