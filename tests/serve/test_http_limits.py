"""Every limit is kept, says so in the agreed form, and leaves a service that works and a folder that is empty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from tests.serve.running import PATIENCE, Client, running, said, wait_until
from video_captioning.captioner import Captioner
from video_captioning.errors import ConfigError
from video_captioning.serve import server as serving
from video_captioning.serve.keys import Keys

KEY, OTHER = "k" * 32, "o" * 32


def refused(response: requests.Response, status: int, code: str) -> str:
    """The message of an expected refusal."""
    assert (response.status_code, said(response)["code"]) == (status, code), response.text
    assert ("retry-after" in response.headers) == (status in (429, 503))
    return said(response)["message"]


def test_nothing_there_and_wrong_ways(client: Client, media: list[Path]) -> None:
    refused(client.get("/v1/captions/"), 404, "not_found")
    refused(client.get("/static/../app.py"), 404, "not_found")
    response = client.get("/v1/captions")
    refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    address = client.address + "/v1/captions"
    refused(requests.post(address, json={"url": "file:///etc/passwd"}, timeout=PATIENCE), 415, "not_multipart")
    refused(requests.post(address, data=b"", timeout=PATIENCE), 415, "not_multipart")
    refused(requests.post(address, files={"beam": (None, "3")}, timeout=PATIENCE), 422, "no_file")
    refused(requests.post(address, files={"file": (None, "text")}, timeout=PATIENCE), 422, "no_file")
    refused(requests.post(address, files={"clip": ("a.mp4", b"x")}, timeout=PATIENCE), 422, "unknown_field")
    refused(requests.post(address, files={"beam": (None, "3" * 2000)}, timeout=PATIENCE), 413, "field_too_large")
    refused(client.post(media[0], media[0]), 422, "too_many_files")
    refused(client.post(*[media[0]] * 17, path="/v1/captions:batch"), 422, "too_many_files")
    refused(client.post(media[0], **{f"field{number}": "x" for number in range(30)}), 413, "too_many_parts")
    assert client.files == []


def test_files_without_a_picture(client: Client, shared: Path) -> None:
    assert refused(client.post(("empty.mp4", b"")), 415, "not_media").startswith("empty.mp4: ")
    refused(client.post(("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nclip.mp4\n")), 415, "playlist")
    refused(client.post(shared / "data" / "formats" / "sample.audio.mp4"), 422, "no_picture")


def test_sizes(captioner: Captioner, media: list[Path], make_clip: MakeClip, tmp_path: Path) -> None:
    Image.new("RGB", (500, 2)).save(tmp_path / "wide.png")
    Image.new("RGB", (200, 200)).save(tmp_path / "many.png")
    small = tiny.pictures(70, 1, (24, 32))
    late = make_clip(tmp_path / "late.y4m", small, fps=8, codec="wrapped_avframe")  # states no duration
    stated = make_clip(tmp_path / "stated.mp4", small, fps=8)
    with running([captioner], upload=400_000, duration=8, side=400, pixels=30_000) as client:
        refused(client.post(("clip.mp4", bytes(400_001))), 413, "upload_too_large")
        chunks = requests.post(client.address + "/v1/captions", data=endless(), headers=FORM, timeout=PATIENCE)
        refused(chunks, 413, "upload_too_large")
        assert "500x2" in refused(client.post(tmp_path / "wide.png"), 413, "clip_too_large")
        assert "larger than the limit" in refused(client.post(tmp_path / "many.png"), 413, "clip_too_large")
        assert "lasts 9 s" in refused(client.post(stated), 413, "clip_too_large")
        assert "the limit is 8 s" in refused(client.post(late), 413, "clip_too_large")
        assert client.post(media[1]).status_code == 200
        assert client.files == []


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def endless():  # type: ignore[no-untyped-def]
    """A body that would never end, without a Content-Length."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="clip.mp4"\r\n\r\n'
    while True:
        yield bytes(10_000)


def test_decoding_that_takes_too_long(captioner: Captioner, media: list[Path]) -> None:
    with running([captioner], decode_seconds=0.0) as client:
        assert "longer than 0 s" in refused(client.post(media[2]), 422, "no_picture")
        assert "longer than 0 s" in refused(client.post(media[2]), 422, "no_picture")  # by another decoder
        assert "vidcap_decoders_replaced 2.0" in client.get("/metrics").text
        assert client.get("/ready").status_code == 200


def test_work_that_takes_too_long(captioner: Captioner, media: list[Path]) -> None:
    with running([captioner], work_seconds=0.0) as client:
        refused(client.post(media[2]), 503, "too_slow")
        assert client.files == []


def test_a_queue_does_not_grow(captioner: Captioner, media: list[Path]) -> None:
    with running([captioner], requests=2, requests_a_client=2) as client:
        with client.begin_upload(), client.begin_upload():
            wait_until(lambda: client.get("/ready").status_code == 503)
            refused(client.post(media[0]), 503, "overloaded")
            refused(client.get("/ready"), 503, "not_ready")
            assert client.get("/health").status_code == 200
        wait_until(lambda: client.get("/ready").status_code == 200)
        assert client.post(media[0]).status_code == 200


def test_nobody_takes_all_places(captioner: Captioner, media: list[Path]) -> None:
    with running([captioner], requests=2, requests_a_client=1) as client, client.begin_upload():
        wait_until(lambda: client.files)
        refused(client.post(media[0]), 429, "too_many_requests")
        elsewhere = {"X-Forwarded-For": "192.0.2.1"}  # as a proxy on this machine says it
        with media[0].open("rb") as file:
            address = client.address + "/v1/captions"
            assert requests.post(address, files={"file": file}, headers=elsewhere, timeout=PATIENCE).status_code == 200


def test_slow_clients_are_left(captioner: Captioner, media: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.3)
    with running([captioner], upload_seconds=0.3) as client:
        for head in (b"", b"POST /v1/captions HT", b"POST /v1/captions HTTP/1.1\r\nHost: x\r\n"):
            with client.begin(head) as connection:
                assert reads_end(connection.recv)
        with client.begin_upload(b"some") as connection:
            answer = connection.recv(65536)
            assert b"408" in answer.split(b"\r\n")[0]
            assert b"upload_too_slow" in answer or b"upload_too_slow" in connection.recv(65536)
            assert reads_end(connection.recv)
        assert client.files == []
        assert client.post(media[0]).status_code == 200


def reads_end(receive: Callable[[int], bytes]) -> bool:
    """The other side has hung up."""
    try:
        return receive(65536) == b""
    except ConnectionResetError:
        return True


def test_who_leaves_leaves_nothing(captioner: Captioner, media: list[Path]) -> None:
    with running([captioner]) as client:
        with client.begin_upload(bytes(600_000), 900_000):
            wait_until(lambda: any(file.stat().st_size for file in client.files))
        wait_until(lambda: not client.files)
        content = media[2].read_bytes()
        whole = content + b"\r\n--x--\r\n"
        part = len(b'--x\r\nContent-Disposition: form-data; name="file"; filename="clip.mp4"\r\n\r\n')
        for _ in range(5):  # somewhere in the work
            client.begin_upload(whole, part + len(whole)).close()
        wait_until(lambda: "vidcap_requests_in_flight 1.0" in client.get("/metrics").text)
        assert client.files == []
        assert client.post(media[0]).status_code == 200


def test_what_is_no_http(client: Client) -> None:
    with client.begin(b"\x16\x03\x01\x02\x00\x01\x00 what is this\r\n\r\n") as connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code": "not_http"' in answer


def test_a_fault_inside_is_told_to_the_log_only(
    captioner: Captioner, media: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(captioner, "caption_frames", broken)
    with running([captioner]) as client:
        response = client.post(media[0])
        refused(response, 500, "internal")
        assert "secret" not in response.text
        assert client.files == []
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_keys(captioner: Captioner, media: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with running([captioner], [KEY, OTHER]) as client:
        for path in ("/v1/models", "/metrics", "/v1/none"):
            for header in ("", KEY, f"Basic {KEY}", f"Bearer {KEY[1:]}", f"Bearer {KEY}, {OTHER}", "Bearer "):
                response = client.get(path, headers={"Authorization": header} if header else {})
                refused(response, 401, "unauthorized")
                assert response.headers["www-authenticate"] == "Bearer"
        assert refused(client.post(media[0]), 401, "unauthorized")
        for key in (KEY, OTHER):
            assert client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        for path in ("/", "/health", "/ready", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
    assert "request" in caplog.text
    assert KEY not in caplog.text


def test_a_key_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ConfigError, match="fewer than 16 characters"):
        Keys(["secret"])
