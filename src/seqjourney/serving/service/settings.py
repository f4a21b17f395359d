"""What a service can be told: the keys of `configs/serve.yaml`, and how workers are told them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from seqjourney.config import Strict

MOST_CUSTOMERS = 100_000
TOKEN_VARIABLE = "SEQJOURNEY_TOKEN"
WORKER_VARIABLE = "SEQJOURNEY_SERVICE"
"""How the process that starts workers tells them their settings, as JSON."""


class Limits(Strict):
    """What is refused, so that nobody can exhaust the service."""

    body_bytes: int = Field(1_000_000, ge=1)
    body_seconds: float = Field(10, gt=0)
    """How long a body may take to arrive."""
    events: int = Field(1000, ge=1)
    """Events of one request."""
    waiting: int = Field(1000, ge=1)
    """Requests that wait for their turn; beyond, 503 and Retry-After."""


class ServeConfig(Strict):
    """All of `configs/serve.yaml`."""

    run: Path
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1)
    states: str = "memory"
    expire_days: float | None = Field(None, gt=0)
    """In Redis, a customer without an event for so long is forgotten."""
    most_customers: int | None = Field(None, ge=1)
    """In memory, how many customers at most; the one unused for longest is forgotten."""
    token: str | None = Field(None, min_length=1, repr=False)
    limits: Limits = Limits()
    overdue: Literal["refuse", "allow"] = "refuse"
    card: str = ""
    """The model card, as Markdown; the command fills it in."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.states != "memory" and not self.states.startswith(
            ("redis://", "rediss://", "unix://")
        ):
            raise ValueError(
                "states must be memory or the address of a Redis, such as redis://localhost:6379/0"
            )
        try:
            _ = urlsplit(self.states).port
        except ValueError as error:
            raise ValueError(f"states: {error}") from None
        if self.in_memory and self.workers > 1:
            raise ValueError(
                f"workers={self.workers} would each know a part of every customer, because "
                "states=memory is not shared; give states=redis://host:6379/0, or workers=1"
            )
        if self.in_memory and self.expire_days is not None:
            raise ValueError("expire_days is for states in Redis; use most_customers in memory")
        if not self.in_memory and self.most_customers is not None:
            raise ValueError("most_customers is for states in memory; use expire_days with Redis")
        return self

    @property
    def most_in_memory(self) -> int:
        """`most_customers`, or its default."""
        return self.most_customers or MOST_CUSTOMERS

    @property
    def folder(self) -> Path:
        """Where it is written whether the model should have been retrained by now."""
        return self.run if self.run.is_dir() else self.run.parent

    @property
    def in_memory(self) -> bool:
        """Whether customers live in this process alone."""
        return self.states == "memory"
