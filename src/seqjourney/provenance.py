"""Where a result comes from: the revision of the code, the machine, the versions of libraries."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path


def describe_revision() -> str:
    """Return the git revision of the code, with `+changes` when it is not committed."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return f"seqjourney {metadata.version('seqjourney')}"  # installed, not cloned


def describe_versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    names = ("seqjourney", "torch", "pytorch-lightning", "lightgbm", "scikit-learn", "duckdb")
    versions = {"python": platform.python_version(), **{n: metadata.version(n) for n in names}}
    with suppress(metadata.PackageNotFoundError):  # an extra
        versions["catboost"] = metadata.version("catboost")
    return versions


_NEXT = ("next_model.pt", "counts.npz")  # of runs of next tasks


def model_fingerprint(run: Path) -> str:
    """Identify the trained model of a run folder by its content, wherever the run lies."""
    from seqjourney.events.ledger import sha256_of
    from seqjourney.events.log import digest

    files = [run / name for name in ("run.json", "model.pt", "model.json", *_NEXT)]
    files += sorted(run.glob("trees.*")) + sorted((run / "members").rglob("*.*"))
    return digest([sha256_of(file) for file in files if file.exists()])


def describe_machine() -> dict[str, object]:
    """Return what a speed depends on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.platform(terse=True),
        **describe_versions(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((li.split(":")[1].strip() for li in lines if li.startswith("model name")), "")
