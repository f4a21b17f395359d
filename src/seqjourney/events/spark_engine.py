"""Spark in DuckDB's place: what no Ibis expression says alike, so that both give the same rows.

`connect` takes the session that your environment configures (SPARK_REMOTE, spark-defaults.conf), or
starts a local one. Raw files, the prepared folder and its scratch must lie where driver and workers
see them under one path. Read `spark_files` for how raw files are opened.

Where Spark would differ it is told not to (zone, case, JSON) or its words are put right (`as_text`,
`moment_like`, `json_texts`). What stays different, all of it odd input: in nested JSON, decimal
numbers of ten million and more, or under a thousandth, are written with an exponent (`1.5E7`); of
a key that an object repeats, Spark takes the last value; text that holds JSON is opened like JSON;
a day's end written 24:00:00 is no time.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seqjourney.errors import ConfigError, DataError

_SETTINGS = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "true",
    # Neighbouring reads of one JSON text stay one read.
    "spark.sql.optimizer.enableJsonExpressionOptimization": "false",
    "spark.sql.json.enableExactStringParsing": "false",  # nested JSON without its blanks
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",  # nulls of tables in memory stay nulls
    "spark.sql.files.minPartitionNum": "",  # set by `connect`: files are split alike every time
}
_LOGS = """
rootLogger.level = error
logger.python.name = org.apache.spark.api.python.PythonGatewayServer
logger.python.level = error
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = Spark: %m%n
"""
_SCRATCH = "seqjourney.scratch"
_WRITTEN_TIME = (
    r"^\s*\d{1,6}[-/]\d{1,2}[-/]\d{1,2}(?:[T ]\d{1,2}:\d{1,2}(?::\d{1,2}(?:[.]\d*)?"
    r"(?: ?[A-Za-z][A-Za-z_/]*|[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?)?)?)?\s*$"
)
_BYTES = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@contextmanager
def connect(scratch: Path, memory_limit: str, threads: int | None, timezone: str) -> Iterator[Any]:
    """Yield an Ibis Spark backend; see `engine.connect`.

    `memory_limit` and `threads` are those of a local Spark; a configured one has its own.
    """
    try:
        import pyspark.errors
        from pyspark.sql import SparkSession
    except ImportError:
        raise ConfigError(
            "data.engine=spark needs the 'spark' extra (pip install 'seqjourney[spark]') and Java "
            "17 or newer."
        ) from None
    import ibis

    ibis.options.sql.fuse_selects = False  # see `engine.connect`
    running = SparkSession.getActiveSession()
    kept = scratch / "spark"
    kept.mkdir(exist_ok=True)
    try:
        session = running or _start(SparkSession, memory_limit, threads, kept)
        if hasattr(session, "newSession"):  # our settings and views are nobody else's
            with suppress(pyspark.errors.PySparkException):
                session = session.newSession()
        backend = ibis.pyspark.connect(session)
        _set_up(session, kept, timezone)
        try:
            yield backend
        finally:
            if running is None:
                session.stop()
    except pyspark.errors.PySparkException as error:
        raise DataError(f"Spark stopped: {_explain(error)}") from error
    finally:
        shutil.rmtree(kept, ignore_errors=True)


def _start(sessions: Any, memory_limit: str, threads: int | None, place: Path) -> Any:
    builder = sessions.builder.appName("seqjourney")
    if not any(os.environ.get(name) for name in ("SPARK_REMOTE", "SPARK_HOME", "SPARK_CONF_DIR")):
        number, unit = re.fullmatch(r"([\d.]+)\s*([KMGT]i?)B", memory_limit).groups()  # type: ignore[union-attr]
        mebibytes = int(float(number) * _BYTES.get(unit, 2**40) / 2**20)
        builder = builder.master(f"local[{threads or '*'}]")
        builder = builder.config("spark.driver.memory", f"{max(mebibytes, 512)}m")
        builder = builder.config("spark.ui.enabled", "false")
        builder = builder.config("spark.ui.showConsoleProgress", "false")
        logs = place / "log4j2.properties"
        logs.write_text(_LOGS, encoding="ascii")
        builder = builder.config(
            "spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={logs.resolve().as_uri()}"
        )
        builder = builder.config("spark.sql.shuffle.partitions", str(4 * (threads or 4)))
    logging.getLogger("py4j").setLevel(logging.ERROR)
    return builder.getOrCreate()


def _set_up(session: Any, scratch: Path, timezone: str) -> None:
    parallel = session.conf.get("spark.sql.leafNodeDefaultParallelism", None)
    with suppress(Exception):  # Spark Connect has no context
        parallel = parallel or session.sparkContext.defaultParallelism
    own = {
        "spark.sql.session.timeZone": timezone,
        "spark.sql.files.minPartitionNum": str(parallel or 200),
        _SCRATCH: str(scratch),
    }
    for key, value in (_SETTINGS | own).items():
        session.conf.set(key, value)


def _explain(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(" ".join(lines[:3]).split())[:600]


def session_of(backend: Any) -> Any:
    """Return the Spark session behind a backend."""
    return backend._session


def frame(backend: Any, rows: Any) -> Any:
    """Return an Ibis table as a Spark data frame."""
    backend._run_pre_execute_hooks(rows)  # as the backend's own `to_parquet`
    return session_of(backend).sql(backend.compile(rows))


def table(backend: Any, data: Any) -> Any:
    """Return a Spark data frame as an Ibis table."""
    import ibis
    from pyspark.sql.types import TimestampType

    from seqjourney.events.cleaning import UTC_MICROSECONDS

    name = ibis.util.gen_name("seqjourney")
    data.createOrReplaceTempView(name)
    found = backend.table(name)
    # Ibis does not say that these are moments, and the others hours on a wall.
    moments = [f.name for f in data.schema.fields if isinstance(f.dataType, TimestampType)]
    return found.mutate(**{name: found[name].cast(UTC_MICROSECONDS) for name in moments})


def read_table(backend: Any, files: Sequence[Path]) -> Any:
    """See `engine.read_table`."""
    from seqjourney.events import spark_files

    return table(backend, spark_files.read_table(session_of(backend), files))


def read_json_lines(backend: Any, files: Sequence[Path], types: Mapping[str, str]) -> Any:
    """See `engine.read_json_lines`."""
    from seqjourney.events import spark_files

    return table(backend, spark_files.read_json_lines(session_of(backend), files, types))


def json_keys(backend: Any, files: Sequence[Path]) -> Any:
    """See `engine.json_keys`."""
    from seqjourney.events import spark_files

    return table(backend, spark_files.json_keys(session_of(backend), files))


def read_parquet(backend: Any, files: Path | Sequence[Path]) -> Any:
    """See `engine.read_parquet`."""
    names = [str(files)] if isinstance(files, Path) else [str(file) for file in files]
    reader = session_of(backend).read.option("recursiveFileLookup", "true")
    return table(backend, reader.parquet(*names))


def materialise(backend: Any, rows: Any, place: Path, partition_by: str | None) -> Any | None:
    """See `engine.materialise`."""
    writer = frame(backend, rows).write.option("compression", "snappy")
    if partition_by is not None:
        writer = writer.partitionBy(partition_by)
    writer.parquet(str(place))
    if partition_by is not None and not any(place.glob("*/*.parquet")):
        return None
    return table(backend, session_of(backend).read.parquet(str(place)))


def keep(backend: Any, name: str, rows: Any) -> Any:
    """See `engine.keep`."""
    place = Path(session_of(backend).conf.get(_SCRATCH)) / f"{name}.parquet"
    shutil.rmtree(place, ignore_errors=True)
    return materialise(backend, rows, place, None)


def write_parquet(
    backend: Any, rows: Any, file: Path, order: Sequence[str], compression: str
) -> None:
    """See `engine.write_parquet`; one worker sorts and writes."""
    partial = file.with_name(file.name + ".spark")
    ordered = frame(backend, rows).repartition(1).sortWithinPartitions(*_ascending(order))
    ordered.write.option("compression", compression).parquet(str(partial))
    _only_file(partial).rename(file)
    shutil.rmtree(partial)


def write_buckets(
    backend: Any, rows: Any, folder: Path, columns: Sequence[str], order: Sequence[str]
) -> None:
    """See `engine.write_buckets`; all buckets at once, each sorted and written by one worker."""
    import pyarrow.parquet as pq

    from seqjourney.events.cleaning import BUCKETS, bucket_of

    partial = folder.with_name(folder.name + ".spark")
    marked = frame(backend, rows.select(*columns, __bucket=bucket_of(rows.customer_id)))
    ordered = marked.repartition(len(BUCKETS), "__bucket")
    ordered = ordered.sortWithinPartitions("__bucket", *_ascending(order))
    writer = ordered.write.partitionBy("__bucket").option("compression", "zstd")
    writer.parquet(str(partial))
    written = {place.name[-1]: _only_file(place) for place in partial.glob("__bucket=*")}
    schema = pq.read_schema(next(iter(written.values()))) if written else None
    for bucket in BUCKETS:
        target = folder / f"bucket={bucket}"
        target.mkdir(parents=True)
        if bucket in written:
            written[bucket].rename(target / "part-0.parquet")
        elif schema is not None:
            pq.write_table(schema.empty_table(), target / "part-0.parquet", compression="zstd")
    shutil.rmtree(partial)


def _ascending(order: Sequence[str]) -> list[Any]:
    from pyspark.sql import functions as F

    return [F.col(f"`{name}`").asc_nulls_last() for name in order]


def _only_file(folder: Path) -> Path:
    (file,) = folder.glob("*.parquet")
    return file


def fetch_arrow(backend: Any, rows: Any) -> Any:
    """See `engine.fetch_arrow`."""
    return frame(backend, rows).toArrow().cast(rows.schema().to_pyarrow())


def json_texts(column: Any, paths: Sequence[Sequence[str]]) -> list[Any]:
    """See `engine.json_texts`."""
    import ibis
    import ibis.expr.datatypes as dt

    found: dict[int, Any] = {}
    waiting = dict(enumerate(map(tuple, paths)))
    for number in [n for n, path in waiting.items() if not path]:
        found[number] = _get_json_object(column, "$")
        del waiting[number]
    while waiting:
        # One reading takes paths of which none leads through another's end.
        now: dict[int, tuple[str, ...]] = {}
        for number, path in sorted(waiting.items(), key=lambda item: len(item[1])):
            if not any(_begins(path, other) for other in now.values()):
                now[number] = path
        tree: dict[str, Any] = {}
        for path in now.values():
            place = tree
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = None

        def struct(branch: dict[str, Any]) -> Any:
            fields = {k: struct(b) if b else dt.string for k, b in branch.items()}
            return dt.Struct(fields)

        @ibis.udf.scalar.builtin(name="from_json", signature=((dt.string, dt.string), struct(tree)))
        def from_json(text: Any, schema: Any) -> Any: ...

        record = from_json(column, f"STRUCT<{_ddl(tree)}>")
        for number, path in now.items():
            value = record
            for key in path:
                value = value[key]
            found[number] = value
            del waiting[number]
    return [found[number] for number in range(len(paths))]


def _begins(path: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one of two different paths is the beginning of the other."""
    shorter = min(len(path), len(other))
    return path[:shorter] == other[:shorter] and path != other


def _ddl(branch: Mapping[str, Any]) -> str:
    fields = []
    for key, below in branch.items():
        kind = f"STRUCT<{_ddl(below)}>" if below else "STRING"
        fields.append(f"`{key.replace('`', '``')}`: {kind}")
    return ", ".join(fields)


def _get_json_object(text: Any, path: str) -> Any:
    import ibis
    import ibis.expr.datatypes as dt

    @ibis.udf.scalar.builtin(name="get_json_object", signature=((dt.string, dt.string), dt.string))
    def get_json_object(text: Any, path: Any) -> Any: ...

    return get_json_object(text, path)


def json_items(column: Any) -> Any:
    """See `engine.json_items`."""
    import ibis
    import ibis.expr.datatypes as dt

    @ibis.udf.scalar.builtin(
        name="from_json", signature=((dt.string, dt.string), dt.Array(dt.string))
    )
    def from_json(text: Any, schema: Any) -> Any: ...

    return from_json(column, "ARRAY<STRING>")


def moment_like(text: Any) -> Any:
    """Return text that is written as a moment, null for any other that Spark would take for one."""
    import ibis

    written = text.re_search(_WRITTEN_TIME)
    return written.ifelse(text.replace("/", "-"), ibis.null("string"))


def as_text(column: Any) -> Any:
    """See `engine.as_text`."""
    import ibis
    import ibis.expr.datatypes as dt

    kind, text = column.type(), column.cast("string")
    if kind.is_floating():
        return _plain_number(text)
    if kind.is_timestamp() and kind.timezone is not None:

        @ibis.udf.scalar.builtin(
            name="date_format", signature=((dt.timestamp, dt.string), dt.string)
        )
        def date_format(moment: Any, pattern: Any) -> Any: ...

        offset = date_format(column, "xxx")
        whole = offset.endswith(":00")
        text = text + whole.ifelse(offset.substr(0, 3), offset)
    return text.re_replace("^[+]", "") if kind.is_timestamp() else text  # years of five digits


def _plain_number(text: Any) -> Any:
    """Write a number that Java wrote with an exponent as DuckDB does."""
    import ibis

    def written(text: Any) -> Any:
        shape = r"^(-?\d)\.(\d+)E(-?\d+)$"
        whole, part, power = (text.re_extract(shape, group) for group in (1, 2, 3))
        exponent = power.try_cast("int32")
        digits = power.replace("-", "")
        digits = (digits.length() < 2).ifelse(ibis.literal("0") + digits, digits)
        scientific = whole + (part == "0").ifelse("", ibis.literal(".") + part)
        scientific = scientific + power.startswith("-").ifelse("e-", "e+") + digits
        decimal = text.try_cast("decimal(38, 21)").cast("string").re_replace("0+$", "")
        decimal = decimal.re_replace("[.]$", ".0")
        plain = exponent.between(-4, 15).ifelse(decimal, scientific)
        return text.re_search(shape).ifelse(plain, text)

    # A list of one, so that the text stands in the query once.
    return ibis.array([text]).map(written)[0]
