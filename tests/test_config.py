"""A configuration is right, or its wrong key is named with what was meant."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.config import Config, CutoffRange, DataConfig, TaskConfig, nearest, parse
from seqjourney.errors import ConfigError
from small_logs import data_config, small_task

EXPERIMENTS = [
    "demo",
    "demo_churn",
    "demo_ltv",
    "online_retail_conversion",
    "online_retail_churn",
    "online_retail_ltv",
    "app_onboarding_conversion",
    "multitouch_attribution_conversion",
]
MODELS = ["gru", "transformer", "lightgbm", "catboost", "bgnbd", "paretonbd", "logistic", "recency"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("model", MODELS)
def test_every_experiment_is_valid_with_every_model(compose, experiment, model):
    values = compose("train", f"experiment={experiment}", f"model={model}")
    config = parse(Config, {k: v for k, v in values.items() if k in Config.model_fields}, "train")
    assert config.model.kind == model
    assert set(values) <= set(Config.model_fields)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("task.horizn", "3d", r"unknown key 'task.horizn'\. Did you mean 'horizon'"),
        ("task.eligible.witin", "3d", r"unknown key 'task.eligible.witin'\. Did you mean 'within'"),
        ("model.widht", 8, r"unknown key 'model.widht'\. Did you mean 'width'"),
        ("trainer.max_epoch", 3, r"unknown key 'trainer.max_epoch'\. Did you mean 'max_epochs'"),
        ("sed", 3, r"unknown key 'sed'\. Did you mean 'seed'"),
        ("data.zzz", 3, r"unknown key 'data.zzz'\. Known: "),
        ("model.width", "wide", r"model.width: must be a whole number \(got 'wide'"),
        ("model.width", 2, r"model.width: must be at least 4 \(got 2\)"),
        ("model.kind", "lstm", r"model.kind: must be one of 'gru', .* \(got 'lstm'\)"),
        ("task.horizon", "30", r"task.horizon: .*got '30'"),
        ("task.horizon", 30, r"task.horizon: a duration needs a unit: write '30d'"),
        ("task.horizon", "0d", r"task.horizon: a duration must be longer than nothing"),
        ("task.kind", "presence", r"task.kind: .*'occurrence', 'absence'.*got 'presence'"),
        ("task.target", [], r"task.target: must be a list of at least 1 \(got \[\]\)$"),
        ("task.name", "a/b", r"task.name: must be a name for folders: letters, .* \(got 'a/b'\)$"),
        ("task.above", "lots", r"task.above: must be a number or 'mean' or 'largest' \(got 'lots'"),
        ("task.above", -5, r"task.above: must be at least 0 \(got -5\)$"),
        ("task.customer_holdout", 1, r"task.customer_holdout: must be below 1 \(got 1\)$"),
        (
            "task.cutoffs.test",
            "2024-05-31",
            r"task.cutoffs.test: must be keys with values or a list",
        ),
        (
            "task.cutoffs.test",
            ["soon"],
            r"task.cutoffs.test.0: must be a date or time, such as 2024",
        ),
        ("model", {"kind": "blend", "name": "b", "runs": ["a"]}, r"model.runs: .* at least 2"),
        ("model", {"kind": "blend", "name": "b", "runs": ["a", "a"]}, r"model.runs: names a twice"),
        ("model", {"name": "b"}, r"'model.kind' is required"),
        ("task.cutoffs", {"train": [], "validation": [], "test": []}, r"task.cutoffs.train"),
        ("data.max_quarantined_share", 3, r"max_quarantined_share: must be at most 1 \(got 3"),
        ("data.memory_limit", "lots", r"memory_limit: .*got 'lots'"),
        ("data.timezone", "Europe/Pariss", r"no such time zone.*'Europe/Paris'"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_expected(compose, path, value, words):
    values = compose("train", "experiment=demo", "model=gru")
    *parents, key = path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[key] = value
    with pytest.raises(ConfigError, match=rf"(?s)^the run:\n.*{words}"):
        parse(Config, values, "the run")


def test_of_a_union_only_what_fits_the_value_is_said():
    train = {"start": "2023-01-01", "end": "2023-02-01", "evry": "7d"}
    later = {"validation": ["2023-05-01"], "test": ["2023-08-01"]}
    with pytest.raises(ConfigError) as caught:
        small_task(cutoffs={"train": train, **later})
    assert str(caught.value).splitlines()[1:] == [
        "  unknown key 'cutoffs.train.evry'. Did you mean 'every'?",
        "  'cutoffs.train.every' is required",
    ]


def test_every_wrong_key_is_named_at_once(compose):
    values = compose("train", "experiment=demo", "model=gru") | {"one": 1, "two": 2}
    with pytest.raises(ConfigError, match=r"(?s)'one'.*\n.*'two'"):
        parse(Config, values, "the run")


@given(st.integers(1, 10_000), st.sampled_from("smhdw"), st.sampled_from(["", " "]))
def test_durations_are_read_with_their_unit(number, unit, gap):
    word = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[unit]
    task = small_task(horizon=f"{number}{gap}{unit}")
    assert task.horizon == timedelta(**{word: number})
    assert parse(TaskConfig, task.model_dump(mode="json"), "again") == task


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), st.integers(-12, 14))
def test_moments_are_utc_whatever_their_offset(moment, hours):
    zoned = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    config = data_config("x", latest=zoned.isoformat(), earliest=moment.isoformat())
    assert config.latest == zoned
    assert config.latest.tzinfo is UTC
    assert config.earliest == moment.replace(tzinfo=UTC)


def test_a_plain_yaml_date_is_midnight_utc():
    from datetime import date

    assert data_config("x", earliest=date(2011, 1, 15)).earliest == datetime(
        2011, 1, 15, tzinfo=UTC
    )


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    st.integers(0, 5_000),
    st.integers(1, 500),
)
def test_a_range_of_cutoffs_goes_from_start_to_at_most_end(start, hours, every):
    values = {"start": start, "end": start + timedelta(hours=hours), "every": f"{every}h"}
    moments = parse(CutoffRange, values, "range").moments()
    assert moments[0] == start.replace(tzinfo=UTC)
    assert moments[-1] <= values["end"].replace(tzinfo=UTC) < moments[-1] + timedelta(hours=every)
    assert {b - a for a, b in itertools.pairwise(moments)} <= {timedelta(hours=every)}


def test_a_range_that_ends_before_it_starts_is_refused():
    backwards = {"start": "2023-02-01", "end": "2023-01-01", "every": "7d"}
    cutoffs = {"train": backwards, "validation": ["2023-03-01"], "test": ["2023-04-01"]}
    with pytest.raises(ConfigError, match="end 2023-01-01 00:00 lies before start 2023-02-01"):
        small_task(cutoffs=cutoffs)


def test_cutoffs_are_sorted_and_named_once():
    moments = ["2023-05-01", "2023-04-01", "2023-05-01T00:00+00:00"]
    cutoffs = {"train": moments, "validation": ["2023-08-01"], "test": ["2023-10-01"]}
    found = small_task(cutoffs=cutoffs).cutoffs.of("train")
    assert found == (datetime(2023, 4, 1, tzinfo=UTC), datetime(2023, 5, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"customer": None}, "data.customer must name a column"),
        ({"timestamp": None}, "data.timestamp must name a column"),
        ({"event": None}, r"exactly one of data\.event .* and data\.event_name"),
        ({"event_name": "visit"}, r"exactly one of data\.event"),
        ({"categorical": ["value"]}, "field 'value' has the name of a core column"),
        ({"categorical": ["Event"]}, "field 'Event' has the name of a core column"),
        ({"categorical": ["a"], "numeric": ["a"]}, "field 'a' is declared twice"),
        ({"categorical": ["Kind", "kind"]}, "'Kind' is declared twice"),
        ({"name": "../up"}, "name: "),
    ],
)
def test_columns_that_contradict_each_other_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        data_config("x", **changes)


def test_configs_are_frozen_and_come_back_from_json(small_log):
    with pytest.raises(Exception, match="frozen"):
        small_log.config.name = "other"
    assert parse(DataConfig, small_log.config.model_dump(mode="json"), "x") == small_log.config


@given(st.text(max_size=20), st.lists(st.text(max_size=2_000), max_size=50))
def test_the_nearest_word_is_one_of_the_known_and_the_message_stays_short(word, known):
    said = nearest(word, known)
    assert said.startswith((" Did you mean '", " Known: "))
    assert len(said) < 2_500
