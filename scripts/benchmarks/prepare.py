"""How much longer `prepare` takes than DuckDB reading, sorting and writing the same rows.

Three inputs. `table`: two million simulated events of known customers in one Parquet file; ours is
cleaning, duplicates, the sorted event log in 16 buckets, the manifest, and the sequence store.
`parquet` and `jsonl`: twenty million raw calls of one tool, where ours also resolves identities,
names, channels, money and consent, and accounts for every row. Bare: one `COPY (SELECT ... ORDER
BY ...)` of the same columns to one zstd Parquet file. Same memory limit and threads; each run in a
process of its own, whose peak memory is its own, imports not counted.
"""

from __future__ import annotations

import io
import multiprocessing
import shutil
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
from raw_exports import write_exports  # type: ignore[import-not-found]
from record import (  # type: ignore[import-not-found]  # its folder is sys.path[0]
    Figure,
    load_config,
    options,
    paired_ratio,
    peak_mib,
    scratch,
    write_results,
)

NOTE = """Seconds of our whole `prepare` by seconds of a bare DuckDB `COPY (SELECT ... ORDER BY
customer, time, id)` of the same rows into one zstd Parquet file, each run in a fresh process.
`ratio_to_bare_duckdb`: {events:,} events of known customers, median over {pairs} interleaved pairs
(low and high: the lowest and the highest). `ratio_to_bare_duckdb_parquet` and `_jsonl`:
{raw:,} raw calls through the whole of `prepare` with identities, names, channels, money and
consent, {raw_pairs} pair each, memory limit 4GB. Rows show medians; `log` and `store` are the two
stages of ours; memory is the highest peak (resident) of a process, and `peak_memory_gib` the
highest of ours on raw calls."""
COLUMNS = (
    "customer_id, event_id, timestamp, known_at, event, actor, channel, value, "
    "device, country, page_type, waiting_hours, discount_percent"
)
LOWER = "times as long as bare DuckDB, lower is better"
Runs = dict[str, list[dict[str, float]]]


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    customers, pairs, raw_customers, copies, raw_pairs = (
        (1_500, 2, 300, 1, 1) if chosen.quick else (30_000, 7, 36_000, 8, 1)
    )
    figures: dict[str, Figure] = {}
    rows: list[dict[str, Any]] = []
    with scratch() as folder:
        shop = _shop(folder, customers)
        events = pq.read_metadata(shop).num_rows
        data = load_config("prepare", "data=demo", f"data.path={shop}")["data"]
        data |= {"threads": chosen.threads, "tasks": []}
        select = (COLUMNS, f"read_parquet('{shop}')", "customer_id, timestamp, event_id")
        runs = _compare(data, select, folder / "table", pairs, warm=True)
        figures["ratio_to_bare_duckdb"] = _ratio(runs)
        rows += _rows("table", events, runs)
    with scratch() as folder:
        shop = _shop(folder, raw_customers)
        parquet, lines = write_exports(shop, folder, copies, chosen.threads)
        raw = pq.read_metadata(parquet / "events.parquet").num_rows
        peaks = []
        for form, path, select in (
            ("parquet", parquet, ("*", f"'{parquet}/*.parquet'", "user_id, timestamp, id")),
            ("jsonl", lines, ("*", f"'{lines}'", '"userId", "timestamp", "messageId"')),
        ):
            source = {"kind": "segment", "path": str(path)}
            data = {"name": form, "sources": [source], "currency": "EUR"}
            data |= {"threads": chosen.threads, "memory_limit": "4GB"}
            runs = _compare(data, select, folder / form, raw_pairs, warm=False)
            figures[f"ratio_to_bare_duckdb_{form}"] = _ratio(runs)
            rows += _rows(form, raw, runs)
            peaks.append(max(run["peak_mib"] for run in runs["ours"]) / 1024)
    figures["raw_events"] = Figure(
        raw, raw, raw, "raw calls, once as Parquet and once as JSON Lines"
    )
    figures["peak_memory_gib"] = Figure(max(peaks), min(peaks), max(peaks), "GiB, resident")
    note = NOTE.format(events=events, pairs=pairs, raw=raw, raw_pairs=raw_pairs)
    write_results("prepare", chosen, figures, rows, note)


def _shop(folder: Path, customers: int) -> Path:
    from seqjourney.simulation import ShopConfig, write_shop

    return write_shop(ShopConfig(customers=customers), folder / "shop")


def _compare(
    data: dict[str, Any], select: tuple[str, str, str], folder: Path, pairs: int, *, warm: bool
) -> Runs:
    """Run ours and bare in turn; a first pair that only warms the disk's cache is not counted."""
    runs: Runs = {"ours": [], "bare": []}
    for pair in range(-1 if warm else 0, pairs):
        for side, work, given in (
            ("ours", _ours, data),
            ("bare", _bare, data | {"select": select}),
        ):
            place = folder / f"{side}{pair}"
            measured = _in_own_process(work, given, place)
            shutil.rmtree(place)
            if pair >= 0:
                runs[side].append(measured)
    return runs


def _ratio(runs: Runs) -> Figure:
    ours, bare = ([run["seconds"] for run in runs[side]] for side in ("ours", "bare"))
    return paired_ratio(ours, bare, LOWER)


def _rows(form: str, events: int, runs: Runs) -> list[dict[str, Any]]:
    ours, bare = runs["ours"], runs["bare"]
    stages = [("prepare", ours, "seconds"), ("log", ours, "log"), ("store", ours, "store")]
    stages.append(("bare duckdb", bare, "seconds"))
    return [
        {
            "input": form,
            "what": what,
            "events": events,
            "seconds": round(seconds := median(run[key] for run in side), 3),
            "events_per_second": round(events / seconds),
            "peak_memory_mib": round(max(run["peak_mib"] for run in side)),
        }
        for what, side, key in stages
    ]


def _in_own_process(work: Any, data: dict[str, Any], folder: Path) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (data, folder))


def _ours(data: dict[str, Any], folder: Path) -> dict[str, float]:
    import ibis.backends.duckdb  # noqa: F401 - what a process imports is not what we measure
    import pandas  # noqa: F401
    import rich.console  # noqa: F401

    from seqjourney.commands import prepare
    from seqjourney.config import DataConfig, parse
    from seqjourney.sequences.store import StoreWriter

    taken: dict[str, float] = {}

    def timed(stage: str, function: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **options)
            taken[stage] = taken.get(stage, 0.0) + time.perf_counter() - start
            return result

        return run

    prepare.write_event_log = timed("log", prepare.write_event_log)
    StoreWriter.add = timed("store", StoreWriter.add)  # type: ignore[method-assign]
    config = parse(DataConfig, data, "data")
    with redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        prepare.prepare(config, folder, progress=False)
        taken["seconds"] = time.perf_counter() - start
    taken["log"] -= taken["store"]  # the store is written within
    return {**taken, "peak_mib": peak_mib()}


def _bare(data: dict[str, Any], folder: Path) -> dict[str, float]:
    import duckdb

    folder.mkdir(parents=True)
    columns, source, order = data["select"]
    start = time.perf_counter()
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {data['threads']}")
        connection.execute(f"SET memory_limit = '{data['memory_limit']}'")
        connection.execute(f"SET temp_directory = '{folder / 'spill'}'")
        connection.execute(
            f"COPY (SELECT {columns} FROM {source} ORDER BY {order}) "
            f"TO '{folder / 'events.parquet'}' (FORMAT parquet, COMPRESSION zstd)"
        )
    return {"seconds": time.perf_counter() - start, "peak_mib": peak_mib()}


if __name__ == "__main__":
    main()
