"""`simulate`: a subscription shop's event log with a known hidden process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqjourney.cli import say, shown
from seqjourney.errors import ConfigError


def simulate(folder: Path, **settings: Any) -> Path:
    """Simulate and write a shop; `settings` are the fields of `simulation.ShopConfig`.

    Returns:
        The path of the event table; `truth.parquet` and `simulation.json` lie beside it.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    import pyarrow.parquet as pq

    from seqjourney.simulation import ShopConfig, write_shop

    try:
        config = ShopConfig(**settings)
    except TypeError as error:
        raise ConfigError(str(error)) from None
    events = write_shop(config, folder)
    rows = pq.read_metadata(events).num_rows
    say(
        f"Simulated {rows:,} events of {config.customers:,} customers: {shown(events)}",
        "Next: python scripts/prepare.py data=demo",
    )
    return events
