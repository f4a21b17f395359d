"""`simulate`: a subscription shop with a known hidden process, as one log or as many exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from seqjourney.cli import say, shown
from seqjourney.errors import ConfigError

Dials = TypeVar("Dials")
_KINDS: dict[type, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "text, such as '2023-01-01' in quotes"),
}
"""Type of a dial's default -> what may be given, and how to say so."""


def simulate(folder: Path, **settings: Any) -> Path:
    """Simulate and write a shop; `settings` are the fields of `simulation.ShopConfig`.

    Returns:
        The path of the event table; `truth.parquet` and `simulation.json` lie beside it.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    import pyarrow.parquet as pq

    from seqjourney.simulation import ShopConfig, write_shop

    config = _checked(ShopConfig, settings)
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

    config = _checked(CompanyConfig, settings)
    sources = write_company(config, folder)
    counts = read_json(folder / "company.json")
    say(
        f"Simulated {counts['total']['rows']:,} raw rows in {len(counts['sources'])} sources: "
        f"{shown(folder)}",
        "Next: python scripts/prepare.py data=company",
    )
    return sources


def _checked(schema: type[Dials], settings: Mapping[str, Any]) -> Dials:
    """Make the dials of a simulation; their ranges are checked by `schema` itself.

    Raises:
        ConfigError: a setting is unknown, of the wrong kind or out of range.
    """
    from seqjourney.config import nearest

    defaults = {field.name: field.default for field in fields(schema)}  # type: ignore[arg-type]
    for name, value in settings.items():
        if name not in defaults:
            raise ConfigError(f"unknown key '{name}'.{nearest(name, defaults)}")
        kind = type(defaults[name])
        allowed, words = _KINDS[kind]
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"{name} must be {words}, not {value!r}.")
    return schema(**settings)
