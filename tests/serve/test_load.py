"""The benchmark of the service, small: what it counts is right, and speed itself is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_under_load_every_caption_is_the_local_one_and_no_file_is_left(media: list[Path], tmp_path: Path) -> None:
    options = ("--clients", "8", "--uploads", "120", "--threads", "1", "--repeat", "1")
    places = ("--clips", media[0].parent, "--model", tiny.bundle(), "--json", tmp_path / "found.json")
    command = [sys.executable, "-m", "benchmarks", "serve", *options, *map(str, places)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    [latency], [throughput], [load] = found["tables"]
    assert load["captions"] + load["429 or 503"] == load["uploads"] == 120
    assert (load["captions"], load["differing"], load["other answers"], load["files left"]) == (120, 0, 0, 0)
    assert load["ratio"] < 1.3
    assert latency["ratio"] > 1 > throughput["ratio"] > 0
