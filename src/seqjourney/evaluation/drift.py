"""Are the scores at hand like those of calibration? A certificate speaks of such customers only.

Two questions with one table of counts: could the difference be chance (chi-squared test of
homogeneity over the tenths of the calibration scores, cut once more at the threshold), and is it
large (population stability index, PSI, over the same bins)? With many customers every difference
is no chance, with few every difference looks large, so a drift is one that is both. The bands of
the PSI (0.1 some, 0.25 much) are convention. A drift of the outcome at equal scores cannot be seen
in scores; for that a certificate expires.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

P_VALUE = 0.01
PSI = 0.1
FEWEST = 100
"""Customers below which a comparison would find hardly any drift."""
_FLOOR = 1e-4  # share of an empty bin


@dataclass(frozen=True)
class Drift:
    """How the scores at hand differ from those of calibration."""

    customers: int
    p_value: float
    psi: float

    @property
    def found(self) -> bool:
        """Whether the difference is neither chance nor small."""
        return self.p_value < P_VALUE and self.psi >= PSI


@dataclass(frozen=True)
class Reference:
    """The calibration scores as counts: bin i holds `edges[i-1] <= score < edges[i]`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    """One more than edges."""

    @classmethod
    def of(cls, score: np.ndarray, threshold: float) -> Reference:
        """Count the scores (n,) by their tenths and the threshold."""
        tenths = np.quantile(score, np.arange(1, 10) / 10, method="inverted_cdf")
        edges = np.unique(np.append(tenths, threshold))
        return cls(tuple(edges.tolist()), tuple(_binned(score, edges).tolist()))

    def compare(self, score: np.ndarray) -> Drift:
        """Compare scores (m,) with these."""
        from scipy.stats import chi2_contingency

        found = _binned(score, np.array(self.edges))
        table = np.stack([np.array(self.counts), found])  # (2, bins)
        shares = np.maximum(table / np.maximum(table.sum(axis=1, keepdims=True), 1), _FLOOR)
        psi = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
        filled = table[:, table.sum(axis=0) > 0]
        some = filled.shape[1] > 1 and len(score) > 0
        p_value = float(chi2_contingency(filled, correction=False).pvalue) if some else 1.0
        return Drift(len(score), p_value, psi)


def _binned(score: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, score, side="right"), minlength=len(edges) + 1)
