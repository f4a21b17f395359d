"""Fixtures of the command tests: one tiny simulated shop, prepared once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seqjourney.commands.prepare import prepare
from seqjourney.commands.simulate import simulate
from seqjourney.config import Config, DataConfig, TaskConfig, parse

TASK = {
    "name": "orders",
    "kind": "occurrence",
    "target": ["order_completed"],
    "horizon": "30d",
    "cutoffs": {
        "train": {"start": "2023-04-01", "end": "2023-07-01", "every": "14d"},
        "validation": ["2023-08-15"],
        "test": ["2023-10-15"],
    },
}
MODELS: dict[str, dict[str, Any]] = {
    "gru": {"width": 16, "context": 64},
    "recency": {},
    "logistic": {"penalties": [0.1]},
}


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a simulated shop: `raw/` and `processed/shop/`."""
    folder = tmp_path_factory.mktemp("shop")
    events = simulate(folder / "raw", customers=250, months=12)
    prepare(data_config(events), folder / "processed", [parse(TaskConfig, TASK, "task")],
            progress=False)  # fmt: skip
    return folder


def data_config(events: Path, **changes: Any) -> DataConfig:
    settings = {"name": "shop", "path": str(events), "customer": "customer_id"}
    settings |= {"timestamp": "timestamp", "event": "event", "channel": "channel"}
    settings |= {"known_at": "known_at", "event_id": "event_id", "value": "value"}
    settings |= {"categorical": ["device"], "numeric": ["waiting_hours"], "threads": 2}
    settings |= {"company_events": ["email_sent", "ad_impression"]}
    return parse(DataConfig, settings | changes, "data")


@pytest.fixture
def config_of(shop: Path, tmp_path: Path) -> Callable[..., Config]:
    """Build the configuration of a run into the test's own folder."""

    def build(kind: str = "gru", **changes: Any) -> Config:
        trainer = {"max_epochs": 2, "accelerator": "cpu", "threads": 1, "progress": False}
        settings = {
            "name": "orders",
            "output": tmp_path / "outputs",
            "processed": shop / "processed",
            "data": data_config(shop / "raw/events.parquet").model_dump(),
            "task": TASK,
            "model": {"kind": kind, "name": kind, **MODELS[kind]},
            "trainer": trainer | changes.pop("trainer", {}),
        }
        return parse(Config, settings | changes, "configuration")

    return build


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and on a busy machine lose tenfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
