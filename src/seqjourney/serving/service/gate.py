"""What every request passes first: the token is checked, and the request is timed and counted."""

from __future__ import annotations

import hmac
import time

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqjourney.serving.service.metrics import Metrics
from seqjourney.serving.service.requests import Refused

_OPEN = ("/health", "/ready")  # what asks for these has no token
_LONGEST = 500  # characters of a message: it may quote what was sent


def problem(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as JSON of one sentence."""
    short = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."
    text = short.encode("utf-8", "replace").decode()  # half a surrogate pair has no UTF-8
    return JSONResponse({"error": text}, status, headers)


def refusal(error: Refused) -> Response:
    """Return the answer of a refusal."""
    later = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem(error.status, error.message, later)


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics):
        self._app, self._metrics = app, metrics
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._may_enter(scope):
                await self._app(scope, receive, sent)
            else:
                self._metrics.refused.labels("token").inc()
                answer = problem(
                    401,
                    "send the header Authorization: Bearer <token>.",
                    {"WWW-Authenticate": "Bearer"},
                )
                await answer(scope, receive, sent)
        finally:
            # By the pattern of the address, not by customer.
            endpoint = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)

    def _may_enter(self, scope: Scope) -> bool:
        if self._expected is None or scope["path"] in _OPEN:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._expected)
