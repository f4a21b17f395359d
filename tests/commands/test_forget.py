"""Forgetting a customer: no trace is left, nothing else is lost, models know their date."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seqjourney
from seqjourney.commands import forget_prepared
from seqjourney.commands.export_customer import ExportConfig, export_customer
from seqjourney.commands.forget import ForgetConfig, forget
from seqjourney.commands.forget_prepared import prepare_without
from seqjourney.commands.prepare import prepare
from seqjourney.commands.train import train
from seqjourney.config import Config, parse
from seqjourney.errors import DataError
from seqjourney.evaluation.predictions import read_predictions
from seqjourney.events import hashing, ledger
from seqjourney.events.audit import checks
from seqjourney.events.customers import Customer
from seqjourney.events.engine import connect
from seqjourney.events.ledger import open_obligations, overdue, require_current
from seqjourney.events.log import read_manifest
from seqjourney.files import locked, write_json
from seqjourney.sequences.cutting import load_task_data
from seqjourney.sequences.store import open_store
from small_logs import data_config, write_csv

WHO = "c0007"
COOKIES = ("cookie-1a2b-7", "cookie-9z8y-7")
MAIL = "Anna.Seven@Shop.example"
NAMES = (WHO, "u-0007", *COOKIES, MAIL, MAIL.lower())
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, small_log: Any) -> Path:
    """A prepared folder with identities, consent and bad rows, and outputs of two runs."""
    prepared = tmp_path / "processed" / "small"
    shutil.copytree(small_log.prepared, prepared)
    customers = pq.read_table(prepared / "store/customers.parquet")["customer_id"].to_pylist()
    key = hashing.read_key(tmp_path / "processed")
    write_identity(prepared, customers, key)
    consent = [(c, "analytics", "granted", pd.Timestamp("2023-01-01", tz="UTC")) for c in customers]
    frame = pd.DataFrame(consent, columns=["customer_id", "purpose", "state", "since"])
    frame.assign(known_at=frame["since"], speaker="customer", personal=True).to_parquet(
        prepared / "consent.parquet", index=False
    )
    bad = pd.DataFrame(
        {
            "source_row": [0, 1, 2],
            "problem": ["no timestamp", "no timestamp", "no event name"],
            "customer_id": [f" {WHO}", "c0008", None],
            "text": [None, None, f'{{"anonymousId":"{COOKIES[0]}", brok'],
        }
    )
    bad.to_parquet(prepared / "quarantine.parquet", index=False)
    manifest = read_manifest(prepared)
    manifest["rows"]["in"] += 3
    manifest["rows"]["quarantined"] = {"no timestamp": 2, "no event name": 1}
    (prepared / "manifest.json").write_text(json.dumps(manifest))
    (prepared / "taxonomy_review.yaml").write_text(f"buy: [seen with {COOKIES[1]}, cookie-1a2b-70]")
    for run, data in (("demo/gru", "small"), ("demo/logistic", "small"), ("demo/else", "other")):
        write_run(tmp_path / "outputs" / run, customers, data)
    untrained = pd.DataFrame({"customer_hash": [Customer("c0008").hash]})
    untrained.to_parquet(tmp_path / "outputs/demo/logistic/trained_on.parquet", index=False)
    report = tmp_path / "outputs/demo/report"
    report.mkdir()
    (report / "report.html").write_text(f"<td>{WHO}</td><td>c00071</td>")
    return tmp_path


def write_identity(prepared: Path, customers: list[str], key: str) -> None:
    folder = prepared / "identity"
    folder.mkdir()
    mail = hashing.hashed_email(ibis.literal(MAIL), key).to_pyarrow().as_py()
    rows = [("user", "u-" + c[1:], c) for c in customers] + [("email", mail, WHO)]
    rows += [("anonymous", cookie, WHO) for cookie in COOKIES] + [("user", "17", "c0008")]
    columns = ["identifier_type", "identifier", "customer_id"]
    frame = pd.DataFrame(rows, columns=columns).assign(linked_at=pd.NaT)
    frame.to_parquet(folder / "identifiers.parquet", index=False)
    ends = ["type_a", "identifier_a", "type_b", "identifier_b"]
    links = [("user", "u-0007", "anonymous", COOKIES[0]), ("user", "u-0008", "email", "other")]
    pd.DataFrame(links, columns=ends).to_parquet(folder / "links.parquet", index=False)
    refused = [("user", "u-0008", "anonymous", COOKIES[1], "one user per customer")]
    pd.DataFrame(refused, columns=[*ends, "rule"]).to_parquet(folder / "refused.parquet")


def write_run(run: Path, customers: list[str], data: str) -> None:
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"config": {"data": {"name": data}}}))
    hashes = pd.DataFrame({"customer_hash": sorted(Customer(c).hash for c in customers)})
    hashes.to_parquet(run / "trained_on.parquet", index=False)
    scores = pd.DataFrame({"customer_id": customers, "score": 0.5, "run": run.name})
    scores.to_parquet(run / "predictions.parquet", index=False)
    (run / "model.pt").write_bytes(b"\0weights\0")


def config(place: Path, **changes: Any) -> ForgetConfig:
    who = {} if "identifier" in changes else {"customer": WHO}
    values = {"data": "small", "processed": place / "processed", "outputs": place / "outputs"}
    return parse(ForgetConfig, {**values, **who, **changes}, "forget")


def forgotten(place: Path, **changes: Any) -> ledger.Entry:
    return forget(config(place, **changes), progress=False)


def traces(folder: Path, *names: str) -> list[str]:
    """Search the bytes of every file, its path, and every text cell of Parquet files."""
    whole = re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, names)) + r")(?![\w-])")
    found = []
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        texts = [str(file.relative_to(folder)), file.read_bytes().decode("latin-1")]
        if file.suffix == ".parquet":
            frame = pq.read_table(file).to_pandas()
            texts += [str(value) for column in frame for value in frame[column].dropna().unique()]
        found += [str(file) for text in texts if whole.search(text)]
    return found


def contents(folder: Path) -> dict[str, Any]:
    """Everything below a folder, in a form that does not depend on when it was written."""
    found: dict[str, Any] = {}
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        name = str(file.relative_to(folder))
        if file.suffix == ".parquet":
            found[name] = pq.read_table(file).to_pylist()
        elif file.name == "ledger.json":
            entries = json.loads(file.read_text())["requests"]
            found[name] = [{**entry, "finished": bool(entry["finished"])} for entry in entries]
        else:
            found[name] = file.read_bytes()
    return found


def test_no_file_names_the_customer_any_more(place: Path):
    ours = [place / "processed/small", *(place / "outputs/demo" / r for r in ("gru", "report"))]
    assert all(traces(folder, *NAMES) for folder in ours)
    forgotten(place)
    for folder in (*ours, place / "outputs/demo/logistic"):
        assert traces(folder, *NAMES) == []
    hashes = [Customer(WHO).hash]
    assert traces(place / "processed", *hashes) == []
    assert traces(place / "outputs/demo/gru", *hashes) == []
    assert traces(place / "outputs/ledger.json", *hashes) == []


@pytest.mark.parametrize(
    "identifier", ["user:u-0007", f"anonymous:{COOKIES[1]}", f"email: {MAIL.upper()} "]
)
def test_any_identifier_finds_the_customer(place: Path, identifier: str):
    forgotten(place, identifier=identifier)
    assert traces(place / "processed/small", *NAMES) == []


def test_nothing_else_is_lost(place: Path, small_log: Any):
    prepared = place / "processed/small"
    before = contents(place)
    forgotten(place)
    after = contents(place)
    for name in (n for n in before if n.endswith(".parquet") and "tasks" not in n):
        kept = [row for row in before[name] if WHO not in row.values()]
        if "identity" not in name and "quarantine" not in name and "trained_on" not in name:
            expected = before[name] if "demo/else" in name else kept
            assert after[name] == expected, name
    assert [r["identifier_b"] for r in after["processed/small/identity/links.parquet"]] == ["other"]
    assert after["processed/small/identity/refused.parquet"] == []
    review = after["processed/small/taxonomy_review.yaml"]
    assert review == b"buy: [seen with [erased], cookie-1a2b-70]"
    assert after["outputs/demo/report/report.html"] == b"<td>[erased]</td><td>c00071</td>"
    assert [r["customer_id"] for r in after["processed/small/quarantine.parquet"]] == ["c0008"]
    # The store and the snapshots are those of a log that never had the customer.
    raw = small_log.raw[small_log.raw["customer"] != WHO]
    changes = small_log.config.model_dump(exclude={"path", "name", "threads"}, exclude_unset=True)
    fresh = prepare(
        data_config(write_csv(raw, place / "fresh.csv"), **changes),
        place / "fresh",
        [small_log.task],
        progress=False,
    )
    for part in ("store", "tasks/buys"):
        left, right = contents(prepared / part), contents(fresh / part)
        for described in (left, right):
            described.pop("task.json", None)  # has the log's fingerprint
        assert left == right


def test_only_the_files_concerned_are_written_again(place: Path):
    prepared = place / "processed/small"
    before = {f: f.stat().st_ino for f in prepared.glob("events/*/*.parquet")}
    forgotten(place)
    changed = [f for f in before if f.stat().st_ino != before[f]]
    assert len(before) == 16
    assert len(changed) == 1


def test_the_manifest_accounts_for_what_went_and_the_task_still_loads(place: Path, small_log):
    prepared = place / "processed/small"
    before = read_manifest(prepared)
    forgotten(place)
    manifest = read_manifest(prepared)
    rows = manifest["rows"]
    events = before["rows"]["events"] - rows["events"]
    assert events == (small_log.raw["customer"] == WHO).sum()
    assert rows["quarantined"] == {"no timestamp": 1}
    assert rows["erased"] == events + 2
    left = {k: v for k, v in rows.items() if k not in ("in", "quarantined")}
    assert rows["in"] == sum(left.values()) + sum(rows["quarantined"].values())
    assert manifest["customers"] == before["customers"] - 1
    assert manifest["fingerprint"] != before["fingerprint"]
    described = (prepared / "tasks/buys/task.json").read_bytes()
    with connect(place) as backend:
        data = load_task_data(backend, prepared, small_log.task)
    assert (prepared / "tasks/buys/task.json").read_bytes() == described  # not cut once more
    assert WHO not in set(data.snapshots["customer_id"])
    ids = open_store(prepared / "store").customer_ids[data.snapshots["customer_index"]]
    assert (ids == data.snapshots["customer_id"]).all()


def test_the_ledger_says_what_went_where_and_which_models_saw_the_customer(place: Path):
    entry = forgotten(place, request="DPO-17", received="2024-03-01", deadline="10d")
    text = (place / "outputs/ledger.json").read_text()
    (written,) = json.loads(text)["requests"]
    assert written["request"] == "DPO-17"
    assert written["retrain_by"] == "2024-03-11T00:00:00+00:00"
    assert written["runs"] == ["demo/gru"]
    assert written["finished"]
    assert re.fullmatch("[0-9a-f]{64}", written["customer"])
    assert written["erased"]["identity/identifiers.parquet"]["rows"] == 4
    assert written["erased"]["consent.parquet"]["rows"] == 1
    assert written["erased"]["demo/gru/predictions.parquet"]["rows"] == 1
    assert written["erased"]["tasks/buys/snapshots.parquet"]["rows"] > 0
    assert written["erased"]["quarantine.parquet"]["rows"] == 2
    events = [n["rows"] for name, n in written["erased"].items() if name.startswith("events/")]
    assert len(events) == 1
    assert entry.erased == written["erased"]


def test_a_model_refuses_after_its_date_unless_told_otherwise(place: Path):
    forgotten(place, received=datetime.now(tz=UTC) - timedelta(days=20), deadline="30d")
    gru, logistic = place / "outputs/demo/gru", place / "outputs/demo/logistic"
    require_current(gru)
    (obligation,) = open_obligations(place / "outputs")
    assert obligation.run == gru
    assert 9.9 < obligation.days_left() < 10
    later = datetime.now(tz=UTC) + timedelta(days=11)
    assert overdue(gru, later) == (obligation,)
    assert overdue(logistic, later) == ()
    shutil.copytree(gru, place / "copy")
    assert len(overdue(place / "copy", later)) == 1  # a run carries its date wherever it goes


def test_a_late_model_says_what_to_do(place: Path):
    forgotten(place, received="2024-01-01", request="R1")
    run = place / "outputs/demo/gru"
    with pytest.raises(DataError, match=r"by 2024-01-31 \(request R1.*overdue='allow'") as caught:
        require_current(run)
    assert WHO not in str(caught.value)
    (run / "erasures.json").write_text("{}")
    with pytest.raises(DataError, match=r"erasures\.json is damaged"):
        require_current(run)


def test_a_late_model_that_is_allowed_warns_at_the_line_that_loads_it(
    config_of: Callable[..., Config],
):
    run = train(config_of("recency")).folder
    received, retrain_by = (datetime(2024, month, 1, tzinfo=UTC) for month in (1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        seqjourney.load(run, overdue="allow")  # not late: nothing to say
    ledger.oblige(run, ledger.Entry("R1", received, retrain_by, "shop", "hash"))
    with pytest.raises(DataError, match="had to be retrained by 2024-02-01"):
        seqjourney.load(run)
    with pytest.warns(UserWarning, match=r"by 2024-02-01 \(request R1.*Train it again") as told:
        seqjourney.load(run, overdue="allow")
    assert [warning.filename for warning in told] == [__file__]


def test_a_run_that_is_trained_again_is_free_and_scores_without_the_customer(
    shop: Path, config_of: Callable[..., Config], tmp_path: Path
):
    shutil.copytree(shop / "processed", tmp_path / "processed")
    run_config = config_of("recency", processed=tmp_path / "processed")
    run = train(run_config).folder
    trained_on = set(pd.read_parquet(run / "trained_on.parquet")["customer_hash"])
    scored = read_predictions(run)["customer_id"]
    who = next(c for c in scored if Customer(c).hash in trained_on)
    options = {"processed": tmp_path / "processed", "outputs": tmp_path / "outputs"}
    who_config = parse(ForgetConfig, {"data": "shop", "customer": who, **options}, "forget")
    entry = forget(who_config, progress=False)
    assert entry.runs == ["orders/recency"]
    assert set(read_predictions(run)["customer_id"]) == set(scored) - {who}
    assert overdue(run, datetime.now(tz=UTC) + timedelta(days=31))
    train(run_config)
    assert overdue(run, datetime.now(tz=UTC) + timedelta(days=31)) == ()
    assert set(read_predictions(run)["customer_id"]) == set(scored) - {who}
    assert traces(tmp_path / "outputs", who) == []
    prepare(run_config.data, tmp_path / "processed", progress=False)  # from the raw file, again
    assert traces(tmp_path / "processed/shop", who) == []
    rows = read_manifest(tmp_path / "processed/shop")["rows"]
    assert rows["erased"] > 0


def test_a_run_that_is_published_during_the_erasure_is_erased_and_obliged_too(
    place: Path, monkeypatch
):
    late = place / "outputs/demo/late"
    real = prepare_without

    def publishing(prepared: Path, *rest: Any) -> None:
        customers = pq.read_table(prepared / "store/customers.parquet")["customer_id"].to_pylist()
        write_run(late, customers, "small")  # the old fingerprint still stands: nobody refuses
        real(prepared, *rest)

    monkeypatch.setattr("seqjourney.commands.forget.prepare_without", publishing)
    entry = forgotten(place, received="2024-01-01")
    assert entry.runs == ["demo/gru", "demo/late"]
    assert overdue(late)
    assert traces(late, *NAMES, Customer(WHO).hash) == []


def test_prepare_and_forget_of_one_data_set_never_work_at_once(place: Path, small_log, monkeypatch):
    prepared = place / "processed/small"
    from seqjourney.commands import prepare as prepare_module

    def preparing() -> None:
        prepare(small_log.config, place / "processed", progress=False)

    def meanwhile(module: Any, name: str, other: Callable[[], Any], holder: str) -> None:
        real = getattr(module, name)

        def both(*given: Any, **named: Any) -> Any:
            with pytest.raises(DataError, match=rf"is being written by {holder} \(process \d+"):
                other()
            return real(*given, **named)

        monkeypatch.setattr(module, name, both)

    def forgetting() -> None:
        forgotten(place, customer="c0008")

    meanwhile(forget_prepared, "write_store", preparing, "forget")
    meanwhile(prepare_module, "write_event_log", forgetting, "prepare")
    assert forgotten(place).finished
    preparing()
    assert traces(prepared, WHO) == []
    assert "c0008" in open_store(prepared / "store").customer_ids
    assert sorted(p.name for p in prepared.parent.iterdir() if p.name != "hash.key") == ["small"]


def test_the_ledger_is_written_by_one_erasure_at_a_time(place: Path, monkeypatch):
    shutil.copytree(place / "processed/small", place / "processed/twin")
    real = forget_prepared.write_store

    def both(*given: Any) -> None:
        with pytest.raises(DataError, match=r"ledger\.json is being written by forget"):
            forgotten(place, data="twin")
        real(*given)

    monkeypatch.setattr(forget_prepared, "write_store", both)
    assert forgotten(place).finished


@pytest.mark.parametrize("who", [{}, {"identifier": "user:u-0007"}])
def test_the_old_data_goes_before_a_request_is_closed_and_tells_until_then_who_is_meant(
    place: Path, monkeypatch, who
):
    with monkeypatch.context() as patch:
        patch.setattr("seqjourney.commands.forget.remove_leftovers", die)
        with pytest.raises(Killed):
            forgotten(place)
    old = place / "processed/small.old"
    assert traces(old, *NAMES)
    write_run(place / "outputs/demo/late", [WHO, "c0008"], "small")
    (place / "outputs/note.txt").write_text(f"was {COOKIES[0]} here?")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die_of_old(OSError("busy")))
        with pytest.raises(DataError, match=r"small\.old holds old data and cannot be removed"):
            forgotten(place, **who)
    assert (
        json.loads((place / "outputs/ledger.json").read_text())["requests"][0]["finished"] is None
    )
    entry = forgotten(place, **who)
    assert entry.finished
    assert entry.runs == ["demo/gru", "demo/late"]
    assert (place / "outputs/note.txt").read_text() == "was [erased] here?"
    assert not old.exists()
    assert traces(place / "processed", *NAMES) == []


def test_a_forget_that_was_killed_between_the_two_renames_is_given_again(place: Path):
    prepared = place / "processed/small"
    shutil.copytree(prepared, prepared.with_name("small.partial"))
    prepared.rename(prepared.with_name("small.old"))
    assert forgotten(place).finished
    assert traces(place / "processed", *NAMES) == []


def test_the_counts_of_the_manifest_are_those_of_the_log_without_the_customer(place: Path):
    prepared = place / "processed/small"
    manifest = read_manifest(prepared)
    said = {"strategy": "full", "identifiers": -1, "links": 2, "customers": -1, "largest": 4}
    said |= {"of_one_identifier": -1, "linked_later": 9, "refused": {"one user per customer": 1}}
    manifest["identity"] = said
    manifest["taxonomy"] = {"rows": 9, "mapped_rows": 9, "names": 1, "mapped_names": 1}
    (prepared / "manifest.json").write_text(json.dumps(manifest))
    suspects = pd.DataFrame({"reason": ["hub", "late", "late"], "customer_id": [WHO, WHO, "c0008"]})
    suspects.to_parquet(prepared / "identity/suspects.parquet", index=False)
    # Of the late ones more were counted than are listed.
    beside = {"suspects": {"hub": 1, "late": 7}, "identifiers_per_customer": {"3": -1}}
    (prepared / "identity/report.json").write_text(json.dumps({**said, **beside}))
    forgotten(place)
    after = read_manifest(prepared)
    customers = pq.read_table(prepared / "store/customers.parquet").num_rows
    assert after["events"] == after["rows"]["events"] == len(pd.read_parquet(prepared / "events"))
    assert after["customers"] == customers
    assert after["identity"] == {
        "strategy": "full",
        "identifiers": customers + 1,  # a user each, and one has two
        "links": 1,
        "customers": customers,
        "of_one_identifier": customers - 1,
        "largest": 2,
        "linked_later": 0,
        "refused": {},
    }
    report = json.loads((prepared / "identity/report.json").read_text())
    sizes = report.pop("identifiers_per_customer")
    assert {size: n for size, n in sizes.items() if n} == {"1": customers - 1, "2": 1}
    assert report == {**after["identity"], "suspects": {"late": 6}}
    assert "taxonomy" not in after
    assert checks.mapped({**after, "sources": {}}).found.startswith("not counted again since")


def test_it_says_that_no_model_is_concerned_and_that_all_was_done_before(place: Path, capsys):
    forgotten(place)
    first = capsys.readouterr().out
    assert "demo/gru" in first
    assert "No model was trained" not in first and "already erased" not in first
    entry = forgotten(place)
    again = capsys.readouterr().out
    assert again.startswith(f"This customer was already erased, on {entry.finished:%Y-%m-%d}.")
    shutil.rmtree(place / "outputs/demo/gru")
    forgotten(place, customer="c0009")
    other = capsys.readouterr().out
    assert "No model was trained on this customer" in other and "already erased" not in other


def test_runs_on_other_data_are_somebody_elses(place: Path):
    other = place / "outputs/demo/else"
    before = contents(other)
    forgotten(place)
    assert contents(other) == before


@pytest.mark.parametrize(("data_set", "stay"), [("other", True), ("small", False)])
def test_scores_of_other_data_are_somebody_elses(data_set: str, stay: bool, place: Path):
    scores = place / "outputs/demo/scores/gru-other-latest"
    scores.mkdir(parents=True)
    write_json(scores / "manifest.json", {"job": {"data_set": data_set}})
    pd.DataFrame({"customer_id": ["c0007", "c0008"]}).to_parquet(scores / "shard-00000.parquet")
    forgotten(place, customer="c0007")
    left = pd.read_parquet(scores / "shard-00000.parquet")["customer_id"]
    assert ("c0007" in set(left)) is stay


def test_nothing_is_erased_while_another_process_writes_scores(place: Path):
    scores = place / "outputs/demo/scores/gru-small-latest"
    scores.mkdir(parents=True)
    before = contents(place / "outputs")
    words = r"gru-small-latest is being written by score \(process"
    with locked(scores, "score"), pytest.raises(DataError, match=words):
        forgotten(place, customer="c0007")
    assert contents(place / "outputs") == before
    forgotten(place, customer="c0007")


def test_an_interrupted_training_that_saw_the_customer_goes(place: Path):
    unfinished = place / "outputs/demo/gru.partial"
    unfinished.mkdir()
    (unfinished / "settings.json").write_text(json.dumps({"data": {"name": "small"}}))
    elsewhere = place / "outputs/demo/else.partial"
    elsewhere.mkdir()
    (elsewhere / "settings.json").write_text(json.dumps({"data": {"name": "other"}}))
    forgotten(place)
    assert not unfinished.exists()
    assert elsewhere.exists()


class Killed(BaseException):
    """What a process that dies leaves behind is what stands on disk at that moment."""


def die(*_: object, **__: object) -> None:
    raise Killed


def die_of_old(error: OSError) -> Callable[..., None]:
    real = shutil.rmtree

    def rmtree(folder: Path, *rest: Any, **options: Any) -> None:
        if Path(folder).suffix == ".old":
            raise error
        real(folder, *rest, **options)

    return rmtree


def test_killed_at_any_step_the_same_command_finishes_with_the_same_result(
    place: Path, tmp_path_factory, monkeypatch
):
    start = tmp_path_factory.mktemp("start")
    shutil.copytree(place, start, dirs_exist_ok=True)
    fixed = {"request": "R1", "received": "2024-01-01"}
    forgotten(place, **fixed)
    wanted = contents(place)
    real_save = ledger.Ledger.save
    kills = 0
    for step in range(1, 40):
        again = tmp_path_factory.mktemp("killed")
        shutil.copytree(start, again, dirs_exist_ok=True)
        saves = iter(range(1, 1000))

        def save(self, saves=saves, step=step):
            number = next(saves)
            if number == 2 * step - 1:
                raise Killed  # before the ledger was written
            real_save(self)
            if number == 2 * step:
                raise Killed  # after it, before what it tells of was done

        with monkeypatch.context() as patch:
            patch.setattr(ledger.Ledger, "save", save)
            try:
                forgotten(again, **fixed)
            except Killed:
                kills += 1
            else:
                break
        forgotten(again, **fixed)
        assert contents(again) == wanted
    assert kills >= 4


CHILD = """
import os, signal, sys
from pathlib import Path
from seqjourney.commands import forget, forget_prepared
from seqjourney.config import parse
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr({"outputs": forget, "store": forget_prepared}[sys.argv[1]],
        {"outputs": "prepare_without", "store": "_update_manifest"}[sys.argv[1]], kill)
place = Path(sys.argv[2])
values = {"data": "small", "processed": place / "processed", "outputs": place / "outputs"}
forget.forget(parse(forget.ForgetConfig, {**values, "customer": sys.argv[3]}, ""), progress=False)
"""


@pytest.mark.parametrize("where", ["outputs", "store"])
def test_a_process_that_is_really_killed_leaves_a_folder_that_works(place: Path, where: str):
    prepared = place / "processed/small"
    before = contents(prepared)
    words = [sys.executable, "-c", CHILD, where, str(place), WHO]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert contents(prepared) == before  # whole, though the customer is still in it
    assert forgotten(place).finished
    for folder in (place / "processed", place / "outputs/demo/gru"):
        assert traces(folder, *NAMES) == []


def test_after_the_swap_the_ledger_alone_knows_whom_a_killed_command_meant(
    place: Path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr("seqjourney.commands.forget._close", die)
        with pytest.raises(Killed):
            forgotten(place)
    assert traces(place / "processed/small", *NAMES) == []
    assert forgotten(place, identifier="user:u-0007").finished
    assert forgotten(place).finished  # and once more does no harm
    assert len(json.loads((place / "outputs/ledger.json").read_text())["requests"]) == 1


def test_a_full_disk_leaves_the_old_data(place: Path, monkeypatch):
    prepared = place / "processed/small"
    before = contents(prepared)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(forget_prepared, "write_store", full)
        with pytest.raises(DataError, match="the disk is full"):
            forgotten(place)
    assert contents(prepared) == before
    assert forgotten(place).finished


def test_a_file_that_cannot_be_rewritten_is_named_until_it_is_gone(place: Path):
    model = place / "outputs/demo/gru/model.pt"
    model.write_bytes(b"\0vocabulary\0" + COOKIES[0].encode() + b"\0")
    with pytest.raises(DataError, match=r"everything else is erased.*demo/gru/model\.pt"):
        forgotten(place)
    assert traces(place / "processed/small", *NAMES) == []
    with pytest.raises(DataError, match="everything else is erased"):
        forgotten(place)
    model.write_bytes(b"\0trained again\0")
    assert forgotten(place).finished


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"customer": "u-0007"}, r"no customer 'u-0007'.*identifier=type:value"),
        ({"identifier": "user:c0007"}, r"nobody by the user 'c0007'.*anonymous, email, user"),
        ({"identifier": "c0007"}, r"must be written type:value"),
        ({"customer": None}, "either customer=<customer id> or identifier=type:value"),
        ({"received": "2124-01-01"}, "lies in the future"),
        ({"data": "nowhere"}, "is not prepared"),
    ],
)
def test_whoever_is_not_known_is_said_so_and_nothing_changes(place: Path, asked, words):
    before = contents(place)
    with pytest.raises(DataError, match=words):
        forgotten(place, **asked)
    assert contents(place) == before


def test_the_only_customer_of_a_log_cannot_be_cut_out_of_it(tmp_path: Path):
    rows = pd.DataFrame({"customer": "me", "at": ["2023-01-01", "2023-01-02"], "event": "x"})
    prepared = prepare(
        data_config(write_csv(rows, tmp_path / "e.csv")), tmp_path / "processed", progress=False
    )
    before = contents(prepared)
    with pytest.raises(DataError, match="holds nobody else: delete the whole folder"):
        forgotten(tmp_path, customer="me")
    assert contents(prepared) == before


def test_two_requests_do_not_share_a_name(place: Path):
    forgotten(place, request="R1")
    with pytest.raises(DataError, match="already has a request 'R1'"):
        forgotten(place, customer="c0008", request="R1")
    assert forgotten(place, customer="c0008", request="R2").finished
    assert len(json.loads((place / "processed/small/erased.json").read_text())["requests"]) == 2


# --- export ---------------------------------------------------------------------------------------


def exported(place: Path, **changes: Any) -> Path:
    who = {} if "identifier" in changes else {"customer": WHO}
    output = place / "outputs/exports"
    values = {"data": "small", "processed": place / "processed", "output": output}
    return export_customer(parse(ExportConfig, {**values, **who, **changes}, "export"))


def test_an_export_holds_all_that_was_observed_and_nothing_inferred(place: Path, small_log):
    folder = exported(place)
    records = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    index = json.loads((folder / "index.json").read_text())
    raw = small_log.raw[small_log.raw["customer"] == WHO]
    events = [r for r in records if r["record"] == "event"]
    assert sorted(e["event_id"] for e in events) == sorted(raw["id"])
    by_id = raw.set_index("id")
    for event in events:
        assert pd.Timestamp(event["timestamp"]) == by_id.loc[event["event_id"], "at"]
        amount = by_id.loc[event["event_id"], "amount"]
        assert event.get("value") == (None if np.isnan(amount) else amount)
    assert [e["timestamp"] for e in events] == sorted(e["timestamp"] for e in events)
    assert index["records"] == {"identifier": 4, "consent": 1, "event": len(raw)}
    assert set(index["fields"]) == {key for record in records for key in record}
    assert not {"score", "probability"} & set(index["fields"])
    assert {r["customer_id"] for r in records} == {WHO}


def test_an_export_is_found_by_identifier_and_erased_with_the_customer(place: Path):
    folder = exported(place, identifier="user:u-0007")
    assert folder == exported(place)
    forgotten(place)
    assert not folder.exists()
    with pytest.raises(DataError, match="no customer 'c0007'"):
        exported(place)


def test_exports_of_one_id_from_two_data_sets_are_two_and_go_one_by_one(place: Path):
    shutil.copytree(place / "processed/small", place / "processed/twin")
    folder, twin = exported(place), exported(place, data="twin")
    shutil.copytree(folder, folder.with_name(folder.name + ".old"))  # of an export that was killed
    before = contents(twin)
    forgotten(place)
    assert list((place / "outputs/exports").iterdir()) == [twin]
    assert contents(twin) == before
    forgotten(place, data="twin")
    assert list((place / "outputs/exports").iterdir()) == []


def test_a_failing_export_leaves_nothing(place: Path, monkeypatch):
    monkeypatch.setattr("seqjourney.commands.export_customer.write_json", None)
    with pytest.raises(TypeError):
        exported(place)
    assert list((place / "outputs/exports").iterdir()) == []


@pytest.mark.parametrize("who", ["../../etc/passwd", "a/b\\c", "=1+1", "\n", "'; --"])
def test_hostile_customer_ids_stay_text(tmp_path: Path, who: str):
    rows = {"customer": [who, "b"], "at": ["2023-01-01"] * 2, "event": ["x"] * 2}
    pq.write_table(pa.table(rows), tmp_path / "e.parquet")
    processed = tmp_path / "processed"
    prepare(data_config(tmp_path / "e.parquet"), processed, progress=False)
    if not who.strip():
        with pytest.raises(DataError):
            exported(tmp_path, customer=who)
        return
    folder = exported(tmp_path, customer=who)
    assert folder.parent == tmp_path / "outputs/exports"
    assert json.loads((folder / "events.jsonl").read_text())["customer_id"] == who
    forgotten(tmp_path, customer=who)
    assert not folder.exists()
    left = pq.read_table(processed / "small/store/customers.parquet")["customer_id"].to_pylist()
    assert left == ["b"]


# --- the command line -----------------------------------------------------------------------------


def run_script(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *words],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def test_the_scripts_take_ids_as_they_are_typed(place: Path):
    here = ["data=table", "data.name=small", f"processed={place / 'processed'}"]
    done = run_script("export_customer", *here, "customer=17", f"output={place / 'x'}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no customer '17'" in done.stderr
    done = run_script("forget", *here, "identifier=user:17", f"outputs={place / 'outputs'}")
    assert done.returncode == 0, done.stderr
    assert "Erased from small" in done.stdout
    assert "demo/gru" in done.stdout
    assert "c0008" not in done.stdout
