"""How much longer `prepare` takes than a bare DuckDB sort of the same events.

Ours: `commands.prepare.prepare` without tasks, i.e. cleaning, duplicates, the sorted event log in
16 buckets, the manifest, and the sequence store. Bare: one `COPY (SELECT ... ORDER BY ...)` of the
same columns to one zstd Parquet file. Same input (2 million simulated events), memory limit and
threads; each run in a process of its own, whose peak memory is its own, imports not counted.
"""

from __future__ import annotations

import io
import multiprocessing
import resource
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

from record import (  # type: ignore[import-not-found]  # its folder is sys.path[0]
    Figure,
    load_config,
    options,
    paired_ratio,
    scratch,
    write_results,
)

NOTE = """`ratio_to_bare_duckdb`: seconds of our whole `prepare` (event log and sequence store) by
seconds of a bare DuckDB `COPY (SELECT ... ORDER BY customer_id, timestamp, event_id)` of the same
columns into one zstd Parquet file. Median over {pairs} interleaved pairs, each run in a fresh
process; low and high are the lowest and the highest pair. Rows show medians; `log` and `store`
are the two stages of ours; memory is the highest peak (resident) of a process."""
COLUMNS = (
    "customer_id, event_id, timestamp, known_at, event, actor, channel, value, "
    "device, country, page_type, waiting_hours, discount_percent"
)


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    customers, pairs = (1_500, 2) if chosen.quick else (30_000, 7)
    import pyarrow.parquet as pq

    from seqjourney.simulation import ShopConfig, write_shop

    with scratch() as folder:
        raw = write_shop(ShopConfig(customers=customers), folder / "raw")
        events = pq.read_metadata(raw).num_rows
        data = load_config("prepare", "data=demo", f"data.path={raw}")["data"]
        data |= {"threads": chosen.threads, "tasks": []}
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
        for pair in range(-1, pairs):  # the first pair only warms the disk's cache
            for side, work in (("ours", _ours), ("bare", _bare)):
                measured = _in_own_process(work, data, folder / f"{side}{pair}")
                if pair >= 0:
                    runs[side].append(measured)
    ours, bare = runs["ours"], runs["bare"]
    stages = [("prepare", ours, "seconds"), ("log", ours, "log"), ("store", ours, "store")]
    stages.append(("bare duckdb", bare, "seconds"))
    rows = [
        {
            "what": what,
            "events": events,
            "seconds": round(seconds := median(run[key] for run in side), 3),
            "events_per_second": round(events / seconds),
            "peak_memory_mib": round(max(run["peak_mib"] for run in side)),
        }
        for what, side, key in stages
    ]
    figures: dict[str, Figure] = {
        "ratio_to_bare_duckdb": paired_ratio(
            [run["seconds"] for run in ours],
            [run["seconds"] for run in bare],
            "times as long as bare DuckDB, lower is better",
        )
    }
    write_results("prepare", chosen, figures, rows, NOTE.format(pairs=pairs))


def _in_own_process(work: Any, data: dict[str, Any], folder: Path) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (data, folder))


def _ours(data: dict[str, Any], folder: Path) -> dict[str, float]:
    import ibis.backends.duckdb  # noqa: F401 - what a process imports is not what we measure
    import pandas  # noqa: F401
    import rich.console  # noqa: F401

    from seqjourney.commands import prepare
    from seqjourney.config import DataConfig, parse

    taken = {}

    def timed(stage: str, function: Any) -> Any:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            taken[stage] = time.perf_counter() - start
            return result

        return run

    prepare.write_event_log = timed("log", prepare.write_event_log)
    prepare.write_store = timed("store", prepare.write_store)
    config = parse(DataConfig, data, "data")
    with redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        prepare.prepare(config, folder, progress=False)
        taken["seconds"] = time.perf_counter() - start
    return {**taken, "peak_mib": _peak_mib()}


def _bare(data: dict[str, Any], folder: Path) -> dict[str, float]:
    import duckdb

    folder.mkdir()
    start = time.perf_counter()
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {data['threads']}")
        connection.execute(f"SET memory_limit = '{data['memory_limit']}'")
        connection.execute(f"SET temp_directory = '{folder / 'spill'}'")
        connection.execute(
            f"COPY (SELECT {COLUMNS} FROM read_parquet('{data['path']}') "
            f"ORDER BY customer_id, timestamp, event_id) TO '{folder / 'events.parquet'}' "
            "(FORMAT parquet, COMPRESSION zstd)"
        )
    return {"seconds": time.perf_counter() - start, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    """Return this process's peak resident memory."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory before exec
        line = next(li for li in status.read_text().splitlines() if li.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
