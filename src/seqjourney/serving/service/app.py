"""The service as an ASGI app: addresses, errors as one sentence of JSON, and who may come in.

Read `create_app` first. What needs the model goes through the queue; the event loop only reads
requests and writes answers.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from seqjourney.errors import DataError
from seqjourney.serving.service import documents
from seqjourney.serving.service.gate import Gate, problem, refusal
from seqjourney.serving.service.metrics import Metrics
from seqjourney.serving.service.queue import Job, Queue
from seqjourney.serving.service.requests import Refused, customer_of, events_of, read_body
from seqjourney.serving.service.settings import WORKER_VARIABLE, ServeConfig
from seqjourney.serving.service.standing import Standing
from seqjourney.serving.service.states import InMemory, InRedis, States
from seqjourney.serving.stream import Scored
from seqjourney.serving.stream_events import EventReader, microseconds_at

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": documents.Problem, "description": "The token is missing or wrong"},
    422: {"model": documents.Problem, "description": "What is sent cannot be used"},
    503: {"model": documents.Problem, "description": "Not now; Retry-After says when"},
}


def create_app(config: ServeConfig) -> FastAPI:
    """Open a model and return its service.

    A model that should have been retrained by now erases customers and refuses everything else.

    Raises:
        ConfigError: the model cannot stream.
        DataError: there is no such run.
    """
    metrics = Metrics()
    states: States = (
        InMemory(config, metrics.forgotten.inc)
        if config.in_memory
        else InRedis(config, metrics.conflicts.inc)
    )
    stream, scorer = states.stream, states.stream.scorer
    reader = EventReader(
        scorer.tokenizer, scorer.reading, needs_consent=scorer.consent.purpose is not None
    )
    queue = Queue(states, config.limits.waiting, metrics)
    standing = Standing(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        await asyncio.to_thread(queue.stop)

    app = FastAPI(
        title="seqjourney",
        description=f"Live scores of customers: {scorer.task.name}.",
        lifespan=lifespan,
        redoc_url=None,
        responses=_PROBLEMS,
    )
    app.state.states, app.state.card = states, config.card
    app.add_middleware(Gate, token=config.token, metrics=metrics)
    _explain_errors(app, metrics)

    async def answered(job: Job) -> Any:
        standing.require()
        return await asyncio.wrap_future(queue.submit(job))

    @app.post(
        "/events",
        responses={200: {"model": documents.Scores}},
        openapi_extra={"requestBody": documents.events_body(scorer, config.limits.events)},
    )
    async def take_in_events(request: Request) -> Response:
        """Take in one or many events, and answer each customer's score."""
        events = events_of(await read_body(request, config.limits), config.limits, reader)
        scored = await answered(Job(events))
        metrics.events.inc(len(scored))
        return JSONResponse({"scores": [_plain(one) for one in scored]})

    @app.get(
        "/customers/{customer_id:path}/score",
        responses={
            200: {"model": documents.Score},
            404: {"model": documents.Problem, "description": "Nothing is known of the customer"},
        },
    )
    async def score(customer_id: str, at: str | None = None) -> Response:
        """Score a customer at a moment, or at the customer's last event; nothing changes."""
        try:
            customer = customer_of(customer_id)
            if at is not None:
                microseconds_at("at", at)
        except DataError as error:
            raise Refused(422, str(error), "question") from None

        def ask() -> Scored:
            known = states.score(customer, None)  # fails only if what is kept is damaged
            if at is None or _of_nobody(known):
                return known
            try:
                return states.score(customer, at)
            except (DataError, OverflowError) as error:
                raise Refused(422, str(error), "question") from None

        found = await answered(Job(other=ask))
        if _of_nobody(found):
            raise Refused(404, f"nothing is known of customer {customer!r}.", "question")
        return JSONResponse(_plain(found))

    @app.delete("/customers/{customer_id:path}", responses={200: {"model": documents.Forgotten}})
    async def forget(customer_id: str) -> Response:
        """Erase what is kept of a customer here. Logs and models: `scripts/forget.py`."""
        try:
            customer = customer_of(customer_id)
        except DataError as error:
            raise Refused(422, str(error), "question") from None
        # Erasure must be possible with a model that may not be used any more.
        done = await asyncio.wrap_future(queue.submit(Job(other=lambda: states.forget(customer))))
        return JSONResponse({"customer_id": customer, "forgotten": done})

    @app.get("/health", responses={200: {"model": documents.Status}})
    async def health() -> Response:
        """Say that the process lives; no token is needed."""
        return JSONResponse({"status": "alive"})

    @app.get("/ready", responses={200: {"model": documents.Status}})
    async def ready() -> Response:
        """Say whether requests can be served now, or why not; no token is needed."""
        standing.require()
        why = await asyncio.to_thread(states.problem)
        if why is not None or not queue.alive:
            return problem(503, why or "the service has stopped answering; start it again.")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=Response)
    async def count() -> Response:
        """Return counts and times for Prometheus."""
        text = await asyncio.to_thread(metrics.exposition)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/model", responses={200: {"model": documents.Model}})
    async def model() -> Response:
        """Say what is served."""
        return JSONResponse(
            {
                "fingerprint": stream.fingerprint,
                "task": scorer.task.model_dump(mode="json"),
                "fields": documents.fields_of(scorer),
                "card": app.state.card,
            }
        )

    return app


def from_environment() -> FastAPI:
    """Return the app of a worker, whose settings the command has put into the environment."""
    return create_app(ServeConfig.model_validate_json(os.environ[WORKER_VARIABLE]))


def _explain_errors(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error with one sentence, and nothing of the inside."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        metrics.refused.labels(error.reason).inc()
        return refusal(error)

    @app.exception_handler(DataError)
    async def unusable(_: Request, error: DataError) -> Response:
        # The request was checked before: it is what is kept here that cannot be used.
        return problem(500, f"{error} DELETE the customer, and send the events again.")

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        known = {404: "there is no such address; see /docs.", 405: "not with this method."}
        return problem(error.status_code, known.get(error.status_code, str(error.detail)))

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:
        return problem(500, "the service failed; its own output says why.")


def _of_nobody(scored: Scored) -> bool:
    return math.isnan(scored.score) and scored.withheld is None


def _plain(scored: Scored) -> dict[str, Any]:
    missing = math.isnan(scored.score)
    value = {} if scored.expected_value is None else {"expected_value": scored.expected_value}
    return {
        "customer_id": scored.customer_id,
        "cutoff": scored.cutoff.isoformat(),
        "score": None if missing else scored.score,
        "probability": None if missing else scored.probability,
        **({"expected_value": None} if value and missing else value),
        **({} if scored.by_horizon is None else {"by_horizon": _probabilities(scored)}),
        "withheld": scored.withheld,
    }


def _probabilities(scored: Scored) -> dict[str, float | None]:
    found = scored.by_horizon or {}
    return {name: None if math.isnan(value) else value for name, value in found.items()}
