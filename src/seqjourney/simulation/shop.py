"""The simulated shop as two tables, in memory or on disk."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seqjourney.errors import DataError
from seqjourney.simulation.config import ShopConfig
from seqjourney.simulation.event_log import write_down
from seqjourney.simulation.events_table import customer_ids, events_table, words
from seqjourney.simulation.process import Columns, live
from seqjourney.simulation.state import State
from seqjourney.simulation.traits import COUNTRIES, DEVICES, SOURCES, Traits, draw_traits


def simulate_shop(config: ShopConfig) -> tuple[pa.Table, pa.Table]:
    """Simulate all customers over the whole period.

    Returns the events, sorted by (timestamp, event_id), and the truth: one row per customer,
    sorted by customer_id.
    """
    rng = np.random.default_rng(config.seed)
    dates = config.dates
    traits = draw_traits(config.customers, len(dates), rng)
    tables, state = live(config, traits, rng)
    events = events_table(write_down(tables, traits, rng), traits, dates)
    return events, truth_table(traits, state, tables["sessions"], dates)


def truth_table(traits: Traits, state: State, sessions: Columns, dates: np.ndarray) -> pa.Table:
    """The traits, the hidden state at the end of the period, and what came of each customer."""
    count = len(traits.number)
    buyer = sessions["customer"][sessions["ordered"]]
    spent = sessions["value"][sessions["ordered"]]
    favourite = np.diff(traits.source_affinity, axis=1, prepend=0).argmax(axis=1)
    left = state.leaving_since
    table = pa.table(
        {
            "customer_id": customer_ids(count).take(pa.array(traits.number)),
            "arrival_date": pa.array(dates[traits.arrival_day]),
            "country": words(traits.country, COUNTRIES),
            "device": words(traits.device, DEVICES),
            "engagement": traits.engagement,
            "price_sensitivity": traits.price_sensitivity,
            "service_sensitivity": traits.service_sensitivity,
            "basket_level": traits.basket_level,
            "visit_period_days": traits.visit_period_days,
            "favourite_source": words(favourite, SOURCES),
            "app_affinity": traits.app_affinity,
            "store_affinity": traits.store_affinity,
            "ad_affinity": traits.ad_affinity,
            "email_opt_in": traits.email_opt_in,
            "orders": np.bincount(buyer, minlength=count),
            "order_value": np.round(np.bincount(buyer, weights=spent, minlength=count), 2),
            "last_left_date": pa.array(dates[np.maximum(left, 0)], mask=left < 0),
            "leaving_at_end": state.leaving,
            "pull_at_end": state.pull,
            "subscribed_at_end": state.subscribed,
            "intent_at_end": state.intent,
            "satisfaction_at_end": state.satisfaction,
        }
    )
    return table.sort_by("customer_id")


def write_shop(config: ShopConfig, folder: Path) -> Path:
    """Write `events.parquet`, `truth.parquet` and `simulation.json` into `folder`.

    All files are complete under temporary names before the first gets its own, and the event log
    gets its name last: when it is there, so is the rest. Returns the path of the event log.
    """
    events, truth = simulate_shop(config)
    about = {
        "about": "A simulated shop: events.parquet is the event log, truth.parquet the hidden "
        "truth about each customer (never a model's input).",
        "config": asdict(config),
        "seed": config.seed,
        "customers": truth.num_rows,
        "rows": {"events.parquet": events.num_rows, "truth.parquet": truth.num_rows},
        "columns": {
            "events.parquet": events.column_names,
            "truth.parquet": truth.column_names,
        },
    }
    names = ("simulation.json", "truth.parquet", "events.parquet")
    final = [folder / name for name in names]
    temporary = [folder / f".{name}.{os.getpid()}.tmp" for name in names]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary[0].write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        pq.write_table(truth, temporary[1], compression="zstd")
        pq.write_table(events, temporary[2], compression="zstd")
        # An older log must not stand beside the new truth, should a rename fail.
        final[-1].unlink(missing_ok=True)
        for source, target in zip(temporary, final, strict=True):
            source.replace(target)
    except OSError as error:
        raise DataError(f"The simulated shop could not be written to {folder}: {error}") from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    return final[-1]
