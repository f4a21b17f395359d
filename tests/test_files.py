"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.errors import DataError
from seqjourney.files import (
    explaining_full_disk,
    locked,
    read_json,
    read_parquet,
    remove_leftovers,
    replacing_file,
    replacing_folder,
    swap_folder,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_takes_the_place_of_the_old_one_only_when_whole(tmp_path):
    folder = tmp_path / "data"
    for content in ("old", "new"):
        with replacing_folder(folder) as partial:
            (partial / "file").write_text(content)
            assert not folder.exists() or (folder / "file").read_text() == "old"
        assert (folder / "file").read_text() == content
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_stops_the_work_leaves_the_old_folder_alone(tmp_path, error):
    folder = tmp_path / "data"
    with replacing_folder(folder) as partial:
        (partial / "file").write_text("old")
    with pytest.raises(error), replacing_folder(folder) as partial:
        (partial / "file").write_text("new")
        raise error
    assert (folder / "file").read_text() == "old"
    assert names(tmp_path) == ["data"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "data.partial").mkdir()
    (tmp_path / "data.partial" / "half").write_text("half")
    (tmp_path / "data.old").mkdir()
    with replacing_folder(tmp_path / "data") as partial:
        assert names(partial) == []
    assert names(tmp_path) == ["data"]


def test_a_folder_that_was_being_renamed_when_killed_comes_back(tmp_path):
    (tmp_path / "data.old").mkdir()
    (tmp_path / "data.old" / "file").write_text("old")
    with pytest.raises(ValueError), replacing_folder(tmp_path / "data"):
        raise ValueError
    assert (tmp_path / "data" / "file").read_text() == "old"


def test_the_old_folder_goes_only_when_the_new_one_stands(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_text("new")
    swap_folder(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"
    assert names(tmp_path) == ["old"]


def test_without_a_new_folder_the_old_one_stays_where_it_is(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("old")
    with pytest.raises(DataError, match=r"data\.partial is gone.*run the same command again"):
        swap_folder(tmp_path / "data.partial", tmp_path / "data")
    assert (tmp_path / "data" / "file").read_text() == "old"
    assert names(tmp_path) == ["data"]


def test_what_has_a_lock_is_said_to_whoever_comes_second(tmp_path):
    place = tmp_path / "deep" / "data"
    with locked(place, "prepare"):
        told = r"data is being written by prepare \(process \d+ on .*Wait .* or stop it"
        with pytest.raises(DataError, match=told), locked(place, "forget"):
            pytest.fail("two at once")
        with locked(place.with_name("other"), "forget"):
            pass  # another data set is another matter
    with locked(place, "forget"):
        pass
    assert names(tmp_path) == []  # nor the folder that was made for it


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    (tmp_path / ".data.lock").write_text("somebody" * 100)
    with locked(tmp_path / "data", "forget"):
        assert (tmp_path / ".data.lock").read_text().startswith("forget (process ")
        assert "somebody" not in (tmp_path / ".data.lock").read_text()
    assert names(tmp_path) == []


def test_a_lock_file_that_its_holder_removed_while_it_was_opened_is_no_lock(tmp_path, monkeypatch):
    real, opened = os.open, []

    def left_meanwhile(path, *rest):
        opened.append(real(path, *rest))
        if len(opened) == 1:
            Path(path).unlink()
        return opened[-1]

    monkeypatch.setattr(os, "open", left_meanwhile)
    with locked(tmp_path / "data", "prepare"):
        assert names(tmp_path) == [".data.lock"]
        with pytest.raises(DataError, match="by prepare"), locked(tmp_path / "data", "forget"):
            pytest.fail("two at once")
    assert names(tmp_path) == []


def test_leftovers_go_or_it_is_said_that_they_do_not(tmp_path, monkeypatch):
    for name in ("data", "data.old", "data.partial"):
        (tmp_path / name).mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(OSError("busy")))
        with pytest.raises(DataError, match=r"data\.partial .*cannot be removed \(busy\)"):
            remove_leftovers(tmp_path / "data")
    remove_leftovers(tmp_path / "data")
    assert names(tmp_path) == ["data"]


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "deep" / "file"
    with replacing_file(path) as partial:
        partial.write_text("old")
    with pytest.raises(ValueError), replacing_file(path) as partial:
        partial.write_text("half")
        raise ValueError
    assert path.read_text() == "old"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("IO Error: could not write: No space left on device"),
    ],
)
def test_every_kind_of_full_disk_gives_one_message(tmp_path, error):
    with (
        pytest.raises(DataError, match=r"disk is full: writing .*data.*Free some space"),
        replacing_folder(tmp_path / "data"),
    ):
        raise error
    assert names(tmp_path) == []


def test_other_errors_are_not_called_a_full_disk(tmp_path):
    with pytest.raises(PermissionError), explaining_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "no")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_json_comes_back_as_it_was(tmp_path, content):
    path = tmp_path / "content.json"
    write_json(path, content)
    assert read_json(path) == content
    assert names(tmp_path) == ["content.json"]


def test_json_writes_dates_and_paths_as_text(tmp_path):
    write_json(tmp_path / "a.json", {"when": datetime(2023, 1, 1, tzinfo=UTC), "where": Path("x")})
    assert read_json(tmp_path / "a.json") == {"when": "2023-01-01 00:00:00+00:00", "where": "x"}


@given(st.binary(max_size=30))
def test_any_bytes_are_json_or_an_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "content.json"
    path.write_bytes(content)
    try:
        read_json(path)
    except DataError as error:
        assert f"{path} is not valid JSON" in str(error)


@pytest.mark.parametrize("read", [read_json, read_parquet])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(DataError, match=r"nothing\.json is missing"):
        read(tmp_path / "nothing.json")


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "table.parquet").write_bytes(b"PAR1 not a table PAR1")
    with pytest.raises(DataError, match=r"table\.parquet is damaged"):
        read_parquet(tmp_path / "table.parquet")
