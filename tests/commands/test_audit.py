"""The audit as a command: what it reads and writes, and what it says to a person."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seqjourney.commands.audit import audit
from seqjourney.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]


def test_it_writes_three_files_and_says_the_answer(shop: Path, tmp_path: Path, capsys):
    result = audit(shop / "processed/shop", None, tmp_path / "out", threads=1, progress=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "audit.html", "audit.json", "audit.md",
    ]  # fmt: skip
    assert json.loads(result.json.read_text()) == result.content
    printed = capsys.readouterr().out
    assert printed.startswith(result.content["answer"]["sentence"][:40])
    assert str(result.html) in printed.replace("\n", "")
    manifest = json.loads((shop / "processed/shop/manifest.json").read_text())
    assert result.content["data"]["events"] == manifest["rows"]["events"]
    assert result.content["data"]["customers"] == manifest["customers"]
    assert "orders" in result.content["tasks"]  # tests of other tasks share the shop


def test_the_report_lies_beside_the_runs_unless_told_otherwise(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = audit(shop / "processed/shop", threads=1, progress=False)
    assert result.html == Path("outputs/shop_audit/audit.html")
    assert "audit('shop', None, 'shop_audit'" in result.content["data"]["command"]


def test_prepared_data_stay_as_they_were(shop: Path, tmp_path: Path):
    files = [path for path in (shop / "processed/shop").rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    audit(shop / "processed/shop", None, tmp_path / "out", threads=1, progress=False)
    after = [path for path in (shop / "processed/shop").rglob("*") if path.is_file()]
    assert {path: path.stat().st_mtime_ns for path in after} == before


def test_tasks_of_earlier_periods_are_listed_with_their_period(shop: Path, tmp_path: Path):
    prepared = tmp_path / "shop"
    shutil.copytree(shop / "processed/shop", prepared)
    for left in (prepared / "tasks").iterdir():
        if left.name != "orders":
            shutil.rmtree(left)
    shutil.copytree(prepared / "tasks/orders", prepared / "tasks/shift_30d/orders")
    result = audit(prepared, None, tmp_path / "out", threads=1, progress=False)
    assert list(result.content["tasks"]) == ["orders", "shift_30d/orders"]
    assert "shift_30d/orders" in result.html.read_text()


def test_data_without_a_task_can_be_audited(shop: Path, tmp_path: Path):
    prepared = tmp_path / "shop"
    shutil.copytree(shop / "processed/shop", prepared, ignore=shutil.ignore_patterns("tasks"))
    result = audit(prepared, None, tmp_path / "out", threads=1, progress=False)
    rows = {row["key"]: row for row in result.content["rows"]}
    assert rows["outcomes"]["status"] == "not applicable"
    assert "task.target" in rows["outcomes"]["advice"]
    assert result.content["holdouts"] == []
    assert "What could a holdout show?" not in result.html.read_text()


def test_what_the_user_can_mend_is_said(shop: Path, tmp_path: Path):
    prepared = shop / "processed/shop"
    with pytest.raises(DataError, match="is not prepared"):
        audit(tmp_path, progress=False)
    with pytest.raises(DataError, match="Did you mean 'orders'"):
        audit(prepared, ["order"], tmp_path / "out", progress=False)
    with pytest.raises(ConfigError, match=r"holdouts=1\.5"):
        audit(prepared, None, tmp_path / "out", holdouts=[1.5], progress=False)
    assert not (tmp_path / "out").exists()


def test_a_damaged_log_is_named_and_leaves_no_half_report(shop: Path, tmp_path: Path):
    prepared = tmp_path / "shop"
    shutil.copytree(shop / "processed/shop", prepared)
    file = next((prepared / "events").glob("*/*.parquet"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"part-0\.parquet"):
        audit(prepared, None, tmp_path / "out", threads=1, progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_script_audits_what_was_prepared(shop: Path, tmp_path: Path):
    words = ["data=demo", "data.name=shop", f"processed={shop / 'processed'}", "data.threads=1"]
    words += [f"output={tmp_path}", "tasks=orders", "holdouts=[0.2]"]
    done = subprocess.run(
        [sys.executable, "scripts/audit.py", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "shop_audit/audit.json").read_text())
    assert [plan["share"] for plan in content["holdouts"]] == [0.2]
    assert content["data"]["command"].startswith("python scripts/audit.py data=demo")
