"""The company on disk: exports as a company would have them, the truth beside them.

<folder>/<source>/part-000[-0].<ending>   the exports, part by part
rates.csv  ad_costs.csv                   exchange rates, and what the ads cost
sources.yaml  tracking_plan.yaml          where what lies, and what it means
truth/                                    see `truth`; truth/taxonomy.yaml by source
company.json                              settings and counts
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

from seqjourney.files import replacing_folder
from seqjourney.simulation.company import guide, truth
from seqjourney.simulation.company.broken import write_broken
from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.company.exports import ALL, Export
from seqjourney.simulation.company.exports.tables import AD_COSTS
from seqjourney.simulation.company.exports.traces import build_traces
from seqjourney.simulation.company.money import dollar_rates
from seqjourney.simulation.company.part import simulate_part
from seqjourney.simulation.company.sources import taxonomy

TIME = pa.timestamp("us", tz="UTC")
_IDENTIFIERS = pa.schema(
    [
        ("identifier_type", pa.string()),
        ("identifier", pa.string()),
        ("person", pa.string()),
        ("shared", pa.bool_()),
        ("junk", pa.bool_()),
        ("bot", pa.bool_()),
        ("component", pa.int64()),
        ("first_at", TIME),
        ("first_known_at", TIME),
    ]
)
_LINKS = pa.schema(
    [
        ("person", pa.string()),
        ("type_a", pa.string()),
        ("identifier_a", pa.string()),
        ("type_b", pa.string()),
        ("identifier_b", pa.string()),
        ("linked_at", TIME),
        ("known_at", TIME),
    ]
)
_FORMATS = {
    "parquet": "format parquet, compression zstd",
    "csv": "format csv, header",
    # One column of JSON text, written as it is.
    "jsonl": r"format csv, header false, quote '', escape '', delimiter E'\x01'",
}


def write_company(config: CompanyConfig, folder: Path) -> Path:
    """Simulate a company part by part and write it; memory does not grow with its customers.

    The folder appears whole or not at all, and replaces an older one.

    Returns:
        The path of `sources.yaml`.

    Raises:
        DataError: the disk is full.
    """
    import duckdb

    with replacing_folder(folder) as partial:
        (partial / "truth").mkdir()
        for export in ALL:
            (partial / export.source).mkdir()
        tables = TruthTables(partial / "truth")
        counts: dict[str, Counter[str]] = {}
        costs = []
        try:
            for part in range(config.parts):
                with duckdb.connect() as connection:
                    connection.execute("set TimeZone = 'UTC'")
                    build_traces(connection, simulate_part(config, part), config.seed)
                    for export in ALL:
                        write_export(connection, export, partial / export.source, part)
                    tables.add(connection, part)
                    costs.append(connection.sql(AD_COSTS).to_arrow_table())
                    count_rows(connection, counts)
        finally:
            tables.close()
        write_small_files(config, partial, folder, costs)
        broken = write_broken(partial) if config.broken else {}
        about = {
            "about": "A simulated company whose customers are scattered over many tools: "
            "sources.yaml says where what lies, truth/ holds what is true (never a model's input).",
            "config": asdict(config),
            "sources": {source: dict(sorted(counts[source].items())) for source in sorted(counts)},
            "total": dict(sorted(sum(counts.values(), Counter()).items())),
            "truth": tables.counts,
            "broken": broken,
        }
        text = json.dumps(about, indent=2) + "\n"
        (partial / "company.json").write_text(text, encoding="utf-8")
    return folder / "sources.yaml"


def write_export(connection: Any, export: Export, folder: Path, part: int) -> None:
    """Write one source of one part, in its number of files: in the order of being known."""
    rows = connection.sql("select count(*) from all_traces").fetchone()[0]
    for piece in range(export.files):
        low, high = (rows * place // export.files for place in (piece, piece + 1))
        connection.execute(
            "create or replace temp view traces as select * from all_traces "
            f"where position > {low} and position <= {high}"
        )
        ending = f"-{piece}" if export.files > 1 else ""
        path = folder / f"part-{part:03d}{ending}.{export.ending}"
        kind, _, packed = export.ending.partition(".")
        options = _FORMATS[kind] + (", compression gzip" if packed else "")
        connection.execute(f"copy ({export.query}) to '{sql_path(path)}' ({options})")
    connection.execute("create or replace temp view traces as select * from all_traces")


def sql_path(path: Path) -> str:
    """A path inside an SQL text."""
    return str(path).replace("'", "''")


def count_rows(connection: Any, counts: dict[str, Counter[str]]) -> None:
    """Add the part's counts by source."""
    found = connection.sql("""
        select source, count(*) as rows, count(*) filter (copy) as duplicates,
            count(*) filter (bot >= 0) as bots, count(*) filter (late) as late,
            count(*) filter (skew_us <> 0) as skewed,
            count(*) filter (machine_open) as machine_opens,
            count(*) filter (defect > 0) as defects, count(*) filter (junk > 0) as junk_ids
        from traces group by source order by source""")
    names = found.columns[1:]
    for source, *numbers in found.fetchall():
        counts.setdefault(source, Counter()).update(dict(zip(names, numbers, strict=True)))


class TruthTables:
    """The truth's Parquet files, to which each part adds its rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.counts: dict[str, int] = Counter()

    def add(self, connection: Any, part: int) -> None:
        """Add the truth about the part in `traces`."""
        connection.execute(
            "create or replace macro person_id(n) as 'p' || lpad(n::varchar, 7, '0')"
        )
        self.write("events", connection.sql(truth.EVENTS).to_arrow_table())
        self.write("consent", connection.sql(truth.CONSENT).to_arrow_table())
        identifiers, links = truth.identities(connection, part)
        self.write("identifiers", as_truth(identifiers, _IDENTIFIERS))
        self.write("links", as_truth(links, _LINKS))
        linked, pairs = truth.reachable_pairs(identifiers)
        self.counts["identifier_pairs"] += pairs
        self.counts["identifier_pairs_linked"] += linked
        self.counts["people"] += identifiers["person"].nunique()
        self.counts["shared_identifiers"] += int(
            identifiers[identifiers["shared"]]["identifier"].nunique()
        )

    def write(self, name: str, table: pa.Table) -> None:
        """Append a table to the file of that name."""
        if name not in self.writers:
            path = self.folder / f"{name}.parquet"
            self.writers[name] = pq.ParquetWriter(path, table.schema, compression="zstd")
        self.writers[name].write_table(table)
        self.counts[name] += table.num_rows

    def close(self) -> None:
        """Finish all files."""
        for writer in self.writers.values():
            writer.close()


def as_truth(frame: Any, schema: pa.Schema) -> pa.Table:
    """Give a table of identities its final names, types and order of columns."""
    names = {
        "type": "identifier_type" if "identifier_type" in schema.names else "type_a",
        "first_us": "first_at",
        "identifier": "identifier" if "identifier" in schema.names else "identifier_a",
        "type_other": "type_b",
        "identifier_other": "identifier_b",
        "time_us": "linked_at",
        "known_us": "first_known_at" if "first_known_at" in schema.names else "known_at",
    }
    return pa.Table.from_pandas(frame.rename(columns=names), schema, preserve_index=False)


def write_small_files(
    config: CompanyConfig, folder: Path, final: Path, costs: list[pa.Table]
) -> None:
    """Write rates, ad costs, the sources' guide, the plan and the true taxonomy.

    `final` is where the folder will lie, for the paths in the guide.
    """
    since, rates = dollar_rates(config)
    lines = ["currency,rate,since"]
    lines += [f"USD,{rate},{day}" for day, rate in zip(since, rates.tolist(), strict=True)]
    (folder / "rates.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ads = pa.concat_tables(costs).group_by(["date", "channel"])
    summed = ads.aggregate([("impressions", "sum"), ("clicks", "sum"), ("cost_eur", "sum")])
    summed = summed.rename_columns(["date", "channel", "impressions", "clicks", "cost_eur"])
    summed = summed.sort_by([("date", "ascending"), ("channel", "ascending")])
    pa.csv.write_csv(summed, folder / "ad_costs.csv")
    guided = yaml.safe_dump(guide.sources(final), sort_keys=False)
    (folder / "sources.yaml").write_text(guide.HEADER + guided, encoding="utf-8")
    for path, content in (
        (folder / "tracking_plan.yaml", guide.tracking_plan()),
        (folder / "truth" / "taxonomy.yaml", taxonomy()),
    ):
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
