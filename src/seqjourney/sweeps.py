"""What `configs/sweep` needs for a search to go on after an interruption.

The Optuna sweeper opens the study that it finds, but runs as many trials as ever, names their runs
from 0 again, and a sampler with the seed of the start would try the settings of the start. So a
second start asks for what is missing, numbers on, and draws with another seed (`Search`). Nothing
heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

_HOW = ("resume", "progress", "threads", "workers", "checkpoint_every_steps")
"""Settings of the trainer that say how, not what."""


def register() -> None:
    """Make the resolvers known; each process that reads a configuration needs them."""
    known: dict[str, Callable[..., Any]] = {
        "existing_folder": existing_folder,
        "trial": trial,
        "shifted": shifted,
        "certified": certified,
    }
    for name, resolver in known.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


class Search(Callback):
    """Makes `hydra.sweeper.n_trials` the number of finished trials that a study is to have.

    Every job of the sweep is told as well how many there were before, finished or not: in whatever
    process and however late it starts, it numbers alike.
    """

    def __init__(self, before: int = 0):
        self.before = before

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Leave the sweeper only what is missing, and say so where something is there."""
        from seqjourney.cli import say, shown

        folder, wanted = config.hydra.sweep.dir, config.hydra.sweeper.n_trials
        _keep_to_one_search(config, Path(folder))
        finished = _count(folder, "WHERE state = 'COMPLETE'")
        left = max(0, wanted - finished)
        hydra, before = config.hydra, _count(folder)
        with read_write(hydra):
            hydra.sweeper.n_trials = left
            hydra.overrides.hydra.append(f"hydra.callbacks.search.before={before}")
            if hydra.sweeper.sampler.seed is None:
                hydra.sweeper.sampler.seed = before
        if finished:
            more = f"{left} more to go." if left else "Ask for more with hydra.sweeper.n_trials=..."
            place = shown(Path(folder))
            say(f"{place}: {finished} trials are finished, {wanted} are asked for. {more}")


def _keep_to_one_search(config: DictConfig, folder: Path) -> None:
    """Stop where a study holds trials of other data or settings: its best would be that of neither.

    An exception would not do: Hydra makes a warning of those of a callback.
    """
    from seqjourney.cli import shown, stop
    from seqjourney.files import read_json, write_json

    kept = OmegaConf.masked_copy(config, ["model", "task", "trainer", "seed"])
    settings: Any = OmegaConf.to_container(kept)  # unresolved: interpolations are settings too
    for key in _HOW:
        settings.get("trainer", {}).pop(key, None)
    manifest = Path(config.processed) / config.data.name / "manifest.json"
    if manifest.is_file():
        settings["data"] = read_json(manifest)["fingerprint"]
    file = folder / "search.json"
    begun = file.is_file() and _count(str(folder), "WHERE state = 'COMPLETE'")
    others = sorted(_differing(read_json(file), settings)) if begun else []
    if others:
        stop(
            f"{shown(folder)} holds a search with other settings ({', '.join(others)}). Give this "
            "one a name=... of its own, or delete that folder to begin anew.",
            2,
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, settings)


def _differing(a: Any, b: Any, key: str = "") -> list[str]:
    """Return the keys under which two plain configurations differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        each = ((a.get(k), b.get(k), f"{key}.{k}".strip(".")) for k in a.keys() | b.keys())
        return [name for one, other, k in each for name in _differing(one, other, k)]
    return [key] if a != b else []


def existing_folder(path: str) -> str:
    """Make a folder: a sweep's study is opened before Hydra makes the sweep's folder."""
    Path(path).mkdir(parents=True, exist_ok=True)
    return path


def trial(number: int, before: int) -> int:
    """Return the number of a trial in its study, from its number in this sweep."""
    return before + number


def shifted(shift: str) -> str:
    """Return the end of a name by which a search on an earlier period has a study of its own.

    Raises:
        ConfigError: it is no time span.
    """
    from seqjourney.config import period_of

    period = period_of(shift)
    return f"_{period}" if period else ""


def certified(share: float) -> str:
    """Return the end of a name by which a search without the gate's customers has its own study."""
    return f"_certify_{float(share):g}" if float(share) else ""


def _count(folder: str, where: str = "") -> int:
    import sqlite3
    from contextlib import closing

    file = Path(folder) / "study.db"
    if not file.exists():
        return 0
    with closing(sqlite3.connect(file)) as database:
        try:
            return int(database.execute(f"SELECT COUNT(*) FROM trials {where}").fetchone()[0])
        except sqlite3.OperationalError:  # made, and interrupted before the first trial
            return 0
