"""How early did a model warn of customers who then stayed away? Of `absence` tasks.

All from predictions and what their labels say; exactly:

- A customer's test cutoffs, of all periods, are read in order. The label of one is 1 where no
  target event followed within the horizon. Where 0 at one cutoff is followed by 1 at the next, the
  *last event* lies between the two: something happened after the first, and nothing in the window
  after the second. A customer's first such change counts; who was gone at their first test cutoff,
  or never left, is not among the *leavers*.
- A customer is *flagged* at a cutoff when the score reaches a threshold that validation fixed: so
  many are flagged there as had the outcome, by the model and validation of the cutoff's own period.
- *Lead* is the time from the flag to the cutoff before the last event, hence the least that it can
  be: the first of an unbroken series of flags that reaches that cutoff (a warning that was taken
  back is none). Where it is not flagged, the first flag while the customer is away counts, and the
  lead is negative; where there is none, the warning never came.

Quartiles are over all leavers; who was never warned comes last. A snapshot's weight counts, a
leaver's being that of the cutoff before the last event: with what customers are worth as weights,
shares are of that worth. Intervals resample customers, as elsewhere. Labels are known a horizon
after the cutoff, so this is hindsight on warnings and no feature of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqjourney.evaluation.bootstrap import LEVEL, Resampling, estimate, replicate_weights
from seqjourney.evaluation.predictions import TaskPredictions
from seqjourney.evaluation.results import MIN_OUTCOMES, number, numbers

DAY_US = 86_400_000_000
NEVER = -np.inf
QUARTILES = (0.25, 0.5, 0.75)


def lead_results(
    periods: Sequence[TaskPredictions], *, replicates: int, seed: int
) -> dict[str, Any]:
    """Return the entry `lead_time` of an absence task in metrics.json.

    Args:
        periods: of one task, the last one last; runs of models (by their order, where there are
            several seeds) that are in all of them are measured, but for those whose equal scores
            would flag far more customers than stay away.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        `leavers`, `spacing_days` between test cutoffs (at most), and per model the shares warned
        `early`, `late` and `never`, `lead_days` (lower quartile, median, upper quartile; None:
        never), the share `flagged` and the share of flags that was `right`, each with value, low
        and high. Or `absent`: why there is none.
    """
    parts = []
    for place, period in enumerate(periods):
        validation, test = period.split("validation"), period.split("test")
        if not len(validation.snapshots):
            return {"absent": "the runs have no validation snapshots to take a threshold from."}
        runs: dict[str, int] = {}
        for name, score in test.scores.items():
            model = name.removesuffix(f" ({period.runs[name]})")
            runs[model] = runs.get(model, -1) + 1
            reached = _threshold(validation, validation.scores[name])
            flagged = score >= reached
            if _too_coarse(validation, validation.scores[name] >= reached):
                continue
            shown = test.snapshots[["customer_id", "cutoff", "label", "weight"]]
            parts.append(shown.assign(flagged=flagged, model=model, run=runs[model], period=place))
    if not parts:
        return {"absent": "no model ranks finely enough to flag as many as stay away."}
    asked = pd.concat(parts, ignore_index=True)
    in_all = asked.groupby(["model", "run"])["period"].transform("nunique") == len(periods)
    asked = asked[in_all]
    key = ["model", "run", "customer_id", "cutoff"]
    asked = asked.sort_values([*key, "period"], ignore_index=True)
    asked = asked.drop_duplicates(key, keep="last", ignore_index=True)  # the model then in force
    cutoffs = np.sort(asked["cutoff"].unique())
    if len(cutoffs) < 2:
        return {
            "absent": "the test asks each customer once; it takes several test cutoffs "
            "(task.cutoffs.test) or several periods (task.shift)."
        }
    found: dict[str, Any] = {}
    leavers = 0
    for named, rows in asked.groupby("model", sort=False):
        customer = pd.factorize(rows["customer_id"] + "|" + rows["run"].astype(str))[0]
        before, leads = lead_days(
            customer,
            rows["cutoff"].to_numpy("datetime64[us]").astype(np.int64),
            rows["label"].to_numpy(bool),
            rows["flagged"].to_numpy(bool),
        )
        leavers = len(leads) // rows["run"].nunique()
        if leavers < MIN_OUTCOMES:
            continue
        found[str(named)] = _estimates(rows, before, leads, replicates, seed)
    if not found:
        return {
            "absent": f"of {leavers:,} customers the last event falls between two of their test "
            f"cutoffs; it takes {MIN_OUTCOMES}."
        }
    spacing = np.diff(cutoffs).max() / np.timedelta64(1, "D")
    return {"leavers": leavers, "spacing_days": float(spacing), "models": found}


def _estimates(
    rows: pd.DataFrame, before: np.ndarray, leads: np.ndarray, replicates: int, seed: int
) -> dict[str, Any]:
    """Measure a model: its rows (n,), of the leavers (L,) the row before and the lead."""
    weight = rows["weight"].to_numpy(np.float64)
    label, flagged = (rows[c].to_numpy(np.float64) for c in ("label", "flagged"))
    order = np.argsort(leads, kind="stable")
    one = float(weight[before].mean())
    early, never = leads >= 0, leads == NEVER

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        """Weights (R, n) -> (R,) each, (R, 3) of the quartiles."""
        of = weights[:, before]
        everyone = of.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without leavers, or flags
            return {
                "early": of @ early / everyone,
                "late": of @ ~(early | never) / everyone,
                "never": of @ never / everyone,
                "flagged": weights @ flagged / weights.sum(axis=1),
                "right": weights @ (flagged * label) / (weights @ flagged),
                "lead_days": _quartiles(leads[order], of[:, order], one),
            }

    point = measure(weight[None])
    draws = Resampling(pd.factorize(rows["customer_id"])[0], weight, replicates, seed)
    chunks = [measure(weights) for weights in replicate_weights(draws)]
    drawn = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in point}
    days, drawn_days = point.pop("lead_days")[0], drawn.pop("lead_days")
    tail = (1 - LEVEL) / 2
    # "Never" is a value like any other here, hence ends that are values and not between two.
    low = np.quantile(drawn_days, tail, axis=0, method="lower")
    high = np.quantile(drawn_days, 1 - tail, axis=0, method="higher")
    return {
        **numbers({name: estimate(float(value[0]), drawn[name]) for name, value in point.items()}),
        "lead_days": [
            {"value": number(d), "low": number(a), "high": number(b)}
            for d, a, b in zip(days, low, high, strict=True)
        ],
    }


def _quartiles(leads: np.ndarray, weights: np.ndarray, one: float) -> np.ndarray:
    """Return the lower of the two leads that a quartile falls between: (L,), (R, L) -> (R, 3).

    `leads` ascend, and a weight of `one` counts as one leaver.
    """
    total = np.cumsum(weights, axis=1)
    wanted = np.asarray(QUARTILES) * (total[:, -1:] - one)  # (R, 3)
    place = (total[:, None, :] <= wanted[:, :, None]).sum(axis=2)
    return np.asarray(leads[np.minimum(place, len(leads) - 1)])


def lead_days(
    customer: np.ndarray, cutoff_us: np.ndarray, label: np.ndarray, flagged: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return of every leaver the row before the last event, and the lead in days.

    The latter is `NEVER` where no flag came; both (L,).

    Args:
        customer: (n,) codes; rows are sorted by customer and cutoff.
        cutoff_us: (n,) microseconds.
        label: (n,) bool, whether the customer stayed away.
        flagged: (n,) bool.
    """
    place = np.arange(len(customer))
    first = np.append(True, customer[1:] != customer[:-1])  # of each customer
    left = np.append(False, label[1:] & ~label[:-1]) & ~first
    onset = place[left]
    onset = onset[np.unique(customer[onset], return_index=True)[1]]  # of each the first
    before = onset - 1
    # An unbroken series of flags begins at a customer's first row or after an unflagged one.
    begins = flagged & (first | np.append(True, ~flagged[:-1]))
    series = np.maximum.accumulate(np.where(begins, place, 0))
    end = len(place)
    back = np.minimum.accumulate(np.where(first | ~label, place, end)[::-1])[::-1]
    again = np.minimum.accumulate(np.where(flagged, place, end)[::-1])[::-1]
    returned = np.append(back, end)[onset + 1]  # the row at which the absence is over
    late = again[onset]
    warned = np.where(flagged[before], series[before], late)
    days = (cutoff_us[before] - cutoff_us[np.minimum(warned, end - 1)]) / DAY_US
    return before, np.where(flagged[before] | (late < returned), days, NEVER)


def _too_coarse(validation: TaskPredictions, flagged: np.ndarray) -> bool:
    """Whether equal scores flag a quarter more than had the outcome: warnings that cost more."""
    weight = validation.snapshots["weight"].to_numpy(np.float64)
    return bool(weight @ flagged > 1.25 * (weight @ validation.snapshots["label"].to_numpy(float)))


def _threshold(validation: TaskPredictions, score: np.ndarray) -> float:
    """Return the score that so many of the validation snapshots reach as had the outcome."""
    weight = validation.snapshots["weight"].to_numpy(np.float64)
    wanted = float(weight @ validation.snapshots["label"].to_numpy(np.float64))
    order = np.argsort(-score, kind="stable")
    reached = int(np.searchsorted(np.cumsum(weight[order]), wanted * (1 - 1e-12)))
    return float(score[order[min(reached, len(order) - 1)]])
