"""A hub on this machine: the paths of Hugging Face for one data set, over HTTP, from memory."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = "friedrichor/MSR-VTT"
COMMIT = "27b85428e26c7d860ed2d89006872727573db2e9"
PATH = re.compile(rf"/datasets/{REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


class Hub:
    """What is served, what was asked for, and how it misbehaves."""

    def __init__(self, files: dict[str, bytes], url: str) -> None:
        self.files = files
        self.url = url
        self.etags: dict[str, str] = {}
        """Instead of the right ones."""
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, file and range."""
        self.stall_at: int | None = None
        """Bytes of an archive after which nothing comes any more."""
        self.stalled = threading.Event()
        self.released = threading.Event()

    def etag(self, file: str) -> str:
        """SHA-256 of a large file, as the hub gives it; of others git's own hash, which is SHA-1."""
        content = self.files[file]
        usual = (
            hashlib.sha256(content) if file.endswith(".zip") else hashlib.sha1(b"blob %d\0" % len(content) + content)
        )
        return self.etags.get(file, usual.hexdigest())

    def fetched(self) -> list[tuple[str, str | None]]:
        return [(file, part) for method, file, part in self.requests if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        found = PATH.fullmatch(self.path)
        if self.path.startswith("/api/datasets/"):
            self.send(200, json.dumps({"id": REPO, "sha": COMMIT}).encode(), {}, body)
        elif not found or found["file"] not in self.hub.files:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        elif found["revision"] not in ("main", COMMIT):
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
        else:
            self.send_file(found["file"], body)

    def send_file(self, file: str, body: bool) -> None:
        asked = self.headers.get("Range")
        self.hub.requests.append((self.command, file, asked))
        content = self.hub.files[file]
        headers = {"ETag": f'"{self.hub.etag(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if asked:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206, content[start:], headers, body)
        elif body and file.endswith(".zip") and self.hub.stall_at is not None:
            self.send(200, content, headers, body=False)
            self.wfile.write(content[: self.hub.stall_at])
            self.hub.stalled.set()
            self.hub.released.wait(60)
            self.close_connection = True
        else:
            self.send(200, content, headers, body)

    def send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        pass


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server that answers with `handler`, a thread a connection."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    handler = type("Bound", (Handler,), {})
    with listening(handler) as url:
        handler.hub = hub = Hub(files, url)
        try:
            yield hub
        finally:
            hub.released.set()
