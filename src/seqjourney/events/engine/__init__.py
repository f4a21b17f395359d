"""The columnar engine: DuckDB behind Ibis by default, Spark when the data config says so.

Everything above is written as Ibis expressions, which both engines run with the same result. What
no expression says alike (opening and writing files, paths into JSON, how a moment or a number is
written) stands here for DuckDB, with a memory limit and spilling to disk beyond it, and in the
modules `spark_…` of the same names for Spark: there only, and nowhere above, is known which of the
two runs.
"""

from seqjourney.events.engine.connection import connect
from seqjourney.events.engine.files import (
    POSITION,
    columns_of,
    json_keys,
    position_of,
    read_json_lines,
    read_parquet,
    read_table,
)
from seqjourney.events.engine.results import (
    all_differ,
    fetch_arrow,
    keep,
    keeping,
    materialise,
    stage,
    where_null,
    without,
    write_buckets,
    write_parquet,
)
from seqjourney.events.engine.values import as_text, json_items, json_texts, moment

__all__ = [
    "POSITION",
    "all_differ",
    "as_text",
    "columns_of",
    "connect",
    "fetch_arrow",
    "json_items",
    "json_keys",
    "json_texts",
    "keep",
    "keeping",
    "materialise",
    "moment",
    "position_of",
    "read_json_lines",
    "read_parquet",
    "read_table",
    "stage",
    "where_null",
    "without",
    "write_buckets",
    "write_parquet",
]
