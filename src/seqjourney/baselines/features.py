"""Point-in-time features: what was known of a customer at a cutoff, as one row of numbers.

Only events with `known_at <= cutoff` count, label-only events never do. All cutoffs are computed
at once by the columnar engine (`feature_queries.py`), in batches of customers so that memory does
not grow with their number; what is a ratio of columns is computed here.

| Feature | Meaning | Missing |
|---|---|---|
| `recency_G` | time since the last event of group G | no such event |
| `tenure` | time since the first event | no event |
| `count_G_W` | events of group G in window W | never, 0 |
| `trend_G_W` | log of the rate in W over the rate in the rest of the next longer window | never |
| `value_sum_W`, `value_mean_W`, `value_max_W`, `value_last` | money | no value (sum: 0) |
| `number_sum:F`, `number_mean:F`, `number_last:F` | numeric field F, ever | no number (sum: 0) |
| `active_periods_W` | periods (days) with an own event, starting in W | never, 0 |
| `gap_mean_K`, `gap_deviation_K`, `gap_last_K` | gaps of target events, active periods | too few |
| `regularity_K` | deviation over mean of the gaps | under 2 gaps, or mean 0 |
| `due_K`, `log_due_K` | time since the last over the mean gap; above 1 is late | no gap, or 0 |
| `last_event`, `last_event_2`, `last_event_3`, `last_F` | codes: position in the vocabulary | -1 |
| `year_*`, `week_*`, `day_*` | calendar of the cutoff, where training covered the cycle | never |

Groups G: `all`, `own` (actor is the customer), `target`, `event:NAME` and (counts only)
`channel:NAME`. Windows W: `7d` ... `365d`, or multiples of a short horizon, and `ever`; they reach
back from the cutoff by when an event happened, not by when it was known. K: `target`, `active`.
Times are in `spec.unit_us`: days, or quarters of a short horizon. "Last" means known last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from ibis import Table, memtable

from seqjourney.baselines import feature_queries as queries
from seqjourney.baselines.feature_spec import FeatureSpec, calendar_features
from seqjourney.events import engine

SNAPSHOTS_PER_BATCH = 25_000
_GAPS = ("gap_mean", "gap_deviation", "gap_last")


def point_in_time_features(
    events: Table, snapshots: pd.DataFrame, spec: FeatureSpec
) -> pd.DataFrame:
    """Compute the features of every snapshot.

    Args:
        events: the event log.
        snapshots: has `customer_id` and `cutoff` (UTC); other columns are not looked at.
        spec: which features.

    Returns:
        One row per snapshot in the same order; float32, codes int16.
    """
    found: dict[str, np.ndarray] = {}
    for batch in _batches(snapshots):
        columns = _engine_features(events, batch, spec)
        columns |= _derived(columns, spec)
        if not found:
            codes = spec.categorical_features
            kinds = {name: np.int16 if name in codes else np.float32 for name in columns}
            found = {name: np.empty(len(snapshots), kind) for name, kind in kinds.items()}
        for name, column in columns.items():
            found[name][batch["position"]] = column
    for name, phase in calendar_features(snapshots["cutoff"], spec.cycles).items():
        found[name] = phase.astype(np.float32)
    return pd.DataFrame(found, index=snapshots.index, copy=False)  # there is no second table


def _batches(snapshots: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Cut the snapshots into batches of whole customers, so that each event is joined once."""
    positions = snapshots[["customer_id", "cutoff"]].assign(position=np.arange(len(snapshots)))
    if snapshots.empty:
        yield positions.assign(row=np.arange(0))
        return
    customer = pd.factorize(snapshots["customer_id"])[0]
    snapshots_of = np.bincount(customer)
    batch = ((np.cumsum(snapshots_of) - 1) // SNAPSHOTS_PER_BATCH)[customer]
    for _, part in positions.groupby(batch):
        yield part.assign(row=np.arange(len(part)))


def _engine_features(
    events: Table, batch: pd.DataFrame, spec: FeatureSpec
) -> dict[str, np.ndarray]:
    """Ask the engine and lay its long answers out, one array per feature."""
    cutoffs = memtable(batch[["row", "customer_id", "cutoff"]])
    customers = memtable(batch[["customer_id"]].drop_duplicates())
    kept = queries.prepare(events, customers, spec)
    backend = events.get_backend()
    with engine.keeping(backend, kept) as prepared:
        return _answers(backend, prepared, cutoffs, spec, len(batch))


def _answers(
    backend: Any, prepared: Table, cutoffs: Table, spec: FeatureSpec, rows: int
) -> dict[str, np.ndarray]:
    """Ask the questions of prepared events, one answer in memory at a time."""
    spans = [*spec.windows, "ever"]
    groups = ["all", "own", "target"] if spec.target else ["all", "own"]
    per_row, per_bin = (rows,), (rows, len(spans))
    found: dict[str, np.ndarray] = {}

    answer = engine.fetch_arrow(backend, queries.totals(prepared, cutoffs, spec))
    oldest = _laid_out(answer, "oldest", per_bin)
    found["tenure"] = np.fmax.reduce(oldest, axis=1) / spec.unit_us
    for group in groups:
        youngest = _laid_out(answer, f"youngest_{group}", per_bin)
        found[f"recency_{group}"] = np.fmin.reduce(youngest, axis=1) / spec.unit_us
        counts = _laid_out(answer, f"count_{group}", per_bin, missing=0)
        found |= _per_span(f"count_{group}", spans, counts.cumsum(axis=1))
    if spec.has_value:
        sums = _laid_out(answer, "value_sum", per_bin, missing=0).cumsum(axis=1)
        counts = _laid_out(answer, "value_count", per_bin, missing=0).cumsum(axis=1)
        largest = np.fmax.accumulate(_laid_out(answer, "value_max", per_bin), axis=1)
        found |= _per_span("value_sum", spans, sums)
        found |= _per_span("value_mean", spans, _ratio(sums, counts))
        found |= _per_span("value_max", spans, largest)
    for i, name in enumerate(spec.numeric):
        total = _laid_out(answer, f"number_{i}_sum", per_bin, missing=0).sum(axis=1)
        count = _laid_out(answer, f"number_{i}_count", per_bin, missing=0).sum(axis=1)
        found |= {f"number_sum:{name}": total, f"number_mean:{name}": _ratio(total, count)}

    for kind, column, names in (
        ("event", "event_code", spec.events),
        ("channel", "channel_code", spec.channels),
    ):
        if not names:
            continue
        answer = engine.fetch_arrow(backend, queries.by_kind(prepared, cutoffs, spec, column))
        shape = (rows, len(names), len(spans))
        counts = _laid_out(answer, "count", shape, missing=0).cumsum(axis=2)
        youngest = np.fmin.reduce(_laid_out(answer, "youngest", shape), axis=2) / spec.unit_us
        for i, name in enumerate(names):
            found |= _per_span(f"count_{kind}:{name}", spans, counts[:, i])
            if kind == "event":
                found[f"recency_event:{name}"] = youngest[:, i]

    answer = engine.fetch_arrow(backend, queries.latest(prepared, cutoffs, spec))
    for i, field in enumerate(spec.categories):
        found[f"last_{field}"] = _laid_out(answer, f"code_{i}", per_row, missing=-1)
    for back in (2, 3):
        found[f"last_event_{back}"] = _laid_out(answer, f"event_{back}", per_row, missing=-1)
    for i, name in enumerate(spec.numeric):
        found[f"number_last:{name}"] = _laid_out(answer, f"number_{i}_last", per_row)
    if spec.has_value:
        found["value_last"] = _laid_out(answer, "value_last", per_row)

    answer = engine.fetch_arrow(backend, queries.active_periods(prepared, cutoffs, spec))
    for k, span in enumerate(spans):
        found[f"active_periods_{span}"] = _laid_out(answer, f"count_{k}", per_row, missing=0)
    for gap in _GAPS:
        found[f"{gap}_active"] = _laid_out(answer, gap, per_row)
    if spec.target:
        answer = engine.fetch_arrow(backend, queries.gaps(prepared, cutoffs, spec))
        for gap in _GAPS:
            found[f"{gap}_target"] = _laid_out(answer, gap, per_row)
    return found


def _laid_out(
    answer: pa.Table, column: str, shape: tuple[int, ...], missing: float = np.nan
) -> np.ndarray:
    """Spread an answer's column over (row), (row, age bin) or (row, kind, age bin)."""
    keys = {1: ["row"], 2: ["row", "age_bin"], 3: ["row", "kind", "age_bin"]}[len(shape)]
    laid = np.full(shape, missing, dtype=np.float64)
    values = answer[column].to_numpy()
    # A sum or an age of nothing is missing even where other events share the row.
    laid[tuple(answer[key].to_numpy() for key in keys)] = np.where(
        np.isnan(values), missing, values
    )
    return laid


def _per_span(name: str, spans: Sequence[str], values: np.ndarray) -> dict[str, np.ndarray]:
    """Name the columns of (row, window), shortest window first."""
    return {f"{name}_{span}": values[:, k] for k, span in enumerate(spans)}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide where the denominator is positive; elsewhere the ratio is missing."""
    missing = np.full(denominator.shape, np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator > 0)


def _derived(found: dict[str, np.ndarray], spec: FeatureSpec) -> dict[str, np.ndarray]:
    """Return the ratios of other features."""
    derived: dict[str, np.ndarray] = {}
    lengths = list(spec.windows.items())
    for group in ("all", "own", "target") if spec.target else ("all", "own"):
        for (short, short_us), (long, long_us) in pairwise(lengths):
            recent = found[f"count_{group}_{short}"]
            before = found[f"count_{group}_{long}"] - recent
            pace = short_us / (long_us - short_us)
            derived[f"trend_{group}_{short}"] = np.log((recent + 1) / (before * pace + 1))
    kinds = {"active": "own", **({"target": "target"} if spec.target else {})}
    for kind, group in kinds.items():
        mean = found[f"gap_mean_{kind}"]
        due = _ratio(found[f"recency_{group}"], mean)
        derived[f"regularity_{kind}"] = _ratio(found[f"gap_deviation_{kind}"], mean)
        derived |= {f"due_{kind}": due, f"log_due_{kind}": np.log(np.maximum(due, 1e-3))}
    return derived
