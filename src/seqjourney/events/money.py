"""Money of several sources → `value`: net, in the log's one currency, refunds negative.

Connectors give what their vendor means by its amounts (see `money_*` of the raw rows): net of
discount, tax and shipping, or what was paid with all of it. Rates come from the user's table; a
currency that it does not name stops `prepare`, since guessing one would scale customers wrongly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import pandas as pd

from seqjourney.config import DataConfig
from seqjourney.errors import ConfigError, DataError

PARTS = ("net", "total", "discount", "tax", "shipping", "refund")
COLUMNS = tuple(f"money_{part}" for part in PARTS)
_ALWAYS, _EVER = pd.Timestamp("1900-01-01", tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")
_TIME = "datetime64[us, UTC]"


def net_value(rows: Any) -> Any:
    """Return the net amount of each row in its own currency, null where it has none.

    Args:
        rows: with any of `COLUMNS` and `value`, float64.
    """

    def part(name: str) -> Any:
        return rows[name] if name in rows.columns else ibis.null("float64")

    total = (
        part("money_total") - part("money_tax").fill_null(0) - part("money_shipping").fill_null(0)
    )
    gained = ibis.coalesce(part("value"), part("money_net"), total)
    refund = part("money_refund").abs()
    return refund.isnull().ifelse(gained, gained.fill_null(0) - refund)


def read_rates(config: DataConfig) -> pd.DataFrame | None:
    """Read the table of rates: `currency`, `rate`, and `since` and `until`, when it holds (UTC).

    Raises:
        ConfigError: rates are given without the log's currency.
        DataError: the table is missing or not what it should be.
    """
    if config.rates is None:
        return None
    if config.currency is None:
        raise ConfigError("data.rates needs data.currency, the currency that they lead to.")
    path = Path(config.rates).expanduser()
    try:
        rates = pd.read_csv(path, dtype=str)
        rates["currency"] = rates["currency"].str.strip().str.upper()
        rates["rate"] = rates["rate"].astype(float)
        if "since" in rates:
            rates["since"] = pd.to_datetime(rates["since"], utc=True, format="ISO8601")
        else:
            rates["since"] = _ALWAYS
    except FileNotFoundError:
        raise DataError(f"{path} is missing; data.rates names it.") from None
    except (KeyError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is no table of rates ({error}). It needs the columns currency and rate "
            "(one unit in the log's currency), and may have since (from when on the rate holds)."
        ) from None
    if not (rates["rate"] > 0).all():
        raise DataError(f"{path}: every rate must be above 0.")
    if rates.duplicated(["currency", "since"]).any():
        twice = rates[rates.duplicated(["currency", "since"])].iloc[0]
        raise DataError(f"{path} has two rates of {twice['currency']} for one date.")
    rates = rates.sort_values(["currency", "since"], ignore_index=True)
    rates["until"] = rates.groupby("currency")["since"].shift(-1).fillna(_EVER)
    return rates[["currency", "rate", "since", "until"]]


def with_rate(rows: Any, config: DataConfig, rates: pd.DataFrame | None) -> Any:
    """Add `rate`, by which to multiply an amount: null where none is known at its time.

    A row without a currency is in the log's own, whose rate is 1.

    Args:
        rows: with `timestamp` and perhaps `currency`.
        config: names the log's currency; unset means that there is only one.
        rates: from `read_rates`.
    """
    if config.currency is None or "currency" not in rows.columns:
        return rows.mutate(rate=ibis.literal(1.0))
    own = rows.currency.upper().fill_null(config.currency)
    if rates is None or rates.empty:
        return rows.mutate(rate=ibis.cases((own == config.currency, 1.0)))
    names = {"currency": "rate_currency", "rate": "rate_rate"}
    names |= {"since": "rate_since", "until": "rate_until"}
    others = rates[rates["currency"] != config.currency].rename(columns=names)
    table = ibis.memtable(others.astype({"rate_since": _TIME, "rate_until": _TIME}))
    wide = rows.mutate(rate_own=own).left_join(
        table,
        [
            ("rate_own", "rate_currency"),
            rows.timestamp >= table.rate_since,
            rows.timestamp < table.rate_until,
        ],
    )
    rate = (wide.rate_own == config.currency).ifelse(1.0, wide.rate_rate)
    return wide.select(*rows.columns, rate=rate)


def check_currencies(backend: Any, rows: Any, config: DataConfig) -> None:
    """Refuse amounts whose worth in the log's currency is unknown.

    Args:
        backend: from `events.engine.connect`.
        rows: staged, with `currency`, `rate` and `source`, of those rows that carry money.

    Raises:
        DataError: names the currency, how many rows use it and in which source.
    """
    counts = rows.group_by("source", "currency").aggregate(
        rows=rows.count(), unknown=rows.rate.isnull().sum()
    )
    found = backend.execute(counts)
    named = sorted(found["currency"].dropna().unique())
    if config.currency is None and len(named) > 1:
        raise DataError(
            f"the sources bring money in {', '.join(named)}. Say which one the log is to be in "
            "(data.currency) and what the others are worth (data.rates, a CSV of currency,rate)."
        )
    unknown = found[found["unknown"] > 0].sort_values("unknown", ascending=False)
    if len(unknown):
        first = unknown.iloc[0]
        raise DataError(
            f"source '{first['source']}': {int(first['unknown']):,} amounts are in "
            f"{first['currency']}, for which {config.rates or 'data.rates'} has no rate at their "
            f"time. Add a row {first['currency']},<worth in {config.currency}>."
        )
