"""How well do all models predict, on every task of every data set at hand?

Each model is trained as `scripts/train.py` would train it, with its committed best settings where
there are some, and measured once on the test. Of each task the network and the baseline that were
best on validation meet in a paired difference. A finished run is kept in the user's cache under a
fingerprint of its settings, its data and the code that made it, so a benchmark that was
interrupted, or asked for more, trains only what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from quality_metrics import mean_of, replicated  # type: ignore[import-not-found]
from quality_runs import BLENDS, MODELS, NETWORKS, Asked, Runs  # type: ignore[import-not-found]
from record import (  # type: ignore[import-not-found]  # its folder is sys.path[0]
    Figure,
    Options,
    options,
    scratch,
    write_results,
)

from seqjourney.evaluation.bootstrap import Estimate, estimate
from seqjourney.files import read_json


@dataclass(frozen=True)
class Task:
    """An experiment, and which models apply to it."""

    experiment: str
    data: str
    comes_again: bool = False
    """The same customer may have the target many times: BG/NBD and Pareto/NBD apply."""
    amount: bool = False
    """Asks how much comes in: models rank by what they expect, measured by the normalised Gini."""

    @property
    def metric(self) -> str:
        """What decides between models, the name of a column."""
        return "gini" if self.amount else "ap"


# By size, small first: what an interrupted benchmark has measured is then most of it. Tasks that
# ask for a time need measures of their own.
TASKS: tuple[Task, ...] = (
    Task("grocery_elog_churn", "grocery_elog", comes_again=True),
    Task("simple_shop_conversion", "simple_shop"),
    Task("app_onboarding_conversion", "app_onboarding"),
    Task("traffic_fines_sample_payment", "traffic_fines_sample"),
    Task("support_tickets_resolution", "support_tickets"),
    Task("multitouch_attribution_conversion", "multitouch_attribution"),
    Task("online_retail_churn", "online_retail", comes_again=True),
    Task("online_retail_conversion", "online_retail", comes_again=True),
    Task("online_retail_upsell", "online_retail", comes_again=True),
    Task("online_retail_ltv", "online_retail", comes_again=True, amount=True),
    Task("stackoverflow_badges_famous", "stackoverflow_badges"),
)
QUICK: tuple[Task, ...] = (Task("demo", "demo"), Task("demo_ltv", "demo", amount=True))
RETURNING = ("bgnbd", "paretonbd")
AMOUNTS = ("past_value", "lightgbm", *RETURNING, *NETWORKS)
"""Who says how much comes in; of these only `past_value` says nothing else."""
OURS = (*NETWORKS, *(name for name, members in BLENDS.items() if "gru" in members))
COLUMNS = ("ap", "auc", "ece", "gini")
REPLICATES = 1000
ENOUGH_SNAPSHOTS = 2000
"""Below this the calibration error is mostly chance, and no candidate for the worst."""
NOTE = """AP (average precision), AUC and ECE (calibration error) on the test, which comes after
training and validation; `low` and `high` are 95 % intervals of {replicates:,} resamples of
customers. Of networks with several `seeds` the mean over seeds is resampled, and `seed_spread` is
the largest less the smallest AP of a seed. Rows `A minus B` are paired: of ours (a network, or a
blend with one) and of the baselines the one with the highest AP on validation (`validation`, which
is AP too). Blends are mean log-odds: `blend` of GRU and LightGBM, `blend_all` of both networks,
LightGBM and CatBoost; `blend_baselines`, an opponent, of logistic regression, LightGBM and
CatBoost. Models whose settings a sweep had chosen on the same validation have them here too. Tasks
that ask how much comes in (`_ltv`) rank by what is expected, and have the normalised Gini, `gini`,
in the place of AP throughout.

`pooled_ap_difference` is the mean of these differences in AP over tasks; tasks are resampled each
on its own customers and are not a sample of tasks. `significantly_better` and `_worse` count tasks
whose interval lies wholly above or below zero. `worst_ece`: of the networks so chosen, over tasks
with at least {enough:,} test snapshots.

No task, because time cannot split it: Ta-Feng baskets, session and recommendation benchmarks (an
order, no times), Wikipedia and Yelp sequences (times relative to each user), Hillstrom and Cookie
Cats (a row per person). Nor, because nobody can be followed: Google Store sessions (rounded ids),
Open Bandit. Nor Volvo's incidents: they are those that were closed in May 2012, so that the time to
the end of the log is the answer. {absent}"""


@dataclass(frozen=True)
class Measured:
    """One model on one task: its estimates over customers, averaged over seeds."""

    task: Task
    model: str
    validation: float
    metrics: dict[str, Estimate]
    """By column; `task.metric` among them."""
    of_seeds: tuple[float, ...]
    """`task.metric` of each."""
    calibrators: tuple[str, ...]
    snapshots: int
    base_rate: float


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__, add=_arguments)
    tasks = QUICK if chosen.quick else TASKS
    if wanted := chosen.more.tasks:
        tasks = tuple(task for task in tasks if task.experiment in wanted)
    rows: list[dict[str, Any]] = []
    duels: list[tuple[Measured, Measured, Estimate]] = []
    absent: list[str] = []
    data_sets = set()
    with scratch() as folder:
        runs = Runs(folder if chosen.quick else chosen.more.cache, chosen)
        for task in tasks:
            measured = list(_measure(task, runs, chosen))
            if not measured:
                absent.append(task.experiment)
                continue
            done = {one.model for one in measured}
            absent += [f"{task.experiment}/{m}" for m in _models(task, chosen) if m not in done]
            data_sets.add(task.data)
            rows += [_row(one) for one in measured]
            if pair := _best(measured):
                gap = _less(*pair)
                duels.append((*pair, gap))
                rows.append(_row_of_pair(*pair, gap))
    if not duels:
        raise SystemExit(
            "Nothing to compare: no task has both a finished network and a finished baseline. "
            "SEQJOURNEY_DATA names the folder of the public data sets."
        )
    write_results(
        "quality",
        chosen,
        _figures(duels, len(data_sets), 0 if chosen.quick else ENOUGH_SNAPSHOTS),
        rows,
        NOTE.format(
            replicates=_replicates(chosen),
            enough=ENOUGH_SNAPSHOTS,
            absent=f"Not measured: {', '.join(absent)}." if absent else "",
        ),
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    from pooch import os_cache

    tasks = [task.experiment for task in (*TASKS, *QUICK)]
    parser.add_argument("--tasks", nargs="+", choices=tasks, metavar="TASK", help="only these")
    parser.add_argument(
        "--models", nargs="+", choices=(*MODELS, *BLENDS), metavar="MODEL", help="only these"
    )
    parser.add_argument("--seeds", type=int, default=3, help="of each network (default: 3)")
    parser.add_argument(
        "--finished", action="store_true", help="train nothing; measure the runs that there are"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os_cache("seqjourney")) / "quality",
        help="folder of the runs (default: in the user's cache)",
    )


def _models(task: Task, chosen: Options) -> tuple[str, ...]:
    if chosen.quick:
        return ("past_value", "gru") if task.amount else ("recency", "logistic", "gru")
    asked = chosen.more.models or (*MODELS, *BLENDS)
    return tuple(
        model
        for model in asked
        if (model in AMOUNTS if task.amount else model != "past_value")
        and (model not in RETURNING or task.comes_again)
        and (model != "catboost" or find_spec("catboost"))  # an extra
    )


def _replicates(chosen: Options) -> int:
    return 50 if chosen.quick else REPLICATES


def _measure(task: Task, runs: Runs, chosen: Options) -> Iterator[Measured]:
    """Train what is missing and measure the models of a task on the same resampled customers."""
    finished: list[tuple[Asked, Path]] = []
    for model in _models(task, chosen):
        seeds = 1 if chosen.quick or model not in OURS else chosen.more.seeds
        for seed in range(seeds):
            asked = Asked(task.experiment, model, seed)
            if folder := runs.get(asked, train=not chosen.more.finished):
                finished.append((asked, folder))
    if not finished:
        return
    test, values = replicated([folder for _, folder in finished], "test", _replicates(chosen))
    for model in dict.fromkeys(asked.model for asked, _ in finished):
        own = [i for i, (asked, _) in enumerate(finished) if asked.model == model]
        about = [read_json(finished[i][1] / "run.json") for i in own]
        judged = "normalised_gini" if task.amount else "average_precision"
        yield Measured(
            task,
            model,
            float(np.mean([run["validation"][judged] for run in about])),
            {
                metric: mean_of([values[i][metric] for i in own], recentre=metric == "ece")
                for metric in values[own[0]]
            },
            tuple(values[i][task.metric][0] for i in own),
            tuple(run["calibrator"]["kind"] for run in about),
            len(test),
            float(test["label"].mean()),
        )


def _best(measured: Sequence[Measured]) -> tuple[Measured, Measured] | None:
    """Return ours and the baseline that were best on validation, if there are both."""
    networks = [one for one in measured if one.model in OURS]
    baselines = [one for one in measured if one.model not in OURS]
    if not networks or not baselines:
        return None
    return (
        max(networks, key=lambda one: one.validation),
        max(baselines, key=lambda one: one.validation),
    )


def _less(network: Measured, baseline: Measured, metric: str = "") -> Estimate:
    mine, its = (one.metrics[metric or one.task.metric] for one in (network, baseline))
    return estimate(mine.value - its.value, mine.replicates - its.replicates)


def _figures(
    duels: Sequence[tuple[Measured, Measured, Estimate]], data_sets: int, enough: int
) -> dict[str, Figure]:
    gaps = [gap for _, _, gap in duels]
    better = sum(gap.low > 0 for gap in gaps)
    worse = sum(gap.high < 0 for gap in gaps)
    unit = f"of {len(duels)} tasks"
    figures = {}
    if alike := [gap for network, _, gap in duels if not network.task.amount]:
        pooled = estimate(
            float(np.mean([gap.value for gap in alike])),
            np.mean([gap.replicates for gap in alike], axis=0),
        )
        figures["pooled_ap_difference"] = Figure(
            pooled.value,
            pooled.low,
            pooled.high,
            f"AP, our best less best baseline, {len(alike)} tasks",
        )
    figures |= {
        "data_sets": Figure(data_sets, data_sets, data_sets, "data sets"),
        "significantly_better": Figure(better, better, better, unit),
        "significantly_worse": Figure(worse, worse, worse, unit),
    }
    if judged := [
        network.metrics["ece"]
        for network, _, _ in duels
        if "ece" in network.metrics and network.snapshots >= enough
    ]:
        worst = max(judged, key=lambda ece: ece.value)
        figures["worst_ece"] = Figure(
            worst.value, worst.low, worst.high, f"probability, of {len(judged)} tasks"
        )
    return figures


def _row(one: Measured) -> dict[str, Any]:
    spread = max(one.of_seeds) - min(one.of_seeds) if len(one.of_seeds) > 1 else None
    return {
        "task": one.task.experiment,
        "model": one.model,
        "snapshots": one.snapshots,
        "base_rate": one.base_rate,
        "validation": one.validation,
        **_columns({metric: one.metrics.get(metric) for metric in COLUMNS}),
        "calibrator": "/".join(dict.fromkeys(one.calibrators)),
        "seeds": len(one.of_seeds),
        "seed_spread": spread,
    }


def _row_of_pair(network: Measured, baseline: Measured, gap: Estimate) -> dict[str, Any]:
    gaps = {network.task.metric: gap}
    if "auc" in network.metrics:
        gaps["auc"] = _less(network, baseline, "auc")
    return {
        "task": network.task.experiment,
        "model": f"{network.model} minus {baseline.model}",
        "snapshots": network.snapshots,
        "base_rate": network.base_rate,
        **_columns(gaps),
    }


def _columns(estimates: Mapping[str, Estimate | None]) -> dict[str, float | None]:
    """Return each with its interval; what a task has no measure of stays empty."""
    return {
        f"{name}{suffix}": None if one is None else getattr(one, end)
        for name, one in estimates.items()
        for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


if __name__ == "__main__":
    main()
