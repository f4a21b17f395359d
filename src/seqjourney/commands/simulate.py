"""`simulate`: a subscription shop with a known hidden process, as one log or as many exports."""

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


def simulate_company(folder: Path, **settings: Any) -> Path:
    """Simulate the same shop as a company's raw exports, in the shapes of nine vendors.

    `settings` are the fields of `simulation.company.CompanyConfig`.

    Returns:
        The path of `sources.yaml`, a data config for these exports; `truth/` lies beside it.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    from seqjourney.files import read_json
    from seqjourney.simulation.company import CompanyConfig, write_company

    try:
        config = CompanyConfig(**settings)
    except TypeError as error:
        raise ConfigError(str(error)) from None
    sources = write_company(config, folder)
    counts = read_json(folder / "company.json")
    say(
        f"Simulated {counts['total']['rows']:,} raw rows in {len(counts['sources'])} sources: "
        f"{shown(folder)}",
        "Next: python scripts/prepare.py data=company",
    )
    return sources
