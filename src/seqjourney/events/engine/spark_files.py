"""How Spark opens raw files: every row with its place, lines that are no records in theirs too.

Spark reads pieces of files in any order. Each row gets `POSITION`, its place among all rows of all
files, as if one reader had gone through them in turn: a Parquet file knows the numbers of its rows,
and where each piece of a text file begins is counted beforehand. That costs one more reading of
text files (of their lines alone), and makes a source's row numbers, what repeats what, and the ids
of tables without ids the same on every engine.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from seqjourney.errors import DataError
from seqjourney.events.engine.files import POSITION
from seqjourney.events.engine.spark import session_of, table
from seqjourney.events.files import kind_of

_URI, _START, _NUMBER = "__uri", "__start", "__number"
_LINE = "value"


def read_table(backend: Any, files: Sequence[Path]) -> Any:
    """See `engine.read_table`; the table has `POSITION`."""
    session = session_of(backend)
    if kind_of(files[0]) == "csv":
        return table(backend, _numbered(session, files, _read_csv(session, files)).drop("file"))
    import pyarrow.parquet as pq
    from pyspark.sql import functions as F

    rows = session.read.option("mergeSchema", "true").option("recursiveFileLookup", "true")
    rows = rows.parquet(*(str(file) for file in files))
    uris = {_place(uri): _one_slash(uri) for uri in rows.inputFiles()}
    first, firsts = 0, []
    for file in files:
        firsts.append((uris[_place(str(file))], first))
        first += pq.read_metadata(file).num_rows
    before = session.createDataFrame(firsts, f"`{_URI}` string, first long")
    number = F.expr("_metadata.row_index").alias(_NUMBER)
    placed = rows.select("*", number, _piece()[0])
    placed = placed.join(F.broadcast(before), _URI, "left")
    placed = placed.withColumn(POSITION, F.col(_NUMBER) + F.col("first"))
    return table(backend, placed.drop(_URI, _NUMBER, "first"))


def read_json_lines(backend: Any, files: Sequence[Path], types: Mapping[str, str]) -> Any:
    """See `engine.read_json_lines`."""
    from pyspark.sql import functions as F

    fields = ", ".join(f"{_quoted(key)}: {_spark_type(kind)}" for key, kind in types.items())
    # A list around each line, so that what follows its object is noticed.
    record = F.from_json(
        F.concat(F.lit("["), F.col(_LINE), F.lit("]")),
        f"ARRAY<STRUCT<{fields}>>",
        {"allowSingleQuotes": "false"},
    )
    whole = (F.size("records") == 1) & F.col(_LINE).rlike(r"^\s*\{[\s\S]*\}\s*$")
    lines = _lines(session_of(backend), files).withColumn("records", record)
    lines = lines.withColumn("record", F.when(whole, F.col("records")[0])).drop("records")
    columns = []
    for key, kind in types.items():
        value = F.col(f"record.{_quoted(key)}")
        columns.append((_json(value, key) if kind == "JSON" else value).alias(key))
    return table(backend, lines.select(*columns, "file", POSITION))


def json_keys(backend: Any, files: Sequence[Path]) -> Any:
    """See `engine.json_keys`."""
    from pyspark.sql import functions as F

    lines = session_of(backend).read.option("lineSep", "\n").text([str(file) for file in files])
    keys = F.explode(F.expr(f"json_object_keys({_LINE})")).alias("key")
    return table(backend, lines.select(keys).distinct())


def read_parquet(backend: Any, files: Path | Sequence[Path]) -> Any:
    """See `engine.read_parquet`."""
    names = [str(files)] if isinstance(files, Path) else [str(file) for file in files]
    reader = session_of(backend).read.option("recursiveFileLookup", "true")
    return table(backend, reader.parquet(*names))


def _lines(session: Any, files: Sequence[Path]) -> Any:
    from pyspark.sql import functions as F

    lines = session.read.option("lineSep", "\n").text([str(file) for file in files])
    lines = lines.select(_LINE, *_piece()).where(F.col(_LINE).rlike(r"\S"))
    return _numbered(session, files, lines)


def _json(value: Any, key: str) -> Any:
    """Put the quotes back that reading a JSON string as text takes off.

    Reading as a number or a boolean tells whether what looks like one is one.
    """
    from pyspark.sql import functions as F

    quoted = F.to_json(F.struct(value.alias("v")))
    quoted = F.substring(quoted, F.lit(6), F.length(quoted) - 6)
    typed = [
        F.from_json(_LINE, f"{_quoted(key)} {kind}").getField(key) for kind in ("DOUBLE", "BOOLEAN")
    ]
    looks = value.rlike(r"^(?:-?\d.*|true|false)$")
    plain = F.coalesce(typed[0].isNotNull() | typed[1].isNotNull(), F.lit(False))
    return (
        F.when(value.isNull() | value.rlike(r"^[\[{]"), value)
        .when(looks, F.when(plain, value).otherwise(quoted))
        .otherwise(quoted)
    )


def _read_csv(session: Any, files: Sequence[Path]) -> Any:
    """Open CSV files under their own headers, a missing column as nulls."""
    from pyspark.sql import functions as F

    alike: dict[tuple[str, ...], list[Path]] = {}
    for file in files:
        mark = _delimiter(file)
        alike.setdefault((mark, *_header(file, mark)), []).append(file)
    tables = []
    for (mark, *header), members in alike.items():
        rows = session.read.csv(
            [str(file) for file in members],
            schema=", ".join(f"{_quoted(name)} STRING" for name in header),
            sep=mark,
            header=True,
            quote='"',
            escape='"',
            multiLine=True,
            mode="FAILFAST",
        )
        given = [F.expr(f"nullif({_quoted(name)}, '')").alias(name) for name in header]
        tables.append(rows.select(*given, *_piece()))
    return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), tables)


def _delimiter(file: Path) -> str:
    """Guess what separates fields, with DuckDB's eyes."""
    import duckdb

    found = duckdb.execute("SELECT Delimiter FROM sniff_csv(?)", [str(file)]).fetchone()
    return str(found[0]) if found else ","


def _header(file: Path, mark: str) -> list[str]:
    opened = gzip.open if file.name.lower().endswith(".gz") else open
    with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:
        header = next(csv.reader(lines, delimiter=mark), [])
    if not header or len(set(header)) < len(header):
        raise DataError(f"{file}: the first row must name every column once.")
    return header


def _piece() -> tuple[Any, Any]:
    """The file and the place in it at which a row's piece begins."""
    from pyspark.sql import functions as F

    return (
        F.regexp_replace(F.expr("_metadata.file_path"), "^file:/+", "file:/").alias(_URI),
        F.expr("_metadata.file_block_start").alias(_START),
    )


def _numbered(session: Any, files: Sequence[Path], rows: Any) -> Any:
    """Add `file` and `POSITION` to rows that know their piece (`_piece`).

    Spark's own numbers grow within a piece, but from anywhere: the first of each piece is found by
    counting. `connect` sees to it that files fall into the same pieces again.
    """
    from pyspark.sql import functions as F

    rows = rows.withColumn(_NUMBER, F.monotonically_increasing_id())
    pieces = rows.groupBy(_URI, _START).agg(F.count("*").alias("n"), F.min(_NUMBER).alias("least"))
    order = {_place(str(file)): number for number, file in enumerate(files)}
    found = sorted((order[_place(p[0])], p[1], p[0], p[2], p[3]) for p in pieces.collect())
    first, shifts = 0, []
    for number, start, uri, count, least in found:
        shifts.append((uri, start, str(files[number]), first - least))
        first += count
    columns = f"`{_URI}` string, `{_START}` long, file string, shift long"
    known = F.broadcast(session.createDataFrame(shifts, columns))
    placed = rows.join(known, [_URI, _START], "left")
    placed = placed.withColumn(POSITION, F.col(_NUMBER) + F.col("shift"))
    return placed.drop(_URI, _START, _NUMBER, "shift")


def _one_slash(uri: str) -> str:
    """Return an address of a file in the one of its spellings that `_piece` gives."""
    return re.sub("^file:/+", "file:/", uri)


def _place(path: str) -> str:
    """Return a file's path from Spark's address of it, or from a path, in one form."""
    local = unquote(urlparse(path).path) if path.startswith("file:") else path
    return str(Path(local).resolve())


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _spark_type(kind: str) -> str:
    """Translate one of DuckDB's types; JSON is text."""
    import sqlglot

    found = sqlglot.exp.DataType.build(kind.replace("JSON", "VARCHAR"), dialect="duckdb")
    return found.sql("spark")
