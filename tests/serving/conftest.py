"""Fixtures of the serving tests: runs of every kind on one log, trained for a moment each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import small_runs
import torch
from small_runs import configs, trained

from seqjourney.sequences.task_data import TaskData

MODELS = small_runs.MODELS | {
    "transformer": {"width": 16, "heads": 2, "layers": 2, "context": 32},
}


@pytest.fixture(scope="session")
def run_of(small_log: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the run folder of a kind of model, trained when first asked for."""
    return trained(configs(small_log, tmp_path_factory.mktemp("runs"), {}, MODELS, epochs=3))


@pytest.fixture(scope="session")
def frame(small_log: Any) -> pd.DataFrame:
    """The raw log under the names that a scorer asks for."""
    names = {"customer": "customer_id", "at": "timestamp", "known": "known_at", "id": "event_id"}
    return small_log.raw.rename(columns={**names, "amount": "value"})


@pytest.fixture(scope="session")
def real_log(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    """Sequences as they come: Online Retail where it is, else the simulated shop."""
    import os

    from seqjourney.commands.prepare import prepare
    from seqjourney.config import DataConfig, TaskConfig, parse
    from seqjourney.events.engine import connect
    from seqjourney.sequences.cutting import load_task_data

    folder = tmp_path_factory.mktemp("real")
    place = Path(os.environ.get("SEQJOURNEY_DATA", "/nowhere")) / "online_retail"
    if place.is_dir():
        data = {"source": "online_retail", "value": "value", "categorical": ["country"]}
        data |= {"path": str(place), "numeric": ["lines", "quantity"]}
        cutoffs = {"train": ["2011-06-01"], "validation": ["2011-08-01"], "test": ["2011-11-09"]}
        target = "purchase"
    else:
        from seqjourney.commands.simulate import simulate

        simulate(folder / "raw", customers=300, months=12)
        data = {"path": str(folder / "raw/events.parquet"), "customer": "customer_id"}
        data |= {"timestamp": "timestamp", "event": "event", "categorical": ["country"]}
        data |= {"value": "value", "numeric": ["waiting_hours"], "channel": "channel"}
        cutoffs = {"train": ["2023-06-01"], "validation": ["2023-08-01"], "test": ["2023-11-01"]}
        target = "order_completed"
    config = parse(DataConfig, {"name": "real", "threads": 2, **data}, "data")
    task = parse(
        TaskConfig,
        {"name": "buys", "kind": "occurrence", "target": [target], "horizon": "30d"}
        | {"cutoffs": cutoffs},
        "task",
    )
    prepared = prepare(config, folder / "processed", progress=False)
    with connect(folder) as backend:
        return load_task_data(backend, prepared, task)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and on a busy machine lose tenfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def needing_consent(run_of: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of a run whose data needed consent to analytics."""

    def run(unknown: str) -> Path:
        folder = shutil.copytree(run_of("recency"), tmp_path / unknown)
        about = json.loads((folder / "run.json").read_text())
        about["config"]["data"] = {
            "name": "small",
            "sources": [{"kind": "segment", "path": "exports"}],
            "consent": {"purpose": "analytics", "unknown": unknown},
        }
        (folder / "run.json").write_text(json.dumps(about))
        return folder

    return run
