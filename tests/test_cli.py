"""What a user meets on the command line: help at once, and one message for what they can mend."""

import errno
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqjourney import cli
from seqjourney.commands.prepare import prepare
from seqjourney.commands.simulate import simulate, simulate_company
from seqjourney.config import DataConfig, TaskConfig, parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.hydra_errors import explain

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
HEAVY = ("torch", "pandas", "pytorch_lightning", "duckdb", "ibis", "sklearn", "lightgbm",
         "catboost", "matplotlib", "pydantic")  # fmt: skip
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
        (["simulate", "months=abc"], "error: months must be a whole number, not 'abc'."),
        (
            ["evaluate", "data=table", "data.name=nothing_of_the_kind", "replicates=5"],
            "python scripts/train.py -m data=table data.name=nothing_of_the_kind model=recency",
        ),
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


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("wrap", [lambda main: main, lambda main: lambda: cli.mendable(main)(None)])
def test_a_place_that_cannot_be_written_is_one_message(number: int, wrap, capsys):
    def main(*_: object) -> None:
        raise OSError(number, os.strerror(number), "outputs/demo")

    with pytest.raises(SystemExit) as stopped:
        cli.run(wrap(main))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: outputs/demo: {os.strerror(number)}. ")
    assert said.count("\n") == 1


def test_what_reads_only_the_first_lines_of_help_meets_no_error():
    words = f"{sys.executable} scripts/train.py --help | head -n 1"
    done = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("Trains one model")
    assert not done.stderr


def test_a_cluster_that_is_not_there_is_one_message(capsys):
    def main() -> None:
        raise RuntimeError('Could not detect "srun", are you indeed on a slurm cluster?')

    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    assert stopped.value.code == 2
    assert "error: hydra/launcher=submitit_slurm needs Slurm" in capsys.readouterr().err


def test_markup_in_names_is_printed_as_it_stands(capsys):
    cli.say("[red]a[/red] [bold")
    cli.table({"a": "left", "b": "right"}, [("[red]x", "1")])
    out = capsys.readouterr().out
    assert "[red]a[/red] [bold" in out
    assert "[red]x" in out


def test_the_command_is_shown_as_it_was_typed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["/x/scripts/train.py", "task.target=[buy]", "a=b"])
    assert cli.command_line() == "python scripts/train.py 'task.target=[buy]' a=b"


def composed(name: str, *words: str):
    """Compose a command's configuration; an error as the command line would show it."""
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return hydra.compose(name, list(words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train model=grru", "model=grru: there is no such choice. Did you mean 'gru'?"),
        ("train model=lstm", "model=lstm: there is no such choice. Known: base_rate, bgnbd, "),
        ("prepare data=dmeo", "data=dmeo: there is no such choice. Did you mean 'demo'?"),
        (
            "train model=gru,recency",
            "To run each in turn, add -m: python scripts/train.py -m model=",
        ),
        (
            "evaluate runs=a,b",
            "If they are one list, write it in brackets and quotes: 'runs=[a,b]'",
        ),
        ("simulate mnths=3", "unknown key 'mnths'. Did you mean 'months'?"),
        ("forget custmer=3", "unknown key 'custmer'. Did you mean 'customer'?"),
        ("export_customer identifer=3", "unknown key 'identifer'. Did you mean 'identifier'?"),
        ("audit taks=x", "unknown key 'taks'. Did you mean 'tasks'?"),
        (
            "prepare experiment=demo_churn",
            "prepare takes no experiment. It is about data alone: data=",
        ),
        (
            "score task=churn",
            "unknown key 'task': score takes no task. python scripts/score.py --he",
        ),
        ("evaluate runns=x", "unknown key 'runns'. Did you mean 'runs'?"),
        ("export runn=x", "unknown key 'runn'. Did you mean 'run'?"),
        ("train expriment=demo", "unknown key 'expriment'. Did you mean 'experiment'?"),
        ("train trainr.devices=2", "unknown key 'trainr.devices'. Did you mean 'trainer'?"),
        ("train data.currency=EUR", "add it as +data.currency=..."),
        (
            "train model=recency model.runs=[a,b]",
            "'model.runs' is a key of blend; this is recency.",
        ),
        ("train model=recency model.width=8", "is a key of gru, transformer; this is recency."),
        ("train model=blend model.run=[a,b]", "unknown key 'model.run'. Did you mean 'runs'?"),
        (
            "train task=next task.shift=7d",
            "'task.shift' is a key of occurrence, absence, sum, time_to; this is next.",
        ),
        (
            "train task.target=[a",
            "cannot read 'task.target=[a': write KEY=VALUE, and put what holds",
        ),
    ],
)
def test_hydras_own_words_become_ours(words: str, message: str):
    name, *overrides = words.split()
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        composed(name, *overrides)
    said = explain(caught.value, shlex.join(["python", f"scripts/{name}.py", *overrides]))
    assert message in said
    assert "Config search path" not in said


def test_a_misspelt_key_of_a_yaml_is_named_and_not_only_the_one_that_is_missing():
    cfg = composed("prepare", "data=table", "+data.custmer=id", "data.path=x", "data.timestamp=t")
    with pytest.raises(ConfigError, match=r"^unknown key 'data.custmer'. Did you mean 'customer'"):
        cli.to_plain(cfg)
    with pytest.raises(ConfigError, match=r"^'data.sources' must be given"):
        cli.to_plain(composed("prepare", "data=several", "data.name=x"))


def test_a_misspelt_key_comes_before_the_one_that_is_missing_for_it():
    source = {"knd": "segment", "path": "x"}
    with pytest.raises(ConfigError, match=r"(?s)'sources.0.knd'.*'kind'.*'sources.0.kind' is req"):
        parse(DataConfig, {"name": "x", "sources": [source]}, "data")


def test_a_target_without_brackets_is_refused_with_the_words_for_the_shell():
    task = {"name": "t", "kind": "absence", "target": "purchase", "horizon": "30d"}
    with pytest.raises(ConfigError, match=r"in quotes: 'target=\[purchase\]'"):
        parse(TaskConfig, task, "task")


def test_training_on_a_table_that_was_not_prepared_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "model=gru", "data=table", "data.name=x"])
    cfg = composed("train", "data=table", "data.name=x", f"processed={tmp_path}")
    with pytest.raises(ConfigError) as caught:
        cli.take_prepared_data(cfg)
    assert str(caught.value).endswith(
        "x is not prepared. Run first: python scripts/prepare.py data=table data.name=x "
        "data.customer=... data.path=... data.timestamp=... data.event=..."
    )


@pytest.mark.parametrize("make", [simulate, simulate_company])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"months": "abc"}, "months must be a whole number, not 'abc'."),
        ({"months": 1.5}, "months must be a whole number, not 1.5."),
        ({"months": True}, "months must be a whole number, not True."),
        ({"start": 2023}, "start must be text, such as '2023-01-01' in quotes, not 2023."),
        ({"customers": 0}, "customers must lie in 1 … 10,000,000, not 0."),
        ({"customers": -3}, "customers must lie in 1 … 10,000,000, not -3."),
        ({"custmers": 3}, "unknown key 'custmers'. Did you mean 'customers'?"),
    ],
)
def test_a_simulation_refuses_what_cannot_be_meant(make, setting, message, tmp_path):
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "raw", **setting)
    assert str(caught.value) == message
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("name", "command"),
    [("demo", "simulate.py"), ("company", "simulate.py company=true")],
)
def test_simulated_data_that_is_not_there_names_the_command(name, command, tmp_path, monkeypatch):
    monkeypatch.delenv("SEQJOURNEY_COMPANY", raising=False)
    data = parse(DataConfig, cli.to_plain(composed("prepare", f"data={name}"))["data"], "data")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"data/raw/{name} is not there yet.*{command}$"):
        prepare(data, tmp_path / "processed", progress=False)


@pytest.mark.parametrize(
    ("words", "trials"),
    [
        ([], 4),
        (["task.shift=30d"], 10),
        (["task.shift=30d", "best=demo_lightgbm"], 4),
        (["task.shift=30d", "~best"], 10),
        (["task.certify=0.5"], 10),
    ],
)
def test_settings_are_left_out_that_know_too_much(words: list[str], trials: int):
    words = ["experiment=demo", "model=lightgbm", *words]
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = hydra.compose("train", words, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        try:
            assert cli.leave_out_settings_that_know_too_much(cfg).model.trials == trials
        finally:
            HydraConfig.instance().cfg = None
