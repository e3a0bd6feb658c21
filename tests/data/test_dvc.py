"""`dvc repro setup_data`: the stage of dvc.yaml runs, locks what it made, and does not run twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.hub_server import Hub

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_stage_locks_its_outputs(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("dvc", reason="DVC is not installed")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text((ROOT / ".dvc" / "config").read_text() + "    no_scm = true\n")
    tools = Path(sys.executable).parent
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HOME": str(tmp_path),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }

    def dvc(*arguments: str) -> str:
        command = [str(tools / "dvc"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    dvc("repro", "setup_data")
    lock = (tmp_path / "dvc.lock").read_text()
    for name in ("videos", "train.jsonl", "val.jsonl", "test.jsonl", "val_split.json", "dataset_summary.json"):
        assert f"path: data/{name}\n" in lock
        assert (tmp_path / "data" / name).exists()
    hub.requests.clear()
    assert "didn't change" in dvc("repro", "setup_data")
    assert hub.requests == []
