"""What the tests of the service share: events as JSON has them, and a client of an app."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have another client
    from fastapi.testclient import TestClient

from seqjourney.events.ledger import OF_RUN
from seqjourney.serving.service.app import create_app
from seqjourney.serving.service.settings import ServeConfig

Event = dict[str, Any]


@contextmanager
def serving(run: Path, **options: Any) -> Iterator[TestClient]:
    """Serve a run in this process."""
    app = create_app(ServeConfig.model_validate({"run": run, "card": "# A card", **options}))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def as_json(frame: pd.DataFrame) -> list[Event]:
    """Return a frame's rows as a sender would write them, in the order they became known."""
    frame = frame.sort_values(["known_at", "timestamp", "event_id"])
    return json.loads(frame.to_json(orient="records", date_format="iso", date_unit="us"))


def history_of(frame: pd.DataFrame, customer: str, length: int) -> list[Event]:
    """Return so many events of a made-up customer, each of which a model sees."""
    seen = frame[frame["event"] != "outcome"]
    return as_json(seen.iloc[:length].assign(customer_id=customer))


def pairs(events: Sequence[Event]) -> list[tuple[str, Event]]:
    """Return events as `Stream.update_many` takes them."""
    return [(event["customer_id"], event) for event in events]


def make_overdue(run: Path) -> None:
    """Write into a run that it had to be retrained long ago."""
    request = {"request": "r1", "received": "2020-01-01T00:00:00+00:00"}
    late = {"format": 1, "requests": [{**request, "retrain_by": "2020-02-01T00:00:00+00:00"}]}
    (run / OF_RUN).write_text(json.dumps(late))


def post(client: Any, events: Sequence[Event], **more: Any) -> Any:
    """Send events."""
    return client.post("/events", json={"events": list(events)}, **more)
