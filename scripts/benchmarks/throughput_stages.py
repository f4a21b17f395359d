"""The stages of the throughput benchmark: what is measured, in what order, and the ratios of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from record import Figure, load_config, paired_ratio  # type: ignore[import-not-found]  # sys.path[0]
from throughput_logs import write_base, write_log  # type: ignore[import-not-found]
from throughput_peers import ptls_folder  # type: ignore[import-not-found]
from throughput_plot import Point  # type: ignore[import-not-found]
from throughput_process import Side  # type: ignore[import-not-found]
from throughput_rows import Runs, exponent, profile_rows, rates, row  # type: ignore[import-not-found]

KINDS = ("gru", "transformer")
RUN_CUSTOMERS = 200
"""Whose data the runs that score are trained on."""
LAST_TRAINING_CUTOFF = "2024-02-24"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    customers: int
    """Of the base, with about 70 events each."""
    shares: tuple[float, ...]
    """Sizes of `prepare` and scoring, by the base's; the other stages end at 1."""
    rounds: int
    """At the base's size; others are measured once."""
    warm_up: int
    batches: dict[str, int]
    """Of our training, warm-up included; a checkpoint is written after 200."""
    peer_batch: int
    """Records of pytorch-lifestream's batch."""
    peer_batches: int
    peer_seconds: float
    """Of pytorch-lifestream's training, whichever is over first."""
    peer_customers: dict[str, int]
    model: tuple[str, ...] = ()
    """Overrides of the default models."""


FULL = Plan(
    customers=28_500,
    shares=(0.1, 0.3, 1, 3, 10),
    rounds=3,
    warm_up=5,
    batches={"gru": 220, "transformer": 80},
    peer_batch=128,
    peer_batches=40,
    peer_seconds=6.0,
    peer_customers={"gru": 4096, "transformer": 1024},
)
QUICK = Plan(
    customers=250,
    shares=(0.3, 1),
    rounds=1,
    warm_up=1,
    batches={"gru": 3, "transformer": 3},
    peer_batch=16,
    peer_batches=1,
    peer_seconds=1.0,
    peer_customers={"gru": 16, "transformer": 16},
    model=("model.batch_tokens=1024", "model.context=128"),
)


class Stages:
    """Both sides, the data they share, and what was found so far."""

    def __init__(self, plan: Plan, folder: Path, threads: int, *, install: bool):
        self.figures: dict[str, Figure] = {}
        self.rows: list[dict[str, Any]] = []
        self.growth: dict[str, list[Point]] = {}
        self.events: dict[float, int] = {}
        """Of the log of each share."""
        self._plan, self._folder, self._threads = plan, folder, threads
        log = folder / "processes.log"
        self._ours = Side("throughput_ours.py", threads, log, fresh=install)
        self._profiles = Side("throughput_profile.py", threads, log, fresh=install)
        packages = ptls_folder(install=install)
        self._ptls: Side | None = None
        if packages is not None:
            self._ptls = Side("throughput_ptls.py", threads, log, fresh=install, packages=packages)
        self._records = str(folder / "records.npz")
        self._models = {
            kind: load_config("train", "experiment=demo", f"model={kind}", *plan.model)["model"]
            for kind in KINDS
        }
        self._tasks = tasks()

    def close(self) -> None:
        """End the processes."""
        for side in (self._ours, self._profiles, self._ptls):
            if side is not None:
                side.close()

    def run(self) -> None:
        """Measure everything."""
        base = write_base(self._plan.customers, self._folder / "base")
        runs = self._make_runs(base)
        for share in sorted(self._plan.shares):
            prepared = self._prepare(base, share)
            if share <= 1:
                self._cut_and_features(share, prepared)
                self._epoch(share, prepared)
            self._score(share, prepared, runs)
            if share == 1:
                for kind in KINDS:
                    self._train(kind, prepared)
            shutil.rmtree(prepared)
        self.figures["cost_exponent_prepare"] = exponent(self.growth["prepare"])
        self.figures["cost_exponent_training"] = exponent(self.growth["epoch, gru"])
        self._profile(base)

    def score(self) -> None:
        """Measure scoring in bulk alone, on the log where sides are compared."""
        base = write_base(self._plan.customers, self._folder / "base")
        runs = self._make_runs(base)
        self._score(1, self._prepare(base, 1), runs)

    def _make_runs(self, base: Path) -> dict[str, str]:
        log = self._folder / "few.parquet"
        write_log(base, min(0.99, RUN_CUSTOMERS / self._plan.customers), log, self._threads)
        given = {"log": str(log), "folder": str(self._folder / "few"), "threads": self._threads}
        return {kind: self._ours("make_run", kind=kind, **given)["run"] for kind in KINDS}

    def _write_log(self, base: Path, share: float) -> dict[str, Any]:
        """Write the log of one size and return what prepares it."""
        log = self._folder / "log.parquet"
        self.events[share] = write_log(base, share, log, self._threads)
        data = load_config("prepare", "data=demo", f"data.path={log}")["data"]
        return {**data, "threads": self._threads, "tasks": []}

    def _prepare(self, base: Path, share: float) -> Path:
        """Prepare a log of one size and keep it; the raw log goes."""
        data = self._write_log(base, share)
        log = Path(data["path"])
        processed, bare = self._folder / "processed", self._folder / "bare.parquet"
        runs: dict[str, Runs] = {"ours": [], "bare duckdb": [], "ptls": []}
        for _ in range(self._plan.rounds if share == 1 else 1):
            shutil.rmtree(processed, ignore_errors=True)
            runs["ours"].append(self._ours("prepare", data=data, processed=str(processed)))
            runs["bare duckdb"].append(self._ours("bare_prepare", data=data, file=str(bare)))
            if self._ptls and share == 1:
                kept = {"log": str(log), "records": self._records}
                runs["ptls"].append(self._ptls("prepare", **kept))
        log.unlink()
        bare.unlink()
        for side, measured in runs.items():
            self._add("prepare", side, None, share, measured)
        self._grow("prepare", share, runs["ours"])
        if share == 1:
            seconds = {side: [run["seconds"] for run in runs[side]] for side in runs}
            self.figures["prepare_ratio_to_bare_duckdb"] = paired_ratio(
                seconds["ours"], seconds["bare duckdb"], "times as long, lower is better"
            )
            if self._ptls:
                self.figures["prepare_speedup_over_ptls"] = paired_ratio(
                    seconds["ptls"], seconds["ours"], "times the events per second"
                )
        return processed / str(data["name"])

    def _cut_and_features(self, share: float, prepared: Path) -> None:
        for name, task in self._tasks.items():
            cut = self._ours("cut", prepared=str(prepared), task=task)
            if name == "weekly":
                self._add("cut, weekly", "ours", None, share, [cut])
                self._grow("cut", share, [cut])
        measured = self._ours("features", prepared=str(prepared), task=self._tasks["monthly"])
        self._add("features, monthly", "ours", None, share, [measured])
        self._grow("features", share, [measured])

    def _epoch(self, share: float, prepared: Path) -> None:
        """Train the GRU for an epoch: how the cost of training grows."""
        measured = [
            self._ours(
                "train",
                prepared=str(prepared),
                task=self._tasks["single"],
                model=self._models["gru"],
                threads=self._threads,
                warm_up=0,
                batches=None,
            )
        ]
        self._add("epoch, one cutoff", "ours", "gru", share, measured)
        self._grow("epoch, gru", share, measured)

    def _score(self, share: float, prepared: Path, runs: dict[str, str]) -> None:
        for kind in KINDS if share == 1 else ("gru",):
            ours: Runs = []
            ptls: Runs = []
            for _ in range(self._plan.rounds if share == 1 else 1):
                given = {"run": runs[kind], "prepared": str(prepared)}
                ours.append(self._ours("score", **given, threads=self._threads))
                if self._ptls and share == 1:
                    customers = self._plan.peer_customers[kind]
                    ptls.append(self._ask_ptls("score", kind, customers=customers))
            self._add("score", "ours", kind, share, ours)
            self._add("score", "ptls", kind, share, ptls)
            if kind == "gru":
                self._grow("score, gru", share, ours)
            if ptls:
                suffix = "" if kind == "gru" else f"_{kind}"
                self.figures[f"scoring_speedup_over_ptls{suffix}"] = paired_ratio(
                    rates(ours, "customers"),
                    rates(ptls, "customers"),
                    "times the customers per second",
                )

    def _train(self, kind: str, prepared: Path) -> None:
        """Train one network on one cutoff a customer and on weekly ones, all sides in turn."""
        plan = self._plan
        given = {
            "prepared": str(prepared),
            "model": self._models[kind],
            "threads": self._threads,
            "warm_up": plan.warm_up,
            "batches": plan.batches[kind],
        }
        runs: dict[str, Runs] = {
            name: [] for name in ("ours", "bare", "ptls", "ours weekly", "ptls weekly")
        }
        for _ in range(plan.rounds):
            for cutoffs, suffix in (("single", ""), ("weekly", " weekly")):
                task = self._tasks[cutoffs]
                ours = self._ours("train", task=task, **given)
                runs[f"ours{suffix}"].append(ours)
                if not suffix:
                    bare = self._ours("bare_loop", task=task, **given)
                    runs["bare"].append(bare)
                    if ours["events"] != bare["events"]:
                        raise SystemExit("the bare loop did not learn from the same batches.")
                    ours |= {"flops": bare["flops"], "gemm": bare["gemm"]}
                if self._ptls:
                    runs[f"ptls{suffix}"].append(
                        self._ask_ptls(
                            "train",
                            kind,
                            snapshots=str(prepared / "tasks" / task["name"] / "snapshots.parquet"),
                            warm_up=1,
                            batches=plan.peer_batches,
                            seconds=plan.peer_seconds,
                        )
                    )
        one, weekly = "train, one cutoff", "train, weekly"
        self._add(one, "ours", kind, 1, runs["ours"])
        self._add(one, "bare loop", kind, 1, runs["bare"])
        self._add(one, "ptls", kind, 1, runs["ptls"])
        self._add(weekly, "ours", kind, 1, runs["ours weekly"])
        self._add(weekly, "ptls", kind, 1, runs["ptls weekly"])
        self.figures[f"training_ratio_to_bare_loop_{kind}"] = paired_ratio(
            rates(runs["ours"], "events"),
            rates(runs["bare"], "events"),
            "of the events per second of a bare loop",
        )
        if self._ptls:
            self.figures[f"events_per_second_over_ptls_{kind}"] = paired_ratio(
                rates(runs["ours"], "events"),
                rates(runs["ptls"], "events"),
                "times the events per second",
            )
            self.figures[f"labels_per_second_over_ptls_{kind}"] = paired_ratio(
                rates(runs["ours weekly"], "labels"),
                rates(runs["ptls weekly"], "labels"),
                "times the labels per second",
            )
        if kind == "gru":
            waited, seconds = ([run[key] for run in runs["ours"]] for key in ("waited", "seconds"))
            self.figures["loader_wait_share"] = paired_ratio(
                waited, seconds, "of training's time, lower is better"
            )

    def _profile(self, base: Path) -> None:
        """Ask where the time of `prepare` and of a training step goes, on the log of sides."""
        data, processed = self._write_log(base, 1), self._folder / "processed"
        parts = self._profiles("prepare", data=data, processed=str(processed))["parts"]
        self.rows += profile_rows("prepare", None, self.events[1], parts)
        given = {
            "prepared": str(processed / data["name"]),
            "task": self._tasks["single"],
            "threads": self._threads,
            "warm_up": self._plan.warm_up,
        }
        for kind in KINDS:
            parts = self._profiles("step", model=self._models[kind], **given)["parts"]
            self.rows += profile_rows("training step", kind, self.events[1], parts)

    def _ask_ptls(self, work: str, kind: str, **given: Any) -> dict[str, Any]:
        assert self._ptls is not None
        common = {"model": self._models[kind], "threads": self._threads}
        common |= {"records": self._records, "batch": self._plan.peer_batch}
        return self._ptls(work, **common, **given)

    def _grow(self, stage: str, share: float, runs: Runs) -> None:
        seconds = median(run["seconds"] for run in runs)
        events = runs[0].get("events", self.events[share])
        memory = max(run["peak_mib"] for run in runs)
        self.growth.setdefault(stage, []).append(Point(events, seconds, memory))

    def _add(self, stage: str, side: str, model: str | None, share: float, runs: Runs) -> None:
        if runs:
            self.rows.append(row(stage, side, model, self.events[share], runs))


def tasks() -> dict[str, dict[str, Any]]:
    """Return the demo's task with monthly cutoffs, as it is, with weekly ones, and with one."""
    monthly = load_config("train", "experiment=demo")["task"]
    weekly = load_config("train", "experiment=demo", "task.cutoffs.train.every=7d")["task"]
    single = {**monthly, "cutoffs": {**monthly["cutoffs"], "train": [LAST_TRAINING_CUTOFF]}}
    named = {"monthly": monthly, "weekly": weekly, "single": single}
    return {name: {**task, "name": name} for name, task in named.items()}
