"""How right and how fast identity is: 5 million links of a population whose persons are known.

A made-up population (see `population.py`) leaves rows with user ids, e-mails, telephones, devices
and cookies: shared tablets, kiosks, friends' devices, mistyped e-mails, second accounts, guests,
placeholder values. `observed` finds the links (DuckDB), `resolve` makes customers of them, and the
customers are compared with the true persons. Ours: `resolve`. Bare: the same links' texts as
numbers (one dictionary encoding) and one call of scipy's connected components, no rules, no times,
no ids. Each run in a process of its own, whose peak memory is its own, imports not counted.
"""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from statistics import median
from typing import Any

from population import Population, populate  # type: ignore[import-not-found]
from record import (  # type: ignore[import-not-found]  # its folder is sys.path[0]
    Figure,
    options,
    paired_ratio,
    peak_mib,
    scratch,
    write_results,
)

QUALITY = (
    "pairwise_precision",
    "pairwise_recall",
    "pairwise_f1",
    "bcubed_f1",
    "overmerged_customers_share",
    "fragmentation",
)
SAMPLE = 100_000
"""Rows in which the two engines are compared."""
NOTE = """`edges`: distinct links that the rows show. `pairwise_f1`, `bcubed_f1`: customers against
true persons over all identifiers (those that several persons use, such as a family's tablet, are
nobody's: each counts as one more person). `overmerged_customers_share`: customers that hold
identifiers of two or more of them. `ratio_to_connected_components`: seconds of `resolve` by seconds
of a dictionary encoding of the same links' texts plus bare `scipy.sparse.csgraph`, median over
{pairs} interleaved pairs, low and high are the lowest and the highest pair. `spark_equals_duckdb`:
whether both engines find the same identifiers and links, with the same counts and times, in 100,000
of the rows; absent where there is no Spark. Rows compare the strategies and what is done with
shared identifiers; `best possible` follows exactly the links whose two ends are one person's (a
cookie that never signs in on a tablet is then still alone); memory is the highest peak
(resident)."""


def main() -> None:
    assert __doc__ is not None
    chosen = options(__doc__)
    persons, pairs = (6_000, 2) if chosen.quick else (345_000, 5)
    with scratch() as folder:
        people = populate(persons, folder / "rows")
        seen = _in_own_process(_observe, folder, chosen.threads)
        strategies: list[dict[str, Any]] = [
            {"strategy": "full", "shared": "apart"},
            {"strategy": "full", "shared": "first_owner"},
            {"strategy": "user_id"},
        ]
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
        for pair in range(-1, pairs):  # the first pair only warms the disk's cache
            for side, work in (("ours", _resolve), ("bare", _components)):
                measured = _in_own_process(work, folder, strategies[0])
                if pair >= 0:
                    runs[side].append(measured)
        unmeasured = dict.fromkeys(QUALITY, "")
        rows = [
            {**_row(name, seen, measured), **unmeasured}
            for name, measured in (("rows to links", [seen]), ("bare components", runs["bare"]))
        ]
        qualities = []
        for rules in strategies:
            timed = _in_own_process(_resolve, folder, rules)
            qualities.append(_quality(folder, people))
            of_rules = runs["ours"] if rules == strategies[0] else [timed]
            name = "resolve, " + ", ".join(rules.values())
            rows.append({**_row(name, seen, of_rules), **qualities[-1]})
        unmeasured = dict.fromkeys(rows[0], "") | {"what": "best possible with these links"}
        rows.append({**unmeasured, **_best_possible(folder, people)})
        alike = _in_own_process(_on_both_engines, folder)
    figures = {"edges": Figure(*[float(seen["links"])] * 3, "distinct links")}
    units = {
        "pairwise_f1": "1 is perfect",
        "bcubed_f1": "1 is perfect",
        "overmerged_customers_share": "share of customers, 0 is perfect",
    }
    figures |= {key: Figure(*[qualities[0][key]] * 3, unit) for key, unit in units.items()}
    figures["ratio_to_connected_components"] = paired_ratio(
        [run["seconds"] for run in runs["ours"]],
        [run["seconds"] for run in runs["bare"]],
        "times as long as bare scipy, lower is better",
    )
    if alike is not None:  # Spark is an extra: without it nothing is said
        figures["spark_equals_duckdb"] = Figure(*[alike] * 3, "1: the same identifiers and links")
    write_results("identity", chosen, figures, rows, NOTE.format(pairs=pairs))


def _row(what: str, seen: dict[str, float], runs: list[dict[str, float]]) -> dict[str, Any]:
    seconds = median(run["seconds"] for run in runs)
    return {
        "what": what,
        "links": int(seen["links"]),
        "seconds": round(seconds, 3),
        "links_per_second": round(seen["links"] / seconds),
        "peak_memory_mib": round(max(run["peak_mib"] for run in runs)),
    }


def _in_own_process(work: Any, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _observe(folder: Path, threads: int) -> dict[str, float]:
    """Find identifiers and links in the rows, and write them down."""
    import ibis.backends.duckdb  # noqa: F401 - what a process imports is not what we measure

    from seqjourney.events.engine import connect
    from seqjourney.events.identity import observed
    from seqjourney.events.identity.rules import IdentityRules

    rules = IdentityRules()
    start = time.perf_counter()
    with connect(folder, threads=threads) as backend:
        rows = backend.read_parquet(str(folder / "rows" / "*.parquet"))
        rows = observed.without_blocked(rows, rules)
        seen = backend.create_table("seen", observed.combinations(rows, rules))
        backend.to_parquet(observed.identifiers(seen, rules), folder / "identifiers.parquet")
        links = observed.links(seen, rules)
        backend.to_parquet(links, folder / "links.parquet")
        seconds = time.perf_counter() - start
        count = int(backend.read_parquet(str(folder / "links.parquet")).count().execute())
    return {"seconds": seconds, "links": count, "peak_mib": peak_mib()}


def _on_both_engines(folder: Path) -> float | None:
    """Return 1 if Spark and DuckDB see the same in a sample of the rows; None without Spark."""
    import os
    import shutil
    from importlib.util import find_spec

    import pyarrow.dataset
    import pyarrow.parquet as pq

    from seqjourney.events import engine
    from seqjourney.events.identity import observed
    from seqjourney.events.identity.rules import IdentityRules

    if find_spec("pyspark") is None or not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        return None
    rules, sample = IdentityRules(), folder / "sample.parquet"
    pq.write_table(pyarrow.dataset.dataset(folder / "rows").head(SAMPLE), sample)
    found = []
    for name in ("duckdb", "spark"):
        with engine.connect(folder, threads=2, engine=name) as backend:
            rows = observed.without_blocked(engine.read_parquet(backend, sample), rules)
            seen = engine.keep(backend, "sample", observed.combinations(rows, rules))
            both = (observed.identifiers(seen, rules), observed.links(seen, rules))
            tables = [engine.fetch_arrow(backend, table) for table in both]
        found.append([t.sort_by([(c, "ascending") for c in t.column_names]) for t in tables])
    return float(all(one.equals(other) for one, other in zip(*found, strict=True)))


def _resolve(folder: Path, rules: dict[str, str]) -> dict[str, float]:
    import pyarrow.parquet as pq
    import scipy.sparse.csgraph  # noqa: F401

    from seqjourney.events.identity.resolve import resolve
    from seqjourney.events.identity.rules import IdentityRules

    identifiers, links = (pq.read_table(folder / f"{n}.parquet") for n in ("identifiers", "links"))
    start = time.perf_counter()
    found = resolve(identifiers, links, IdentityRules(**rules))
    seconds = time.perf_counter() - start
    pq.write_table(found.assignment, folder / "assignment.parquet")
    return {"seconds": seconds, "peak_mib": peak_mib()}


def _components(folder: Path, _: dict[str, str]) -> dict[str, float]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = pq.read_table(folder / "links.parquet")
    start = time.perf_counter()
    texts = pa.chunked_array([*links["identifier_a"].chunks, *links["identifier_b"].chunks])
    encoded = texts.combine_chunks().dictionary_encode()
    a, b = np.split(encoded.indices.to_numpy(), 2)
    size = len(encoded.dictionary)
    edges = coo_array((np.ones(len(a), np.int8), (a, b)), (size, size)).tocsr()
    connected_components(edges, directed=False)
    return {"seconds": time.perf_counter() - start, "peak_mib": peak_mib()}


def _quality(folder: Path, people: Population) -> dict[str, Any]:
    import pyarrow.parquet as pq

    from seqjourney.events.identity.evaluation import cluster_quality

    found = pq.read_table(folder / "assignment.parquet", columns=["identifier", "customer_id"])
    true = people.persons_of(found["identifier"])
    quality = cluster_quality(true, found["customer_id"].to_pandas())
    return {key: quality[key] for key in QUALITY}


def _best_possible(folder: Path, people: Population) -> dict[str, Any]:
    """Return the quality of following exactly the links between identifiers of one person."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from seqjourney.events.identity.resolve import resolve
    from seqjourney.events.identity.rules import IdentityRules

    identifiers, links = (pq.read_table(folder / f"{n}.parquet") for n in ("identifiers", "links"))
    left, right = (people.persons_of(links[f"identifier_{end}"]) for end in "ab")
    limits = dict.fromkeys(IdentityRules().priority, links.num_rows + 1)
    all_of_them = IdentityRules(unique=(), personal=(), limits=limits)
    found = resolve(identifiers, links.filter(pa.array(left == right)), all_of_them)
    pq.write_table(found.assignment, folder / "assignment.parquet")
    return _quality(folder, people)


if __name__ == "__main__":
    main()
