"""Processes that do the work of one side, so that neither side lives in the other's memory.

The benchmark asks with a line of JSON, the process answers with one: `Side` is the asking end,
`answer` the answering one. What a process prints besides goes to a file, whose end is shown when
the process fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from record import peak_mib  # type: ignore[import-not-found]  # its folder is sys.path[0]

HERE = Path(__file__).resolve().parent
Work = Callable[..., Mapping[str, Any]]


class Side:
    """One side of a comparison: `side("train", batches=10)` runs that work of its script."""

    def __init__(
        self, script: str, threads: int, log: Path, *, fresh: bool, packages: Path | None = None
    ):
        """Describe the processes.

        Args:
            script: a file beside this one that calls `answer`.
            threads: of every library.
            log: what the processes print.
            fresh: a new process for each work, whose peak memory then is the work's own.
            packages: a folder of packages beside those of our own environment.
        """
        self._command = [sys.executable, str(HERE / script)]
        self._log, self._fresh = log, fresh
        self._process: subprocess.Popen[str] | None = None
        paths = [str(packages)] if packages else []
        paths += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
        self._environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(paths),
        }

    def __call__(self, work: str, **given: Any) -> dict[str, Any]:
        """Do one work and return what it measured."""
        if self._process is None:
            with self._log.open("a") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=self._environment,
                )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([work, given]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            end = self._log.read_text()[-3000:]
            raise SystemExit(f"{Path(self._command[1]).name} failed at '{work}':\n{end}")
        if self._fresh:
            self.close()
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def answer(works: Mapping[str, Work]) -> None:
    """Do works as they are asked for, until the other end closes."""
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        work, given = json.loads(line)
        measured = {**works[work](**given), "peak_mib": peak_mib()}
        print(json.dumps(measured), file=replies, flush=True)
