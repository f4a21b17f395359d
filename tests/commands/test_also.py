"""One network that learns several tasks: each becomes a run, and none reaches beyond its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import seqjourney
from seqjourney.commands.evaluate import evaluate
from seqjourney.commands.train import train
from seqjourney.config import Config
from seqjourney.errors import ConfigError, LeakageError
from seqjourney.files import read_json
from seqjourney.sequences.cutting import load_task_data
from seqjourney.sequences.joining import join_training
from seqjourney.sequences.task_data import Beside, TaskData

ConfigOf = Callable[..., Config]
CUTOFFS = {"train": ["2023-05-13", "2023-06-01"], "validation": ["2023-08-15"],
           "test": ["2023-10-15"]}  # fmt: skip
WORTH = {"name": "worth", "kind": "sum", "target": ["order_completed", "order_refunded"],
         "horizon": "40d", "eligible": {"within": "60d"}, "cutoffs": CUTOFFS}  # fmt: skip


def also(weight: float = 0.5, **changes: Any) -> list[dict[str, Any]]:
    return [{"task": WORTH | changes, "weight": weight}]


@pytest.fixture
def both(config_of: ConfigOf, tmp_path: Path) -> TaskData:
    """The task `orders`, with `worth` beside it."""
    from seqjourney.events.engine import connect

    config = config_of(also=also())
    with connect(tmp_path) as backend:
        own, other = (
            load_task_data(backend, config.prepared, task)
            for task in (config.task, config.also[0].task)
        )
    return replace(own, also=(Beside(other, 0.5),))


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_each_task_becomes_a_run_over_one_backbone(kind: str, config_of: ConfigOf, shop: Path):
    model = {"kind": kind, "name": kind, "width": 16, "context": 64}
    joint = train(config_of(also=also(), model=model)).folder
    its = joint / "also" / "worth"
    saved, beside = (torch.load(run / "model.pt", weights_only=True) for run in (joint, its))
    shared = [name for name in saved["weights"] if ".head." not in name and "answers" not in name]
    assert len(shared) > 10
    assert all(torch.equal(saved["weights"][n], beside["weights"][n]) for n in shared)
    assert saved["weights"]["members.0.head.3.weight"].shape == (1, 16)
    assert beside["weights"]["members.0.head.3.weight"].shape == (3, 16)
    assert read_json(its / "run.json")["learned_together"] == {"orders": 1.0, "worth": 0.5}

    settings = {"task": WORTH, "name": "worth"}
    alone = train(config_of("gru", **settings)).folder
    report = evaluate([its, alone], joint.parent / "report", title="worth", replicates=20)
    compared = report.metrics["tasks"]["worth"]
    assert len(compared["models"]) == 2 and len(compared["comparisons"]) > 0
    report = evaluate([joint], joint.parent / "report", title="orders", replicates=20)
    assert list(report.metrics["tasks"]) == ["orders"]

    events = pd.read_parquet(shop / "raw/events.parquet").head(3000)
    assert "expected_value" in seqjourney.load(its).score(events)
    assert "expected_value" not in seqjourney.load(joint).score(events)


def test_the_joined_table_asks_every_task_what_it_asks_alone_and_nothing_else(both: TaskData):
    other = both.also[0].data
    joined, [targets] = join_training(both)
    rows = joined.of("train").snapshots
    own, its = both.of("train").snapshots, other.of("train").snapshots
    keys = ["customer_id", "cutoff", "end"]
    assert len(rows) == len(pd.concat([own, its])[keys].drop_duplicates()) > len(own)
    asked = rows[rows["weight"] > 0]
    pd.testing.assert_frame_equal(
        asked[[*keys, "label"]].reset_index(drop=True).astype({"label": "int8"}),
        own[[*keys, "label"]],
    )
    labels, weights, values = targets
    assert (weights == 0).any()
    pd.testing.assert_frame_equal(
        rows.loc[weights > 0, keys].reset_index(drop=True), its[keys].reset_index(drop=True)
    )
    np.testing.assert_array_equal(labels[weights > 0], its["label"])
    np.testing.assert_allclose(values[weights > 0], its["value"], rtol=1e-6)
    assert not values[weights == 0].any()
    pd.testing.assert_frame_equal(
        joined.of("validation").snapshots[keys], both.of("validation").snapshots[keys]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoffs": CUTOFFS | {"validation": ["2023-08-20"]}}, "first validation cutoffs are"),
        ({"cutoffs": CUTOFFS | {"test": ["2023-10-14"]}}, "first test cutoffs are 2023-10-15"),
        ({"customer_holdout": 0.5}, "customer_holdout is 0 and 0.5"),
    ],
)
def test_tasks_whose_splits_overlap_are_refused(
    changes: dict[str, Any], message: str, config_of: ConfigOf
):
    with pytest.raises(LeakageError, match=f"'orders' and 'worth'.*{message}"):
        train(config_of(also=also(**changes)))


def test_only_networks_learn_several_tasks_and_none_twice(config_of: ConfigOf):
    with pytest.raises(ConfigError, match=r"also is for networks .* model=logistic learns one"):
        config_of("logistic", also=also())
    with pytest.raises(ConfigError, match="task 'orders' is learned already"):
        config_of(also=also(name="orders"))
