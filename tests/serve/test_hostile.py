"""Some 400 uploads and requests that mean harm: a clear refusal, nothing else is opened, and the service goes on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import MakeClip
from tests.serve import hostile
from tests.serve.running import PATIENCE, Client, running, said
from video_captioning.captioner import Captioner

pytestmark = pytest.mark.slow
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
REFUSED = {400, 404, 405, 408, 413, 415, 422}


@dataclass(frozen=True)
class Target:
    """A service under attack, with a good clip and what is said of it."""

    client: Client
    clip: Path
    text: str

    def hit(self, cases: Iterable[hostile.Case]) -> int:
        """Upload each; the number of them."""
        count = 0
        for name, content in cases:
            self.judge(name, self.send(hostile.form(name, content)))
            count += 1
        self.stands()
        return count

    def send(self, body: bytes) -> requests.Response:
        return requests.post(f"{self.client.address}/v1/captions", data=body, headers=FORM, timeout=PATIENCE)

    def judge(self, name: str, response: requests.Response) -> None:
        assert response.status_code in {200, *REFUSED}, (name, response.status_code, response.text[:300])
        assert "Traceback" not in response.text
        assert str(self.client.service.spool.folder) not in response.text
        if response.status_code != 200:
            assert said(response), name

    def stands(self) -> None:
        """It still captions, and nothing is left of what came before."""
        response = self.client.post(self.clip)
        assert (response.status_code, response.json().get("text")) == (200, self.text)
        assert self.client.files == []


@pytest.fixture(scope="module")
def target(captioner: Captioner, media: list[Path]) -> Iterator[Target]:
    with running([captioner], upload=20_000_000, duration=60, decode_seconds=20, memory=1_000_000_000) as client:
        yield Target(client, media[1], captioner(media[1]).text)


def test_names_stay_words(target: Target, media: list[Path]) -> None:
    still = media[0].read_bytes()
    for name in hostile.NAMES:
        response = target.send(hostile.form(name, still))
        target.judge(name, response)
        assert response.status_code in (200, 400, 413)
    target.stands()
    folder = target.client.service.spool.folder
    assert not list(folder.parent.glob("*escaped*"))
    assert not list(Path.cwd().glob("*escaped*"))


def test_malformed_forms(target: Target, media: list[Path]) -> None:
    count = 0
    for name, body in hostile.malformed(media[0].read_bytes()):
        target.judge(name, target.send(body))
        count += 1
    assert count >= 30
    target.stands()


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_forms_with_changes_at_random(target: Target, media: list[Path], data: st.DataObject) -> None:
    body = hostile.form("a.png", media[0].read_bytes())[:600]
    at = data.draw(st.integers(0, len(body)))
    length = data.draw(st.integers(0, 40))
    new = data.draw(st.sampled_from([b"", b"--x", b"\r\n", b"\n", b"--x--", b"\0", b'"', b";", b":", b"\r\n\r\n"]))
    target.judge(f"{at} {length} {new!r}", target.send(body[:at] + new + body[at + length :]))


def test_playlists_open_nothing(target: Target, make_clip: MakeClip, tmp_path: Path) -> None:
    canary = make_clip(tmp_path / "canary.mkv", 3)
    os.utime(canary, (1, 2))  # a read would bring the time of access up to date
    with socket.create_server(("127.0.0.1", 0)) as listener:
        addresses = [f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/a.ts" for scheme in ("http", "tcp", "rtmp")]
        for goal in (*addresses, str(canary), f"file:{canary}"):
            for name, content in hostile.playlists(goal):
                response = target.send(hostile.form(name, content))
                assert response.status_code in (413, 415, 422), (name, response.text)
                target.judge(name, response)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert canary.stat().st_atime == 1
    target.stands()


def test_bombs(target: Target) -> None:
    assert target.hit(hostile.bombs()) > 25


def test_damaged_media(target: Target, media: list[Path], make_clip: MakeClip, tmp_path: Path) -> None:
    clips = [*media[:3], *(make_clip(tmp_path / f"a.{ending}", 12) for ending in ("avi", "ts", "flv"))]
    assert sum(target.hit(hostile.damaged(clip.name, clip.read_bytes(), 12)) for clip in clips) == 72


def test_hardly_http(target: Target) -> None:
    for name, content in hostile.raw_requests():
        with target.client.begin(b"") as connection:
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
            except (ConnectionResetError, BrokenPipeError):  # hung up in the middle of it
                continue
        assert answer == b"" or 200 <= int(answer.split()[1]) < 500, (name, answer)
        assert b"Traceback" not in answer and b"root:" not in answer
    target.stands()


def test_pipelined_requests_are_answered_in_order(target: Target) -> None:
    ask = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
    with target.client.begin(ask % b"health" + ask % b"none" + ask % b"ready") as connection:
        connection.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert [part.split()[0] for part in answers.split(b"HTTP/1.1 ")[1:]][:1] == [b"200"]
    target.stands()


def test_a_refused_upload_does_not_break_the_connection(target: Target, media: list[Path]) -> None:
    connection = HTTPConnection("127.0.0.1", target.client.port, timeout=PATIENCE)
    for content, status in ((bytes(3_000_000), 415), (media[0].read_bytes(), 200), (b"", 415)):
        connection.request("POST", "/v1/captions", hostile.form("a", content), FORM)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
    connection.close()


def test_the_documented_interface_holds(target: Target) -> None:
    schema = schemathesis.openapi.from_url(f"{target.client.address}/openapi.json")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def holds(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=checks, timeout=PATIENCE)

        holds()
    target.stands()
