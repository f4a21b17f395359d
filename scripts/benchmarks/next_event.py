"""What comes next: GRU and transformer against counts and published numbers, on open protocols.

Each data set comes with the split that its publishers demand, which is no split by time; the rows
name it. Every pair of a data set and a model is trained once and kept under --work, so that an
interrupted run goes on where it stopped; pairs that have not been run are listed as such.

Besides the options below: --only DATASET or DATASET/MODEL (repeatable) trains only these, --kept
trains nothing and writes down what has been run, --epochs N ends networks after so many epochs (and
their rows say so; a higher N goes on from there), and --work FOLDER (default: outputs/next_event)
is where runs are kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from next_event_data import DATA_SETS, DataSet, as_store  # type: ignore[import-not-found]
from record import (  # type: ignore[import-not-found]
    Figure,
    Options,
    digest_of_code,
    options,
    write_results,
)

from seqjourney.files import read_json, write_json
from seqjourney.provenance import describe_revision

NETWORKS = ("gru", "transformer")
MODELS = ("popularity", "recent", "markov", "rules", *NETWORKS)
COMMON: dict[str, Any] = {"context": 100, "batch_tokens": 8192, "dropout": 0.3}
SETTINGS: dict[str, dict[str, Any]] = {
    "gru": {"width": 100, "layers": 1, "learning_rate": 0.002},
    "transformer": {"width": 64, "layers": 2, "heads": 2, "learning_rate": 0.002},
}
EPOCHS, PATIENCE = 60, 3
NOTE = """Rows with a model of ours are measured here; `published` rows are quoted (the cards of the
data sets name the papers, and quote from memory). Each pair was trained once, with seed 0 and one
thread, at the revision in its row. Of GRU and transformer a figure is that of the
one with the higher reciprocal rank on validation. Intervals are 95 % bootstraps over histories.
Ties count as the mean over all their orders. Hit@k, P@k and recall@k are the same thing here.
`amazon_games_*_sampled` ranks against 100 items drawn evenly among those that the user has not
had, one draw for all models; items that training never saw cannot be found ({cold}).

Splits: {protocols}.

{missing}"""


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--work", type=Path, default=Path("outputs/next_event"))
    own, rest = parser.parse_known_args()
    chosen = options(__doc__, rest)
    known = {*DATA_SETS, *(f"{name}/{model}" for name in DATA_SETS for model in MODELS)}
    if unknown := set(own.only) - known:
        raise SystemExit(f"--only {min(unknown)}: no such pair. Known: {', '.join(sorted(known))}")
    folder = Path(os.environ.get("SEQJOURNEY_DATA", "data"))
    work = chosen.output / "work" if chosen.quick else own.work
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for name, data_set in DATA_SETS.items():
        if not (folder / data_set.file).exists():
            rows.append({"data": name, "model": "not run", "about": "the data is not there"})
            missing.append(f"{name} (data not there)")
            continue
        opened: dict[str, Any] = {}
        for model in MODELS:
            asked = not own.only or name in own.only or f"{name}/{model}" in own.only
            if own.kept:
                asked = False
            if chosen.quick and (name, model) not in (("helpdesk", "markov"), ("helpdesk", "gru")):
                asked = False
            row = _kept(work / name / model)
            epochs = 2 if chosen.quick else own.epochs
            if asked and (row is None or (row.get("cut_off") and row["epochs"] < epochs)):
                row = _measure(name, model, folder, work / name / model, opened, chosen, epochs)
            if row is None:
                missing.append(f"{name}/{model}")
                row = {"data": name, "model": model, "about": "not run"}
            rows.append(row)
        rows += [
            {
                "data": name,
                "model": model,
                "about": "published",
                "figures": {figure: [value, None, None] for figure, value in quoted.items()},
            }
            for model, quoted in data_set.published.items()
        ]
    cold = ", ".join(f"{r['data']}: {r['never_seen']:.1%} of the questions" for r in rows
                     if r.get("model") == "popularity" and r.get("never_seen"))  # fmt: skip
    write_results(
        "next_event",
        chosen,
        _figures(rows),
        [line for row in rows for line in _shown(row)],
        NOTE.format(
            cold=cold or "none here",
            protocols="; ".join(f"{name}: {found.protocol}" for name, found in DATA_SETS.items()),
            missing=f"Not run: {', '.join(missing)}." if missing else "All pairs were run.",
        ),
    )


def _kept(folder: Path) -> dict[str, Any] | None:
    """Return the row of an earlier run with the same settings, protocol and code."""
    file = folder / "row.json"
    if not file.exists():
        return None
    row: dict[str, Any] = read_json(file)
    return row if row.get("mark") == _mark(folder.parent.name, folder.name) else None


def _mark(name: str, model: str) -> str:
    """Identify all that decides a row but the data file, which its name stands for."""
    from seqjourney.events.log import digest

    data_set = DATA_SETS[name]
    parts = ("models", "sequences") if model in NETWORKS else ("baselines", "sequences")
    code = digest_of_code(*parts, "evaluation/next_ranks.py", "evaluation/next_metrics.py")
    told = [_settings(name, model), data_set.task, data_set.protocol, data_set.metrics]
    return digest([*told, code])


def _settings(name: str, model: str) -> dict[str, Any]:
    if model not in NETWORKS:
        return {"kind": model, "name": model}
    told = COMMON | SETTINGS[model] | DATA_SETS[name].settings
    return {"kind": model, "name": model, **told}


def _open(name: str, data_set: DataSet, folder: Path) -> dict[str, Any]:
    from seqjourney.config import NextTaskConfig, parse
    from seqjourney.evaluation.next_ranks import draw_negatives
    from seqjourney.sequences.next_cases import build_next_data

    task = {"name": name, "kind": "next", "field": data_set.asked, "split": "given",
            "given": "split", **data_set.task}  # fmt: skip
    store = as_store(data_set.read(folder), data_set.asked)
    data = build_next_data(store, parse(NextTaskConfig, task, name))
    test = data.of("test")
    return {"data": data, "test": test, "negatives": draw_negatives(test)}


def _measure(
    name: str,
    model: str,
    source: Path,
    folder: Path,
    opened: dict[str, Any],
    chosen: Options,
    epochs: int,
) -> dict[str, Any]:
    """Train one model on one data set, rank the test, and keep the row."""
    from seqjourney.baselines.next_counts import NextCounts
    from seqjourney.config import (
        GRUConfig,
        NetworkConfig,
        NextCountsConfig,
        TrainerConfig,
        TransformerConfig,
        parse,
    )
    from seqjourney.evaluation.next_metrics import gains, next_metrics
    from seqjourney.evaluation.next_ranks import rank_values, ranks_table, write_ranks
    from seqjourney.models.next_network import NextNetworkPredictor
    from seqjourney.sequences.tokenizer import FIRST

    data_set = DATA_SETS[name]
    if not opened:
        opened |= _open(name, data_set, source)
    data, test = opened["data"], opened["test"]
    settings = _settings(name, model)
    predictor: NextNetworkPredictor | NextCounts
    if model in NETWORKS:
        schema: type[NetworkConfig] = GRUConfig if model == "gru" else TransformerConfig
        predictor = NextNetworkPredictor(parse(schema, settings, model))
    else:
        predictor = NextCounts(parse(NextCountsConfig, settings, model))
    trainer = TrainerConfig(
        max_epochs=epochs,
        patience=PATIENCE,
        threads=chosen.threads,
        progress=False,
        resume=True,
    )
    mark = {"mark": _mark(name, model)}
    if (folder / "settings.json").exists() and read_json(folder / "settings.json") != mark:
        shutil.rmtree(folder)  # what is left of other settings cannot be gone on with
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", mark)
    resumed = (folder / "checkpoints").exists()
    started = time.process_time()
    predictor.fit(data, trainer, 0, folder)
    fitted = time.process_time()
    ranks = rank_values(test, predictor.scores(test), opened["negatives"])
    table = ranks_table(test, ranks, model, name)
    write_ranks(table, folder / "ranks.parquet")
    if isinstance(predictor, NextNetworkPredictor):
        predictor.save(folder)
    figures = {}
    scale = 100 if data_set.per_cent else 1
    for figure, (ranking, metric) in data_set.metrics.items():
        found = next_metrics(table[table["ranking"] == ranking], {metric: gains()[metric]})[metric]
        figures[figure] = [scale * v for v in (found.value, found.low, found.high)]
    learned = _learned(folder, predictor)
    cut_off = learned >= epochs and predictor.chosen_["epochs"] + PATIENCE > epochs
    row: dict[str, Any] = {
        "data": name,
        "model": model,
        "figures": figures,
        "questions": len(test.snapshots),
        "never_seen": float((test.snapshots["label"] < FIRST).mean()),
        "validation": getattr(predictor, "validation_score_", None),
        # Of a training that was gone on with, only the last part was timed.
        "cpu_minutes": None if resumed else (fitted - started) / 60,
        "scoring_minutes": (time.process_time() - fitted) / 60,
        "chosen": predictor.chosen_,
        "settings": settings,
        **mark,
        "epochs": learned,
        "cut_off": cut_off,
        "about": "measured" + f", cut off after {epochs} epochs" * cut_off,
        "revision": describe_revision(),
    }
    write_json(folder / "row.json", row)
    if not cut_off:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    print(f"{name}/{model}: " + ", ".join(f"{f} {v[0]:.4g}" for f, v in figures.items()))
    return row


def _learned(folder: Path, predictor: Any) -> int:
    """Return how many epochs a network has learned, also before it was gone on with."""
    if "epochs" not in predictor.chosen_:
        return 0
    curves = [pd.read_csv(file) for file in (folder / "logs").glob("metrics*.csv")]
    return int(max(curve["epoch"].max() for curve in curves)) + 1


def _figures(rows: list[dict[str, Any]]) -> dict[str, Figure]:
    """Take each figure from the network that validation prefers."""
    figures = {}
    for name, data_set in DATA_SETS.items():
        ours = [r for r in rows if r["data"] == name and r.get("model") in NETWORKS
                and "settings" in r]  # fmt: skip
        if not ours:
            continue
        best = max(ours, key=lambda row: row["validation"])
        unit = "per cent" if data_set.per_cent else "share"
        for figure, (ranking, metric) in data_set.metrics.items():
            about = f"{unit}, {metric} in the {ranking} ranking, {best['model']}"
            figures[figure] = Figure(*best["figures"][figure], about)
    return figures


def _shown(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Write one row per figure; what was not run or only quoted has fewer columns."""
    figures = row.get("figures", {})
    for figure, value in figures.items() if figures else [("", [None] * 3)]:
        told = {"data": row["data"], "model": row["model"], "figure": figure}
        told |= dict(zip(("value", "low", "high"), value, strict=True))
        told["about"] = row.get("about", "measured")
        for key in ("questions", "epochs", "validation", "cpu_minutes", "scoring_minutes"):
            told[key] = row.get(key)
        for key in ("chosen", "settings"):
            told[key] = ", ".join(f"{k} {v}" for k, v in row.get(key, {}).items() if k != "name")
        yield told | {"revision": row.get("revision", "")[:12]}


if __name__ == "__main__":
    main()
