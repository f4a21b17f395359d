"""Fixtures that all tests share: one small log, prepared once, and the data of its task."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

from seqjourney.config import DataConfig, TaskConfig
from seqjourney.sequences.task_data import TaskData
from small_logs import ALL_COLUMNS, data_config, raw_events, small_task, write_csv

CONFIGS = Path(__file__).parent.parent / "configs"

# The same examples on every machine: a red test is a bug here, not a lucky draw there.
settings.register_profile(
    "seqjourney",
    deadline=None,
    derandomize=True,
    max_examples=30,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("seqjourney")


@dataclass(frozen=True)
class SmallLog:
    """A raw export and what `prepare` made of it."""

    raw: pd.DataFrame
    config: DataConfig
    task: TaskConfig
    prepared: Path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; tests that need it skip where either is absent."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not on the PATH")
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=chromium,
                args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
            )
        except sync_api.Error as error:
            pytest.skip(f"chromium does not start here: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="session")
def small_log(tmp_path_factory: pytest.TempPathFactory) -> SmallLog:
    """120 customers, 1,800 events, all optional columns; prepared, never to be changed."""
    from seqjourney.commands.prepare import prepare

    folder = tmp_path_factory.mktemp("small_log")
    raw = raw_events()
    config = data_config(write_csv(raw, folder / "events.csv"), **ALL_COLUMNS)
    task = small_task()
    prepared = prepare(config, folder / "processed", [task], progress=False)
    return SmallLog(raw, config, task, prepared)


@pytest.fixture
def small_data(small_log: SmallLog, tmp_path: Path) -> Iterator[TaskData]:
    """The small task's data, opened from disk."""
    from seqjourney.events.engine import connect
    from seqjourney.sequences.cutting import load_task_data

    with connect(tmp_path) as backend:
        yield load_task_data(backend, small_log.prepared, small_log.task)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public data sets; tests that need one skip where it is absent."""
    place = os.environ.get("SEQJOURNEY_DATA")
    if place is None or not Path(place).expanduser().is_dir():
        pytest.skip("SEQJOURNEY_DATA does not name a folder with the public data sets")
    return Path(place).expanduser()


@pytest.fixture(scope="session")
def compose() -> Callable[..., dict[str, Any]]:
    """Compose a command's configuration from `configs/` as the command line does."""
    from hydra import compose, initialize_config_dir

    from seqjourney.cli import to_plain

    def plain(name: str, *overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return to_plain(compose(name, list(overrides)))

    return plain


@pytest.fixture(scope="session")
def retail_prepared(
    real_data: Path, compose: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Online Retail, prepared once with its own config; skips where the data are absent."""
    from seqjourney.commands.prepare import prepare
    from seqjourney.config import parse

    if not (real_data / "online_retail").is_dir():
        pytest.skip("no online_retail under SEQJOURNEY_DATA")
    config = parse(DataConfig, compose("prepare", "data=online_retail")["data"], "online_retail")
    return prepare(config, tmp_path_factory.mktemp("retail"), progress=False)
