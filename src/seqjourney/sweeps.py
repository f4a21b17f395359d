"""What `configs/sweep` needs for a search to go on after an interruption, as OmegaConf resolvers.

The Optuna sweeper opens the study that it finds, but counts trials and names runs from 0 again, and
a sampler with the seed of the start would try the settings of the start. So a second start asks for
what is missing, numbers on, and draws with another seed. Nothing heavy is imported here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_BEFORE = "SEQJOURNEY_TRIALS_BEFORE"


def register() -> None:
    """Make the resolvers known; each process that reads a configuration needs them."""
    known: dict[str, Callable[..., Any]] = {
        "existing_folder": existing_folder,
        "trials_before": trials_before,
        "trials_left": trials_left,
        "trial": trial,
        "shifted": shifted,
    }
    for name, resolver in known.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def existing_folder(path: str) -> str:
    """Make a folder: a sweep's study is opened before Hydra makes the sweep's folder."""
    Path(path).mkdir(parents=True, exist_ok=True)
    return path


def trials_before(folder: str) -> int:
    """Return how many trials, finished or not, a folder's study had when this sweep began.

    It is kept in the environment: jobs in other processes, which start later, number alike.
    """
    return int(os.environ.setdefault(_BEFORE, str(_count(folder))))


def trials_left(wanted: int, folder: str) -> int:
    """Return how many of the wanted trials a folder's study still lacks."""
    return max(0, wanted - _count(folder, "WHERE state = 'COMPLETE'"))


def trial(number: int, folder: str) -> int:
    """Return the number of a trial in its study, from its number in this sweep."""
    return trials_before(folder) + number


def shifted(shift: str) -> str:
    """Return the end of a name by which a search on an earlier period has a study of its own."""
    return "" if re.fullmatch(r"0+\s*\w", shift) else f"_shift_{shift}"


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
