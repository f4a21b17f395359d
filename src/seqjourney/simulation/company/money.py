"""What was paid: two currencies, with discount, tax and shipping apart from the net value.

The shop's value is net of discount, tax and shipping, in euros. Americans pay in dollars at the
month's rate, rounded to cents, so that the truth in euros is what an honest conversion gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqjourney.simulation.company.config import CompanyConfig
from seqjourney.simulation.event_log import DAY_US
from seqjourney.simulation.traits import COUNTRIES

CURRENCIES = ("EUR", "USD")
TAX_RATES = {"DE": 0.19, "FR": 0.20, "GB": 0.20, "PL": 0.23, "ES": 0.21, "US": 0.07}
SHIPPING = 4.90
FREE_SHIPPING_FROM = 50.0


@dataclass(frozen=True)
class Money:
    """The parts of each amount in its currency, never negative; NaN where there is none."""

    currency: np.ndarray
    net: np.ndarray
    discount: np.ndarray
    tax: np.ndarray
    shipping: np.ndarray
    total: np.ndarray
    value_eur: np.ndarray
    """The truth: net, negative for refunds."""


def dollar_rates(config: CompanyConfig) -> tuple[np.ndarray, np.ndarray]:
    """First days of the months, and how many euros one dollar is worth from each on."""
    dates = config.shop(0).dates
    months = np.arange(dates[0].astype("datetime64[M]"), dates[-1].astype("datetime64[M]") + 1)
    rng = np.random.default_rng([config.seed, 1])
    rates = 0.92 * np.exp(np.cumsum(0.02 * rng.standard_normal(len(months))))
    return months.astype("datetime64[D]"), np.round(rates, 6)


def split_amounts(
    config: CompanyConfig,
    value: np.ndarray,
    discount_percent: np.ndarray,
    time_us: np.ndarray,
    country: np.ndarray,
    ships: np.ndarray,
) -> Money:
    """Turn net euros into the parts of what was paid.

    Args:
        config: for the rates.
        value: net, in euros; negative for refunds, NaN for no money.
        discount_percent: NaN for none.
        time_us: since 1970.
        country: index into `COUNTRIES`.
        ships: whether shipping may be charged.
    """
    since, rates = dollar_rates(config)
    currency = (country == COUNTRIES.index("US")).astype(np.int8)
    place = np.searchsorted(since, (time_us // DAY_US).astype("datetime64[D]"), side="right") - 1
    rate = np.where(currency == 1, rates[np.maximum(place, 0)], 1.0)
    net = np.round(np.abs(value) / rate, 2)
    off = np.nan_to_num(discount_percent) / 100
    tax = np.round(net * np.array([TAX_RATES[name] for name in COUNTRIES])[country], 2)
    charged = ships & (value > 0) & (net < FREE_SHIPPING_FROM)
    shipping = np.where(np.isnan(net), np.nan, np.where(charged, SHIPPING, 0.0))
    return Money(
        currency=currency,
        net=net,
        discount=np.where(value > 0, np.round(net / (1 - off) - net, 2), np.nan),
        tax=tax,
        shipping=shipping,
        total=np.round(net + tax + shipping, 2),
        value_eur=np.sign(value) * net * rate,
    )
