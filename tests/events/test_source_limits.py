"""What a source may not do to a log: hide a refusal, delete itself, or leave nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seqjourney.commands.prepare import prepare
from seqjourney.config import DataConfig, parse
from seqjourney.errors import ConfigError, DataError
from seqjourney.events.log import read_manifest


def row(number: int, user: str = "u", **more: Any) -> dict[str, Any]:
    day = pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(days=number)
    return {"id": f"e{number}", "user": user, "at": day.isoformat(), "what": "look"} | more


def log_of(place: Path, rows: list[dict[str, Any]], name: str = "one", **changes: Any) -> Path:
    """Prepare one small table as a source."""
    file = place / f"{name}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in rows))
    source = {
        "kind": "table", "path": str(file), "timestamp": "at", "event": "what", "event_id": "id",
        "identifiers": {"user": "user"}, "money": {"net": "net"},
        "consent": {"analytics": "agrees"},
    }  # fmt: skip
    source |= changes.pop("source", {})
    values = {"name": name, "threads": 1, "sources": [source]} | changes
    return prepare(parse(DataConfig, values, "data"), place / "processed", progress=False)


def events(prepared: Path) -> pd.DataFrame:
    files = sorted((prepared / "events").glob("*/*.parquet"))
    return pd.concat([pd.read_parquet(file, partitioning=None) for file in files])


def test_who_refuses_in_a_row_that_cannot_be_used_has_refused(tmp_path: Path):
    rows = [row(day, net=1) for day in range(3)]
    rows += [row(3, agrees="no", net="12,50"), *(row(day, net=1) for day in range(4, 7))]
    policy = {"purpose": "analytics", "unknown": "allow"}
    prepared = log_of(tmp_path, rows, consent=policy)
    account = read_manifest(prepared)["rows"]
    assert account["quarantined"] == {"bad 'money_net'": 1}
    assert account["withheld_for_consent"] == 3
    assert events(prepared)["event_id"].tolist() == ["e0", "e1", "e2"]


def test_a_column_that_is_no_id_of_events_does_not_delete_them(tmp_path: Path):
    rows = [row(day) | {"id": "same", "net": 1, "agrees": "yes"} for day in range(20)]
    with pytest.raises(DataError, match=r"source 'table': 19 of 20 rows repeat an event id"):
        log_of(tmp_path, rows)


def test_a_log_of_nothing_says_where_the_events_went(tmp_path: Path):
    rows = [row(day, net=1, agrees="no") for day in range(3)]
    with pytest.raises(DataError, match="no event is left: all were quarantined, erased or with"):
        log_of(tmp_path, rows, consent={"purpose": "analytics", "unknown": "withhold"})
    assert not (tmp_path / "processed/one").exists()


def test_lines_that_are_no_records_count_as_rows_that_cannot_be_used(tmp_path: Path):
    rows = [row(0, net=1, agrees="yes"), *("garbage",) * 9]
    with pytest.raises(DataError, match=r"9 of 10 rows cannot be used .*'not a JSON object'"):
        log_of(tmp_path, rows, on_malformed="quarantine")


def test_a_declared_number_is_finite_and_a_declared_name_may_be_any_column(tmp_path: Path):
    costs = ["inf", "1e300", "NaN", 2.5]
    rows = [row(day, net=1, agrees="yes", cost=cost, cur="EUR") for day, cost in enumerate(costs)]
    prepared = log_of(
        tmp_path, rows, numeric=["cost"], categorical=["currency", "machine_open"], currency="EUR",
        source={"money": {"net": "net", "currency": "cur"}},
    )  # fmt: skip
    log = events(prepared)
    assert log["cost"].tolist()[-1] == 2.5 and log["cost"].isna().sum() == 3
    assert set(log["currency"]) == {"EUR"}


def test_the_fingerprint_knows_rates_and_names_but_not_places(tmp_path: Path):
    rows = [row(day, net=10, agrees="yes", cur="USD") for day in range(3)]
    money = {"source": {"money": {"net": "net", "currency": "cur"}}, "currency": "EUR"}

    def fingerprint(folder: str, rate: float) -> str:
        place = tmp_path / folder
        place.mkdir()
        (place / "rates.csv").write_text(f"currency,rate\nUSD,{rate}\n")
        prepared = log_of(place, rows, rates=str(place / "rates.csv"), **money)
        return read_manifest(prepared)["fingerprint"]

    assert fingerprint("here", 0.9) == fingerprint("there", 0.9) != fingerprint("other", 0.5)


@pytest.mark.parametrize(
    "change",
    [{"consent": {"purpose": "analytics"}}, {"currency": "EUR"}, {"taxonomy_review": "x.yaml"}],
)
def test_what_is_for_several_sources_is_refused_for_one_table(change: dict[str, Any]):
    table = {"name": "x", "path": "x", "customer": "c", "timestamp": "t", "event": "e"}
    with pytest.raises(ConfigError, match=f"data.{next(iter(change))} is for data.sources"):
        parse(DataConfig, table | change, "data")


def test_a_source_may_have_more_files_than_a_process_may_open(tmp_path: Path):
    resource = pytest.importorskip("resource", reason="no such limit on this system")
    for number in range(200):
        pd.DataFrame([row(number, net=1.0, agrees="yes")]).to_parquet(
            tmp_path / f"part-{number:03d}.parquet"
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, hard))
    try:
        prepared = log_of(tmp_path, [], source={"path": str(tmp_path / "*.parquet")})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(events(prepared)) == 200
