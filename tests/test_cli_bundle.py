"""`vidcap bundle` as a person runs it: push, pull, caption; one line where it fails; a killed pull goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import MakeClip
from tests.export import model_hub
from tests.export.model_hub import TOKEN, ModelHub, stall, status
from video_captioning.bundle import locate, read, write_manifest
from video_captioning.cli import vidcap
from video_captioning.data.claim import claim
from video_captioning.errors import OutputError

REPO = "me/default"


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with model_hub.serving() as server:
        yield server


def start(hub: ModelHub, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`vidcap` in a process of its own, as huggingface_hub reads the environment when it is imported."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "video_captioning", *arguments],
        cwd=folder,
        env=usual | ours | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(hub: ModelHub, folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Status, what was said, and what was complained."""
    process = start(hub, folder, *arguments, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.slow
def test_what_was_pushed_and_pulled_says_the_same(hub: ModelHub, tmp_path: Path, make_clip: MakeClip) -> None:
    done = run(hub, tmp_path, "bundle", "push", "default", REPO)
    commit = hub.repos[REPO].commits[-1][0]
    assert done == (0, f"{hub.url}/{REPO}/commit/{commit}\n", "")
    done = run(hub, tmp_path, "bundle", "pull", REPO, "models/theirs", "--revision", commit)
    default = read("default")
    assert done == (0, f"models/theirs: default {default.version}, {default.bytes / 1e6:.1f} MB\n", "")
    clip = str(make_clip(tmp_path / "clip.mp4"))
    said = [
        json.loads(CliRunner().invoke(vidcap, ["caption", clip, "--format", "json", "--model", str(model)]).stdout)
        for model in (tmp_path / "models" / "theirs", "default")
    ]
    assert said[0]["text"] == said[1]["text"] and said[0]["model"] == said[1]["model"]


@pytest.mark.slow
def test_a_killed_pull_goes_on(hub: ModelHub, tmp_path: Path) -> None:
    folder = shutil.copytree(locate("default"), tmp_path / "large")
    encoder = bytes(12 << 20)  # longer than what the client takes at once
    (folder / "encoder.onnx").write_bytes(encoder)
    manifest = json.loads((folder / "bundle.json").read_text())
    write_manifest(folder, {key: manifest[key] for key in manifest if key not in ("schema_version", "files")})
    hub.hold(REPO, folder)
    hub.faults["cdn"] = stall(encoder, 11 << 20)
    process = start(hub, tmp_path, "bundle", "pull", REPO, "out")
    assert hub.stalled.wait(60)
    while process.poll() is None and kept(tmp_path / ".out.part") < 10 << 20:  # it gives up by itself in the end
        hub.released.wait(0.05)
    process.kill()
    process.communicate()
    hub.faults.clear()
    hub.requests.clear()
    assert not (tmp_path / "out").exists()
    code, _, err = run(hub, tmp_path, "bundle", "pull", REPO, "out")
    assert (code, err) == (0, "")
    assert hub.asked("cdn")[0] == f"bytes={10 << 20}-"
    assert read(tmp_path / "out").sha256 == read(folder).sha256
    assert not list(tmp_path.glob(".out*"))


def kept(folder: Path) -> int:
    """Bytes of files that are not whole yet."""
    return sum(path.stat().st_size for path in folder.glob("*.part"))


@pytest.mark.slow
def test_one_line_says_what_is_wrong(hub: ModelHub, tmp_path: Path) -> None:
    hub.faults = {"PUT": status(403)}
    code, out, err = run(hub, tmp_path, "bundle", "push", "default", REPO)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith(f"vidcap: {REPO}: cannot be uploaded (the hub answers 403: your token may not do this); ")
    code, out, err = run(hub, tmp_path, "bundle", "push", "default", REPO, HF_TOKEN="")
    assert (code, out, len(err.splitlines())) == (1, "", 1) and "set HF_TOKEN, or run: hf auth login" in err
    hub.hold(REPO, locate("default"))
    hub.faults = {"cdn": model_hub.half((locate("default") / "encoder.onnx").read_bytes())}
    code, out, err = run(hub, tmp_path, "bundle", "pull", REPO, "out")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith(f"vidcap: {REPO}/encoder.onnx: cannot be downloaded (peer closed connection")
    assert not (tmp_path / "out").exists()


def test_two_pulls_to_one_folder_do_not_mix(tmp_path: Path) -> None:
    with claim(tmp_path / ".out.part"):
        result = CliRunner().invoke(vidcap, ["bundle", "pull", REPO, str(tmp_path / "out")])
    assert isinstance(result.exception, OutputError)
    assert str(result.exception).endswith(".out.part: is in use by another run; wait for it or name another folder")
