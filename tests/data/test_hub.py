"""`vidcap prepare msrvtt` from the hub: a killed download goes on; nothing is fetched twice or taken on trust."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.hub_server import COMMIT, REPO, Hub
from video_captioning.data import hub as client
from video_captioning.data.items import read_folder
from video_captioning.errors import DataError, OutputError

ARCHIVE = "MSRVTT_Videos.zip"


def start(hub: Hub, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "video_captioning", "prepare", "msrvtt", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_download_goes_on_and_a_whole_one_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    hub.stall_at = 23 << 20
    process = start(hub, tmp_path)
    assert hub.stalled.wait(60)
    process.kill()
    process.communicate()
    hub.stall_at = None
    assert not list(tmp_path.rglob("*.jsonl")), "nothing is finished"

    process = start(hub, tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    file, part = hub.fetched()[-1]
    assert file == ARCHIVE and part is not None and int(part.strip("bytes=-")) >= 10 << 20, "it went on"
    assert out.splitlines()[0].split() == ["split", "videos", "captions", "missing", "undecodable", "uncaptioned"]
    assert out.splitlines()[1].split() == ["train", "2", "6", "1", "0", "0"]
    assert "msrvtt_test_1k.json: the hub gives no SHA-256 of it" in err and ARCHIVE not in err

    data = tmp_path / "data"
    assert sorted(path.name for path in (data / "videos" / "video").glob("*.mp4")) == [
        *("video0.mp4", "video6512.mp4", "video6513.mp4", "video7010.mp4", "video7020.mp4")
    ]
    test = read_folder(data / "test.jsonl")
    assert [(item.id, len(item.captions)) for item in test] == [("video7010", 3), ("video7020", 1)]
    assert all(item.path.is_file() for item in test)
    summary = json.loads((data / "dataset_summary.json").read_text())
    assert summary["hub"][ARCHIVE]["commit"] == COMMIT
    assert summary["hub"][ARCHIVE]["sha256"] == hub.etag(ARCHIVE)

    before = {path: path.stat().st_mtime_ns for path in (data / "videos").rglob("*.*")}
    hub.requests.clear()
    process = start(hub, tmp_path, "--revision", COMMIT)
    assert process.communicate()[0] == out
    assert hub.fetched() == []
    assert {path: path.stat().st_mtime_ns for path in (data / "videos").rglob("*.*")} == before


def test_what_is_said_where_the_hub_is_out_of_reach(hub: Hub, tmp_path: Path) -> None:
    process = start(hub, tmp_path, "--revision", "gone")
    _, err = process.communicate()
    assert process.returncode == 1
    assert len(err.splitlines()) == 1 and f"vidcap: {REPO}/msrvtt_train_9k.json: cannot be downloaded (404" in err
    hub.url = "http://127.0.0.1:9"
    process = start(hub, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 1
    assert len(err.splitlines()) == 1 and "check the network, HF_ENDPOINT and the revision, or give a local copy" in err


@pytest.fixture
def here(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub, for calls in this process: huggingface_hub reads HF_ENDPOINT when it is imported."""
    address = f"{hub.url}/datasets/{REPO}/resolve"
    monkeypatch.setattr(client, "hf_hub_url", lambda repo, file, revision, repo_type: f"{address}/{revision}/{file}")
    return hub


def test_other_content_than_stated_is_thrown_away(here: Hub, tmp_path: Path) -> None:
    here.etags[ARCHIVE] = "0" * 64
    with pytest.raises(DataError, match="SHA-256 is not what the hub states; run again"):
        client.download(REPO, ARCHIVE, "main", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_new_version_is_another_file(here: Hub, tmp_path: Path) -> None:
    name = "msrvtt_test_1k.json"
    old = client.download(REPO, name, "main", tmp_path)
    here.files[name] = b"[]"
    new = client.download(REPO, name, "main", tmp_path)
    assert old.path.name == new.path.name == name
    assert new.path.read_bytes() == b"[]" != old.path.read_bytes()
    assert (old.commit, old.sha256) == (COMMIT, None)


def test_a_full_disk_is_known_before_anything_comes(here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"MSRVTT_Videos.zip needs 0\.03 GB, and 0\.00 GB are free; make room"):
        client.download(REPO, ARCHIVE, "main", tmp_path)
    assert here.fetched() == []
