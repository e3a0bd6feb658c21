"""A real server on a free port, in a thread, and a client that knows no more than an address."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import requests

from video_captioning.captioner import Captioner
from video_captioning.serve.keys import Keys
from video_captioning.serve.server import listen, server
from video_captioning.serve.service import Service
from video_captioning.serve.settings import Settings

PATIENCE = 60.0  # seconds; far more than anything here takes


@dataclass(frozen=True)
class Client:
    """What a test may do with a running service."""

    address: str
    port: int
    service: Service

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.address + path, timeout=PATIENCE, **options)

    def post(self, *clips: Path | tuple[str, bytes], path: str = "/v1/captions", **fields: Any) -> requests.Response:
        """Upload clips: files, or names with contents."""
        files = [("file", clip if isinstance(clip, tuple) else (clip.name, clip.read_bytes())) for clip in clips]
        return requests.post(self.address + path, files=files, data=fields, timeout=PATIENCE)

    def begin(self, head: bytes) -> socket.socket:
        """A connection over which only this has been sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection.sendall(head)
        return connection

    def begin_upload(self, content: bytes = b"", length: int = 10_000) -> socket.socket:
        """A connection with an upload that has begun and goes no further."""
        part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="clip.mp4"\r\n\r\n' + content
        head = f"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        return self.begin(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + part)

    @property
    def files(self) -> list[Path]:
        """Uploads on disk."""
        return list(self.service.spool.folder.iterdir())


@contextmanager
def running(captioners: Sequence[Captioner], keys: Sequence[str] = (), **settings: Any) -> Iterator[Client]:
    """A service with these models and settings, and one core."""
    service = Service({each.bundle.name: each for each in captioners}, Settings(**{"cores": 1, **settings}))
    with listen("127.0.0.1", 0) as listener:
        instance = server(service, Keys(keys))
        thread = Thread(target=instance.run, kwargs={"sockets": [listener]})
        thread.start()
        port = listener.getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}", port, service)
        try:
            wait_until(lambda: instance.started or not thread.is_alive())
            assert instance.started
            yield client
        finally:
            instance.should_exit = True
            thread.join(PATIENCE)
    assert not service.spool.folder.exists()


def wait_until(condition: Callable[[], Any]) -> None:
    """Look again and again; fail after a long time."""
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, "it does not happen"
        sleep(0.01)


def said(response: requests.Response) -> dict[str, str]:
    """What is in an error, which has to look like one."""
    error = response.json()["error"]
    assert set(error) == {"code", "message", "hint", "request_id"}
    assert all(isinstance(value, str) and value for value in error.values())
    assert error["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    assert str(Path(__file__).parents[2]) not in response.text
    return error


def metric(text: str, name: str) -> float:
    """The value of a metric, which is there once."""
    [value] = [row.split()[-1] for row in text.splitlines() if row.startswith(f"{name} ")]
    return float(value)
