"""How much BG/NBD and Pareto/NBD expect of a buyer: purchases to come times gamma-gamma's value.

A purchase is a period with a target event of positive value, as in `btyd.py`; its value is what
came in, less refunds, over the number of purchases (Fader, Hardie & Lee 2005, "RFM and CLV",
Journal of Marketing Research 42:415). Customers of whom refunds left nothing are taken to spend as
everybody does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from ibis import Table

from seqjourney.baselines.gamma_gamma import GammaGamma
from seqjourney.baselines.past_value import earlier_value
from seqjourney.baselines.purchase_counts import History, PurchaseModel
from seqjourney.errors import DataError


@dataclass(frozen=True)
class PurchaseValues:
    """A fitted gamma-gamma model, and what a buyer brings in who has not bought before."""

    spend: GammaGamma
    without: float

    @classmethod
    def fit(
        cls, count: np.ndarray, total: np.ndarray, train: pd.DataFrame, none: np.ndarray
    ) -> PurchaseValues:
        """Fit on training customers.

        Args:
            count: (n,) purchases of each customer.
            total: (n,) what they brought in, less refunds.
            train: training snapshots.
            none: (snapshots,) bool, those before which nothing was bought.

        Raises:
            DataError: nobody has brought in anything.
        """
        some = (count > 0) & (total > 0)
        if not some.any():
            raise DataError(
                "no customer had brought in anything by the last training cutoff; choose another "
                "model, or earlier task.cutoffs."
            )
        # One more snapshot, of an average buyer, keeps the mean where there are few.
        value, weight = train["value"].to_numpy(), train["weight"].to_numpy()
        buys = value > 0
        overall = np.average(value[buys], weights=weight[buys])
        theirs = buys & none
        without = (weight[theirs] @ value[theirs] + overall) / (weight[theirs].sum() + 1)
        return cls(GammaGamma.fit(count[some], total[some] / count[some]), float(without))

    def amounts(
        self, model: PurchaseModel, histories: History, total: np.ndarray, horizon: float
    ) -> np.ndarray:
        """Return what each customer brings in within the horizon who brings in anything, (n,)."""
        amount = np.full(len(total), self.without)
        some = ~np.isnan(histories.frequency)
        known = histories.of(some)
        count = np.where(total[some] > 0, known.frequency + 1, 0.0)
        mean = np.where(count > 0, total[some] / np.maximum(count, 1.0), 0.0)
        chance = model.probability_of_purchase(known, horizon)
        # At least one, given that there is any; for who has surely left both are 0.
        each = model.expected_purchases(known, horizon)
        each = np.divide(each, chance, out=np.ones_like(each), where=chance > 0)
        purchases = np.maximum(each, 1.0)
        amount[some] = purchases * self.spend.expected_value(count, mean)
        return amount

    def to_json(self) -> dict[str, Any]:
        """Return the parameters."""
        return {"spend": asdict(self.spend), "without_target": self.without}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> PurchaseValues:
        """Inverse of `to_json`."""
        return cls(GammaGamma(**content["spend"]), content["without_target"])


def totals(
    events: Table, snapshots: pd.DataFrame, target: tuple[str, ...], column: str
) -> np.ndarray:
    """Return what was known of each customer's earlier net value, (n,); 0 without any."""
    return earlier_value(events, snapshots, target, column)["total"].fillna(0.0).to_numpy()
