"""Spark in DuckDB's place: what no Ibis expression says alike, so that both give the same rows.

`connect` takes the session that your environment configures (SPARK_REMOTE, spark-defaults.conf), or
starts a local one. Raw files, the prepared folder and its scratch must lie where driver and workers
see them under one path. Read `spark_files` for how raw files are opened.

Where Spark would differ it is told not to (zone, case, JSON) or its words are put right
(`spark_values`). What stays different, all of it odd input: in nested JSON, decimal numbers of ten
million and more, or under a thousandth, are written with an exponent (`1.5E7`); of a key that an
object repeats, Spark takes the last value; text that holds JSON is opened like JSON; a day's end
written 24:00:00 is no time.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
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
SCRATCH = "seqjourney.scratch"
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
        SCRATCH: str(scratch),
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
