"""Scoring in bulk gives the numbers of `load`, goes on after a crash, and stays small."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import seqjourney
from seqjourney.commands.export import export
from seqjourney.commands.score import score
from seqjourney.errors import ConfigError, DataError
from seqjourney.sequences.store import open_store
from seqjourney.serving import bulk
from seqjourney.serving.backends import FILES

RunOf = Callable[[str], Path]
CUTOFF = "2023-10-01"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST_CUSTOMERS", 17)  # 120 customers: 8 shards


@pytest.fixture(scope="session")
def parquet(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("log") / "events.parquet"
    frame.to_parquet(file, index=False)
    return file


def read(folder: Path) -> pd.DataFrame:
    parts = [pd.read_parquet(file) for file in sorted(folder.glob("shard-*.parquet"))]
    return pd.concat(parts, ignore_index=True).set_index("customer_id")


def assert_same_scores(found: pd.DataFrame, expected: pd.DataFrame, atol: float = 1e-5) -> None:
    assert set(found.index) == set(expected.index)
    for column in ("score", "probability"):
        np.testing.assert_allclose(found[column], expected.loc[found.index, column], atol=atol)
    assert (found["cutoff"] == expected.loc[found.index, "cutoff"]).all()


@pytest.mark.parametrize(
    "kind",
    ["gru", "transformer", "logistic", "lightgbm", "catboost", "bgnbd", "paretonbd", "recency"],
)
def test_scores_are_those_of_load_and_of_the_runs_own_predictions(
    kind: str, run_of: RunOf, frame: pd.DataFrame, tmp_path: Path
):
    run = run_of(kind)
    scored = score(run, cutoff=CUTOFF, output=tmp_path / "scores", threads=2)
    found = read(scored.folder)
    assert (scored.customers, scored.shards) == (len(found), 8)
    assert list(found.columns) == ["cutoff", "score", "probability", "model", "run"]
    assert set(found["model"]) == {kind} and set(found["run"]) == {f"small/{kind}"}
    expected = seqjourney.load(run).score(frame, CUTOFF).set_index("customer_id")
    assert_same_scores(found, expected)
    predictions = pd.read_parquet(run / "predictions.parquet")
    own = predictions[predictions["split"] == "test"].set_index("customer_id")
    assert_same_scores(found.loc[own.index], own)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_shards_side_by_side_answer_as_one_after_the_other(
    kind: str, run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bulk, "MOST_CUSTOMERS", 3)
    alone = score(run_of(kind), output=tmp_path / "alone", threads=1)
    together = score(run_of(kind), output=tmp_path / "together", threads=8)
    pd.testing.assert_frame_equal(read(together.folder), read(alone.folder))


@pytest.mark.parametrize("kind", ["gru", "lightgbm"])
def test_an_event_log_in_parquet_gives_the_same_scores_as_a_frame(
    kind: str, run_of: RunOf, frame: pd.DataFrame, parquet: Path, tmp_path: Path
):
    scored = score(run_of(kind), events=str(parquet), output=tmp_path / "scores")
    expected = seqjourney.load(run_of(kind)).score(frame).set_index("customer_id")
    assert_same_scores(read(scored.folder), expected)
    assert {file.name[:6] for file in scored.folder.iterdir()} == {"shard-", "manife"}


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("gru", "torchscript"), ("gru", "onnx"), ("transformer", "torch_export")],
)
def test_every_back_end_scores_as_the_eager_network(
    kind: str, backend: str, run_of: RunOf, tmp_path: Path
):
    if backend == "onnx":
        pytest.importorskip("onnx", reason="needs the onnx extra")
        pytest.importorskip("onnxruntime", reason="needs the onnx extra")
    run = run_of(kind)
    if not (run / FILES[backend]).exists():
        export(run, kind=backend)
    eager = score(run, cutoff=CUTOFF, output=tmp_path / "eager", threads=2)
    other = score(run, cutoff=CUTOFF, output=tmp_path / "other", threads=2, backend=backend)
    assert_same_scores(read(other.folder), read(eager.folder), atol=1e-4)
    assert read(eager.folder)["score"].std() > 1e-4


def made_shards(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[int]:
    """Note which shards are made; raise in place of the one numbered `fail_at`."""
    made: list[int] = []
    make = bulk.Shards.make

    def noting(self: bulk.Shards, number: int) -> None:
        if number == fail_at:
            raise RuntimeError("killed")
        make(self, number)
        made.append(number)

    monkeypatch.setattr(bulk.Shards, "make", noting)
    return made


@pytest.mark.parametrize("kind", ["gru", "recency"])
def test_a_killed_job_goes_on_and_repeats_no_shard(
    kind: str, run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = score(run_of(kind), cutoff=CUTOFF, output=tmp_path / "whole", threads=1)
    output = tmp_path / "scores"
    with monkeypatch.context() as context:
        before = made_shards(context, fail_at=3)
        with pytest.raises(RuntimeError, match="killed"):
            score(run_of(kind), cutoff=CUTOFF, output=output, threads=1)
    assert before[:3] == [0, 1, 2] and 3 not in before
    with monkeypatch.context() as context:
        after = made_shards(context)
        scored = score(run_of(kind), cutoff=CUTOFF, output=output, threads=2)
    assert sorted(before + after) == list(range(8)) and scored.made == len(after)
    pd.testing.assert_frame_equal(read(output), read(whole.folder))
    with monkeypatch.context() as context:
        again = made_shards(context)
        assert score(run_of(kind), cutoff=CUTOFF, output=output).made == 0
    assert again == []


@pytest.mark.parametrize("damage", ["cut short", "one byte", "lost", "of another job", "moved"])
def test_a_damaged_shard_alone_is_made_again(damage: str, run_of: RunOf, tmp_path: Path):
    run, output = run_of("gru"), tmp_path / "scores"
    score(run, cutoff=CUTOFF, output=output)
    expected = read(output)
    file = output / "shard-00002.parquet"
    content = file.read_bytes()
    if damage == "cut short":
        file.write_bytes(content[:-20])
    elif damage == "one byte":
        # In the data of the last column that is not repeated: the footer stays as it was.
        column = pq.ParquetFile(file).metadata.row_group(0).column(3)
        place = column.data_page_offset + column.total_compressed_size // 2
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif damage == "lost":
        file.unlink()
    elif damage == "moved":
        file.write_bytes((output / "shard-00001.parquet").read_bytes())
    else:
        score(run, cutoff="2023-09-01", output=tmp_path / "other")
        shutil.copy(tmp_path / "other" / file.name, file)
    assert score(run, cutoff=CUTOFF, output=output).made == 1
    pd.testing.assert_frame_equal(read(output), expected)


def test_scores_of_earlier_data_are_replaced(
    run_of: RunOf, frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    export, output = tmp_path / "events.parquet", tmp_path / "scores"
    frame.to_parquet(export, index=False)
    score(run_of("recency"), events=str(export), output=output)
    left = frame["customer_id"].iloc[0]
    frame[frame["customer_id"] != left].to_parquet(export, index=False)
    capsys.readouterr()
    again = score(run_of("recency"), events=str(export), output=output)
    assert "scores holds scores of an earlier state of the data" in capsys.readouterr().out
    assert again.made == again.shards and left not in read(output).index


def test_a_folder_of_another_job_is_refused(run_of: RunOf, parquet: Path, tmp_path: Path):
    output = tmp_path / "scores"
    score(run_of("recency"), events=str(parquet), cutoff=CUTOFF, output=output)
    with pytest.raises(DataError, match=r"its cutoff is 2023-10-01.*this one's is 2023-09-01"):
        score(run_of("recency"), events=str(parquet), cutoff="2023-09-01", output=output)
    with pytest.raises(DataError, match=r"its run is small/recency, this one's is small/gru"):
        score(run_of("gru"), events=str(parquet), cutoff=CUTOFF, output=output)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("dear")
    with pytest.raises(DataError, match="files that are no scores"):
        score(run_of("recency"), cutoff=CUTOFF, output=tmp_path / "full")


def test_scores_of_an_earlier_training_are_replaced(run_of: RunOf, tmp_path: Path):
    run = shutil.copytree(run_of("recency"), tmp_path / "recency")
    before = read(score(run, cutoff=CUTOFF, output=tmp_path / "scores").folder)
    about = json.loads((run / "run.json").read_text())
    about["calibrator"]["slope"] = 2.0
    (run / "run.json").write_text(json.dumps(about))
    again = score(run, cutoff=CUTOFF, output=tmp_path / "scores")
    assert again.made == again.shards
    assert (read(again.folder)["probability"] != before["probability"]).any()


def test_a_job_that_fails_before_any_score_leaves_the_folder_free(
    run_of: RunOf, frame: pd.DataFrame, tmp_path: Path
):
    bad = frame.astype({"timestamp": "string"})
    bad.loc[5, "timestamp"] = "last Tuesday"
    bad.to_parquet(tmp_path / "bad.parquet", index=False)
    with pytest.raises(DataError, match="timestamp"):
        score(run_of("gru"), events=str(tmp_path / "bad.parquet"), output=tmp_path / "scores")
    assert not (tmp_path / "scores").exists()
    score(run_of("gru"), output=tmp_path / "scores")


def test_data_that_changes_while_it_is_scored_is_noticed(
    run_of: RunOf, small_log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepared = shutil.copytree(small_log.prepared, tmp_path / "small")
    make = bulk.Shards.make

    def meddling(self: bulk.Shards, number: int) -> None:
        make(self, number)
        content = json.loads((prepared / "manifest.json").read_text())
        (prepared / "manifest.json").write_text(json.dumps(content | {"fingerprint": "new"}))

    monkeypatch.setattr(bulk.Shards, "make", meddling)
    with pytest.raises(DataError, match="was prepared again"):
        score(run_of("recency"), prepared=prepared, output=tmp_path / "scores")
    assert not (tmp_path / "scores").exists()  # an erased customer could be in any shard


def test_a_finished_folder_of_which_shards_are_missing_does_not_say_finished(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, output = run_of("recency"), tmp_path / "scores"
    score(run, output=output)
    (output / "shard-00000.parquet").unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bulk.Shards, "make", interrupted)
        score(run, output=output)
    assert "finished" not in json.loads((output / "manifest.json").read_text())
    assert score(run, output=output).made == 1


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_even_a_small_job_has_a_shard_for_every_core(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bulk, "MOST_CUSTOMERS", 50_000)
    monkeypatch.setattr(bulk, "_WORTH_A_PIECE", 10)
    assert score(run_of("gru"), output=tmp_path / "network").shards == 8
    assert score(run_of("recency"), output=tmp_path / "baseline").shards == 1


def test_who_was_erased_is_not_scored_from_the_old_export(
    run_of: RunOf, frame: pd.DataFrame, small_log: Any, parquet: Path, tmp_path: Path
):
    from seqjourney.events.hashing import read_key
    from seqjourney.events.suppression import HashKey, Suppression, write_suppression

    gone = frame["customer_id"].iloc[0]
    run = shutil.copytree(run_of("recency"), tmp_path / "recency")
    about = json.loads((run / "run.json").read_text())
    about["config"]["processed"] = str(tmp_path)
    (run / "run.json").write_text(json.dumps(about))
    prepared = tmp_path / about["config"]["data"]["name"]
    shutil.copytree(small_log.prepared, prepared)
    before = score(run, events=str(parquet), output=tmp_path / "before")
    listed = Suppression().adding("r1", [("customer", gone)], HashKey.of(read_key(tmp_path)))
    write_suppression(listed, prepared)
    after = score(run, events=str(parquet), output=tmp_path / "after")
    assert set(read(before.folder).index) - set(read(after.folder).index) == {gone}


def test_addresses_as_ids_are_fine_where_no_log_is_kept(
    run_of: RunOf, frame: pd.DataFrame, tmp_path: Path
):
    named = frame.assign(customer_id=frame["customer_id"] + "@example.org")
    named.to_parquet(tmp_path / "events.parquet", index=False)
    scored = score(
        run_of("recency"), events=str(tmp_path / "events.parquet"), output=tmp_path / "scores"
    )
    assert scored.customers == frame["customer_id"].nunique()


@pytest.mark.parametrize(("customers", "events"), [(1, 10**9), (7, 10**9), (10**9, 40), (5, 40)])
def test_shards_are_small_cover_all_and_never_overlap(customers: int, events: int, small_log: Any):
    offsets = open_store(small_log.prepared / "store").offsets
    bounds = bulk.plan_shards(offsets, customers, events)
    assert bounds[0] == 0 and bounds[-1] == len(offsets) - 1
    sizes = np.diff(bounds)
    assert (sizes > 0).all() and (sizes <= customers).all()
    held = np.diff(offsets[bounds])
    assert ((held <= events) | (sizes == 1)).all()
    # And no shard could have taken the next customer as well.
    for first, last in pairwise(bounds[:-1]):
        full = last - first == customers or offsets[last + 1] - offsets[first] > events
        assert full


def test_a_shard_sees_no_more_snapshots_than_its_customers(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from seqjourney.models.network import NetworkPredictor

    seen: list[int] = []
    answer = NetworkPredictor.score

    def noting(self: NetworkPredictor, data: Any) -> np.ndarray:
        seen.append(len(data.snapshots))
        return answer(self, data)

    monkeypatch.setattr(NetworkPredictor, "score", noting)
    score(run_of("gru"), output=tmp_path / "scores")
    assert max(seen) == 17 and len(seen) == 8


def test_customers_of_whom_nothing_is_known_get_no_score_and_are_counted(
    run_of: RunOf, small_log: Any, tmp_path: Path
):
    first = (
        small_log.raw.loc[small_log.raw["event"] != "outcome"].groupby("customer")["known"].min()
    )
    cutoff = first.sort_values().iloc[70]
    scored = score(run_of("gru"), cutoff=cutoff.isoformat(), output=tmp_path / "scores")
    table = read(scored.folder)
    late = first.index[first > cutoff]
    assert scored.without_events == len(late) > 0
    assert set(table.index[table["score"].isna()]) == set(late)
    assert pq.read_table(tmp_path / "scores/shard-00000.parquet")["score"].null_count > 0


@pytest.mark.parametrize("unknown", ["allow", "withhold"])
def test_consent_in_an_event_log_is_honoured_as_load_does(
    unknown: str, needing_consent: Callable[[str], Path], frame: pd.DataFrame, tmp_path: Path
):
    first, second = frame["customer_id"].unique()[:2]
    spoken = frame.assign(consent=None)
    spoken.loc[spoken.index[spoken["customer_id"] == first][0], "consent"] = "denied"
    spoken.loc[spoken.index[spoken["customer_id"] == second][0], "consent"] = "granted"
    spoken.to_parquet(tmp_path / "events.parquet", index=False)
    run = needing_consent(unknown)
    by_then = spoken["known_at"][spoken["consent"] == "denied"].iloc[0] - pd.Timedelta("1s")
    since = seqjourney.load(run).score(spoken, by_then).set_index("customer_id")
    expected_reason = "consent withdrawn since" if unknown == "allow" else "consent unknown"
    assert since.loc[first, "withheld"] == expected_reason
    scored = score(run, events=str(tmp_path / "events.parquet"), output=tmp_path / "scores")
    found = read(scored.folder)
    expected = seqjourney.load(run).score(spoken).set_index("customer_id")
    assert_same_scores(found, expected)
    assert found.loc[first, "withheld"] == "consent denied"
    for customer, reason in expected["withheld"].items():
        assert found.loc[customer, "withheld"] == reason or pd.isna(reason)
    assert scored.withheld == expected["withheld"].notna().sum()
    assert scored.withheld == (1 if unknown == "allow" else len(expected) - 1)
    assert found.loc[found["withheld"].notna(), "score"].isna().all()


def test_consent_in_prepared_data_is_honoured_at_the_cutoff_and_since(
    needing_consent: Callable[[str], Path], small_log: Any, tmp_path: Path
):
    from seqjourney.events.consent import FILE
    from seqjourney.events.consent.stated import SCHEMA

    prepared = shutil.copytree(small_log.prepared, tmp_path / "small")
    customers = list(open_store(prepared / "store").customer_ids[:4])
    said = [
        (customers[0], "granted", "2023-01-02"),
        (customers[1], "denied", "2023-01-02"),
        (customers[2], "granted", "2023-01-02"),
        (customers[2], "denied", "2023-11-01"),  # after the cutoff
    ]
    rows = [
        {"customer_id": who, "purpose": "analytics", "state": state, "speaker": "customer"}
        | {"personal": True, "since": pd.Timestamp(at, tz="UTC")}
        for who, state, at in said
    ]
    statements = pd.DataFrame(rows).assign(known_at=lambda table: table["since"])
    missing = [name for name in SCHEMA if name not in statements]
    statements = statements.assign(**dict.fromkeys(missing))[list(SCHEMA)]
    for column in ("since", "known_at"):
        statements[column] = statements[column].astype("datetime64[us, UTC]")
    statements.to_parquet(prepared / FILE, index=False)
    scored = score(
        needing_consent("withhold"), prepared=prepared, cutoff=CUTOFF, output=tmp_path / "scores"
    )
    found = read(scored.folder)
    assert found.index[found["score"].notna()].tolist() == [customers[0]]
    assert found.loc[customers[1], "withheld"] == "consent denied"
    assert found.loc[customers[2], "withheld"] == "consent withdrawn since"
    assert found.loc[customers[3], "withheld"] == "consent unknown"
    assert scored.withheld == len(found) - 1


def test_data_that_records_no_consent_is_refused_where_it_is_needed(
    needing_consent: Callable[[str], Path], small_log: Any, parquet: Path, tmp_path: Path
):
    run, output = needing_consent("withhold"), tmp_path / "scores"
    with pytest.raises(DataError, match=r"granted 'analytics'.*records no consent"):
        score(run, prepared=small_log.prepared, output=output)
    with pytest.raises(DataError, match=r"events\.parquet has no column 'consent'"):
        score(run, events=str(parquet), output=output)


def test_a_run_that_is_overdue_for_retraining_is_refused(run_of: RunOf, tmp_path: Path):
    run = shutil.copytree(run_of("recency"), tmp_path / "recency")
    entry = {"request": "r1", "received": "2024-01-01T00:00:00+00:00"}
    entry["retrain_by"] = "2024-02-01T00:00:00+00:00"
    (run / "erasures.json").write_text(json.dumps({"format": 1, "requests": [entry]}))
    with pytest.raises(DataError, match="had to be retrained by 2024-02-01"):
        score(run, output=tmp_path / "scores")
    with pytest.warns(UserWarning, match="had to be retrained"):
        score(run, output=tmp_path / "scores", overdue="allow")


def test_a_store_that_is_not_the_models_is_refused_by_its_fields(run_of: RunOf, small_log: Any):
    from seqjourney.serving.bulk_source import require_fields

    store = open_store(small_log.prepared / "store")
    tokenizer = seqjourney.load(run_of("gru")).tokenizer
    require_fields(store, tokenizer, Path("here"))
    fewer = replace(store, categorical_fields=("event", "channel"))
    with pytest.raises(DataError, match=r"here has no field 'country'.*event, channel"):
        require_fields(fewer, tokenizer, Path("here"))
    turned = replace(store, numeric_fields=tuple(reversed(store.numeric_fields)))
    with pytest.raises(
        DataError, match="numeric fields items, value; the model reads value, items"
    ):
        require_fields(turned, tokenizer, Path("here"))


def test_data_with_other_label_only_events_is_refused(
    run_of: RunOf, small_log: Any, tmp_path: Path
):
    prepared = shutil.copytree(small_log.prepared, tmp_path / "small")
    content = json.loads((prepared / "manifest.json").read_text())
    content["config"]["label_only_events"] = []
    (prepared / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"label_only_events=\[\].*\['outcome'\]"):
        score(run_of("gru"), prepared=prepared, output=tmp_path / "scores")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gru", {"cutoff": "next week"}, "cutoff=next week is not a time; write it as"),
        ("gru", {"backend": "onx"}, "Did you mean 'onnx'"),
        ("recency", {"backend": "onnx"}, "is a recency, and only networks"),
        ("gru", {"backend": "torch_export"}, "not exported for torch_export .which takes no GRU"),
        ("gru", {"overdue": "maybe"}, "choose refuse or allow"),
        ("gru", {"threads": -1}, "threads=-1: give a whole number from 1 on"),
        ("gru", {"threads": "two"}, "threads=two: give a whole number from 1 on"),
        ("gru", {"prepared": Path("a"), "events": "b"}, "not both"),
        ("gru", {"prepared": Path("nowhere")}, "nowhere is not prepared"),
        ("gru", {"events": "nowhere.parquet"}, "no such file"),
        ("gru", {"events": __file__}, "of no known kind"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_message(
    kind: str, options: dict[str, Any], message: str, run_of: RunOf, tmp_path: Path
):
    with pytest.raises((ConfigError, DataError), match=message):
        score(run_of(kind), output=tmp_path / "scores", **options)
    assert not (tmp_path / "scores").exists()


def test_a_run_that_is_none_or_not_exported_is_named(run_of: RunOf, tmp_path: Path):
    with pytest.raises(DataError, match=r"is not a run: it has no run\.json"):
        score(tmp_path)
    run = shutil.copytree(run_of("gru"), tmp_path / "gru", ignore=shutil.ignore_patterns("*.onnx"))
    with pytest.raises(DataError, match=r"not exported for onnx. Run: .*format=onnx"):
        score(run, backend="onnx", output=tmp_path / "scores")


def test_without_an_output_the_scores_stand_beside_the_run(run_of: RunOf, tmp_path: Path):
    run = shutil.copytree(run_of("recency"), tmp_path / "recency")
    assert score(run).folder == tmp_path / "scores/recency-small-latest"
    dated = score(run, cutoff="2023-10-01T02:00+02:00")
    assert dated.folder == tmp_path / "scores/recency-small-20231001T000000"


def test_scores_of_a_pattern_and_of_another_back_end_have_folders_of_their_own(
    run_of: RunOf, parquet: Path, tmp_path: Path
):
    run = Path(shutil.copytree(run_of("gru"), tmp_path / "gru"))
    export(run, kind="torchscript")
    eager = score(run, events=str(parquet.parent / "*.parquet"))
    other = score(run, events=str(parquet.parent / "*.parquet"), backend="torchscript")
    name = f"gru-{parquet.parent.name}-latest"
    assert [eager.folder.name, other.folder.name] == [name, f"{name}-torchscript"]
    assert_same_scores(read(other.folder), read(eager.folder), atol=1e-4)
