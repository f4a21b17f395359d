"""Every command as a function: what it writes, and that nothing half-written stays."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from seqjourney.commands.evaluate import evaluate
from seqjourney.commands.export import export
from seqjourney.commands.found_runs import find_runs
from seqjourney.commands.prepare import prepare
from seqjourney.commands.simulate import simulate
from seqjourney.commands.train import train
from seqjourney.config import Config, DataConfig, parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.evaluation.predictions import read_predictions
from seqjourney.files import read_json
from seqjourney.models.network import NetworkPredictor

ConfigOf = Callable[..., Config]


def test_simulate_refuses_what_no_shop_has(tmp_path: Path):
    with pytest.raises(ConfigError, match="custmers"):
        simulate(tmp_path, custmers=5)
    with pytest.raises(ConfigError, match="months"):
        simulate(tmp_path, months=0)
    assert list(tmp_path.iterdir()) == []


def test_simulate_writes_events_truth_and_settings(shop: Path):
    names = {path.name for path in (shop / "raw").iterdir()}
    assert names >= {"events.parquet", "truth.parquet", "simulation.json"}


def test_a_prepared_folder_accounts_for_every_row(shop: Path):
    prepared = shop / "processed/shop"
    manifest = json.loads((prepared / "manifest.json").read_text())
    rows = manifest["rows"]
    assert rows["in"] == len(pd.read_parquet(shop / "raw/events.parquet"))
    left = rows["duplicates"] + rows["merged"] + sum(rows["quarantined"].values())
    assert rows["events"] == rows["in"] - left
    assert (prepared / "store/store.json").exists()
    assert (prepared / "tasks/orders/snapshots.parquet").exists()


def test_an_event_of_the_company_that_never_occurs_is_mentioned(tmp_path: Path, capsys):
    days = pd.date_range("2023-01-01", periods=50).astype(str)
    rows = pd.DataFrame({"c": "a", "t": days, "e": ["visit", "email_sent"] * 25})
    rows.to_csv(tmp_path / "events.csv", index=False)
    told = {"name": "mine", "path": str(tmp_path / "events.csv"), "customer": "c"}
    told |= {"timestamp": "t", "event": "e", "company_events": ["email_sent", "emailsend"]}
    prepare(parse(DataConfig, told, "data"), tmp_path / "processed", progress=False)
    printed = capsys.readouterr().out
    assert "no event is called 'emailsend'. Did you mean 'email_sent'?" in printed
    assert printed.count("no event is called") == 1


def test_a_failing_prepare_keeps_the_old_data(shop: Path, tmp_path: Path):
    file = tmp_path / "events.csv"
    days = pd.date_range("2023-01-01", periods=50).astype(str)
    good = pd.DataFrame({"c": "a", "t": days, "e": "visit"})
    good.to_csv(file, index=False)
    settings = {"name": "mine", "path": str(file), "customer": "c", "timestamp": "t", "event": "e"}
    config = DataConfig(**settings, threads=2)
    prepared = prepare(config, tmp_path / "processed", progress=False)
    before = (prepared / "manifest.json").read_bytes()
    good.assign(t="never").to_csv(file, index=False)
    with pytest.raises(DataError):
        prepare(config, tmp_path / "processed", progress=False)
    assert (prepared / "manifest.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "processed").iterdir()] == ["mine"]


def test_a_run_folder_holds_all_that_is_promised(config_of: ConfigOf, shop: Path):
    run = train(config_of())
    names = {path.name for path in run.folder.iterdir()}
    promised = {"run.json", "task.json", "tokenizer.json", "predictions.parquet"}
    promised |= {"trained_on.parquet", "validation.json", "model.pt", "logs"}
    promised |= {"ablations.parquet", "explanations.parquet"}
    assert names == promised
    assert (run.folder / "logs/metrics.csv").exists()
    about = json.loads((run.folder / "run.json").read_text())
    assert about["config"] == config_of().model_dump(mode="json")
    manifest = json.loads((shop / "processed/shop/manifest.json").read_text())
    assert about["data_fingerprint"] == manifest["fingerprint"]
    assert torch.__version__.startswith(about["versions"]["torch"].split("+")[0])
    assert about["revision"]
    assert about["future_changed_score_by"] < 1e-4


def test_the_training_says_nothing_about_the_test(config_of: ConfigOf, capsys):
    run = train(config_of("recency"))
    validation = json.loads((run.folder / "validation.json").read_text())
    assert set(validation) == {"average_precision", "roc_auc"} == set(run.validation)
    predictions = read_predictions(run.folder)
    test = predictions[predictions["split"] == "test"]
    from sklearn.metrics import average_precision_score, roc_auc_score

    printed = capsys.readouterr().out
    text = printed + "".join(f.read_text() for f in run.folder.glob("*.json"))
    for metric in (average_precision_score, roc_auc_score):
        assert f"{metric(test['label'], test['score']):.4f}" not in text
    assert f"{validation['average_precision']:.4f}" in printed


def test_predictions_cover_validation_and_test_and_nothing_else(config_of: ConfigOf, shop: Path):
    run = train(config_of("recency"))
    predictions = read_predictions(run.folder)
    snapshots = pd.read_parquet(shop / "processed/shop/tasks/orders/snapshots.parquet")
    wanted = snapshots[snapshots["split"] != "train"]
    keys = ["customer_id", "cutoff", "split", "label"]
    left, right = (
        frame[keys].astype({"label": int}).sort_values(keys, ignore_index=True)
        for frame in (predictions, wanted)
    )
    pd.testing.assert_frame_equal(left, right, check_dtype=False)
    assert predictions["run"].unique().tolist() == ["orders/recency"]


def test_a_run_records_all_whom_its_snapshots_and_its_tokenizer_have_seen_as_hashes(
    config_of: ConfigOf, shop: Path, tmp_path: Path
):
    processed = tmp_path / "processed"  # other tests ask which tasks the shop has
    shutil.copytree(shop / "processed", processed)
    task = config_of().task.model_dump(mode="json")
    task |= {"name": "buyers", "eligible": {"events": ["order_completed"]}}
    run = train(config_of("recency", task=task, processed=processed))
    hashes = pd.read_parquet(run.folder / "trained_on.parquet")
    assert list(hashes.columns) == ["customer_hash"]
    snapshots = pd.read_parquet(processed / "shop/tasks/buyers/snapshots.parquet")
    used = set(snapshots.loc[snapshots["split"] != "test", "customer_id"])
    fitted = pd.Timestamp(json.loads((run.folder / "tokenizer.json").read_text())["fitted_until"])
    events = pd.read_parquet(processed / "shop/events")
    read = set(events.loc[events["known_at"] <= fitted, "customer_id"])
    assert read - used  # they never bought: no snapshot, but their events are in the vocabulary
    assert used - read  # they came after training, for validation
    assert set(events["customer_id"]) - used - read
    expected = sorted(hashlib.sha256(c.encode()).hexdigest() for c in used | read)
    assert hashes["customer_hash"].tolist() == expected


def test_a_failing_run_keeps_the_old_one_and_what_training_had_reached(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch
):
    several = {"kind": "gru", "name": "gru", "width": 16, "context": 64, "batch_tokens": 2048}
    run = train(config_of(model=several))
    before = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}

    def fail(self: NetworkPredictor, *_: object) -> None:
        raise RuntimeError("boom")

    for method, left in (("fit", {"gru"}), ("score", {"gru", "gru.partial"})):
        with monkeypatch.context() as patched:
            patched.setattr(NetworkPredictor, method, fail)
            with pytest.raises(RuntimeError, match="boom"):
                train(config_of(model=several))
        assert {p.name for p in run.folder.parent.iterdir()} == left
        assert {p.name: p.stat().st_mtime_ns for p in run.folder.iterdir()} == before
    again = train(config_of(model=several, trainer={"resume": True}))
    assert {p.name for p in run.folder.parent.iterdir()} == {"gru"}
    assert again.validation == run.validation


def test_a_run_of_data_that_is_not_prepared_says_what_to_do(config_of: ConfigOf, tmp_path: Path):
    with pytest.raises(DataError, match="prepare"):
        train(config_of(processed=tmp_path / "nothing"))
    assert not (tmp_path / "outputs/orders/gru").exists()


KILLED = """
import json, os, signal, sys
from seqjourney.commands.train import train
from seqjourney.config import Config, parse
from seqjourney.models.training import JourneyTraining
original = JourneyTraining.training_step
def training_step(self, batch, batch_idx):
    if self.trainer.global_step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, batch, batch_idx)
JourneyTraining.training_step = training_step
train(parse(Config, json.load(open(sys.argv[1])), "configuration"))
"""


def test_a_run_killed_by_the_system_resumes_exactly_and_only_with_the_same_settings(
    config_of: ConfigOf, tmp_path: Path
):
    options = {"checkpoint_every_steps": 1, "max_epochs": 3}
    batches = {"kind": "gru", "name": "gru", "width": 16, "context": 64, "batch_tokens": 2048}
    config = config_of(trainer=options, model=batches)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "config.json"), "8"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    partial = tmp_path / "outputs/orders/gru.partial"
    assert (partial / "checkpoints/latest.ckpt").exists()
    assert not (tmp_path / "outputs/orders/gru").exists()
    with pytest.raises(DataError, match="no finished run"):
        find_runs(tmp_path / "outputs/orders")
    resume = options | {"resume": True}
    with pytest.raises(ConfigError, match="another configuration"):
        train(config_of(trainer=resume, model=batches | {"dropout": 0.5}))
    resumed = train(config_of(trainer=resume, model=batches))
    assert not partial.exists()
    whole = train(config_of(trainer=options, model=batches, output=tmp_path / "whole"))
    mine, other = (
        torch.load(run.folder / "model.pt", weights_only=True)["weights"]
        for run in (resumed, whole)
    )
    assert all(torch.equal(mine[name], other[name]) for name in other)
    pd.testing.assert_frame_equal(
        pd.read_parquet(resumed.folder / "predictions.parquet"),
        pd.read_parquet(whole.folder / "predictions.parquet"),
    )


def test_resuming_where_nothing_is_starts_anew_and_says_so(config_of: ConfigOf, capsys):
    train(config_of("recency", trainer={"resume": True}))
    assert "Nothing to resume" in capsys.readouterr().out


def test_resuming_a_finished_run_leaves_it_and_says_so(config_of: ConfigOf, capsys):
    run = train(config_of("recency"))
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    resume = {"resume": True, "progress": True, "threads": 1}  # how, and not what
    again = train(config_of("recency", trainer=resume))
    assert again.validation == run.validation
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    assert "is finished and left as it is" in capsys.readouterr().out
    task = config_of().task.model_dump() | {"certify": 0.5}
    with pytest.raises(ConfigError, match=r"other settings \(task.certify was 0.0, is 0.5\)"):
        train(config_of("recency", trainer=resume, task=task))
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_a_refused_resume_leaves_what_it_refused(config_of: ConfigOf, tmp_path: Path, capsys):
    partial = tmp_path / "outputs/orders/recency.partial"  # another process may be at work there
    partial.mkdir(parents=True)
    settings = config_of("recency").model_dump(mode="json")
    (partial / "settings.json").write_text(json.dumps(settings | {"seed": 7}))
    with pytest.raises(ConfigError, match="seed was 7, is 0"):
        train(config_of("recency", trainer={"resume": True}))
    assert (partial / "settings.json").exists()
    assert "Unfinished" not in capsys.readouterr().out


def test_a_run_of_another_task_is_not_replaced(config_of: ConfigOf):
    run = train(config_of("recency"))
    before = (run.folder / "run.json").read_bytes()
    task = config_of().task.model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"another task \(above was None, is 100\.0\)"):
        train(config_of("recency", task=task | {"above": 100}))
    assert (run.folder / "run.json").read_bytes() == before
    assert [path.name for path in run.folder.parent.iterdir()] == ["recency"]


def test_a_shift_beyond_the_data_says_how_far_it_may_be_and_leaves_nothing(
    config_of: ConfigOf, shop: Path, tmp_path: Path
):
    task = config_of().task.model_dump(mode="json") | {"shift": "900d"}
    with pytest.raises(DataError, match=r"task.shift=900d moves all training .* at most \d+d"):
        train(config_of("recency", task=task))
    assert not (tmp_path / "outputs").exists()
    assert not (shop / "processed/shop/tasks/shift_900d").exists()


def test_an_interrupted_run_without_checkpoints_leaves_nothing(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
):
    def fail(self: NetworkPredictor, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NetworkPredictor, "score", fail)
    several = {"kind": "gru", "name": "gru", "width": 16, "context": 64, "batch_tokens": 2048}
    with pytest.raises(KeyboardInterrupt):
        train(config_of(model=several, trainer={"checkpoint_every_steps": None}))
    assert not (tmp_path / "outputs").exists()
    assert "resume" not in capsys.readouterr().out


def test_evaluate_compares_runs_and_export_takes_its_metrics(config_of: ConfigOf, tmp_path: Path):
    for kind in ("gru", "recency", "logistic"):
        train(config_of(kind))
    folder = tmp_path / "outputs/orders"
    runs = find_runs(folder)
    assert [run.name for run in runs] == ["gru", "logistic", "recency"]
    result = evaluate(runs, folder / "report", title="Orders", replicates=50)
    models = result.metrics["tasks"]["orders"]["models"]
    assert set(models) == {"gru", "logistic", "recency"}
    assert {p.name for p in (folder / "report").iterdir()} >= {
        "metrics.json", "report.md", "report.html"
    }  # fmt: skip
    file = export(folder / "gru")
    assert file == folder / "gru/model.torchscript.pt"
    extra = {"model_card.md": ""}
    torch.jit.load(str(file), _extra_files=extra)
    found = models["gru"]["average_precision"]["value"]
    assert f"average_precision: {found:.4f}" in extra["model_card.md"].decode()


def test_evaluate_refuses_a_single_replicate(tmp_path: Path):
    with pytest.raises(ConfigError, match="replicates"):
        evaluate([tmp_path], tmp_path, title="x", replicates=1)


def test_export_refuses_a_folder_that_is_no_run(tmp_path: Path):
    with pytest.raises(DataError, match="not a run"):
        export(tmp_path)


def test_a_shifted_task_is_trained_on_what_was_known_then_and_pooled_with_the_last(
    config_of: ConfigOf, shop: Path, tmp_path: Path
):
    folder = tmp_path / "outputs/orders"
    task, known = config_of("recency").task.model_dump(), {}
    for shift in ("0d", "28d"):
        for kind in ("recency", "logistic"):
            config = config_of(kind, task=task | {"shift": shift})
            known[shift, kind] = train(config).folder
    known["0d", "seed"] = train(config_of("logistic", seed=1)).folder
    assert {str(run.relative_to(folder)) for run in known.values()} == {
        "recency", "logistic", "logistic_seed1", "shift_28d/recency", "shift_28d/logistic",
    }  # fmt: skip
    now, then = (read_json(known[shift, "logistic"] / "tokenizer.json") for shift in ("0d", "28d"))
    week = pd.Timedelta(days=7)
    assert pd.Timestamp(now["fitted_until"]) - pd.Timestamp(then["fitted_until"]) == 4 * week
    cutoffs = [
        pd.read_parquet(known[shift, "logistic"] / "predictions.parquet")["cutoff"].unique()
        for shift in ("0d", "28d")
    ]
    assert (cutoffs[0] - cutoffs[1] == 4 * week).all()
    # The calibrator of then was fitted on the validation of then.
    calibrators = [
        read_json(known[s, "logistic"] / "run.json")["calibrator"] for s in ("0d", "28d")
    ]
    assert calibrators[0] != calibrators[1]
    # Both stand beside the data, cut once each.
    tasks = shop / "processed/shop/tasks"
    assert (tasks / "orders/task.json").exists()
    assert (tasks / "shift_28d/orders/task.json").exists()
    result = evaluate(find_runs(folder), tmp_path / "report", title="t", replicates=20)
    found = result.metrics["tasks"]["orders"]["periods"]
    assert [period["first"][:10] for period in found["periods"]] == ["2023-09-17", "2023-10-15"]
    assert [period["runs"] for period in found["periods"]] == [
        {"recency": 1, "logistic": 1}, {"recency": 1, "logistic": 2},
    ]  # fmt: skip
    assert set(found["models"]) == {"recency", "logistic"}
    alone = evaluate(find_runs(folder / "shift_28d"), tmp_path / "then", title="t", replicates=20)
    then_alone = alone.metrics["tasks"]["orders"]["models"]["logistic"]["average_precision"]
    pooled = found["periods"][0]["models"]["logistic"]["average_precision"]
    assert pooled["value"] == pytest.approx(then_alone["value"])
