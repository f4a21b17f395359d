"""Lead times against a slow reading of their definition, and by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.evaluation.lead_time import DAY_US, NEVER, lead_days, lead_results
from seqjourney.evaluation.predictions import TaskPredictions


def slowly(rows: list[tuple[int, int, bool, bool]]) -> list[float]:
    """Read (customer, day, away, flagged), sorted, as the module's header says."""
    leads = []
    for customer in sorted({row[0] for row in rows}):
        mine = [row for row in rows if row[0] == customer]
        for k in range(1, len(mine)):
            if not mine[k][2] or mine[k - 1][2]:
                continue
            day = mine[k - 1][1]
            if mine[k - 1][3]:
                j = k - 1
                while j > 0 and mine[j - 1][3]:
                    j -= 1
                leads.append(day - mine[j][1])
            else:
                lead = NEVER
                for row in mine[k:]:
                    if not row[2]:
                        break
                    if row[3]:
                        lead = day - row[1]
                        break
                leads.append(lead)
            break
    return leads


histories = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 60), st.booleans(), st.booleans()), max_size=60
)


@given(histories)
def test_lead_times_are_those_of_the_definition(rows):
    rows = sorted({(c, d): (c, d, y, f) for c, d, y, f in rows}.values())
    columns = [np.array(column) for column in zip(*rows, strict=True)] or [np.zeros(0)] * 4
    if not rows:
        return
    customer, day, away, flagged = columns
    _, found = lead_days(customer, day * DAY_US, away, flagged)
    assert found.tolist() == slowly(rows)


def predictions(labels: np.ndarray, scores: np.ndarray, first: str, name="gru") -> TaskPredictions:
    """Labels and scores (customers, weekly cutoffs); validation has one half flagged."""
    customers, cutoffs = labels.shape
    start = pd.Timestamp(first, tz="UTC")
    test = pd.DataFrame(
        {
            "split": "test",
            "customer_id": np.repeat([f"c{i:03d}" for i in range(customers)], cutoffs),
            "cutoff": np.tile([start + pd.Timedelta(weeks=w) for w in range(cutoffs)], customers),
            "label": labels.ravel().astype(int),
            "weight": 1.0,
        }
    )
    validation = test.head(4).assign(
        split="validation", customer_id=["a", "b", "c", "d"], label=[0, 1, 1, 0],
        cutoff=start - pd.Timedelta(weeks=30),
    )  # fmt: skip
    snapshots = pd.concat([validation, test], ignore_index=True)
    score = np.append([0.1, 0.5, 0.9, 0.2], scores.ravel())  # so 0.5 is the threshold
    return TaskPredictions("churn", snapshots, {name: score}, {name: score}, {name: "run"})


def values(found: dict, *names: str) -> list[float]:
    return [found[name]["value"] for name in names]


def test_intervals_resample_customers_and_hold_what_was_found():
    labels = np.tile([0, 0, 0, 1, 1, 1], (40, 1))
    scores = np.zeros((40, 6))
    scores[:30, 1:] = 0.5
    few = predictions(labels, scores, "2024-01-01")
    many = predictions(np.tile(labels, (10, 1)), np.tile(scores, (10, 1)), "2024-01-01")
    width = []
    for asked in (few, many):
        gru = lead_results([asked], replicates=400, seed=0)["models"]["gru"]
        early = gru["early"]
        assert early["low"] < early["value"] == 0.75 < early["high"]
        width.append(early["high"] - early["low"])
        median = gru["lead_days"][1]
        assert median == {"value": 7.0, "low": 7.0, "high": 7.0}
    # A binomial share of 40: 1.96 * sqrt(0.75 * 0.25 / 40) each side; of 400 a third of that.
    assert width[0] == pytest.approx(2 * 1.96 * (0.75 * 0.25 / 40) ** 0.5, rel=0.2)
    assert width[1] == pytest.approx(width[0] / 10**0.5, rel=0.25)
    # The first quartile of the few lies at the edge of those never warned, and it is said.
    low = lead_results([few], replicates=400, seed=0)["models"]["gru"]["lead_days"][0]
    assert low["low"] is None and low["high"] == 7.0


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_weights_are_what_a_leaver_counts(scale):
    labels = np.tile([0, 0, 0, 1, 1, 1], (40, 1))
    scores = np.zeros((40, 6))
    scores[:10, 1:] = 0.5
    asked = predictions(labels, scores, "2024-01-01")
    worth = np.append(np.ones(4), np.repeat([9.0] * 10 + [1.0] * 30, 6)) * scale
    asked = replace(asked, snapshots=asked.snapshots.assign(weight=worth))
    gru = lead_results([asked], replicates=50, seed=0)["models"]["gru"]
    assert values(gru, "early", "never") == pytest.approx([90 / 120, 30 / 120])
    assert gru["lead_days"][1]["value"] == 7.0  # not None, as of 10 among 40


def test_shares_and_quartiles_by_hand():
    # 40 leavers, whose last event lies between the third and the fourth of six weekly cutoffs.
    labels = np.tile([0, 0, 0, 1, 1, 1], (40, 1))
    scores = np.zeros((40, 6))
    scores[:10, 1:] = 0.5  # flagged a week before the cutoff before the last event
    scores[10:20, 4] = 0.7  # two weeks after it
    scores[20:30, 0] = 0.9  # taken back
    found = lead_results([predictions(labels, scores, "2024-01-01")], replicates=50, seed=0)
    assert found["leavers"] == 40
    assert found["spacing_days"] == 7
    gru = found["models"]["gru"]
    assert values(gru, "early", "late", "never") == [0.25, 0.25, 0.5]
    assert [days["value"] for days in gru["lead_days"]] == [None, None, -14.0]
    assert gru["right"]["value"] == pytest.approx(
        40 / 70
    )  # 10 * (3 of 5), 10 * (1 of 1), 10 * (0 of 1)


def test_cutoffs_of_several_periods_make_one_history_and_the_later_model_has_the_word():
    labels = np.tile([0, 0, 0, 1], (30, 1))
    early = predictions(labels[:, :3], np.full((30, 3), 0.9), "2024-01-01")
    late = predictions(labels[:, 2:], np.tile([0.0, 0.9], (30, 1)), "2024-01-15")
    gru = lead_results([early, late], replicates=50, seed=0)["models"]["gru"]
    assert [days["value"] for days in gru["lead_days"]] == [
        -7.0,
        -7.0,
        -7.0,
    ]  # the flag of 15 January is the later model's: no
    assert gru["late"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_it_says_why_there_is_none():
    once = predictions(np.ones((30, 1)), np.ones((30, 1)), "2024-01-01")
    assert "task.shift" in lead_results([once], replicates=50, seed=0)["absent"]
    nobody = predictions(np.ones((30, 3)), np.ones((30, 3)), "2024-01-01")
    assert "of 0 customers" in lead_results([nobody], replicates=50, seed=0)["absent"]


def test_a_model_whose_equal_scores_would_flag_everyone_is_left_out():
    labels = np.array([[0, 0, 1], [0, 1, 1], [0, 0, 0]] * 30, bool)
    ranked = predictions(labels, np.zeros(labels.shape), "2024-01-01")
    flat = replace(ranked, scores={"gru": np.zeros(len(ranked.snapshots))})
    assert "no model ranks finely enough" in lead_results([flat], replicates=50, seed=0)["absent"]
