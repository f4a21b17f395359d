"""`prepare` gives the same on Spark as on DuckDB, row for row and in the same order."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqjourney.config import DataConfig, parse
from seqjourney.events import engine
from seqjourney.events.log import write_event_log
from seqjourney.simulation.company import CompanyConfig, write_company
from small_logs import ALL_COLUMNS, data_config, files_of_both, raw_events

pytest.importorskip("pyspark", reason="the 'spark' extra is not installed")
if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
    pytest.skip("Spark needs Java, and there is none", allow_module_level=True)

SAME = ("rows", "files", "sources", "identity", "taxonomy", "consent", "events", "customers",
        "first", "last", "last_known", "schema", "fingerprint")  # fmt: skip
# What numbers and times Spark writes otherwise, and text that it reads otherwise; null stays null.
NUMBERS = [0.0, -0.0, 1.0, 0.1, 12345.678, 1e7, 12345678.9, 1.5e15, 1e16, 3.5e20, 0.001, 0.00099,
           0.0001, 0.0001234567, 0.00001, 1.25e-7, -31234567.25, None]  # fmt: skip
MOMENTS = ["2024-01-02", "2024-01-02 03:04:05", "2024-01-02T03:04:05.123456Z", "2024/01/02 03:04",
           "2024-01-02 03:04:05+02", "2024-01-02 03:04:05-0530", "2024-1-2 3:4:5", "2024", "03:04",
           "2024-01", "2024-01-02 03", "2024-02-30", "2024-01-02 03:04:05 +02:00", "", "now", None,
           "20240102", "99999-01-01", "2024-01-02 03:04:05 UTC",
           "2024-01-02 03:04:05 gmt", "2024-01-02 03:04:05 Asia/Tokyo", "2024-01-02 03:04:05",
           "2024-01-02 03:04:05 EST", "2024-01-02 03:04:05z", "2024-01-02 03:04:05 Z"]  # fmt: skip
JSON = ['{"a": {"b": "x", "c": [1, 2.5]}, "n": 12.50}', '{"a": "text", "n": "12.50"}', "{}", "[1]",
        "5", '"a"', "", "{", '{"a": {"b": null}}', '{"a": {"b": {"d": "\\u00e9\\n"}}}', None,
        '{"a": {"b.c": 1, "$d": true}}']  # fmt: skip
PATHS = [
    ["a"],
    ["a", "b"],
    ["a", "c"],
    ["n"],
    ["a", "b.c"],
    ["a", "$d"],
    ["nothing"],
    ["a", "b", "d"],
]


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """One local Spark that starts quickly and compiles nothing: the data are tiny."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    }
    session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    yield session
    session.stop()


def prepare_on_both(config: DataConfig, folder: Path) -> tuple[Path, Path]:
    """Write the same log with each engine."""
    found = []
    for name in ("duckdb", "spark"):
        (folder / name).mkdir()
        chosen = config.model_copy(update={"engine": name})
        write_event_log(chosen, folder / name, processed=folder / "processed")
        found.append(folder / name)
    return found[0], found[1]


def assert_same(one: Path, other: Path) -> None:
    """Compare all files of two prepared folders; only a log's rows have an order that counts."""
    for name in files_of_both(one, other):
        if name.endswith(".parquet"):
            left, right = (
                as_columns(path / name, ordered="events/" in name) for path in (one, other)
            )
            assert list(left) == list(right), name
            for column, values in left.items():
                assert values == right[column], f"{name}: {column}"
        elif name != "manifest.json":
            assert (one / name).read_text() == (other / name).read_text(), name
    manifests = [json.loads((path / "manifest.json").read_text()) for path in (one, other)]
    for key in SAME:
        assert manifests[0].get(key) == manifests[1].get(key), key


def as_columns(file: Path, *, ordered: bool) -> dict[str, list[Any]]:
    table = pq.read_table(file)
    if file.name == "quarantine.parquet":
        table = table.drop("source_row")  # Spark also numbers the lines that are no records
    assert all("timestamp" not in str(f.type) or f.type.tz == "UTC" for f in table.schema)
    if not ordered:
        flat = [f.name for f in table.schema if not pa.types.is_nested(f.type)]
        table = table.sort_by([(name, "ascending") for name in flat])
    return {f"{f.name} {f.type}": table[f.name].to_pylist() for f in table.schema}


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Rows with moments as numbers: some are beyond what Python's can hold."""
    kinds = [pa.int64() if pa.types.is_timestamp(f.type) else f.type for f in table.schema]
    columns = [c.cast(kind) for c, kind in zip(table.columns, kinds, strict=True)]
    return pa.table(columns, names=table.column_names).to_pylist()


def test_one_log_of_many_sources_is_the_same_on_both_engines(
    spark: Any, tmp_path: Path, compose: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    company = tmp_path / "company"
    write_company(CompanyConfig(customers=40, months=3, broken=True), company)
    monkeypatch.setenv("SEQJOURNEY_COMPANY", str(company))
    settings = compose("prepare", "data=company")["data"]
    settings |= {"on_malformed": "quarantine", "max_quarantined_share": 1}
    # One of each kind; these are the small ones.
    left_out = ("web", "crm", "ads")
    settings["sources"] = [s for s in settings["sources"] if s["name"] not in left_out]
    duckdb, on_spark = prepare_on_both(parse(DataConfig, settings, "data"), tmp_path)
    assert_same(duckdb, on_spark)
    manifest = json.loads((duckdb / "manifest.json").read_text())
    assert len(manifest["sources"]) == 9
    rows = manifest["rows"]
    for fate in ("events", "duplicates", "withheld_for_consent"):
        assert rows[fate] > 0, fate
    assert "malformed JSON" in rows["quarantined"]
    assert manifest["identity"]["shared"] + manifest["identity"]["customers"] > 40


def test_a_table_in_several_files_is_the_same_on_both_engines(spark: Any, tmp_path: Path):
    raw = raw_events(customers=30, per_customer=10)
    raw.loc[5, "at"], raw.loc[6, "customer"], raw.loc[9, "id"] = pd.NaT, None, raw.loc[8, "id"]
    raw["amount"] = raw["amount"] * 1e6
    raw["country"] = raw["country"].where(raw.index % 7 != 0, 'a "quoted", two\nlined')
    (tmp_path / "raw").mkdir()
    raw[:100].to_csv(tmp_path / "raw" / "b.csv", index=False)
    raw[100:200].to_csv(tmp_path / "raw" / "a, odd+name.csv.gz", index=False)
    raw[200:].drop(columns="items").to_csv(tmp_path / "raw" / "c%20.csv", index=False)
    assert_same(*prepare_on_both(data_config(tmp_path / "raw", **ALL_COLUMNS), tmp_path))


def test_spark_reads_what_duckdb_wrote(spark: Any, tmp_path: Path):
    raw_events(customers=20, per_customer=50).to_csv(tmp_path / "e.csv", index=False)
    write_event_log(data_config(tmp_path / "e.csv", **ALL_COLUMNS), tmp_path)
    files = sorted((tmp_path / "events").glob("*/*.parquet"))
    written = pq.ParquetFile(files[0]).metadata.row_group(0)
    columns = map(written.column, range(written.num_columns))
    encodings = {column.path_in_schema: column.encodings for column in columns}
    assert "DELTA_BINARY_PACKED" in encodings["timestamp"]  # which not every reader knew
    found = pa.concat_tables(
        spark.read.parquet(str(file)).toArrow().cast(pq.read_schema(file)) for file in files
    )
    expected = pa.concat_tables(pq.ParquetFile(file).read() for file in files)
    assert found.num_rows == 1000
    assert found.equals(expected)


def test_rows_without_ids_are_numbered_in_the_order_of_the_files(spark: Any, tmp_path: Path):
    raw = raw_events(customers=30, per_customer=10).drop(columns="known")
    raw["at"] = raw["at"].dt.tz_localize(None)
    (tmp_path / "raw").mkdir()
    for number, start in enumerate(range(0, len(raw), 100)):
        raw[start : start + 100].to_parquet(tmp_path / "raw" / f"{9 - number}.parquet")
    columns = {"timezone": "Europe/Paris", "value": "amount", "categorical": ["country"]}
    duckdb, on_spark = prepare_on_both(data_config(tmp_path / "raw", **columns), tmp_path)
    assert_same(duckdb, on_spark)
    ids = pq.read_table(duckdb / "events", columns=["event_id"])["event_id"].to_numpy()
    assert np.array_equal(np.sort(ids), np.arange(len(raw)))


def test_odd_values_are_read_and_written_alike(spark: Any, tmp_path: Path):
    import ibis

    texts = pa.table({"row": pa.array(range(len(MOMENTS))), "text": pa.array(MOMENTS)})
    numbers = pa.table({"row": pa.array(range(len(NUMBERS))), "number": pa.array(NUMBERS)})
    records = pa.table({"row": pa.array(range(len(JSON))), "json": pa.array(JSON, pa.string())})
    found = {}
    for name in ("duckdb", "spark"):
        (tmp_path / name).mkdir()
        with engine.connect(tmp_path / name, timezone="America/New_York", engine=name) as backend:
            tables = []
            for number, table in enumerate((texts, numbers, records)):
                pq.write_table(table, tmp_path / f"{number}.parquet")
                tables.append(engine.read_parquet(backend, tmp_path / f"{number}.parquet"))
            read = tables[0].select("row", at=engine.moment(tables[0].text))
            written = tables[1].select("row", text=engine.as_text(tables[1].number))
            shown = read.select("row", text=engine.as_text(read["at"]))
            inside = engine.json_texts(tables[2].json, PATHS)
            opened = tables[2].select("row", **{f"v{i}": text for i, text in enumerate(inside)})
            nothing = ibis.memtable(pa.table({"text": pa.array(["a", None, "NaN"])}))
            both = tables[0].inner_join(nothing, ibis.literal(True)).select(nothing.text)
            found[name] = [
                sorted(plain(engine.fetch_arrow(backend, rows)), key=str)
                for rows in (read, written, shown, opened, both)
            ]
    for ours, theirs in zip(found["spark"], found["duckdb"], strict=True):
        assert ours == theirs
    assert any(row["v1"] == "x" for row in found["duckdb"][3])


def test_a_line_that_is_no_record_keeps_its_place(spark: Any, tmp_path: Path):
    lines = ['{"a": 1, "j": "12"}', "", '{"a": "cut', "[1]", '{"a": 2, "j": {"x": [1]}}', "  ",
             '{"a": 3} x', '{"a": 4}{"a": 5}', "null", '{"b": 1}', "{'a': 1}", '{"a": 6, "j": 12}',
             '{"a": "\\u00e9", "j": "true"}', '{"a": 7, "j": true}']  # fmt: skip
    for name in ("1.jsonl", "2.jsonl"):
        (tmp_path / name).write_text("\r\n".join(lines))
    with gzip.open(tmp_path / "3.jsonl.gz", "wt") as file:
        file.write("\n".join(reversed(lines)))
    files = sorted(tmp_path.glob("*.jsonl*"))
    types = {"a": "VARCHAR", "j": "JSON", "l": "STRUCT(k VARCHAR, v JSON)[]"}
    found = {}
    for name in ("duckdb", "spark"):
        (tmp_path / name).mkdir()
        with engine.connect(tmp_path / name, threads=1, engine=name) as backend:
            rows = engine.read_json_lines(backend, files, types)
            rows = rows.select("file", "a", j=rows.j.cast("string"), n=engine.position_of(rows))
            table = engine.fetch_arrow(backend, rows).sort_by("n")
            found[name] = table.to_pylist()
    assert found["spark"] == found["duckdb"]
    assert len(found["duckdb"]) == 3 * sum(bool(line.strip()) for line in lines)


def test_asking_for_spark_without_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import sys

    from seqjourney.errors import ConfigError

    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with (
        pytest.raises(ConfigError, match=r"seqjourney\[spark\]"),
        engine.connect(tmp_path, engine="spark"),
    ):
        pass
