"""The precision gate: does a certificate keep what it promises?

First in made-up worlds whose true precision is known (`gate_worlds`): how often a certificate is
broken where its assumptions hold, and where they do not. Then on data: each experiment's baselines
are trained, certified on validation and held against the test, which comes later.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from gate_worlds import WORLDS, simulate  # type: ignore[import-not-found]
from record import (  # type: ignore[import-not-found]  # its folder is sys.path[0]
    Figure,
    Options,
    load_config,
    options,
    scratch,
    write_results,
)

from seqjourney.config import GateConfig

EXPERIMENTS = (
    "demo",
    "demo_churn",
    "online_retail_conversion",
    "online_retail_churn",
    "multitouch_attribution_conversion",
    "app_onboarding_conversion",
)
MODELS = ("logistic", "lightgbm")
LOWER = 0.6
"""A second target on data, where 0.8 is out of reach; in the rows, not in the figures."""
NOTE = """Of those that are flagged `target` must have the outcome, {confidence:.0%} sure; the
figures are about {precision:.0%}.

Rows without a model are worlds, {draws:,} draws each: `certified` is the share of draws with a
certificate, `realised` the mean true precision of those that it flags, `broken` the share of draws
with a certificate whose true precision is below the target (`simulated_failure_rate` is the highest
of those worlds in which the assumptions hold, with its exact 95 % interval), `refused` that with a
certificate that scoring refuses because the scores have drifted, and `broken_in_use` that with one
broken and not refused.

Rows with a model are data: `customers` at the last validation cutoff; `certified`, `broken` (the
whole 95 % interval of the realised precision, over customers, lies below the target) and `refused`
are 1 or 0; `flagged` and `realised` are those of the test, which comes later. `about` is what the
report says. {absent}"""


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    gate = GateConfig()
    draws = 60 if chosen.quick else 1_000
    rows: list[dict[str, Any]] = []
    highest = 0.0
    for number, world in enumerate(WORLDS):
        found = simulate(world, gate, draws, seed=number)
        if world.holds:
            highest = max(highest, found["broken"])
        told = {"target": gate.precision, "customers": world.customers}
        rows.append(_row(world.name, **told, **found))
    absent = []
    with scratch() as folder:
        for experiment in EXPERIMENTS[:1] if chosen.quick else EXPERIMENTS:
            found_here = [_row(experiment, **found) for found in _gated(experiment, folder, chosen)]
            absent += [experiment] * (not found_here)
            rows += found_here
    of_data = [row for row in rows if row["model"] and row["target"] == gate.precision]
    write_results(
        "gate",
        chosen,
        _figures(of_data, highest, draws, gate),
        rows,
        NOTE.format(
            **gate.model_dump(),
            draws=draws,
            absent=f"Not there: {', '.join(absent)}." if absent else "",
        ),
    )


def _gated(experiment: str, folder: Path, chosen: Options) -> Iterator[dict[str, Any]]:
    """Train the baselines of an experiment and yield what the gate says of each, by target."""
    from seqjourney.commands.prepare import prepare
    from seqjourney.commands.simulate import simulate as simulate_shop
    from seqjourney.commands.train import train
    from seqjourney.config import Config, DataConfig, parse
    from seqjourney.evaluation.gate import calibration_rows
    from seqjourney.evaluation.gate_results import gate_results
    from seqjourney.evaluation.predictions import join_runs, read_predictions

    content = load_config("train", f"experiment={experiment}")
    content["data"] |= {"threads": chosen.threads, "tasks": []}
    content["trainer"] |= {"progress": False, "threads": chosen.threads}
    content |= {"processed": str(folder / "processed"), "output": str(folder / "outputs")}
    with redirect_stdout(io.StringIO()):
        if experiment.startswith("demo"):
            raw = folder / "raw"
            if not raw.exists():
                simulate_shop(raw, **({"customers": 500} if chosen.quick else {}))
            content["data"]["path"] = str(raw / "events.parquet")
        elif not Path(content["data"]["path"]).exists():
            return
        data = parse(DataConfig, content["data"], "data")
        if not (folder / "processed" / data.name).exists():
            prepare(data, folder / "processed", progress=False)
        runs = []
        for model in MODELS[:1] if chosen.quick else MODELS:
            content["model"] = load_config("train", f"model={model}")["model"]
            config = parse(Config, content, "configuration")
            runs.append(train(config).folder)
    (task,) = join_runs([read_predictions(run) for run in runs])
    customers = len(calibration_rows(task.snapshots))
    fingerprints = dict.fromkeys(task.scores, "")
    for gate in (GateConfig(), GateConfig(precision=LOWER)):
        entry, _ = gate_results(
            task, gate, fingerprints, horizon=config.task.horizon, replicates=1000, seed=0
        )
        for model, found in entry["models"].items():
            realised = found.get("realised", {})
            broken = realised.get("verdict") == "broken"
            refused = found["certified"] and (found["drift"]["found"] or found["expired_at_test"])
            yield {
                "model": model,
                "target": gate.precision,
                "customers": customers,
                "certified": float(found["certified"]),
                "flagged": realised.get("flagged"),
                "realised": realised.get("value"),
                "low": realised.get("low"),
                "high": realised.get("high"),
                "broken": float(broken),
                "refused": float(refused),
                "broken_in_use": float(broken and not refused),
                "about": found["sentence"],
            }


def _row(what: str, **found: Any) -> dict[str, Any]:
    keys = ("model", "target", "customers", "certified", "flagged", "realised", "low", "high",
            "broken", "refused", "broken_in_use", "about")  # fmt: skip
    given = {key: found.get(key) for key in keys}
    return {"what": what, **{k: "" if v is None else v for k, v in given.items()}}


def _figures(
    of_data: list[dict[str, Any]], highest: float, draws: int, gate: GateConfig
) -> dict[str, Figure]:
    from scipy.stats import binomtest

    asked = f"of {len(of_data)} models on {len({row['what'] for row in of_data})} tasks"
    interval = binomtest(round(highest * draws), draws).proportion_ci(0.95, "exact")
    issued = sum(row["certified"] for row in of_data)
    violated = sum(row["broken"] for row in of_data)
    nominal = 1 - gate.confidence
    return {
        "certificates_issued": Figure(issued, issued, issued, f"certificates, {asked}"),
        "certificates_violated": Figure(
            violated, violated, violated, "of them, realised interval wholly below the target"
        ),
        "nominal_failure_rate": Figure(nominal, nominal, nominal, "share of calibrations, at most"),
        "simulated_failure_rate": Figure(
            highest, interval.low, interval.high, "share of calibrations, worst world that fits"
        ),
    }


if __name__ == "__main__":
    main()
