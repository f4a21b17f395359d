"""What happened, to whom, and what belongs together: the shop's own process, event by event.

The shop (`simulation.process`) is run unchanged; this module only keeps the links between its
events that an event log does not show: the steps of one visit, the opening of one e-mail, the
refund of one order.
"""

from __future__ import annotations

import numpy as np

from seqjourney.simulation.config import ShopConfig
from seqjourney.simulation.event_log import DAY_US, EVENTS, Rows, write_down
from seqjourney.simulation.process import live
from seqjourney.simulation.state import Columns
from seqjourney.simulation.traits import Traits, draw_traits
from seqjourney.simulation.visits import STORE

OWN_EVENTS = ("signed_up", "logged_in", "identified", "aliased", "consent_updated", "stage_changed")
"""What the company's tools record beside the shop's events."""
ALL_EVENTS = (*EVENTS, *OWN_EVENTS)
CODE = {name: code for code, name in enumerate(ALL_EVENTS)}
LINKS = ("visit", "step", "order", "mail", "ad", "ticket")


def run_shop(config: ShopConfig) -> tuple[Columns, Columns, Traits]:
    """Let the shop live.

    Returns:
        Its events (all columns of `Rows`, plus `LINKS`: numbers of what belongs together, -1 for
        none, and `step`, the position within the visit), its visits, and its customers' traits.
    """
    rng = np.random.default_rng(config.seed)
    traits = draw_traits(config.customers, len(config.dates), rng)
    tables, _ = live(config, traits, rng)
    families = write_down(tables, traits, rng)
    visits = tables["sessions"]
    mails, ads, tickets = tables["emails"], tables["ads"], tables["tickets"]
    lengths = steps_of(visits)
    visit = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    ordered = families[0].event == EVENTS.index("order_completed")
    links: list[dict[str, np.ndarray]] = [
        {
            "visit": visit,
            "step": np.arange(len(visit)) - first[visit],
            "order": np.where(ordered, visit, -1),
        },
        {"order": np.flatnonzero(visits["refunded"])},
        {"mail": np.arange(len(mails["customer"]))},
        {"mail": np.flatnonzero(mails["opened"])},
        {"mail": np.flatnonzero(mails["clicked"])},
        {"ad": np.arange(len(ads["customer"]))},
        {"ad": np.flatnonzero(ads["clicked"])},
        {"ticket": np.arange(len(tickets["customer"]))},
        {"ticket": np.flatnonzero(~np.isnan(tickets["waiting_hours"]))},
        {},
        {},
    ]
    blocks = [
        {name: getattr(rows, name) for name in Rows.__dataclass_fields__}
        | {name: link.get(name, np.full(len(rows.customer), -1)) for name in LINKS}
        for rows, link in zip(families, links, strict=True)
    ]
    events = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    inside = events["time_us"] < len(config.dates) * DAY_US
    events = {name: values[inside] for name, values in events.items()}
    start_us = config.dates[0].astype("datetime64[us]").astype(np.int64)
    events["time_us"] = events["time_us"] + start_us
    visits = visits | {"steps": lengths, "time_us": first_times(events, len(lengths))}
    return events, visits, traits


def steps_of(visits: Columns) -> np.ndarray:
    """How many events each visit shows as; a visit to the store has no landing."""
    parts = ("pages", "searches", "products", "fills_cart", "ordered", "subscribes")
    return sum(
        (visits[name].astype(np.int64) for name in parts),
        (visits["source"] != STORE).astype(np.int64),
    )


def first_times(events: Columns, visits: int) -> np.ndarray:
    """When each visit's first event happened; the far future for visits without a trace."""
    times = np.full(visits, np.iinfo(np.int64).max)
    inside = events["visit"] >= 0
    np.minimum.at(times, events["visit"][inside], events["time_us"][inside])
    return times


def latest_before(
    owner: np.ndarray, time_us: np.ndarray, wanted: np.ndarray, when_us: np.ndarray
) -> np.ndarray:
    """For each wanted (owner, when) the position of the owner's latest entry until then, or -1.

    Args:
        owner: owner of each entry, from 0 upwards.
        time_us: when each entry began.
        wanted: owners that are asked about.
        when_us: the times that are asked about, one for each of `wanted`.
    """
    if len(owner) == 0:
        return np.full(len(wanted), -1)
    order = np.lexsort((time_us, owner))
    # One sortable number for both: times lie within a century of 2**42 ms.
    key = (owner[order].astype(np.int64) << 42) | (time_us[order] // 1000)
    asked = (wanted.astype(np.int64) << 42) | (when_us // 1000)
    place = np.searchsorted(key, asked, side="right") - 1
    found = order[np.maximum(place, 0)]
    return np.where((place >= 0) & (owner[found] == wanted), found, -1)
