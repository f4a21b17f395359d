"""The publisher's Online Retail file, in any of its forms, becomes one event per invoice."""

from __future__ import annotations

import zipfile
from pathlib import Path
from urllib.error import URLError

import pandas as pd
import pooch
import pytest
from test_event_log import rows_balance, write_log

from seqjourney.errors import DataError
from seqjourney.events.log import write_event_log
from seqjourney.events.sources import online_retail
from small_logs import data_config

LINES = [
    ("536365", "85123A", 6, "2010-12-01 08:26", 2.5, 17850.0, "United Kingdom"),
    ("536365", 71053, 2, "2010-12-01 08:27", 1.25, 17850.0, "United Kingdom"),
    (536366, "22633", 1, "2010-12-01 08:28", 4.0, 13047.0, "France"),
    ("C536367", "22633", -1, "2010-12-02 09:00", 4.0, 13047.0, "France"),
    ("536368", "POST", 1, "2010-12-02 10:00", 18.0, None, "France"),
]


def frame() -> pd.DataFrame:
    lines = pd.DataFrame(LINES, columns=list(online_retail.LINE_COLUMNS))
    return lines.assign(Description="a thing", InvoiceDate=pd.to_datetime(lines["InvoiceDate"]))


def config(path: Path, **changes):
    columns = {"customer": None, "timestamp": None, "event": None, "value": "value"}
    fields = {"categorical": ["country"], "numeric": ["lines", "quantity"]}
    return data_config(path, source="online_retail", **columns, **fields, **changes)


def write_workbook(folder: Path) -> Path:
    frame().to_excel(folder / "Online Retail.xlsx", index=False, engine="openpyxl")
    return folder / "Online Retail.xlsx"


def write_table(folder: Path, ending: str) -> Path:
    lines = frame()
    lines["InvoiceNo"] = lines["InvoiceNo"].astype(str)
    lines["StockCode"] = lines["StockCode"].astype(str)
    path = folder / f"online_retail.{ending}"
    lines.to_parquet(path) if ending == "parquet" else lines.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("ending", ["parquet", "csv", "xlsx"])
@pytest.mark.parametrize("by", ["file", "folder"])
def test_lines_become_invoices_from_every_form(tmp_path, ending, by):
    place = tmp_path / "in"
    place.mkdir()
    path = write_workbook(place) if ending == "xlsx" else write_table(place, ending)
    manifest, log = write_log(config(path if by == "file" else place), tmp_path / "log")
    assert manifest["rows"] == {
        "in": 5,
        "quarantined": {"no customer id": 1},
        "duplicates": 0,
        "events": 3,
        "merged": 1,
        "erased": 0,
        "withheld_for_consent": 0,
    }
    assert rows_balance(manifest)
    log = log.sort_values("event_id", ignore_index=True)
    assert log["event_id"].tolist() == ["536365", "536366", "C536367"]
    assert log["customer_id"].tolist() == ["17850", "13047", "13047"]
    assert log["event"].tolist() == ["purchase", "purchase", "cancellation"]
    assert log["value"].tolist() == [17.5, 4.0, -4.0]
    assert log["lines"].tolist() == [2, 1, 1]
    assert log["quantity"].tolist() == [8, 1, -1]
    assert log["country"].tolist() == ["United Kingdom", "France", "France"]
    assert log["timestamp"].iloc[0] == pd.Timestamp("2010-12-01 08:26", tz="UTC")


def test_a_file_of_something_else_is_named_with_the_missing_column(tmp_path):
    frame().rename(columns={"InvoiceNo": "Invoice"}).astype(
        {"Invoice": str, "StockCode": str}
    ).to_parquet(tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r"not Online Retail: no column 'InvoiceNo'.*'Invoice'"):
        write_event_log(config(tmp_path / "e.parquet"), tmp_path)


def test_a_damaged_workbook_is_named(tmp_path):
    (tmp_path / "Online Retail.xlsx").write_bytes(b"PK\x03\x04 not a workbook")
    with pytest.raises(DataError, match=r"Online Retail.xlsx cannot be read as a workbook"):
        write_event_log(config(tmp_path), tmp_path)


def test_a_field_that_invoices_do_not_have_is_refused_with_those_they_have(tmp_path):
    path = write_table(tmp_path, "parquet")
    changed = config(path).model_copy(update={"categorical": ("city",)})
    from seqjourney.errors import ConfigError

    with pytest.raises(ConfigError, match="no field 'city'; it has: value, lines"):
        write_event_log(changed, tmp_path)


def test_fields_that_the_config_does_not_name_are_left_out(tmp_path):
    bare = config(write_table(tmp_path, "parquet")).model_copy(
        update={"categorical": (), "numeric": ()}
    )
    _, log = write_log(bare, tmp_path / "log")
    assert len(log) == 3
    assert not {"country", "quantity", "lines"} & set(log.columns)


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(DataError, match=r"no route to host.*Put the publisher's.*SEQJOURNEY_DATA"):
        write_event_log(config(tmp_path / "nowhere"), tmp_path)


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """A publisher's archive at hand; pooch unpacks it but needs no network."""
    archive = tmp_path / "published.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(write_workbook(tmp_path), online_retail.WORKBOOK)
    monkeypatch.setattr(online_retail, "URL", archive.as_uri())

    def copy(url, output_file, pooch_):
        Path(output_file).write_bytes(archive.read_bytes())

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar=False: copy)
    return archive


def test_a_fetched_workbook_with_another_checksum_is_put_aside(tmp_path, published):
    with pytest.raises(DataError, match=r"SHA-256 is .*renamed to \*\.unverified.*back to .xlsx"):
        write_event_log(config(tmp_path / "raw"), tmp_path)
    assert (tmp_path / "raw" / "Online Retail.unverified").exists()
    assert list((tmp_path / "raw").glob("*.xlsx")) == []


def test_a_fetched_workbook_with_the_right_checksum_is_read(tmp_path, published, monkeypatch):
    digest = pooch.file_hash(str(tmp_path / online_retail.WORKBOOK))
    monkeypatch.setattr(online_retail, "WORKBOOK_SHA256", digest)
    manifest, _ = write_log(config(tmp_path / "raw"), tmp_path / "log")
    assert manifest["rows"]["events"] == 3
    again, _ = write_log(config(tmp_path / "raw"), tmp_path / "again")  # found, not fetched
    assert again["fingerprint"] == manifest["fingerprint"]


def test_the_real_data_give_the_known_counts(retail_prepared):
    from seqjourney.events.log import read_manifest

    manifest = read_manifest(retail_prepared)
    assert manifest["rows"]["in"] == 541_909
    assert manifest["rows"]["quarantined"] == {"no customer id": 135_080}
    assert manifest["rows"]["events"] == 22_190
    assert manifest["customers"] == 4_372
    assert rows_balance(manifest)
