"""What a user meets on the command line: help at once, and one message for what they can mend."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from seqjourney import cli
from seqjourney.errors import ConfigError, DataError

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
HEAVY = ("torch", "pandas", "pytorch_lightning", "duckdb", "ibis", "sklearn", "lightgbm",
         "matplotlib", "pydantic")  # fmt: skip
GROUPS = {
    "train": ("data", "experiment", "model", "sweep", "task", "trainer"),
    "prepare": ("data",),
}

HELP = """
import atexit, runpy, sys
heavy = sys.argv[1].split(",")
sys.argv = sys.argv[2:]
atexit.register(lambda: print("LOADED", [name for name in heavy if name in sys.modules]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def script(name: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, f"scripts/{name}.py", *words], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_answers_without_heavy_imports(name: str):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HELP, ",".join(HEAVY), f"scripts/{name}.py", "--help"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    # Shown by `pytest -rP`; a busy machine must not fail the test.
    sys.stdout.write(f"{name} --help: {time.monotonic() - started:.1f} s\n")
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout, done.stdout.splitlines()[-1]
    assert "Writes " in done.stdout
    assert name == "simulate" or "Reads " in done.stdout
    assert "Try     python scripts/" in done.stdout
    for group in GROUPS.get(name, ()):
        assert f"\n{group}: " in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "model.widht=3"], "unknown key 'model.widht'. Did you mean 'width'?"),
        (["train", "trainr.devices=2"], "unknown key 'trainr.devices'."),
        (["train", "trainer.max_epoch=2"], "Did you mean 'max_epochs'?"),
        (["train", "model.width=wide"], "model.width"),
        (["train", "model.dropout=1.5"], "model.dropout"),
        (["train", "task.horizon=30"], "a duration needs a unit"),
        (["train", "model=lstm"], "lstm"),
        (["train", "experiment=demmo"], "demmo"),
        (["prepare", "data.customr=id"], "Did you mean 'customer'?"),
        (["prepare", "data=table"], "'data.path' must be given"),
        (["export"], "'run' must be given, as run=..."),
        (["export", "run=nowhere"], "nowhere is not a run"),
        (["simulate", "months=0"], "months"),
        (["simulate", "custmers=5"], "custmers"),
        (["evaluate", "name=nothing_of_the_kind"], "holds no finished run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_user_can_mend_is_one_message_and_status_2(words: list[str], message: str):
    done = script(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    # Hydra names the failed job's overrides on a line of its own.
    assert done.stderr.split("\n", 1)[done.stderr.startswith("Error exec")].startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "HYDRA_FULL_ERROR" not in done.stderr


@pytest.mark.parametrize("error", [ConfigError("a key"), DataError("a file")])
def test_our_errors_become_a_message_and_status_2(error: Exception, capsys):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_bug_keeps_its_traceback():
    def main() -> None:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError):
        cli.run(main)


def test_an_interruption_ends_with_the_shells_status(capsys):
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    assert stopped.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_missing_value_is_named():
    with pytest.raises(ConfigError, match=r"data\.path"):
        cli.to_plain(OmegaConf.create({"data": {"path": "???"}}))
    with pytest.raises(ConfigError, match="nothing"):
        cli.to_plain(OmegaConf.create({"a": "${nothing}"}))


def test_markup_in_names_is_printed_as_it_stands(capsys):
    cli.say("[red]a[/red] [bold")
    cli.table({"a": "left", "b": "right"}, [("[red]x", "1")])
    out = capsys.readouterr().out
    assert "[red]a[/red] [bold" in out
    assert "[red]x" in out


def test_the_command_is_shown_as_it_was_typed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["/x/scripts/train.py", "task.target=[buy]", "a=b"])
    assert cli.command_line() == "python scripts/train.py 'task.target=[buy]' a=b"
