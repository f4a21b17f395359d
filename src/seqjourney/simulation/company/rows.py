"""Rows under construction: columns of equal length, one entry per raw event.

What a row does not have is -1, NaN or False; `part` turns these into nulls.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqjourney.simulation.state import Columns

DEFAULTS: dict[str, Any] = {
    "person": -1,
    "time_us": 0,
    "event": -1,
    "source": -1,
    "visit": -1,
    "step": -1,
    "order": -1,
    "mail_number": -1,
    "ad": -1,
    "ticket": -1,
    "cookie": -1,
    "site": -1,
    "known": False,
    "mail": 0,
    "phone": False,
    "device": -1,
    "page_type": -1,
    "value": np.nan,
    "discount_percent": np.nan,
    "waiting_hours": np.nan,
    "delay_us": 0,
    "stage": -1,
    "channel": -1,
    "machine_open": False,
    "by_server": False,
    "bot": -1,
}
SECOND_US = 1_000_000
MARGIN_US = 2 * 3600 * 1_000_000
"""A visit is over by then, so a later event of a holder is known to be theirs."""


def block(count: int, **columns: Any) -> Columns:
    """One family of rows; what is not given takes its default."""
    if unknown := columns.keys() - DEFAULTS.keys():
        raise TypeError(f"no columns of rows: {sorted(unknown)}")
    return {
        name: np.broadcast_to(np.asarray(columns.get(name, default)), (count,))
        for name, default in DEFAULTS.items()
    }


def stack(blocks: list[Columns]) -> Columns:
    """Put families one after the other."""
    return {name: np.concatenate([part[name] for part in blocks]) for name in DEFAULTS}
