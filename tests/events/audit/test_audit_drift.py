"""PSI and Jensen-Shannon distance, and what counts as drift between months."""

import numpy as np
import pandas as pd
import pytest
from hostile_data import in_utc
from hypothesis import assume, given
from hypothesis import strategies as st

from seqjourney.events.audit.drift import (
    FLOOR,
    chance_psi,
    drift,
    event_mix,
    js_distance,
    monthly_steps,
    numeric_mix,
    psi,
)

counts = st.lists(st.integers(0, 1000), min_size=2, max_size=30)


@given(counts, st.data())
def test_psi_is_the_textbook_sum_and_symmetric(before, data):
    after = data.draw(st.lists(st.integers(0, 1000), min_size=len(before), max_size=len(before)))
    assume(sum(before) and sum(after))
    total = 0.0
    for b, a in zip(before, after, strict=True):
        expected, actual = max(b / sum(before), FLOOR), max(a / sum(after), FLOOR)
        total += (actual - expected) * np.log(actual / expected)
    x, y = np.array(before, float), np.array(after, float)
    assert psi(x, y) == pytest.approx(total, abs=1e-12)
    assert psi(y, x) == pytest.approx(total, abs=1e-12)
    assert psi(x, 3 * x) == pytest.approx(0, abs=1e-12)
    assert 0 <= js_distance(x, y) <= 1 + 1e-9


def test_a_known_psi():
    # 0.5/0.5 to 0.6/0.4: (0.1) ln 1.2 + (-0.1) ln 0.8
    assert psi(np.array([50.0, 50.0]), np.array([60.0, 40.0])) == pytest.approx(0.0405465, abs=1e-6)
    assert js_distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)
    assert js_distance(np.array([2.0, 1.0]), np.array([4.0, 2.0])) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("bins", [2, 10, 20])
def test_without_drift_chance_is_exceeded_once_in_a_hundred(bins):
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(bins, 10.0))
    n, m = 4000, 6000
    limit = chance_psi(bins, n, m)
    pairs = zip(random.multinomial(n, shares, 4000), random.multinomial(m, shares, 4000),
                strict=True)  # fmt: skip
    exceeded = np.mean([psi(a.astype(float), b.astype(float)) > limit for a, b in pairs])
    assert exceeded == pytest.approx(0.01, abs=0.006)


def months(*customers: int, whole: tuple[bool, ...] | None = None) -> pd.DataFrame:
    starts = pd.date_range("2023-01-01", periods=len(customers), freq="MS", tz="UTC")
    whole = whole or (True,) * len(customers)
    return pd.DataFrame({"month": starts, "customers": customers, "whole": whole})


def test_only_whole_months_with_enough_events_are_compared():
    table = months(500, 500, 500, 500, 500, whole=(False, True, True, True, True))
    seen = pd.DataFrame(
        {"a": [500, 500, 400, 20, 400], "b": [500, 500, 600, 30, 600]}, index=table["month"]
    )
    steps = monthly_steps(seen, table)
    assert [step.month for step in steps] == ["2023-03"]  # April has 50 events only
    assert steps[0].moved == "a went from 50.0 % to 40.0 %"
    assert steps[0].psi > steps[0].chance
    assert steps[0].real == steps[0].psi
    assert monthly_steps(seen, months(20, 20, 20, 20, 20))[1].real == 0  # few customers: chance


def log(**columns) -> pd.DataFrame:
    n = len(columns["event"])
    at = pd.Series(pd.date_range("2023-01-01", "2023-03-31 23:00", periods=n, tz="UTC"))
    at = at.astype("datetime64[us, UTC]")
    return pd.DataFrame(
        {"customer_id": [f"c{i % 200}" for i in range(n)], "timestamp": at, **columns}
    )


def test_rare_names_share_one_column_and_a_name_called_other_stays_its_own():
    names = ["visit"] * 500 + ["other"] * 300 + [f"rare {i}" for i in range(100)]
    table = event_mix(in_utc(log(event=names)), ["visit", "other"])
    assert sorted(table.columns) == ["other", "other events", "visit"]
    assert table.to_numpy().sum() == 900
    assert table["other events"].sum() == 100


def test_a_field_that_is_no_longer_sent_drifts():
    random = np.random.default_rng(0)
    frame = log(event=["visit"] * 9000)
    frame["items"] = random.poisson(3, 9000).astype(float)
    frame.loc[frame["timestamp"] >= "2023-03-01", "items"] = np.nan
    frame["still"] = random.normal(size=9000)
    frame["empty"] = np.nan
    found = drift(in_utc(frame), ["visit"], ["items", "still", "empty"], months(200, 200, 200))
    assert set(found) == {"mix of events", "items", "still"}
    assert [step.real > 1 for step in found["items"]] == [False, True]
    assert found["items"][1].moved == "missing values went from 0.0 % to 100.0 %"
    assert all(step.real == 0 for step in found["still"])
    assert all(step.psi == 0 for step in found["mix of events"])


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=20, max_size=200))
def test_every_event_lands_in_exactly_one_bin(values):
    frame = log(event=["visit"] * len(values))
    frame["items"] = [np.nan if value is None else float(value) for value in values]
    table = numeric_mix(in_utc(frame), "items")
    if all(value is None for value in values):
        assert table is None
    else:
        assert table.to_numpy().sum() == len(values)
        missing = sum(value is None for value in values)
        assert (table["missing values"].sum() if "missing values" in table else 0) == missing
