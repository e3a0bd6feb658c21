"""uvicorn with our bounds: sockets, patience, signals."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
from typing import Any
from uuid import uuid4

import h11
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from video_captioning.errors import ConfigError, VidcapError
from video_captioning.serve.app import make
from video_captioning.serve.keys import Keys
from video_captioning.serve.refusals import RefusalError
from video_captioning.serve.service import Service

logger = logging.getLogger(__name__)
HEAD_SECONDS = 10.0  # for the head of a request to arrive, once there is a connection
_HEAD = 16384  # bytes of it
_LEAVE = 5  # seconds to end after the last request could be done


class Connection(H11Protocol):
    """As uvicorn's, which waits for ever for the rest of a request's head; this one hangs up."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience:
            self._patience.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP is answered as every error is."""
        refusal = RefusalError(400, "not_http", msg.rstrip("."), "speak HTTP/1.1")
        body = json.dumps(refusal.to_dict(uuid4().hex)).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        events = (h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(data=body))
        for event in (*events, h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait(self) -> None:
        if self._patience:
            self._patience.cancel()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises ConfigError where that cannot be."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host} port {port} ({reason}); choose another --host or --port") from error


def server(service: Service, keys: Keys) -> Server:
    """A server that is ready to run in the current thread."""
    settings = service.settings
    config: dict[str, Any] = {
        "http": Connection,
        "ws": "none",
        "log_config": None,
        "access_log": False,  # the edge writes one
        "server_header": False,
        "h11_max_incomplete_event_size": _HEAD,
        "timeout_graceful_shutdown": math.ceil(settings.upload_seconds + settings.work_seconds) + _LEAVE,
    }
    return Server(Config(make(service, keys), **config))


def run(service: Service, keys: Keys, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, and finish what was accepted. Raises VidcapError where it cannot start."""
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logger.info("listening", extra={"fields": {"address": address, "models": list(service.captioners)}})
    instance = server(service, keys)
    instance.run(sockets=[listener])
    if not instance.started:
        raise VidcapError("the service could not start; its log says why")
