"""What all scripts share: Hydra's configuration in, one calm message out when the user can mend it.

Kept light: `--help` of every script imports this and nothing heavier.
"""

from __future__ import annotations

import errno
import functools
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import OmegaConf

from seqjourney import sweeps
from seqjourney.errors import ConfigError, SeqjourneyError

sweeps.register()  # here, so that a launcher's worker, which imports this, has them too


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra entry point; say in one message what is wrong with a command line."""
    # Hydra would print its own digest of an exception; we want the exception itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        _refuse_two_searches(sys.argv[1:])
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as the shell says of a process that a closed pipe ends
    except SeqjourneyError as error:
        stop(str(error), 2)
    except KeyboardInterrupt:
        stop("interrupted.", 130)
    except Exception as error:
        if place := _no_place(error):
            stop(place, 2)
        kind = type(error).__module__.split(".")[0]
        if kind in ("hydra", "omegaconf"):
            from seqjourney.hydra_errors import explain

            stop(explain(error, command_line()), 2)
        if kind == "submitit":
            stop(f"a job failed; others may still run.\n{error}", 1)
        if isinstance(error, RuntimeError) and "are you indeed on a slurm cluster" in str(error):
            stop(
                "hydra/launcher=submitit_slurm needs Slurm, and there is no 'srun' here. Start it "
                "on a machine of the cluster, or take hydra/launcher=joblib.",
                2,
            )
        if kind == "yaml":
            place = " ".join(str(getattr(error, "problem_mark", "")).split())
            stop(f"not valid YAML {place}: {getattr(error, 'problem', error)}.", 2)
        raise


def _nobody_reads() -> bool:
    """Whether what we print to has closed, such as `head`, which has seen enough."""
    import select

    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _refuse_two_searches(words: Sequence[str]) -> None:
    """Refuse `sweep=gru,transformer`: Hydra would run each once and search neither."""
    for word in words:
        key, _, value = word.partition("=")
        if key.lstrip("+") == "sweep" and "," in value:
            raise ConfigError(f"{word}: one search at a time; run the command once for each.")


def mendable(main: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Stop with one message at an error that the user can mend, before Hydra adds its own lines."""

    @functools.wraps(main)
    def wrapped(cfg: Any) -> Any:
        try:
            return main(cfg)
        except SeqjourneyError as error:
            return stop(str(error), 2)
        except OSError as error:
            if place := _no_place(error):
                return stop(place, 2)
            raise

    return wrapped


_NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}


def _no_place(error: Exception) -> str | None:
    """Return what to do about a file that the system lets nobody read or write, if it is that."""
    if not isinstance(error, OSError) or error.errno not in _NO_PLACE:
        return None
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{what}. Make room or give permission there, or name another folder (output=...)."


def to_plain(cfg: Any) -> dict[str, Any]:
    """Resolve a Hydra config into plain containers.

    Raises:
        ConfigError: a required value is missing or an interpolation has no value.
    """
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        from seqjourney.hydra_errors import missing_or_misspelt

        raise ConfigError(missing_or_misspelt(cfg, str(error.full_key))) from None
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def take_prepared_data(cfg: Any) -> Any:
    """Fill in the data config of a table that was prepared from the command line.

    Who has run `prepare.py data=table data.name=mine data.path=...` need not repeat the columns:
    `data=table data.name=mine` finds them in the prepared folder's manifest.

    Raises:
        ConfigError: columns are missing, and nothing is prepared under the name.
    """
    from seqjourney.events.log import read_manifest

    missing = OmegaConf.missing_keys(cfg.data)
    if not missing:
        return cfg
    prepared = Path(cfg.processed) / cfg.data.name
    if not (prepared / "manifest.json").exists():
        given = [word for word in sys.argv[1:] if word.startswith("data")]
        asked = [f"{key}=..." for key in sorted(missing)]
        if cfg.data.get("event") is None and cfg.data.get("event_name") is None:
            asked.append("data.event=...")
        words = shlex.join(["python", "scripts/prepare.py", *given, *asked])
        raise ConfigError(f"{shown(prepared)} is not prepared. Run first: {words}")
    known = read_manifest(prepared)["config"]
    engine = {key: cfg.data[key] for key in ("memory_limit", "threads")}
    OmegaConf.set_struct(cfg, False)  # a manifest names every key, a YAML only its kind's
    return OmegaConf.merge(cfg, {"data": {**known, **engine}})


def leave_out_settings_that_know_too_much(cfg: Any) -> Any:
    """Compose a run again without `configs/best`, where that was chosen on what it may not know.

    A sweep chose it on the whole last validation. That comes after the test of an earlier period
    (`task.shift`), and its customers are those whom `task.certify` keeps for the gate alone. A
    `best=` on the command line is obeyed all the same.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    told = HydraConfig.get()
    best = told.runtime.choices.get("best")
    if any(word.lstrip("+").startswith("best=") for word in told.overrides.task):
        return cfg
    if best not in GlobalHydra.instance().config_loader().get_group_options("best"):
        return cfg
    if sweeps.shifted(cfg.task.get("shift", "0d")):
        why = "it was found in a later period than task.shift asks for"
    elif cfg.task.get("certify"):
        why = "it was chosen on the customers whom task.certify keeps for the gate, too"
    else:
        return cfg
    say(f"best={best} is left out: {why}.")
    return hydra.compose(told.job.config_name, [*told.overrides.task, "~best"])


def check_search() -> None:
    """Refuse a search that was asked for in a single run.

    Raises:
        ConfigError: `sweep` is given without -m.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    told = HydraConfig.get()
    search = told.runtime.choices.get("sweep")
    if search is not None and told.mode == RunMode.RUN:
        words = shlex.join(["python", "scripts/train.py", "-m", *told.overrides.task])
        raise ConfigError(f"sweep={search} is a search over many runs and needs -m: {words}")


def take_other_tasks(settings: dict[str, Any]) -> dict[str, Any]:
    """Read the task configs that `also` names; they are of the main task's test period.

    Raises:
        ConfigError: `also` is no mapping of names to weights, or names a `next` task.
    """
    import hydra

    also = settings.get("also") or {}
    if not isinstance(also, dict):
        raise ConfigError(
            f"also: names of tasks with their weights are needed: 'also={{demo_ltv: 0.5}}' (got "
            f"{also!r})"
        )
    tasks = {name: to_plain(hydra.compose("train", [f"task={name}"]))["task"] for name in also}
    for name, task in tasks.items():
        if task.get("kind") == "next":
            raise ConfigError(f"also names '{name}', a next task, which is learned alone.")
    # When, and who is kept apart, is the same of all of them.
    same = {key: settings["task"][key] for key in ("shift", "customer_holdout", "certify")}
    return settings | {
        "also": [{"task": tasks[name] | same, "weight": also[name]} for name in also]
    }


def say(*lines: str) -> None:
    """Print lines for the user; paths and tables included."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    for line in lines:
        console.print(line)


def table(columns: Mapping[str, str], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table; `columns` maps headings to `left` or `right`."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False)
    for heading, side in columns.items():
        drawn.add_column(heading, justify="right" if side == "right" else "left")
    for row in rows:
        drawn.add_row(*map(escape, row))
    Console(highlight=False).print(drawn)


def shown(path: Path) -> str:
    """Return a path as a person in this folder would write it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def alone() -> bool:
    """Whether no other process of a launcher draws on the same screen: bars would garble."""
    import multiprocessing

    return multiprocessing.current_process().name == "MainProcess"


def command_line() -> str:
    """Return the command that is running, as a person would type it again."""
    script = Path(sys.argv[0])
    words = [f"{script.parent.name}/{script.name}", *sys.argv[1:]]
    return shlex.join(["python", *words])


def stop(message: str, status: int) -> NoReturn:
    """End the program with a message; its status tells a shell that something failed."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(status)
