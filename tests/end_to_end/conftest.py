"""Fixtures of the end-to-end tests: the scripts' real command lines, and a shop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from composed_configs import ROOT

Script = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def script() -> Script:
    """Run `python scripts/NAME.py ...` from the repository, as a user does."""

    # Small tensors gain nothing from threads, and on a busy machine lose tenfold.
    environment = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}

    def run(name: str, *words: str, status: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, f"scripts/{name}.py", *words],
            cwd=ROOT, capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, script: Script) -> Path:
    """A folder with a simulated shop (`raw/`), prepared (`processed/demo`) by the scripts."""
    folder = tmp_path_factory.mktemp("shop")
    script("simulate", "customers=300", f"output={folder / 'raw'}")
    done = script(
        "prepare", "data=demo", f"data.path={folder / 'raw/events.parquet'}",
        f"processed={folder / 'processed'}",
    )  # fmt: skip
    assert "Next: python scripts/train.py" in done.stdout
    return folder


@pytest.fixture(scope="session")
def in_shop(shop: Path) -> list[str]:
    """Words that let `train` find the shop."""
    return [f"processed={shop / 'processed'}", f"data.path={shop / 'raw/events.parquet'}"]
