"""What OpenAPI says of the service: the events of the model that is served, and the answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from seqjourney.events.consent.policy import STATES
from seqjourney.serving.scorer import Scorer
from seqjourney.serving.stream_state import REMEMBERED_IDS


class Score(BaseModel):
    """A customer's score at a moment."""

    customer_id: str
    cutoff: str = Field(description="UTC; the moment that the score is about")
    score: float | None = Field(description="Log-odds; null where there is none")
    probability: float | None = Field(description="Calibrated; null like the score")
    expected_value: float | None = Field(
        None, description="Only of a model that says how much; null like the score"
    )
    by_horizon: dict[str, float | None] | None = Field(
        None, description="Only of a model with several horizons: the probability by each"
    )
    withheld: str | None = Field(description="Why the customer may not be scored, or null")


class Scores(BaseModel):
    """One answer per event, in the same order: the score once that event is taken in."""

    scores: list[Score]


class Forgotten(BaseModel):
    """Whether anything was kept of the customer."""

    customer_id: str
    forgotten: bool


class Status(BaseModel):
    """All is well."""

    status: str


class Model(BaseModel):
    """The model that is served."""

    fingerprint: str = Field(description="No other model has it; states are kept under it")
    task: dict[str, Any]
    fields: list[str] = Field(description="What every event must have; null where missing")
    card: str = Field(description="Model card, Markdown")


class Problem(BaseModel):
    """Why a request was not served."""

    error: str


def fields_of(scorer: Scorer) -> list[str]:
    """Return the keys that every event of a model must have."""
    tokenizer = scorer.tokenizer
    fields = ["timestamp", "event", *tokenizer.categorical_fields, *tokenizer.numeric_fields]
    return list(dict.fromkeys(fields))


def events_body(scorer: Scorer, most_events: int) -> dict[str, Any]:
    """Return OpenAPI's `requestBody` of `POST /events`."""
    text = {"type": ["string", "null"]}
    moment: dict[str, Any] = {"type": "string", "format": "date-time"}
    if scorer.reading.get("timestamp_unit"):
        moment = {
            "type": "number",
            "description": f"since 1970, {scorer.reading['timestamp_unit']}",
        }
    properties: dict[str, Any] = {
        "customer_id": {"type": "string", "description": "Whose event it is"},
        **dict.fromkeys(scorer.tokenizer.categorical_fields, text),
        **{field: {"type": ["number", "null"]} for field in scorer.tokenizer.numeric_fields},
        "timestamp": {**moment, "description": f"When it happened. {_zone(scorer)}".strip()},
        "event": {"type": "string", "description": "What happened"},
        "known_at": {**moment, "description": "When you could know of it; else the timestamp"},
        "event_id": {
            "type": "string",
            "description": "An event that comes again with an id among the customer's last "
            f"{REMEMBERED_IDS} counts once; send one to be able to repeat a request",
        },
    }
    if scorer.consent.purpose is not None:
        properties["consent"] = {
            "enum": [*STATES, None],
            "description": f"To '{scorer.consent.purpose}', on events that say so",
        }
    event = {
        "type": "object",
        "properties": properties,
        "required": ["customer_id", *fields_of(scorer)],
        "description": "Further keys are not looked at.",
    }
    events = {"type": "array", "items": event, "minItems": 1, "maxItems": most_events}
    body = {
        "type": "object",
        "properties": {"events": events},
        "required": ["events"],
        "additionalProperties": False,
    }
    return {"required": True, "content": {"application/json": {"schema": body}}}


def _zone(scorer: Scorer) -> str:
    if scorer.reading.get("timestamp_unit"):
        return f"A number since 1970 in {scorer.reading['timestamp_unit']}."
    return f"In {scorer.reading.get('timezone') or 'UTC'} unless it has an offset."
