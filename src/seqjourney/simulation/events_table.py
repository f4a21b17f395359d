"""Rows of all families -> the event log as one sorted Arrow table.

Words are dictionary-encoded, which keeps five million events near half a gigabyte.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqjourney.simulation.event_log import (
    ACTORS,
    CHANNELS,
    DAY_US,
    EVENT_ACTORS,
    EVENTS,
    PAGE_TYPES,
    Rows,
)
from seqjourney.simulation.traits import COUNTRIES, DEVICES, Traits

TIME = pa.timestamp("us", tz="UTC")


def events_table(families: tuple[Rows, ...], traits: Traits, dates: np.ndarray) -> pa.Table:
    """Join the families, drop what lies after the period, sort, and name everything."""
    end_us = len(dates) * DAY_US
    time_us = np.concatenate([rows.time_us for rows in families])
    order = np.argsort(time_us, kind="stable")
    order = order[: np.searchsorted(time_us, end_us, sorter=order)]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(rows, name) for rows in families])[order]

    start_us = dates[0].astype("datetime64[us]").astype(np.int64)
    time_us = time_us[order] + start_us
    customer, event = column("customer"), column("event")
    actor_of = np.array([ACTORS.index(EVENT_ACTORS[name]) for name in EVENTS], np.int8)
    columns = {
        "customer_id": words(traits.number[customer], customer_ids(len(traits.number))),
        "event_id": numbered("e", len(order), digits=9),
        "timestamp": pa.array(time_us).cast(TIME),
        "known_at": pa.array(time_us + column("delay_us")).cast(TIME),
        "event": words(event, EVENTS),
        "actor": words(actor_of[event], ACTORS),
        "channel": words(column("channel"), CHANNELS),
        "value": pa.array(column("value"), from_pandas=True),
        "device": words(column("device"), DEVICES),
        "country": words(traits.country[customer], COUNTRIES),
        "page_type": words(column("page_type"), PAGE_TYPES),
        "waiting_hours": pa.array(column("waiting_hours"), from_pandas=True),
        "discount_percent": pa.array(column("discount_percent"), from_pandas=True),
    }
    return pa.table(columns)


def words(codes: np.ndarray, vocabulary: tuple[str, ...] | pa.Array) -> pa.DictionaryArray:
    """Indices into a vocabulary as a dictionary-encoded column; -1 becomes null."""
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32), mask=codes < 0), pa.array(vocabulary)
    )


def numbered(letter: str, count: int, digits: int) -> pa.Array:
    """letter000000, letter000001, …: in this order also as text."""
    numbers = pc.utf8_lpad(pa.array(np.arange(count)).cast(pa.string()), digits, "0")
    return pc.binary_join_element_wise(letter, numbers, "")


def customer_ids(customers: int) -> pa.Array:
    """The ids by number, c000000 upwards."""
    return numbered("c", customers, digits=max(6, len(str(customers - 1))))
