"""One simulated shop in several sizes: the same customers, fewer or many times over."""

from __future__ import annotations

from pathlib import Path


def write_base(customers: int, folder: Path) -> Path:
    """Simulate the shop that all sizes are made of."""
    from seqjourney.simulation import ShopConfig, write_shop

    return write_shop(ShopConfig(customers=customers), folder)


def write_log(base: Path, share: float, file: Path, threads: int) -> int:
    """Write a log with a share of the base's customers and return its events.

    Args:
        base: the simulated event log.
        share: below 1, so many of the customers; else a whole number, so many copies of each
            under other ids, one copy after the other.
        file: where the log goes.
        threads: of DuckDB.
    """
    import duckdb

    rows = f"read_parquet('{base}')"
    if share < 1:
        # `hash` scatters customers, whose numbers may tell when they came.
        chosen = f"WHERE hash(customer_id) % 1000 < {round(1000 * share)}"
        query = f"SELECT * FROM {rows} {chosen}"
    else:
        query = " UNION ALL ".join(
            f"SELECT * REPLACE (customer_id || '-{copy}' AS customer_id, "
            f"event_id || '-{copy}' AS event_id) FROM {rows}"
            for copy in range(int(share))
        )
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {threads}")
        connection.execute("SET memory_limit = '4GB'")
        connection.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
        counted = connection.execute(f"SELECT count(*) FROM read_parquet('{file}')").fetchone()
    assert counted is not None
    return int(counted[0])
