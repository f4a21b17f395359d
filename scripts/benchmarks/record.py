"""What all benchmarks share: options, ratios of interleaved runs, and the result files.

A benchmark measures its two sides in turn (A, B, A, B, ...) within one run, so that whatever else
the machine does hits both. A figure is the median of the pairs' ratios, `low` and `high` are the
lowest and the highest pair: with a handful of pairs that says more than a bootstrap would.
`results/NAME.json` and `NAME.md` are written together by `write_results`; a quick run never
touches the committed ones.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from seqjourney.cli import command_line, shown
from seqjourney.files import replacing_file, write_json
from seqjourney.provenance import describe_machine, describe_revision

RESULTS = Path(__file__).resolve().parent / "results"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True)
class Figure:
    """One published number."""

    value: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Options:
    """What every benchmark can be told."""

    quick: bool
    output: Path
    threads: int
    started: float
    more: argparse.Namespace
    """All that was given, with what a benchmark added."""


def options(
    about: str,
    argv: Sequence[str] | None = None,
    add: Callable[[argparse.ArgumentParser], None] | None = None,
) -> Options:
    """Read the command line; `add` adds options of one benchmark."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small version in under a minute; shows that it runs, not how fast",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the results (default: scripts/benchmarks/results; --quick: a new one)",
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="threads of both sides"
    )
    if add is not None:
        add(parser)
    given = parser.parse_args(argv)
    output = given.output
    if given.quick and output is not None and output.resolve() == RESULTS:
        parser.error("--quick never writes to the committed results; choose another --output")
    if output is None:
        output = Path(tempfile.mkdtemp(prefix="benchmark-")) if given.quick else RESULTS
    return Options(given.quick, output, given.threads, time.perf_counter(), given)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder for data that goes when the benchmark ends."""
    with tempfile.TemporaryDirectory(prefix="benchmark-data-") as folder:
        yield Path(folder)


def load_config(config: str, *overrides: str) -> dict[str, Any]:
    """Compose one of the package's configurations, as the scripts do."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose(config, list(overrides))
        plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def peak_mib() -> float:
    """Return this process's peak resident memory."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory before exec
        line = next(li for li in status.read_text().splitlines() if li.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def paired_ratio(above: Sequence[float], below: Sequence[float], unit: str) -> Figure:
    """Return the median of the pairs' ratios with the lowest and the highest of them."""
    import numpy as np

    ratios = np.asarray(above) / np.asarray(below)
    return Figure(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), unit)


def write_results(
    name: str, chosen: Options, figures: dict[str, Figure], rows: list[dict[str, Any]], note: str
) -> None:
    """Write `NAME.json` and `NAME.md` into the chosen folder and say where.

    Args:
        name: of the benchmark.
        chosen: its options.
        figures: the published numbers.
        rows: one mapping per measured thing; what a row lacks stays empty in the table.
        note: what the figures mean and how they were measured, for the Markdown file.
    """
    content = {
        "command": command_line().replace("python benchmarks/", "python scripts/benchmarks/"),
        "revision": describe_revision(),
        "machine": {**describe_machine(), "threads": chosen.threads},
        "seconds": round(time.perf_counter() - chosen.started, 1),
        "figures": {key: asdict(figure) for key, figure in figures.items()},
        "rows": rows,
    }
    chosen.output.mkdir(parents=True, exist_ok=True)
    text = _markdown(name, content, note, quick=chosen.quick)
    with replacing_file(chosen.output / f"{name}.md") as partial:
        partial.write_text(text, encoding="utf-8")
    write_json(chosen.output / f"{name}.json", content)
    for key, figure in figures.items():
        print(f"{key}: {figure.value:.3g} ({figure.low:.3g} to {figure.high:.3g}), {figure.unit}")
    print(f"Results: {shown(chosen.output / name)}.json and .md")


def _markdown(name: str, content: dict[str, Any], note: str, *, quick: bool) -> str:
    machine = content["machine"]
    lines = [
        f"# Benchmark: {name}",
        "",
        *(["A quick run: it shows that the benchmark works, not how fast things are.", ""] * quick),
        note,
        "",
        *_table(
            [
                {"figure": key, **{k: _shown(v) for k, v in figure.items()}}
                for key, figure in content["figures"].items()
            ]
        ),
        "",
        *_table([{k: _shown(v) for k, v in row.items()} for row in content["rows"]]),
        "",
        f"`{content['command']}` took {content['seconds']:.0f} s at revision "
        f"{content['revision'][:12]} on {machine['cpu'] or 'an unnamed CPU'} "
        f"({machine['cores']} cores, {machine['threads']} threads used, "
        f"{machine['memory_gib']} GiB).",
    ]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, str]]) -> list[str]:
    if not rows:
        return []
    head = list(dict.fromkeys(key for row in rows for key in row))
    body = [" | ".join(row.get(key, "") for key in head) for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {line} |" for line in body)]


def _shown(value: Any) -> str:
    if value is None:  # does not apply
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


@cache
def digest_of_code(*parts: str) -> str:
    """Identify the content of modules and folders of the package."""
    import seqjourney
    from seqjourney.events.ledger import sha256_of
    from seqjourney.events.log import digest

    assert seqjourney.__file__ is not None
    package = Path(seqjourney.__file__).parent
    files = []
    for part in parts:
        found = package / part
        files += sorted(found.rglob("*.py")) if found.is_dir() else [found]
    return digest([[str(file.relative_to(package)), sha256_of(file)] for file in files])
