"""CloudEvents 1.0 as JSON Lines: the neutral format of CRM, support and back-office systems.

`type` is the event and stays as it is, `time` is when it happened, and a source's `id` is unique
within its `source`, so that both together are the duplicate key. What `subject` identifies is for
the producer to say: here it is an identifier of one type that the options name, a user by default.
CloudEvents know no time of receipt; the extension `recordedtime` stands for it. `data` becomes the
properties, and the options say at which paths it holds identifiers, money and consent.
"""

from __future__ import annotations

from typing import Any

import ibis
from pydantic import Field, field_validator, model_validator

from seqjourney.config import Strict, parse
from seqjourney.config.data import MoneyPart, SourceConfig
from seqjourney.errors import DataError
from seqjourney.events.files import find_files, kind_of
from seqjourney.events.records import open_records
from seqjourney.events.sources import Source
from seqjourney.events.sources.commerce import positive
from seqjourney.events.sources.consent_text import UNREADABLE, checked, of_flags
from seqjourney.events.sources.moments import unreadable, utc
from seqjourney.events.sources.nested_json import json_object
from seqjourney.events.sources.personal_data import without_value

_TYPE = r"^[a-z][a-z0-9_]*$"


class CloudEventsOptions(Strict):
    """What a producer's events mean; paths are dotted, from the top (`data.customer.email`)."""

    subject: str = Field("user", pattern=_TYPE)
    """Type of the identifier in `subject`, as in identity.priority; `group` for an account."""
    identifiers: dict[str, str] = Field(default_factory=dict)
    """Further identifiers by type: `{email: data.customer.email}`."""
    money: dict[MoneyPart, str] = Field(default_factory=dict)
    """Amounts: `{total: data.amount, tax: data.vat, currency: data.currency}`. `net` is net of
    discount, tax and shipping; `total` is what was paid; `refund` what was given back."""
    consent: str | None = None
    """An object from purpose to true or false, or to granted, denied or unknown."""
    known_at: str = "recordedtime"
    """When the company's systems had the event."""

    @field_validator("identifiers")
    @classmethod
    def _check_types(cls, identifiers: dict[str, str]) -> dict[str, str]:
        for name in identifiers:
            if not name.isidentifier() or name != name.lower():
                raise ValueError(f"'{name}' is no identifier type; write it like 'loyalty_card'")
        return identifiers

    @model_validator(mode="after")
    def _check_subject(self) -> CloudEventsOptions:
        if self.subject in self.identifiers:
            raise ValueError(
                f"both subject and identifiers hold the type '{self.subject}'; an event has one"
            )
        return self


def open_source(backend: Any, config: SourceConfig) -> Source:
    """Map CloudEvents to raw rows.

    Raises:
        ConfigError: an option is unknown or wrong.
        DataError: no such file, or none of JSON Lines.
    """
    files = find_files(config.path)
    if kind_of(files[0]) != "json":
        raise DataError(f"{files[0]}: CloudEvents are read from JSON Lines, one event per line.")
    options = parse(CloudEventsOptions, config.options, f"data.sources.{config.label}.options")
    paths = {
        **{key: key for key in ("id", "source", "type", "subject", "time", "data", "data_base64")},
        "recorded": options.known_at,
        **{f"id_{name}": path for name, path in options.identifiers.items()},
        **{f"money_{part}": path for part, path in options.money.items()},
        **({"consent": options.consent} if options.consent else {}),
    }
    typed = dict.fromkeys(("data", "data_base64"), "JSON")
    records = open_records(backend, files, paths, typed=typed)
    return Source(_raw_rows(records.rows, options), records.files, rejected=records.rejected)


def _raw_rows(rows: Any, options: CloudEventsOptions) -> Any:
    recorded = utc(rows.recorded)
    # An event without a time may take that of its recording, as the specification allows.
    happened = rows.time.isnull().ifelse(recorded, utc(rows.time))
    subject = "group_id" if options.subject == "group" else f"id_{options.subject}"
    columns = {name: rows[name] for name in rows.columns if name.startswith("id_")}
    columns |= {f"money_{part}": _amount(rows, part) for part in options.money}
    if "money_currency" in columns:
        columns["currency"] = columns.pop("money_currency")
    if options.consent:
        columns["consent"] = _consent(rows.consent)
    return rows.select(
        source_row=rows.source_row,
        event=rows["type"],
        timestamp=happened,
        unreadable_timestamp=unreadable(ibis.coalesce(rows.time, rows.recorded), happened),
        known_at=recorded,
        unreadable_known_at=unreadable(rows.recorded, recorded),
        # A URI has no blank, so the two cannot run into one another.
        event_id=rows["source"].strip() + " " + rows["id"].strip(),
        properties=_properties(rows, options),
        **{subject: rows.subject},
        **columns,
    )


def _properties(rows: Any, options: CloudEventsOptions) -> Any:
    """Return an object as it is, and anything else (a number, text, binary) under its own key.

    Addresses and numbers that the options name are blanked: they are kept as hashes alone.
    """
    other = json_object({"data": rows.data, "data_base64": rows.data_base64})
    text = rows.data.startswith("{").fill_null(False).ifelse(rows.data, other.nullif("{}"))
    for name in ("email", "phone"):
        if name in options.identifiers:
            text = without_value(text, rows[f"id_{name}"].cast("string"))
    return text


def _amount(rows: Any, part: str) -> Any:
    amount = rows[f"money_{part}"].cast("string").strip().nullif("")
    return positive(amount) if part == "refund" else amount


def _consent(text: Any) -> Any:
    text = text.cast("string")
    states = checked(text)
    return ibis.cases((states == UNREADABLE, of_flags(text)), else_=states)
