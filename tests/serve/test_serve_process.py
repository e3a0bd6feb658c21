"""`vidcap serve` as a process: how it starts, what it logs, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import tiny
from tests.serve import hostile
from tests.serve.running import PATIENCE, wait_until

pytestmark = pytest.mark.slow
KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Process:
    """A running `vidcap serve`, its uploads in a folder of its own."""

    popen: subprocess.Popen[str]
    log: list[str]
    folder: Path

    @property
    def port(self) -> int:
        return urlsplit(json.loads(self.log[-1])["address"]).port or 0

    @property
    def decoders(self) -> list[str]:
        """Whatever the service has started, by any of its threads."""
        lists = Path(f"/proc/{self.popen.pid}/task").glob("*/children")
        return [child for children in lists for child in children.read_text().split()]

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)


def command(*options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "video_captioning",
        "serve",
        "--model",
        str(tiny.bundle()),
        "--threads",
        "1",
        *options,
    ]


@contextmanager
def started(folder: Path, *options: str, **environment: str) -> Iterator[Process]:
    popen = subprocess.Popen(
        command("--port", "0", *options),
        env={**os.environ, "TMPDIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert popen.stderr
    log = []
    try:
        for line in popen.stderr:
            log.append(line)
            if '"address"' in line:
                break
        yield Process(popen, log, folder)
    finally:
        popen.kill()
        popen.communicate()


def spools(folder: Path) -> list[Path]:
    return list(folder.glob("vidcap-serve-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_finishes_what_it_has_accepted(tmp_path: Path, media: list[Path], number: signal.Signals) -> None:
    body = hostile.form("clip.mp4", media[1].read_bytes())
    with started(tmp_path) as process:
        connection = process.connect()
        connection.request("GET", "/ready")
        assert connection.getresponse().read() == b'{"status":"ready"}'
        connection.putrequest("POST", "/v1/captions")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:200])
        wait_until(lambda: [file for spool in spools(tmp_path) for file in spool.iterdir()])
        children = process.decoders
        process.popen.send_signal(number)
        log = process.popen.stderr
        assert log
        seen = []
        for line in log:
            seen.append(json.loads(line))
            if "Waiting for connections" in line:
                break
        with pytest.raises(ConnectionRefusedError):
            process.connect().connect()
        connection.send(body[200:])
        response = connection.getresponse()
        assert (response.status, bool(json.loads(response.read())["text"])) == (200, True)
        rest, _ = process.popen.stderr.read(), process.popen.wait(PATIENCE)
        seen += [json.loads(line) for line in rest.splitlines() if line]
        assert process.popen.returncode in (
            0,
            -number,
            130,
        )  # 0: where the shell ignores SIGINT for what runs behind it
        assert {"time", "level", "message", "request_id"} <= set.intersection(*(set(entry) for entry in seen))
        told = next(entry for entry in seen if entry.get("path") == "/v1/captions")
        assert (told["status"], told["request_id"]) == (200, response.headers["x-request-id"])
        assert spools(tmp_path) == []
        assert children
        wait_until(lambda: not [child for child in children if alive(child)])


def test_a_killed_service_leaves_no_decoder_and_the_next_removes_its_files(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        connection = process.connect()
        connection.request("GET", "/ready")
        assert connection.getresponse().status == 200
        children = process.decoders
        assert children
        process.popen.kill()
        wait_until(lambda: not [child for child in children if alive(child)])
    [left] = spools(tmp_path)
    (left / "upload").write_bytes(b"private")
    hour_ago = time.time() - 3600
    os.utime(left, (hour_ago, hour_ago))
    (tmp_path / "vidcap-serve-link").symlink_to(Path(__file__).parent)
    with started(tmp_path) as process, started(tmp_path) as other:
        for each in (process, other):
            connection = each.connect()
            connection.request("GET", "/ready")
            assert connection.getresponse().status == 200
        assert not left.exists()
        own = [spool for spool in spools(tmp_path) if not spool.is_symlink()]
        assert len(own) == 2
        assert all(spool.stat().st_mode & 0o777 == 0o700 for spool in own)
    assert Path(__file__).exists()


def alive(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_keys_from_the_environment_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# who may\n{KEY}\n")
    for options, environment in (((), {"VIDCAP_API_KEYS": KEY}), (("--api-keys", str(tmp_path / "keys")), {})):
        with started(tmp_path, *options, **environment) as process:
            connection = process.connect()
            for header, status in (("Bearer wrong", 401), (f"Bearer {KEY}", 200)):
                connection.request("GET", "/v1/models", headers={"Authorization": header})
                response = connection.getresponse()
                response.read()
                assert response.status == status
            process.popen.terminate()
            _, log = process.popen.communicate(timeout=PATIENCE)
            assert KEY not in "".join(process.log) + log


def test_who_opens_it_to_others_is_warned(tmp_path: Path) -> None:
    with started(tmp_path, "--host", "0.0.0.0") as process:
        assert "anybody who reaches 0.0.0.0 can use this service" in process.log[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["--host", "no such host"], "cannot listen on no such host"),
        (["--api-keys", "none"], "none: cannot be read"),
        (["--model", "none"], "none: no such bundle"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(options: list[str], message: str) -> None:
    done = subprocess.run(command("--port", "0", *options), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
