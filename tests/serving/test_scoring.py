"""`seqjourney.load` scores a frame as the run itself did, and says what is wrong with a bad one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import seqjourney
from seqjourney.commands.export import export
from seqjourney.errors import ConfigError, DataError
from seqjourney.evaluation.calibration import read_calibrator

RunOf = Callable[[str], Path]
NETWORKS = ["gru", "transformer"]
BASELINES = ["recency", "logistic", "lightgbm", "catboost", "bgnbd", "paretonbd", "base_rate"]
KINDS = [*NETWORKS, *BASELINES]


@pytest.fixture(scope="session")
def exported(run_of: RunOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run_of("gru"), tmp_path_factory.mktemp("exported") / "gru.pt")


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_run_scores_a_frame_as_its_own_predictions_say(
    kind: str, split: str, run_of: RunOf, frame: pd.DataFrame
):
    predictions = pd.read_parquet(run_of(kind) / "predictions.parquet")
    wanted = predictions[predictions["split"] == split].set_index("customer_id")
    cutoff = wanted["cutoff"].iloc[0]
    scored = seqjourney.load(run_of(kind)).score(frame, cutoff).set_index("customer_id")
    assert (scored["cutoff"] == cutoff).all()
    found = scored.loc[wanted.index]
    np.testing.assert_allclose(found["score"], wanted["score"], atol=1e-5)
    np.testing.assert_allclose(found["probability"], wanted["probability"], atol=1e-5)


def test_an_exported_file_scores_a_frame_as_the_run_does(
    exported: Path, run_of: RunOf, frame: pd.DataFrame
):
    pd.testing.assert_frame_equal(
        seqjourney.load(exported).score(frame, "2023-10-01"),
        seqjourney.load(run_of("gru")).score(frame, "2023-10-01"),
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_explanation_is_what_the_score_would_be_without(
    kind: str, run_of: RunOf, frame: pd.DataFrame
):
    scorer = seqjourney.load(run_of(kind))
    few = frame[frame["customer_id"].isin(frame["customer_id"].unique()[:3])]
    found = scorer.explain(few, "2023-10-01")
    scores = scorer.score(few, "2023-10-01").set_index("customer_id")
    whole = found.groupby("customer_id")[["score", "probability"]].first()
    np.testing.assert_allclose(whole, scores.loc[whole.index, whole.columns], atol=1e-5)
    # By hand: the frame without the latest happening of the first customer.
    last = found[found["customer_id"] == found["customer_id"].iloc[0]].iloc[-1]
    mine = few[few["customer_id"] == last["customer_id"]]
    at = pd.Timestamp("2023-10-01", tz="UTC") - pd.Timedelta(days=last["days_before"])
    gone = (mine["event"] == last["event"]) & ((mine["timestamp"] - at).abs() < pd.Timedelta("1s"))
    assert gone.sum() == last["events"]
    without = scorer.score(mine[~gone], "2023-10-01")
    np.testing.assert_allclose(without["score"], last["score_without"], atol=1e-5)
    np.testing.assert_allclose(without["probability"], last["probability_without"], atol=1e-5)


def test_only_networks_explain(run_of: RunOf, frame: pd.DataFrame):
    with pytest.raises(DataError, match="explain is for networks, and this is a recency model"):
        seqjourney.load(run_of("recency")).explain(frame)


def test_only_networks_export(run_of: RunOf):
    with pytest.raises(ConfigError, match="only networks"):
        export(run_of("recency"))


@pytest.mark.parametrize("kind", KINDS)
def test_later_events_do_not_move_a_score(kind: str, run_of: RunOf, frame: pd.DataFrame):
    scorer = seqjourney.load(run_of(kind))
    known = frame[frame["known_at"] <= pd.Timestamp("2023-09-01", tz="UTC")]
    all_scores = scorer.score(frame, "2023-09-01").set_index("customer_id")
    scores = scorer.score(known, "2023-09-01").set_index("customer_id")
    pd.testing.assert_frame_equal(all_scores.loc[scores.index], scores, atol=1e-5)


def test_a_cutoff_without_an_offset_is_utc(run_of: RunOf, frame: pd.DataFrame):
    scorer = seqjourney.load(run_of("recency"))
    expected = scorer.score(frame, pd.Timestamp("2023-09-01", tz="UTC"))
    pd.testing.assert_frame_equal(scorer.score(frame, "2023-09-01"), expected)
    pd.testing.assert_frame_equal(scorer.score(frame, "2023-09-01T02:00:00+02:00"), expected)


def test_without_a_cutoff_all_that_is_known_counts(run_of: RunOf, frame: pd.DataFrame):
    scored = seqjourney.load(run_of("recency")).score(frame)
    tokens = frame[frame["event"] != "outcome"]
    assert (scored["cutoff"] == tokens["known_at"].max()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_customer_of_whom_nothing_is_known_gets_no_score(
    kind: str, run_of: RunOf, frame: pd.DataFrame
):
    later = pd.Timestamp("2023-12-01", tz="UTC")
    new = frame.iloc[[0]].assign(customer_id="new", event_id="new", event="visit")
    new = new.assign(timestamp=later, known_at=later)
    scored = seqjourney.load(run_of(kind)).score(pd.concat([frame, new]), "2023-10-01")
    unknown = scored["customer_id"] == "new"
    assert unknown.sum() == 1
    assert scored.loc[unknown, ["score", "probability"]].isna().all(axis=None)
    assert scored.loc[~unknown, "score"].notna().all()


@pytest.mark.parametrize("kind", KINDS)
def test_categories_that_training_never_saw_are_fine(kind: str, run_of: RunOf, frame: pd.DataFrame):
    strange = frame.assign(
        event=np.where(frame.index % 3 == 0, "teleport", frame["event"]),
        country="atlantis",
        channel=None,
    )
    scored = seqjourney.load(run_of(kind)).score(strange, "2023-10-01")
    assert np.isfinite(scored["score"]).all()
    assert scored["probability"].between(0, 1).all()


def test_the_order_of_rows_does_not_matter(run_of: RunOf, frame: pd.DataFrame):
    scorer = seqjourney.load(run_of("gru"))
    pd.testing.assert_frame_equal(
        scorer.score(frame.sample(frac=1, random_state=0), "2023-10-01"),
        scorer.score(frame, "2023-10-01"),
        atol=1e-6,
    )


@pytest.mark.parametrize("column", ["customer_id", "timestamp", "event", "country", "items"])
def test_a_missing_column_is_named(column: str, run_of: RunOf, frame: pd.DataFrame):
    with pytest.raises(DataError, match=rf"no column '{column}'"):
        seqjourney.load(run_of("gru")).score(frame.drop(columns=column))


def test_a_misspelt_column_is_guessed(run_of: RunOf, frame: pd.DataFrame):
    with pytest.raises(DataError, match="Did you mean 'contry'"):
        seqjourney.load(run_of("gru")).score(frame.rename(columns={"country": "contry"}))


def test_an_empty_frame_is_refused(run_of: RunOf, frame: pd.DataFrame):
    with pytest.raises(DataError, match="no rows"):
        seqjourney.load(run_of("gru")).score(frame.iloc[:0])


@pytest.mark.parametrize("bad", ["last Tuesday", "", None])
def test_a_bad_timestamp_is_refused(bad: str | None, run_of: RunOf, frame: pd.DataFrame):
    broken = frame.assign(timestamp=frame["timestamp"].astype(str).astype(object))
    broken.loc[5, "timestamp"] = bad
    with pytest.raises(DataError, match="timestamp"):
        seqjourney.load(run_of("gru")).score(broken)


def test_a_bad_cutoff_is_refused(run_of: RunOf, frame: pd.DataFrame):
    with pytest.raises(DataError, match="cutoff"):
        seqjourney.load(run_of("gru")).score(frame, "next week")


@pytest.mark.parametrize("damage", ["cut short", "emptied", "other content", "lost"])
@pytest.mark.parametrize("name", ["run.json", "task.json", "tokenizer.json", "model.pt"])
def test_a_damaged_run_is_refused_by_the_name_of_the_file(
    name: str, damage: str, run_of: RunOf, tmp_path: Path
):
    folder = shutil.copytree(run_of("gru"), tmp_path / "run")
    file = folder / name
    content = file.read_bytes()
    if damage == "lost":
        file.unlink()
    elif damage == "other content":
        file.write_text('{"something": "else"}')
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut short" else b"")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        seqjourney.load(folder)


@pytest.mark.parametrize("kind", BASELINES)
@pytest.mark.parametrize("damage", ["cut short", "other content", "lost"])
def test_a_damaged_baseline_is_refused_by_the_name_of_the_file(
    kind: str, damage: str, run_of: RunOf, tmp_path: Path
):
    folder = shutil.copytree(run_of(kind), tmp_path / "run")
    file = folder / "model.json"
    if damage == "lost":
        file.unlink()
    else:
        whole = file.read_text()
        file.write_text('{"a": 1}' if damage == "other content" else whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"model\.json"):
        seqjourney.load(folder)


def test_a_damaged_or_foreign_export_is_refused(exported: Path, tmp_path: Path):
    import torch

    file = tmp_path / "broken.pt"
    file.write_bytes(exported.read_bytes()[:-5000])
    with pytest.raises(DataError, match="damaged"):
        seqjourney.load(file)
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(file))
    with pytest.raises(DataError, match="not written by scripts/export"):
        seqjourney.load(file)
    with pytest.raises(DataError, match="does not exist"):
        seqjourney.load(tmp_path / "nothing")
    with pytest.raises(DataError, match="is not a run"):
        seqjourney.load(tmp_path)


def test_a_model_of_another_version_is_refused(run_of: RunOf, tmp_path: Path):
    import torch

    folder = shutil.copytree(run_of("gru"), tmp_path / "run")
    content = torch.load(folder / "model.pt", weights_only=True)
    torch.save({**content, "format": 99}, folder / "model.pt")
    with pytest.raises(DataError, match="another version"):
        seqjourney.load(folder)


def test_loading_a_model_runs_no_code_from_the_file(run_of: RunOf, tmp_path: Path):
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "pwned").touch, ())

    folder = shutil.copytree(run_of("gru"), tmp_path / "run")
    (folder / "model.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match=r"model\.pt"):
        seqjourney.load(folder)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("unknown", ["allow", "withhold"])
def test_who_does_not_consent_at_the_cutoff_is_not_scored(
    unknown: str, needing_consent: Callable[[str], Path], frame: pd.DataFrame
):
    first, second, third = frame["customer_id"].unique()[:3]
    early, late = pd.Timestamp("2023-03-01", tz="UTC"), pd.Timestamp("2023-06-01", tz="UTC")
    said = [
        {"customer_id": first, "timestamp": early, "consent": "denied"},
        {"customer_id": second, "timestamp": early, "consent": "granted"},
        {"customer_id": second, "timestamp": late, "consent": "denied"},
        {"customer_id": third, "timestamp": early, "consent": "denied"},
        {"customer_id": third, "timestamp": late, "consent": "granted"},
        {"customer_id": first, "timestamp": late, "consent": "unknown"},  # takes nothing back
    ]
    said = [{**row, "known_at": row["timestamp"], "event": "chose"} for row in said]
    said = [{**row, "event_id": f"consent {i}"} for i, row in enumerate(said)]
    spoken = pd.concat([frame, pd.DataFrame(said)], ignore_index=True)
    scorer = seqjourney.load(needing_consent(unknown))
    denied, since = "consent denied", "consent withdrawn since"
    for cutoff, withheld in (
        ("2023-05-01", {first: denied, second: since, third: denied}),
        ("2023-07-01", {first: denied, second: denied}),
    ):
        found = scorer.score(spoken, cutoff).set_index("customer_id")
        reasons = found.loc[[first, second, third], "withheld"].dropna()
        assert reasons.to_dict() == withheld
        silent = found.index.difference([first, second, third])
        reasons = set(found.loc[silent, "withheld"].dropna())
        assert reasons == ({"consent unknown"} if unknown == "withhold" else set())
        assert found.loc[found["withheld"].notna(), "score"].isna().all()
    assert pd.notna(found.loc[third, "score"])


def test_a_model_that_needs_consent_asks_for_it(
    needing_consent: Callable[[str], Path], frame: pd.DataFrame
):
    for unknown, who in (("withhold", "who granted"), ("allow", "who have not denied")):
        scorer = seqjourney.load(needing_consent(unknown))
        with pytest.raises(DataError, match=rf"{who} 'analytics'.*no column 'consent'"):
            scorer.score(frame)
    silent = scorer.score(frame.assign(consent=None))
    assert silent["withheld"].isna().all() and silent["score"].notna().all()


@pytest.mark.parametrize("said", ["Denied", "no", "yes"])
def test_a_word_for_consent_that_is_none_is_refused(
    said: str, needing_consent: Callable[[str], Path], frame: pd.DataFrame
):
    with pytest.raises(DataError, match=f"holds '{said}'; write unknown, granted, denied"):
        seqjourney.load(needing_consent("allow")).score(frame.assign(consent=said))


@pytest.mark.parametrize(
    "calibrator",
    [
        {"kind": "beta", "slope": 0.9, "intercept": -0.1, "a": 0.7, "b": 1.4, "c": 0.2, "note": ""},
        {"kind": "isotonic", "scores": [-2.0, 0.0, 1.0], "probabilities": [0.1, 0.1, 0.8]},
        {"slope": 0.7, "intercept": -0.2, "note": ""},
    ],
)
def test_a_probability_is_that_of_the_chosen_calibrator_in_bulk_exported_and_streamed(
    run_of: RunOf, frame: pd.DataFrame, tmp_path: Path, calibrator: dict
):
    run = shutil.copytree(run_of("gru"), tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    about["calibrator"] = calibrator
    (run / "run.json").write_text(json.dumps(about))
    curve = read_calibrator(calibrator, run)
    scored = seqjourney.load(run).score(frame, "2023-10-01")
    np.testing.assert_array_equal(scored["probability"], curve(scored["score"]))
    exported = seqjourney.load(export(run, tmp_path / "model.pt")).score(frame, "2023-10-01")
    np.testing.assert_allclose(exported["probability"], scored["probability"], atol=1e-5)
    stream = seqjourney.Stream(run)
    someone = frame[frame["customer_id"] == frame["customer_id"].iloc[0]]
    known = someone[someone["known_at"] <= pd.Timestamp("2023-10-01", tz="UTC")]
    for event in known.sort_values(["known_at", "timestamp", "event_id"]).to_dict("records"):
        stream.update(event.pop("customer_id"), event)
    answer = stream.score(someone["customer_id"].iloc[0], at="2023-10-01")
    assert answer.probability == curve(np.array(answer.score))
