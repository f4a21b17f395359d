"""What identity is worth to a churn model: the simulated company under three strategies.

The same raw exports are prepared with every identifier for itself (`none`), by the strongest
identifier of each row without links (`user_id`), and with links (`full`). A model learns churn on
each. Customers differ between the three, so what they say is asked of true persons: who was active
in the 60 days before the test cutoff, did they order or renew in the 60 after it, and what is the
lowest probability of leaving among a person's customers (one of them is alive: the person is).
"""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from record import (  # type: ignore[import-not-found]  # its folder is sys.path[0]
    Figure,
    Options,
    load_config,
    options,
    scratch,
    write_results,
)

STRATEGIES = ("none", "user_id", "full")
MODELS = ("logistic", "lightgbm")
QUICK_SOURCES = ("account", "store")
TARGET = ("order_completed", "subscription_renewed")
WINDOW = timedelta(days=60)
NOTE = """Average precision and ROC-AUC of churn over the true persons that every strategy scores
(`persons`), and beside them over each strategy's own customers. `customers_per_person`: customers
with a snapshot at the test cutoff by persons. Figures carry 95 % intervals of a bootstrap over
persons; differences are paired. One company of {customers:,} people over 14 months, one seed of the
simulation and of training, which the intervals do not cover."""


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    customers = 250 if chosen.quick else 4_000
    rows: list[dict[str, Any]] = []
    with scratch() as folder:
        _simulate(folder / "raw", customers)
        scores = {
            (strategy, model): run
            for strategy in STRATEGIES
            for model, run in _train(folder, strategy, chosen).items()
        }
        for (strategy, model), run in scores.items():
            rows.append({"strategy": strategy, "model": model, **_own(run)})
        labels, by_person = _of_persons(scores, folder)
    rows = [
        {**row, **_measured_persons(labels, scored)}
        for row, scored in zip(rows, by_person.values(), strict=True)
    ]
    write_results(
        "identity_churn",
        chosen,
        _figures(labels, by_person),
        rows,
        NOTE.format(customers=customers),
    )


def _simulate(raw: Path, customers: int) -> None:
    from seqjourney.simulation.company import CompanyConfig, write_company

    write_company(CompanyConfig(customers=customers, months=14), raw)


def _train(folder: Path, strategy: str, chosen: Options) -> dict[str, pd.DataFrame]:
    """Prepare the exports under a strategy and return each model's test predictions by person."""
    from seqjourney.commands.prepare import prepare
    from seqjourney.commands.train import train
    from seqjourney.config import Config, DataConfig, parse

    os.environ["SEQJOURNEY_COMPANY"] = str(folder / "raw")
    content = load_config("train", "experiment=company_churn")
    content["data"] |= {"name": strategy, "tasks": [], "threads": chosen.threads}
    content["data"]["identity"] |= {"strategy": strategy}
    if chosen.quick:
        sources = content["data"]["sources"]
        content["data"]["sources"] = [one for one in sources if one["name"] in QUICK_SOURCES]
    content |= {"processed": str(folder / "processed"), "output": str(folder / "outputs")}
    found = {}
    with redirect_stdout(io.StringIO()):
        data = parse(DataConfig, content["data"], "data")
        prepared = prepare(data, folder / "processed", progress=False)
        for model in MODELS:
            small = ["model.trials=1"] * (model == "lightgbm" and chosen.quick)
            content["model"] = load_config("train", f"model={model}", *small)["model"]
            content["run"] = str(folder / "outputs" / strategy / model)
            content["trainer"] |= {"progress": False}
            run = train(parse(Config, content, "configuration"))
            predictions = pd.read_parquet(run.folder / "predictions.parquet")
            test = predictions[predictions["split"] == "test"]
            found[model] = test.merge(_persons(prepared, folder), on="customer_id", how="left")
    return found


def _persons(prepared: Path, folder: Path) -> pd.DataFrame:
    """Return the person to whom most identifiers of each customer belong."""
    truth = pd.read_parquet(folder / "raw/truth/identifiers.parquet")
    truth = truth[~truth["shared"] & ~truth["junk"] & ~truth["bot"]]
    keys = ["identifier_type", "identifier"]
    found = pd.read_parquet(prepared / "identity/identifiers.parquet")
    both = found.merge(truth[[*keys, "person"]], on=keys)
    counts = both.groupby(["customer_id", "person"]).size().reset_index(name="n")
    counts = counts.sort_values(["n", "person"], ascending=[False, True])
    return counts.drop_duplicates("customer_id")[["customer_id", "person"]]


def _own(run: pd.DataFrame) -> dict[str, Any]:
    return {
        "customers": len(run),
        "customers_per_person": round(len(run) / run["person"].nunique(), 3),
        "own_base_rate": round(float(run["label"].mean()), 4),
        **_measured(run["label"], run["score"], "own"),
    }


def _of_persons(
    scores: dict[tuple[str, str], pd.DataFrame], folder: Path
) -> tuple[pd.Series, dict[tuple[str, str], pd.Series]]:
    """Return who leaves, and every run's scores, of the persons whom every strategy scores."""
    cutoff = next(iter(scores.values()))["cutoff"].iloc[0]
    labels = _true_labels(folder, cutoff)
    asked = set(labels.index)
    for run in scores.values():
        asked &= set(run["person"].dropna())
    kept = labels.loc[sorted(asked)]
    lowest = {key: run.groupby("person")["score"].min() for key, run in scores.items()}
    return kept, {key: scored.loc[kept.index] for key, scored in lowest.items()}


def _measured_persons(labels: pd.Series, scores: pd.Series) -> dict[str, Any]:
    base_rate = round(float(labels.mean()), 4)
    persons = {"persons": len(labels), "person_base_rate": base_rate}
    return {**persons, **_measured(labels, scores, "person")}


def _figures(labels: pd.Series, by_person: dict[tuple[str, str], pd.Series]) -> dict[str, Figure]:
    """Average precision of every run, and what full identity adds to the other strategies."""
    import numpy as np

    from seqjourney.evaluation.bootstrap import Resampling, difference, estimate, replicate_weights
    from seqjourney.evaluation.ranking import accumulate, average_precision, rank

    persons = len(labels)
    drawn = Resampling(np.arange(persons), np.ones(persons))
    weights = np.concatenate([np.ones((1, persons)), *replicate_weights(drawn)])
    found = {}
    for key, scores in by_person.items():
        ranking = rank(labels.to_numpy(), scores.to_numpy())
        value, *replicates = average_precision(accumulate(ranking, weights))
        found[key] = estimate(value, np.asarray(replicates))
    figures = {
        f"churn_ap_{strategy}_{model}": Figure(
            one.value, one.low, one.high, "average precision over persons"
        )
        for (strategy, model), one in found.items()
    }
    for strategy, model in found:
        if strategy != "full":
            more = difference(found["full", model], found[strategy, model])
            figures[f"churn_ap_full_minus_{strategy}_{model}"] = Figure(
                more.value, more.low, more.high, "average precision over persons, paired"
            )
    return figures


def _true_labels(folder: Path, cutoff: pd.Timestamp) -> pd.Series:
    """Return 1 for each person active before the cutoff who then neither orders nor renews."""
    events = pd.read_parquet(folder / "raw/truth/events.parquet")
    events = events[~events["bot"] & events["person"].notna()]
    at = events["timestamp"]
    own = ~events["event"].isin(["email_sent", "ad_impression", "ticket_resolved"])
    active = events.loc[own & (at <= cutoff) & (at > cutoff - WINDOW), "person"].unique()
    bought = events["event"].isin(TARGET) & (at > cutoff) & (at <= cutoff + WINDOW)
    stays = set(events.loc[bought, "person"])
    return pd.Series([int(person not in stays) for person in active], index=active)


def _measured(labels: pd.Series, scores: pd.Series, prefix: str) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {
        f"{prefix}_ap": round(float(average_precision_score(labels, scores)), 4),
        f"{prefix}_auc": round(float(roc_auc_score(labels, scores)), 4),
    }


if __name__ == "__main__":
    main()
