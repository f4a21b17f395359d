"""An interrupted `prepare` or a full disk leaves the old data whole and nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqjourney.commands.prepare import prepare
from seqjourney.errors import DataError
from seqjourney.events.log import read_manifest
from seqjourney.sequences import store as store_module
from seqjourney.sequences.store import open_store
from small_logs import data_config, raw_events, write_csv


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("old")
    path = write_csv(raw_events(customers=10, per_customer=4), place / "old.csv")
    return prepare(data_config(path), place / "processed", progress=False)


@pytest.fixture
def old(tmp_path: Path, prepared_once: Path) -> Path:
    """Data that were prepared before."""
    return shutil.copytree(prepared_once, tmp_path / "processed" / "small")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def prepare_again(place: Path) -> Path:
    path = write_csv(raw_events(customers=20, per_customer=4), place / "new.csv")
    return prepare(data_config(path), place / "processed", progress=False)


def check_old_is_whole_and_new_succeeds(place: Path, old: Path, before: dict[str, bytes]) -> None:
    assert contents(old) == before
    new = prepare_again(place)
    assert new == old
    assert read_manifest(new)["rows"]["events"] == 80
    assert len(open_store(new / "store").times) == 80
    assert [p.name for p in (place / "processed").iterdir()] == ["small"]


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from small_logs import data_config
from seqjourney.commands.prepare import prepare
prepare(data_config(sys.argv[2]), Path(sys.argv[3]), progress=False)
"""


def test_a_killed_prepare_leaves_the_old_data_and_the_next_one_succeeds(tmp_path, old):
    before = contents(old)
    rows = pd.DataFrame({"customer": np.arange(200_000), "at": "2023-01-01", "event": "x"})
    rows.to_parquet(tmp_path / "large.parquet")
    arguments = [Path(__file__).parent.parent, tmp_path / "large.parquet", tmp_path / "processed"]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)], start_new_session=True
    )
    partial = tmp_path / "processed" / "small.partial"
    deadline = time.monotonic() + 30
    while not (partial / "events" / "bucket=3").exists() and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert partial.exists()
    check_old_is_whole_and_new_succeeds(tmp_path, old, before)


def test_ctrl_c_in_the_middle_undoes_the_work(tmp_path, old, monkeypatch):
    before = contents(old)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_again(tmp_path)
    assert not old.with_name("small.partial").exists()
    check_old_is_whole_and_new_succeeds(tmp_path, old, before)


@pytest.mark.parametrize("name", ["pq.write_table", "np.save", "write_json", "_encode"])
def test_a_writer_that_finds_the_disk_full_undoes_the_work(tmp_path, old, monkeypatch, name):
    before = contents(old)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"seqjourney.sequences.store.{name}", full)
        with pytest.raises(DataError, match=r"the disk is full: writing .*small.*Free some space"):
            prepare_again(tmp_path)
    assert not old.with_name("small.partial").exists()
    check_old_is_whole_and_new_succeeds(tmp_path, old, before)


@pytest.fixture
def tiny_disk(tmp_path: Path):
    """A file system of a few megabytes whose size the test changes."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")

    def resize(megabytes: float, *, first: bool = False) -> None:
        options = f"size={int(megabytes * 1024)}k" + ("" if first else ",remount")
        command = ["mount", "-t", "tmpfs", "-o", options, "seqjourney-test", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small file system is not allowed here")

    resize(1, first=True)
    yield place, resize
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_is_said_so_wherever_it_happens(tmp_path, tiny_disk):
    place, resize = tiny_disk
    path = write_csv(raw_events(customers=600, per_customer=20), tmp_path / "e.csv")
    config = data_config(path, event_id="id", categorical=["id"], numeric=["amount", "items"])
    refused = 0
    for megabytes in (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.4, 16):
        resize(megabytes)
        try:
            prepare(config, place, progress=False)
        except DataError as error:
            assert "disk" in str(error)
            assert list(place.iterdir()) == []
            refused += 1
        else:
            break
    assert refused >= 2
    assert len(open_store(place / "small" / "store").times) == 12_000


def test_a_process_killed_between_the_two_renames_loses_nothing(tmp_path, old, monkeypatch):
    before = contents(old)
    old.rename(old.with_name("small.old"))  # what stands on disk in that instant
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_encode", None)
        with pytest.raises(TypeError):
            prepare_again(tmp_path)
    check_old_is_whole_and_new_succeeds(tmp_path, old, before)
