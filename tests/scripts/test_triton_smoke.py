"""The check of a running Triton, on a real one that serves the embedded model, and where there is none."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scripts import triton_smoke
from tests import tiny
from tests.export.triton_server import Server, serving
from video_captioning import load
from video_captioning.export import triton

pytest.importorskip("tritonclient.http", reason="Triton's client is not installed")

SCRIPT = Path(triton_smoke.__file__)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    room = tmp_path_factory.mktemp("triton")
    triton.export("default", room / "repository")
    with serving(room / "repository", ["captioner"], room) as running:
        yield running


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def refused(*arguments: str | Path) -> str:
    """The one line that is told when the check fails."""
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    return done.stderr


def at(server: Server) -> tuple[str, str]:
    return f"--url=http://{server.http}", f"--grpc={server.grpc}"


def test_it_compares_the_demo_clip_over_both_protocols(server: Server) -> None:
    done = run("default", *at(server))
    said = load("default")(triton_smoke.DEMO).text
    lines = [
        f"{protocol}: {triton_smoke.DEMO}: {said}" for protocol in (f"http://{server.http}", f"grpc://{server.grpc}")
    ]
    assert (done.returncode, done.stdout.splitlines()) == (0, lines), done.stderr


def test_real_clips_and_a_corrupt_one(server: Server, shared: Path, tmp_path: Path) -> None:
    clips = sorted((shared / "data" / "clips" / "validation").glob("*.mp4"))[:1]
    if not clips:
        pytest.skip("the real clips are not here")
    done = run("default", *clips, *at(server))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2 * len(clips)), done.stderr
    (tmp_path / "corrupt.mp4").write_bytes(bytes(5000))
    assert "corrupt.mp4: holds nothing that FFmpeg knows" in refused("default", tmp_path / "corrupt.mp4", *at(server))


def test_another_model_is_found_out(server: Server) -> None:
    assert "the local captioner '" in refused(tiny.bundle(), *at(server))


def test_a_server_without_the_captioner(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_smoke.Client, "ready", lambda self: self.client.is_model_ready("another"))
    result: Result = CliRunner().invoke(triton_smoke.triton_smoke, ["main", "default", *at(server)])
    assert "this Triton has no model 'captioner'" in str(result.exception)


def test_a_server_that_is_not_up() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else will
        port = taken.getsockname()[1]
        message = refused("default", f"--url=http://127.0.0.1:{port}")
    assert f"http://127.0.0.1:{port}: no Triton answers" in message
    assert "start one: scripts/run_triton_server.sh" in message


@pytest.mark.parametrize("url", ["localhost", "http://localhost:x", "ftp://localhost", "http://"])
def test_a_url_that_is_none(url: str) -> None:
    result = CliRunner().invoke(triton_smoke.triton_smoke, ["main", "default", f"--url={url}"])
    assert result.exit_code == 2
    assert "--url" in result.output
