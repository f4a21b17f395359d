"""What Hydra and OmegaConf say of a command line → one message in our words.

Only imported when something is wrong, so that `--help` stays light.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from seqjourney.config import Config, NextConfig, kinds_with, nearest, siblings

_LEAVE_NO_KEY = ("experiment", "sweep")
"""Groups of `train` and `evaluate` that can be chosen though no key is called so."""
_GROUPS = ("data", "task", "model", "trainer", "logger", *_LEAVE_NO_KEY)


_OF_DATA = ("prepare", "audit")
"""Commands about data alone, which an experiment names."""
_DATA = "override /data"
_EXTRAS = {
    "hydra/launcher": {
        "joblib": "launchers", "submitit_local": "launchers", "submitit_slurm": "launchers",
    },
    "hydra/sweeper": {"optuna": "sweep"},
    "hydra/sweeper/sampler": {"tpe": "sweep"},
}  # fmt: skip
"""Choices that a plugin brings, and the extra that installs it."""


def _extra(name: str) -> str:
    return f"seqjourney[{name}]"


def explain(error: Exception, command: str) -> str:
    """Say what is wrong, with the nearest known name.

    Args:
        error: of Hydra or OmegaConf.
        command: the command line, as a person would type it again.
    """
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    text = str(error)
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        group, name = str(error.missing_cfg_file).rsplit("/", 1)
        if group in _EXTRAS and name in _EXTRAS[group]:
            return f"{group}={name} needs an extra: pip install '{_extra(_EXTRAS[group][name])}'."
        return f"{group}={name}: there is no such choice.{nearest(name, error.options or [])}"
    if several := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'", text):
        return _several_values(several[1], command)
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read '{error.override}': write KEY=VALUE, and put what holds brackets, blanks "
            "or quotes in quotes as a whole: 'task.target=[purchase,renewal]'."
        )
    if no_group := re.search(r"Could not override '([^']+)'\. No match in the defaults", text):
        return _unknown_group(no_group[1], command)
    unknown = re.search(r"Could not override '([^']+)'", text)
    refused = next(
        (cause for cause in causes if isinstance(cause, AttributeError | KeyError)), None
    )
    if unknown and refused is not None and "not in struct" in str(refused):
        return _unknown_key(unknown[1], refused)
    missing = re.search(r"Missing mandatory value: (\S+)", " ".join(map(str, causes)))
    if missing:
        return must_be_given(missing[1])
    said = text.split("Config search path:")[0]
    lines = [line for line in said.splitlines() if line.strip()]
    ours = [line for line in lines if "HYDRA_FULL_ERROR" not in line and "hydra.cc" not in line]
    return "\n".join(ours)


def missing_or_misspelt(cfg: Any, missing: str) -> str:
    """Say that a required key is missing; where unknown ones stand in its place, name those.

    Args:
        cfg: OmegaConf of a command, with the groups of `Config`.
        missing: the full key.
    """
    from pydantic import ValidationError

    try:
        Config.model_validate(OmegaConf.to_container(cfg, resolve=False))
    except ValidationError as error:
        extra = [
            [str(p) for p in e["loc"]] for e in error.errors() if e["type"] == "extra_forbidden"
        ]
        # A command has keys of its own beside the groups; within these each must be known.
        lines = [
            f"unknown key '{'.'.join(path)}'.{nearest(path[-1], siblings(Config, path))}"
            for path in extra
            if len(path) > 1
        ]
        if lines:
            return "\n".join(lines)
    return must_be_given(missing)


def must_be_given(key: str) -> str:
    """Say how to give a value."""
    return f"'{key}' must be given, as {key}=..."


def _several_values(word: str, command: str) -> str:
    key, _, values = word.partition("=")
    script, _, rest = command.partition(".py")
    each = f"{word} gives several values. To run each in turn, add -m: {script}.py -m{rest}"
    if key in _GROUPS:
        return each
    return f"{each}\nIf they are one list, write it in brackets and quotes: '{key}=[{values}]'"


def _unknown_group(group: str, command: str) -> str:
    """Say what a command takes in the place of a config group that it does not know."""
    script = re.search(r"(\w+)\.py", command)
    name = script[1] if script else "this command"
    said = f"unknown key '{group}': {name} takes no {group}."
    chosen = re.search(rf"\b{group}=(\w+)", command)
    if group != "experiment" or chosen is None or name not in _OF_DATA:
        return f"{said} python scripts/{name}.py --help lists what it takes."
    file = Path(sys.argv[0]).resolve().parents[1] / f"configs/experiment/{chosen[1]}.yaml"
    told: Any = OmegaConf.load(file) if file.is_file() else {}
    data = [each[_DATA] for each in told.get("defaults", []) if _DATA in each]
    return f"{said} It is about data alone: data={data[0] if data else '...'}"


def _unknown_key(key: str, refused: BaseException) -> str:
    """Name the nearest of the keys that stand where one was refused."""
    path = key.split(".")
    place = getattr(refused, "parent_node", None)
    kind = place.get("kind") if isinstance(place, DictConfig) else None
    schema = NextConfig if kind == "next" else Config
    chosen = [*path[:-1], str(kind), path[-1]] if kind else path
    if len(path) > 1 and path[-1] in siblings(schema, chosen):
        return f"'{key}' stands nowhere in this configuration yet; add it as +{key}=..."
    if kind and (others := kinds_with(Config, path) + kinds_with(NextConfig, path)):
        return f"'{key}' is a key of {', '.join(dict.fromkeys(others))}; this is {kind}."
    known = {str(name) for name in place} if isinstance(place, DictConfig) else set()
    known |= set(_LEAVE_NO_KEY) if "trainer" in known else set()
    word = str(getattr(refused, "key", None) or path[-1])
    known -= {"hydra"}
    return f"unknown key '{key}'." + (nearest(word, known) if known else "")
