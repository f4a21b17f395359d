"""Amounts of several sources become one net value, whatever parts and currency a source gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjourney.config import DataConfig, parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.money import COLUMNS, check_currencies, net_value, read_rates, with_rate

SOURCE = {"kind": "segment", "path": "x"}
AMOUNT = st.one_of(st.none(), st.floats(-1e6, 1e6).map(lambda x: round(x, 2)))


@pytest.fixture(scope="module")
def backend() -> Any:
    return ibis.duckdb.connect(threads=1)


def config(**changes: Any) -> DataConfig:
    return parse(DataConfig, {"name": "shop", "sources": [SOURCE], **changes}, "data")


def rates_file(place: Path, text: str) -> str:
    path = place / "rates.csv"
    path.write_text(text)
    return str(path)


def table(**columns: list[Any]) -> Any:
    frame = pd.DataFrame(columns)
    if "timestamp" in frame:
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True, format="ISO8601").astype(
            "datetime64[us, UTC]"
        )
    kinds = {"currency": "string", "source": "string"}
    return ibis.memtable(frame.astype({c: kinds[c] for c in frame.columns if c in kinds}))


def by_hand(row: dict[str, float | None]) -> float | None:
    """Net is what the source calls so, else what was paid less tax and shipping, less refunds."""
    gained = row["money_net"]
    if gained is None and row["money_total"] is not None:
        gained = row["money_total"] - (row["money_tax"] or 0) - (row["money_shipping"] or 0)
    if row["money_refund"] is None:
        return gained
    return (gained or 0) - abs(row["money_refund"])


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, AMOUNT)), min_size=1, max_size=20))
def test_the_net_value_is_what_counting_by_hand_gives(rows):
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype="float64")
    found = net_value(ibis.memtable(frame)).execute()
    expected = pd.Series([by_hand(row) for row in rows], dtype="float64")
    pd.testing.assert_series_equal(found, expected, check_names=False, atol=1e-9)


def test_a_refund_is_negative_whichever_sign_the_source_gives_it():
    rows = ibis.memtable(pd.DataFrame({"money_refund": [5.0, -5.0]}))
    assert net_value(rows).execute().tolist() == [-5.0, -5.0]


def test_a_source_without_any_part_of_money_has_no_value():
    rows = table(source=["a", "b"])
    assert rows.select(value=net_value(rows)).execute()["value"].isna().tolist() == [True, True]


def test_a_rate_holds_from_its_date_until_the_next(tmp_path: Path, backend: Any):
    text = "currency,rate,since\nUSD,0.9,2024-01-01\nusd,0.8,2024-02-01\n GBP ,1.2,2024-01-01\n"
    data = config(currency="EUR", rates=rates_file(tmp_path, text))
    rows = table(
        place=list(range(7)),
        timestamp=[
            "2024-01-01", "2024-01-31T23:59:59.999999", "2024-02-01", "2030-01-01", "2024-03-01",
            "2024-01-05", "2023-12-31T23:59:59",
        ],
        currency=["USD", "usd", "USD", "USD", "GBP", None, "USD"],
    )  # fmt: skip
    found = backend.execute(with_rate(rows, data, read_rates(data)).order_by("place"))
    assert found["rate"].tolist()[:6] == [0.9, 0.9, 0.8, 0.8, 1.2, 1.0]
    assert pd.isna(found["rate"][6]), "before its first date a rate is not known"


def test_no_row_is_lost_or_doubled_by_the_rates(tmp_path: Path, backend: Any):
    text = "currency,rate,since\nUSD,0.9,2024-01-01\nUSD,0.8,2024-02-01\nEUR,7,2024-01-01\n"
    data = config(currency="EUR", rates=rates_file(tmp_path, text))
    moments = pd.date_range("2023-12-01", periods=200, freq="12h").astype(str).tolist()
    rows = table(place=list(range(200)), timestamp=moments, currency=["USD", "EUR", None, "X"] * 50)
    found = backend.execute(with_rate(rows, data, read_rates(data)).order_by("place"))
    assert found["place"].tolist() == list(range(200))
    assert (found["rate"][found["currency"] == "EUR"] == 1).all(), "the log's own is worth itself"


def test_a_currency_that_has_no_rate_is_named_with_its_source(tmp_path: Path, backend: Any):
    data = config(currency="EUR", rates=rates_file(tmp_path, "currency,rate\nUSD,0.9\n"))
    rows = table(source=["web", "till"], currency=["USD", "JPY"], rate=[0.9, None])
    with pytest.raises(DataError, match=r"source 'till': 1 amounts are in JPY.*Add a row JPY"):
        check_currencies(backend, rows, data)


def test_several_currencies_need_one_to_lead_to(backend: Any):
    rows = table(source=["web", "till"], currency=["USD", "JPY"], rate=[1.0, 1.0])
    with pytest.raises(DataError, match=r"money in JPY, USD.*data\.currency"):
        check_currencies(backend, rows, config())
    one = table(source=["web"], currency=["USD"], rate=[1.0])
    check_currencies(backend, one, config())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("currency,worth\nUSD,1\n", "no table of rates.*currency and rate"),
        ("currency,rate\nUSD,cheap\n", "no table of rates"),
        ("currency,rate\nUSD,0\n", "above 0"),
        ("currency,rate\nUSD,-1\n", "above 0"),
        ("currency,rate\nUSD,nan\n", "above 0"),
        ("currency,rate\nUSD,1\nusd,2\n", "two rates of USD"),
        ("currency,rate,since\nUSD,1,soon\n", "no table of rates"),
    ],
)
def test_a_bad_table_of_rates_is_refused_with_its_name(tmp_path: Path, text: str, words: str):
    path = rates_file(tmp_path, text)
    with pytest.raises(DataError, match=words) as caught:
        read_rates(config(currency="EUR", rates=path))
    assert path in str(caught.value)


def test_rates_need_a_currency_and_a_file(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.currency"):
        read_rates(config(rates="x.csv"))
    with pytest.raises(DataError, match="is missing"):
        read_rates(config(currency="EUR", rates=str(tmp_path / "none.csv")))
    assert read_rates(config(currency="EUR")) is None
