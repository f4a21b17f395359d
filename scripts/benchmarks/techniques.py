"""What does each technique bring that a switch turns on? A GRU with it against one without.

Measured on validation, where switches are chosen; the test has no part. Runs are kept like those
of `quality`, in the same cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from quality_metrics import mean_of, replicated  # type: ignore[import-not-found]
from quality_runs import Asked, Runs  # type: ignore[import-not-found]
from record import options, scratch, write_results  # type: ignore[import-not-found]

from seqjourney.evaluation.bootstrap import estimate
from seqjourney.files import read_json

TASKS = ("support_tickets_resolution", "grocery_elog_churn", "traffic_fines_sample_payment")
# By the name of a row: the model and its settings, and those of what it is held against.
ONE = "model.members=1"
TECHNIQUES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "pretraining, 60 epochs": ("gru", (ONE, "model.pretrain_epochs=60"), (ONE,)),
    "ensemble of 3 seeds": ("gru", ("model.members=3",), (ONE,)),
    "blend with LightGBM": ("blend", (), ()),
}
QUICK = {"ensemble of 3 seeds": TECHNIQUES["ensemble of 3 seeds"]}
REPLICATES = 1000
NOTE = """Average precision on validation of a GRU with the technique (`with`) and without, means
over `seeds`; `low` and `high` are the 95 % interval of their paired difference over {replicates:,}
resamples of customers, and `seconds` what a training took. A blend is held against its own GRU;
what it takes is told without the training of its members. Seeds differ by more than most of these
differences: with {seeds} of them, an interval over customers says nothing of other seeds."""


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__, add=_arguments)
    tasks, techniques = (("demo",), QUICK) if chosen.quick else (TASKS, TECHNIQUES)
    seeds = 1 if chosen.quick else chosen.more.seeds
    replicates = 50 if chosen.quick else REPLICATES
    rows = []
    with scratch() as folder:
        runs = Runs(folder if chosen.quick else chosen.more.cache, chosen)
        for task in tasks:
            for name, (model, settings, without) in techniques.items():
                arms = [
                    [runs.get(Asked(task, kind, seed, told), train=True) for seed in range(seeds)]
                    for kind, told in ((model, settings), ("gru", without))
                ]
                if any(run is None for arm in arms for run in arm):
                    print(f"{task}: its data is not there")
                    break
                rows.append({"task": task, "technique": name, **_paired(arms, replicates)})
    write_results("techniques", chosen, {}, rows, NOTE.format(replicates=replicates, seeds=seeds))


def _arguments(parser: argparse.ArgumentParser) -> None:
    from pooch import os_cache

    parser.add_argument("--seeds", type=int, default=3, help="of each arm (default: 3)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os_cache("seqjourney")) / "quality",
        help="folder of the runs (default: in the user's cache)",
    )


def _paired(arms: list[list[Path]], replicates: int) -> dict[str, Any]:
    """Compare two lists of runs on the same resampled customers of validation."""
    _, found = replicated([run for arm in arms for run in arm], "validation", replicates)
    count = len(arms[0])
    one, other = (mean_of([run["ap"] for run in part]) for part in (found[:count], found[count:]))
    gap = estimate(one.value - other.value, one.replicates - other.replicates)
    seconds = [np.mean([read_json(run / "run.json")["seconds"] for run in arm]) for arm in arms]
    return {
        "seeds": count,
        "with": one.value,
        "without": other.value,
        "difference": gap.value,
        "low": gap.low,
        "high": gap.high,
        "seconds": float(seconds[0]),
        "seconds_without": float(seconds[1]),
    }


if __name__ == "__main__":
    main()
