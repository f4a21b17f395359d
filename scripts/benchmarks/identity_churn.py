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
TARGET = ("order_completed", "subscription_renewed")
WINDOW = timedelta(days=60)
NOTE = """Average precision and ROC-AUC of churn over the true persons that every strategy scores
(`persons`), and beside them over each strategy's own customers. `customers_per_person`: customers
with a snapshot at the test cutoff by persons. One company of {customers:,} people over 14 months,
one seed: read differences of a few hundredths as noise."""


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
        rows = _add_persons(rows, scores, folder)
    figures = {
        f"churn_ap_{row['strategy']}_{row['model']}": Figure(
            *[row["person_ap"]] * 3, "average precision over persons"
        )
        for row in rows
    }
    write_results("identity_churn", chosen, figures, rows, NOTE.format(customers=customers))


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


def _add_persons(
    rows: list[dict[str, Any]], scores: dict[Any, pd.DataFrame], folder: Path
) -> list[dict[str, Any]]:
    """Add how well persons are told apart, over those whom every strategy scores."""
    cutoff = next(iter(scores.values()))["cutoff"].iloc[0]
    labels = _true_labels(folder, cutoff)
    asked = set(labels.index)
    for run in scores.values():
        asked &= set(run["person"].dropna())
    kept = labels.loc[sorted(asked)]
    measured = []
    for row, run in zip(rows, scores.values(), strict=True):
        by_person = run.groupby("person")["score"].min().loc[kept.index]
        persons = {"persons": len(kept), "person_base_rate": round(float(kept.mean()), 4)}
        measured.append({**row, **persons, **_measured(kept, by_person, "person")})
    return measured


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
