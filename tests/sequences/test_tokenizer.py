"""The tokenizer knows what was known when training ended, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjourney.errors import DataError
from seqjourney.sequences import tokenizer as module
from seqjourney.sequences.tokenizer import (
    MISSING,
    UNKNOWN,
    Tokenizer,
    covered_cycles,
    fit_tokenizer,
)
from small_logs import as_store, clean_log, raw_events

UNTIL = pd.Timestamp("2023-06-01", tz="UTC")
UNTIL_US = UNTIL.value // 1000
CUTOFFS_US = [UNTIL_US - 30 * module.DAY_US, UNTIL_US]
RAW = raw_events(customers=40, per_customer=12)


def fit(log: pd.DataFrame, **options) -> Tokenizer:
    return fit_tokenizer(as_store(log), UNTIL_US, CUTOFFS_US, **options)


def written(tokenizer: Tokenizer, path) -> str:
    tokenizer.save(path)
    return path.read_text()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    kept=st.floats(0, 1),
    event=st.sampled_from(["visit", "a", "zebra", "purchase"]),
    factor=st.sampled_from([-1e6, 0, 1e3]),
    sample=st.sampled_from([1_000_000, 20, 7]),
)
def test_changing_everything_later_leaves_the_file_byte_for_byte(
    tmp_path_factory, seed, kept, event, factor, sample
):
    place = tmp_path_factory.mktemp("tokenizer")
    log = clean_log(RAW)
    random = np.random.default_rng(seed)
    later = (log["known_at"] > UNTIL).to_numpy()
    changed = log.copy()
    changed.loc[later, "event"] = np.where(random.random(later.sum()) < 0.5, event, "kiosk")
    changed.loc[later, "channel"] = "carrier pigeon"
    changed.loc[later, "value"] *= factor
    changed.loc[later, "known_at"] += pd.Timedelta(days=int(random.integers(0, 500)))
    changed = changed[~later | (random.random(len(log)) < kept)]
    # Fewer later tokens must not change which earlier ones are sampled either.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SAMPLE", sample)
        before, after = fit(log, min_count=1), fit(changed, min_count=1)
    assert written(before, place / "a.json") == written(after, place / "b.json")


def test_sampling_does_not_depend_on_how_the_store_is_read(monkeypatch):
    log = clean_log(RAW)
    monkeypatch.setattr(module, "_SAMPLE", 30)
    whole = fit(log)
    original = module.known_before
    monkeypatch.setattr(module, "known_before", partial(original, chunk=17))
    in_pieces = fit(log)
    assert in_pieces.vocabulary == whole.vocabulary
    assert in_pieces.event_cycles == whole.event_cycles
    assert {f: s.edges for f, s in in_pieces.scales.items()} == {
        f: s.edges for f, s in whole.scales.items()
    }


def test_words_are_those_known_in_training_most_frequent_first_rare_ones_left_out():
    log = clean_log(RAW)
    known = log[log["known_at"] <= UNTIL]
    tokenizer = fit(log, min_count=20)
    assert tokenizer.fitted_tokens == len(known)
    counts = known["event"].value_counts()
    assert set(tokenizer.vocabulary["event"]) == set(counts[counts >= 20].index)
    found = [counts[word] for word in tokenizer.vocabulary["event"]]
    assert found == sorted(found, reverse=True)


def test_scales_are_mean_and_deviation_of_the_signed_log():
    log = clean_log(RAW)
    known = log[log["known_at"] <= UNTIL]
    values = known["value"].dropna().astype(np.float32).to_numpy(np.float64)
    logs = np.sign(values) * np.log1p(np.abs(values))
    scale = fit(log).scales["value"]
    assert scale.mean == pytest.approx(logs.mean())
    assert scale.std == pytest.approx(logs.std())
    assert (scale.edges[0], scale.edges[-1]) == pytest.approx((logs.min(), logs.max()))


def test_an_unseen_category_is_unknown_and_a_missing_one_is_missing():
    log = clean_log(RAW)
    store = as_store(log)
    tokenizer = fit(log)
    words = ["click", "never seen", "visit"]
    maps = tokenizer.code_maps({**store.dictionaries, "event": words})
    ids = maps[tokenizer.categorical_fields.index("event")]
    assert ids[1] == UNKNOWN == 1
    assert ids[-1] == MISSING == 2
    first = [3 + tokenizer.vocabulary["event"].index(w) for w in ("click", "visit")]
    assert [ids[0], ids[2]] == first


def test_the_file_is_json_that_a_person_can_read_and_comes_back_the_same(tmp_path):
    tokenizer = fit(clean_log(RAW), label_only_events=["outcome"])
    content = written(tokenizer, tmp_path / "tokenizer.json")
    assert content.count("\n") > 20
    assert json.loads(content)["vocabulary"]["channel"] == tokenizer.vocabulary["channel"]
    assert Tokenizer.load(tmp_path / "tokenizer.json") == tokenizer


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"scales": {"value": 1}}', '{"scales": 1}'])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=r"tokenizer.json: not a tokenizer of this version"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_nothing_known_by_the_end_of_training_is_an_error():
    with pytest.raises(DataError, match="no event was known by 2023-06-01"):
        fit(clean_log(RAW).assign(known_at=UNTIL + pd.Timedelta(days=1)))


def test_a_field_without_any_number_gets_a_neutral_scale():
    scale = fit(clean_log(RAW).assign(items=np.nan)).scales["items"]
    assert (scale.mean, scale.std, scale.edges) == (0.0, 1.0, ())


def test_a_field_of_one_number_has_a_scale_that_does_not_divide_by_zero():
    assert fit(clean_log(RAW).assign(items=4.0)).scales["items"].std > 1e-6


def test_only_calendar_cycles_that_were_covered_are_used():
    hours = np.arange(0, 400 * 24) * (module.DAY_US // 24)
    assert covered_cycles(hours) == ("day", "week", "year")
    assert covered_cycles(hours[::24]) == ("week", "year")
    assert covered_cycles(hours[:: 24 * 7]) == ("year",)
    assert covered_cycles(hours[:5]) == ()
    assert covered_cycles(hours[:0]) == ()


def test_the_fitted_tokenizer_survives_a_store_without_the_later_tokens():
    log = clean_log(RAW)
    store = as_store(log)
    shorter = as_store(log[log["known_at"] <= UNTIL])
    first = fit_tokenizer(store, UNTIL_US, CUTOFFS_US)
    assert first == fit_tokenizer(shorter, UNTIL_US, CUTOFFS_US)
    assert replace(first, fitted_tokens=0) != first


def test_of_customers_who_are_left_out_the_tokenizer_learns_nothing():
    log = clean_log(RAW)
    store = as_store(log)
    out = store.customer_ids[::3]
    left = fit_tokenizer(
        store, UNTIL_US, CUTOFFS_US, customers=~np.isin(store.customer_ids, out), min_count=1
    )
    others = as_store(log[~log["customer_id"].isin(out)])
    assert left == fit_tokenizer(others, UNTIL_US, CUTOFFS_US, min_count=1)
    assert left != fit_tokenizer(store, UNTIL_US, CUTOFFS_US, min_count=1)
