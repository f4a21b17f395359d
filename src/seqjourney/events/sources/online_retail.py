"""UCI Online Retail (data set 352): invoice lines of a British giftware shop, 2010-12 to 2011-12.

One event is one invoice: `purchase`, or `cancellation` when its number starts with C. The
publisher's workbook and a Parquet copy of the same columns both work; where neither is at hand
and there is a network, the workbook is fetched from the publisher and its checksum verified.
Source: Daqing Chen, https://doi.org/10.24432/C5BW33, CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqjourney.config import DataConfig, nearest
from seqjourney.errors import DataError
from seqjourney.events.engine import columns_of, position_of, read_table
from seqjourney.events.files import find_files
from seqjourney.events.sources import Source

URL = "https://archive.ics.uci.edu/static/public/352/online+retail.zip"
WORKBOOK = "Online Retail.xlsx"
# As recorded by independent users of the publisher's file (23,715,344 bytes).
WORKBOOK_SHA256 = "43465a06f2ccf7c8b5bd2892bc7defb52f97487934fe93b16ae4c3936424676d"
LINE_COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)


def open_source(backend: Any, config: DataConfig) -> Source:
    """Open the workbook, a CSV or a Parquet copy; fetch the workbook when nothing is there."""
    assert config.path is not None  # the config sees to it
    file = _locate(Path(config.path).expanduser())
    workbook = file.suffix == ".xlsx"
    lines = _read_workbook(file) if workbook else read_table(backend, find_files(str(file)))
    for column in LINE_COLUMNS:
        if column not in lines.columns:
            hint = nearest(column, columns_of(lines))
            raise DataError(f"{file} is not Online Retail: no column '{column}'.{hint}")
    return Source(_map_lines(lines), (file,), combine=_combine_lines)


def _locate(place: Path) -> Path:
    if place.is_file():
        return place
    for pattern in ("*.parquet", "*.xlsx", "*.csv"):
        found = sorted(place.glob(pattern))
        if found:
            return found[0]
    return _fetch(place)


def _fetch(folder: Path) -> Path:
    """Download the publisher's archive, unpack the workbook and verify it."""
    import pooch

    try:
        folder.mkdir(parents=True, exist_ok=True)
        unpacked = pooch.retrieve(
            URL,
            known_hash=None,  # the archive is repacked from time to time; the workbook is not
            path=folder,
            fname="online_retail.zip",
            processor=pooch.Unzip(members=[WORKBOOK], extract_dir="."),
        )
    except Exception as error:  # requests, urllib and the archive raise many kinds
        raise DataError(
            f"no Online Retail file in {folder}, and fetching it from {URL} failed ({error}). "
            f"Put the publisher's '{WORKBOOK}' there, or point data.path (or SEQJOURNEY_DATA) "
            "at a folder that has it."
        ) from None
    workbook = Path(unpacked[0])
    found = pooch.file_hash(str(workbook), alg="sha256")
    if found != WORKBOOK_SHA256:
        workbook.rename(workbook.with_suffix(".unverified"))
        raise DataError(
            f"{workbook} was fetched but its SHA-256 is {found}, not {WORKBOOK_SHA256}; "
            "it was renamed to *.unverified. Check it; to use it anyway, rename it back to .xlsx."
        )
    return workbook


def _read_workbook(workbook: Path) -> Any:
    """Read the publisher's Excel file into an in-memory table."""
    import ibis
    import pandas as pd

    try:
        frame = pd.read_excel(workbook, engine="calamine")
    except ImportError:
        raise DataError(
            f"reading {workbook} needs the 'excel' extra: pip install 'seqjourney[excel]'."
        ) from None
    except Exception as error:  # a damaged archive, a missing sheet, a parser's own errors
        raise DataError(f"{workbook} cannot be read as a workbook: {error}") from error
    # Excel mixes numbers and text in these columns.
    text = [c for c in ("InvoiceNo", "StockCode", "Description", "Country") if c in frame]
    return ibis.memtable(frame.astype(dict.fromkeys(text, "string")))


def _map_lines(lines: Any) -> Any:
    number = lines.InvoiceNo.cast("string")
    quantity = lines.Quantity.try_cast("float64")
    amount = quantity * lines.UnitPrice.try_cast("float64")
    return lines.select(
        source_row=position_of(lines),
        # Excel and pandas hold the nullable id as a float.
        customer_id=lines.CustomerID.try_cast("float64").cast("int64").cast("string"),
        timestamp=lines.InvoiceDate,
        event_id=number,
        event=number.startswith("C").ifelse("cancellation", "purchase"),
        value=amount,
        quantity=quantity,
        country=lines.Country.cast("string"),
    )


def _combine_lines(lines: Any) -> Any:
    """One event per invoice: net value, number of lines, number of pieces."""
    declared = {}  # fields that the config does not name are not here
    if "quantity" in lines.columns:
        declared["quantity"] = lines.quantity.sum()
    if "country" in lines.columns:
        declared["country"] = lines.country.min()
    return lines.group_by("customer_id", "event_id", "event").aggregate(
        source_row=lines.source_row.min(),
        timestamp=lines.timestamp.min(),
        known_at=lines.known_at.max(),
        actor=lines.actor.min(),
        value=lines.value.sum(),
        lines=lines.count().cast("float64"),
        **declared,
    )
