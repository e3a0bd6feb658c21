"""What every request passes: an id, the API key, headers that browsers heed, a line in the log, a count."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from video_captioning.serve.keys import Keys
from video_captioning.serve.logs import request_id
from video_captioning.serve.metrics import Metrics
from video_captioning.serve.refusals import InternalError, RefusalError

logger = logging.getLogger(__name__)
GONE = 499  # what nginx logs where the client has left before the answer
PROTECTED = ("/v1/", "/metrics")
_SELF = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'self'"
_INLINE = f"{_SELF}; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"  # Swagger UI has both
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Edge:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, metrics: Metrics, keys: Keys) -> None:
        self._app = app
        self._metrics = metrics
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, name = perf_counter(), uuid4().hex
        request_id.set(name)
        status = GONE

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_headers(scope["path"], name)]
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._admit(scope, receive, tell)
            except ClientDisconnect:
                pass
            except Exception:
                logger.exception("a fault of the service")
                if status == GONE:  # nothing has been sent
                    await response(InternalError())(scope, receive, tell)
        self._note(scope, status, perf_counter() - start)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._keys and scope["path"].startswith(PROTECTED):
            given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if not self._keys.admit(given):
                hint = "send the header Authorization: Bearer KEY"
                refusal = RefusalError(401, "unauthorized", "this needs an API key", hint, www_authenticate="Bearer")
                await response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")  # not the path, of which there are endlessly many
        self._metrics.requests.labels(route, status).inc()
        self._metrics.stage.labels("request").observe(seconds)
        client = scope["client"][0] if scope["client"] else None
        fields: dict[str, Any] = {"client": client, "method": scope["method"], "path": scope["path"][:200]}
        logger.info("request", extra={"fields": {**fields, "status": status, "seconds": round(seconds, 4)}})


def response(refusal: RefusalError) -> JSONResponse:
    """A refusal as it is sent."""
    return JSONResponse(refusal.to_dict(request_id.get()), refusal.status, refusal.headers)


def _headers(path: str, name: str) -> list[tuple[bytes, bytes]]:
    policy = _INLINE if path == "/docs" else _SELF
    all_headers = {**_HEADERS, "content-security-policy": f"{policy}; frame-ancestors 'none'", "x-request-id": name}
    return [(header.encode(), value.encode()) for header, value in all_headers.items()]
