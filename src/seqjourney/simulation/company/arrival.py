"""When the company's tools get to know of an event: delays, wrong clocks and copies.

browsers and phones  send within two seconds; `late` of the events (of apps twice as many) hours
                     to five days later; the tool receives 50 to 800 ms after sending
clocks               a skewed device stamps everything with its own offset, also the sending, so
                     that receiving minus sending tells the offset
servers              know at once, or as late as the shop says (support, ads, refunds)
files                of the store are loaded in the night after; the CRM is read every hour
copies               carry the same id and content, and arrive a minute to three days later
"""

from __future__ import annotations

import numpy as np

from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.company.people import People
from seqjourney.simulation.company.sources import CLIENT_SOURCES, SOURCE
from seqjourney.simulation.event_log import DAY_US
from seqjourney.simulation.state import Columns

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
SKEW_SHOWN = ("web", "blog", "outlet", "app")
"""Sources whose exports keep the device's own times."""


def draw_skews(config: CompanyConfig, people: People, rng: np.random.Generator) -> np.ndarray:
    """Offsets of all devices' clocks in microseconds, (people, devices); most are 0."""
    shape = people.device_owner.shape
    size = np.clip(np.exp(rng.normal(8.0, 2.0, shape)), 60, 3 * 86_400)
    skew = np.where(rng.random(shape) < 0.5, -size, size) * SECOND_US
    skew = np.where(rng.random(shape) < config.skewed_devices, skew, 0).astype(np.int64)
    columns = np.arange(shape[1])
    return skew[people.device_owner, columns]


def receive(
    config: CompanyConfig, rows: Columns, skews: np.ndarray, rng: np.random.Generator
) -> Columns:
    """Add `sent_us`, `known_us` (true times) and `skew_us`."""
    count = len(rows["time_us"])
    source, time_us = rows["source"], rows["time_us"]
    by_client = np.isin(source, [SOURCE[name] for name in CLIENT_SOURCES])
    by_client &= (rows["delay_us"] == 0) & ~rows["by_server"]
    by_app = np.isin(source, [SOURCE["app"], SOURCE["app_shop"]])
    late = by_client & (rng.random(count) < config.late * np.where(by_app, 2, 1))
    wait = rng.uniform(0.02, 2.0, count) * SECOND_US
    long_wait = np.clip(
        12 * HOUR_US * np.exp(1.2 * rng.standard_normal(count)), HOUR_US, 5 * DAY_US
    )
    sent_us = time_us + np.where(late, long_wait, wait).astype(np.int64)
    known_us = sent_us + (rng.uniform(0.05, 0.8, count) * SECOND_US).astype(np.int64)
    server = time_us + np.maximum(
        rows["delay_us"], (rng.uniform(0.2, 3.0, count) * SECOND_US).astype(np.int64)
    )
    sent_us = np.where(by_client, sent_us, server)
    known_us = np.where(by_client, known_us, server)
    nightly = (time_us // DAY_US + 1) * DAY_US + 3 * HOUR_US
    known_us = np.where(source == SOURCE["store"], np.maximum(nightly, known_us), known_us)
    hourly = (time_us // HOUR_US + 1) * HOUR_US
    known_us = np.where(source == SOURCE["crm"], hourly, known_us)
    # A batch of the app is known when its last event is.
    batch = np.flatnonzero((source == SOURCE["app_shop"]) & (rows["visit"] >= 0))
    key = 2 * rows["visit"][batch] + rows["known"][batch]
    last = np.zeros(int(key.max(initial=0)) + 1, np.int64)
    np.maximum.at(last, key, known_us[batch])
    known_us[batch] = last[key]
    person, device = rows["person"], np.maximum(rows["device"], 0)
    shown = np.isin(source, [SOURCE[name] for name in SKEW_SHOWN]) & by_client & (person >= 0)
    skew_us = np.where(shown, skews[person, device], 0)
    return rows | {"sent_us": sent_us, "known_us": known_us, "skew_us": skew_us, "late": late}


def add_copies(config: CompanyConfig, rows: Columns, rng: np.random.Generator) -> Columns:
    """Append the rows that are sent again; `copies` of the first says how many there are."""
    count = len(rows["time_us"])
    again = rng.random(count) < config.duplicates
    # mParticle sends whole batches again, which are visits here; a refund is a batch of its own.
    batch = rows["source"] == SOURCE["app_shop"]
    visits = int(rows["visit"].max(initial=0)) + 2
    by_visit = rng.random(visits) < config.duplicates
    again = np.where(batch & (rows["visit"] >= 0), by_visit[rows["visit"]], again)
    first = rows | {"copy": np.zeros(count, bool), "copies": again.astype(np.int8)}
    second = {name: values[again] for name, values in rows.items()}
    delays = rng.uniform(60, 3 * 86_400, visits) * SECOND_US
    delay = (rng.uniform(60, 3 * 86_400, int(again.sum())) * SECOND_US).astype(np.int64)
    batched = (second["source"] == SOURCE["app_shop"]) & (second["visit"] >= 0)
    delay = np.where(batched, delays[second["visit"]].astype(np.int64), delay)
    # Tools that export a table again, or state no time of their own, keep the first time.
    second["known_us"] = second["known_us"] + delay
    second["sent_us"] = second["sent_us"] + delay
    size = len(delay)
    second |= {"copy": np.ones(size, bool), "copies": np.zeros(size, np.int8)}
    return {name: np.concatenate([first[name], second[name]]) for name in first}
