"""A hub on this machine that keeps models: the paths of Hugging Face to write and to read them, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import yaml

from tests.data.hub_server import listening

OWNER = "me"
TOKEN = "hf_secret"
LICENCES = ("apache-2.0", "mit", "other")
LARGE = (".onnx", ".model")
"""Endings of what is kept apart from git, as the hub's own `.gitattributes` has it."""

Fault = Callable[["Handler"], None]
"""Answers a request wrongly."""


@dataclass
class Repo:
    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: [("0" * 40, {})])
    """Name and files of each, the last one last."""

    def files(self, revision: str) -> dict[str, bytes] | None:
        named = {"main": self.commits[-1][1], **dict(self.commits)}
        return named.get(revision)

    def commit(self, files: dict[str, bytes]) -> str:
        whole = {**self.commits[-1][1], **files}
        name = hashlib.sha1(repr((len(self.commits), sorted(whole))).encode()).hexdigest()
        self.commits.append((name, whole))
        return name


class ModelHub:
    """What is kept, what was asked for, and how it misbehaves."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        """By SHA-256, whether a commit names it or not."""
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and range."""
        self.faults: dict[str, Fault] = {}
        """By pattern of `METHOD path`."""
        self.ignored: set[str] = set()
        """Files that a `.gitignore` keeps out."""
        self.stalled = threading.Event()
        self.released = threading.Event()

    def hold(self, repo: str, folder: Path, private: bool = False) -> str:
        """Keep what a folder holds, as if it had been pushed; returns the commit."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.large |= {oid(name, content): content for name, content in files.items() if name.endswith(LARGE)}
        return self.repos.setdefault(repo, Repo(private)).commit(files)

    def asked(self, pattern: str) -> list[str | None]:
        """The range of each request whose `METHOD path` has the pattern."""
        return [part for method, path, part in self.requests if re.search(pattern, f"{method} {path}")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ModelHub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.body = self.read_body()
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        for pattern, fault in self.hub.faults.items():
            if re.search(pattern, f"{self.command} {self.path}"):
                return fault(self)
        for pattern, method in ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {self.path}"):
                return method(self, **found.groupdict())
        return self.send(404, b"no such path")

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, content: bytes | Any = b"", **headers: str) -> None:
        """An answer; what is not bytes is sent as JSON."""
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        pass

    # Writing

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization'] or OWNER}/{asked['name']}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.send(401, {"error": "Invalid credentials"})
        if not name.startswith(f"{OWNER}/"):
            return self.send(403, {"error": "You don't have the rights to create a model there"})
        status = 409 if name in self.hub.repos else 200
        self.hub.repos.setdefault(name, Repo(private=asked.get("visibility") == "private"))
        return self.send(status, {"url": f"{self.hub.url}/{name}", "id": name})

    def validate(self) -> None:
        front = yaml.safe_load(json.loads(self.body)["content"].split("---\n")[1])
        if front["license"] not in LICENCES or (front["license"] == "other" and not front["license_name"]):
            return self.send(400, {"errors": [{"message": '"license" must be one of [...]'}], "warnings": []})
        return self.send(200, {"errors": [], "warnings": []})

    def preupload(self, repo: str) -> None:
        kept = self.hub.repos[repo].files("main") or {}
        answers = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": file["path"] in self.hub.ignored,
                **({"oid": oid(file["path"], kept[file["path"]])} if file["path"] in kept else {}),
            }
            for file in json.loads(self.body)["files"]
        ]
        self.send(200, {"files": answers})

    def batch(self, repo: str) -> None:
        objects = json.loads(self.body)["objects"]
        for entry in objects:
            if entry["oid"] not in self.hub.large:
                actions = {"upload": "large", "verify": "verify"}
                entry["actions"] = {
                    name: {"href": f"{self.hub.url}/{to}/{entry['oid']}"} for name, to in actions.items()
                }
        self.send(200, {"transfer": "basic", "objects": objects})

    def keep(self, sha256: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != sha256:
            return self.send(400)
        self.hub.large[sha256] = self.body
        return self.send(200)

    def check(self, sha256: str) -> None:
        self.send(200 if sha256 in self.hub.large else 404, {})

    def commit(self, repo: str) -> None:
        files = {}
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        name = self.hub.repos[repo].commit(files)
        self.send(200, {"success": True, "commitOid": name, "commitUrl": f"{self.hub.url}/{repo}/commit/{name}"})

    # Reading

    def info(self, repo: str) -> None:
        if repo not in self.hub.repos:
            return self.send(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        kept = self.hub.repos[repo]
        return self.send(200, {"id": repo, "sha": kept.commits[-1][0], "private": kept.private})

    def paths(self, repo: str, revision: str) -> None:
        files = self.hub.repos[repo].files(revision) or {}
        names = [name for name in parse_qs(self.body.decode())["paths"] if name in files]
        answers = []
        for name in names:
            about: dict[str, Any] = {"type": "file", "path": name, "size": len(files[name]), "oid": "0" * 40}
            if name.endswith(LARGE):
                about["lfs"] = {"oid": oid(name, files[name]), "size": len(files[name]), "pointerSize": 134}
            answers.append(about)
        self.send(200, answers)

    def resolve(self, repo: str, revision: str, file: str) -> None:
        kept = self.hub.repos.get(repo)
        if kept is None or (kept.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            return self.send(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
        files = kept.files(revision)
        if files is None:
            return self.send(404, X_Error_Code="RevisionNotFound")
        if file not in files:
            return self.send(404, X_Error_Code="EntryNotFound")
        commit = kept.commits[-1][0] if revision == "main" else revision
        headers = {"X_Repo_Commit": commit, "ETag": f'"{oid(file, files[file])}"'}
        if file.endswith(LARGE):  # from another host, which must not see the token
            address = f"{self.hub.url}/cdn/{oid(file, files[file])}".replace("127.0.0.1", "localhost")
            return self.send(302, Location=address, X_Linked_Size=str(len(files[file])), **headers)
        return self.send(200, files[file], **headers)

    def cdn(self, sha256: str) -> None:
        if "Authorization" in self.headers:
            return self.send(400, b"a token")
        return self.send_part(self.hub.large[sha256])

    def send_part(self, content: bytes) -> None:
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            return self.send(206, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
        return self.send(200, content)


ROUTES: dict[str, Callable[..., None]] = {
    r"POST /api/repos/create": Handler.create,
    r"POST /api/validate-yaml": Handler.validate,
    r"POST /api/models/(?P<repo>.+)/preupload/main": Handler.preupload,
    r"POST /(?P<repo>.+)\.git/info/lfs/objects/batch": Handler.batch,
    r"PUT /large/(?P<sha256>\w+)": Handler.keep,
    r"POST /verify/(?P<sha256>\w+)": Handler.check,
    r"POST /api/models/(?P<repo>.+)/commit/main": Handler.commit,
    r"POST /api/models/(?P<repo>.+)/paths-info/(?P<revision>\w+)": Handler.paths,
    r"GET /api/models/(?P<repo>[^/]+/[^/]+)(/revision/main)?": Handler.info,
    r"(HEAD|GET) /(?P<repo>.+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)": Handler.resolve,
    r"GET /cdn/(?P<sha256>\w+)": Handler.cdn,
}


def oid(file: str, content: bytes) -> str:
    """SHA-256 of a large file; git's own hash of others."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content)
    return (hashlib.sha256(content) if file.endswith(LARGE) else git).hexdigest()


# Ways to misbehave


def status(code: int, content: bytes = b"", **headers: str) -> Fault:
    return lambda handler: handler.send(code, content, **headers)


def silence(handler: Handler) -> None:
    """Nothing at all, until the test ends."""
    handler.hub.stalled.set()
    handler.hub.released.wait(60)
    handler.close_connection = True


def half(content: bytes) -> Fault:
    """All is promised and the connection is closed halfway."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2])
        handler.close_connection = True

    return answer


def stall(content: bytes, at: int) -> Fault:
    """Nothing more comes after `at` bytes."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:at])
        silence(handler)

    return answer


@contextmanager
def serving() -> Iterator[ModelHub]:
    handler = type("Bound", (Handler,), {})
    with listening(handler) as url:
        handler.hub = hub = ModelHub(url)
        try:
            yield hub
        finally:
            hub.released.set()
