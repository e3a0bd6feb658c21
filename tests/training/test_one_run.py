"""One run in a folder; a full disk loses nothing that was finished; several processes are one run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.conftest import Run, settings
from video_captioning.data.claim import claim
from video_captioning.errors import OutputError
from video_captioning.models import checkpoint

ROOT = Path(__file__).parents[2]


def vidcap(*arguments: str, prelude: str = "pass") -> subprocess.CompletedProcess[str]:
    """`vidcap` in a process of its own, after some code."""
    code = f"{prelude}; from video_captioning.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_two_runs_in_one_folder(run: Run, tmp_path: Path) -> None:
    with claim(tmp_path / "run"), pytest.raises(OutputError, match=r"run: is in use by another run; wait for it or"):
        run(out="run")
    assert run(out="run").exists(), "it is free again"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="limits are of POSIX")
def test_a_full_disk_keeps_what_was_finished(run: Run, media: dict[Path, str], tmp_path: Path) -> None:
    last = run("training.max_epochs=1", f"training.store={tmp_path / 'store'}", out="full")
    before = last.read_bytes()
    full = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))"
    )
    overrides = [*settings(tmp_path, media, tmp_path / "store", "full"), "training.max_epochs=3"]
    done = vidcap("train", "advanced", *overrides, prelude=full)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(r"vidcap: .*full: cannot be written \(File too large\); make room .*", said)
    assert last.read_bytes() == before
    assert checkpoint.load(run("training.max_epochs=2", out="full"))[1].kind == "advanced"


@pytest.mark.slow
def test_two_processes_train_one_model(media: dict[Path, str], tmp_path: Path) -> None:
    overrides = [*settings(tmp_path, media, tmp_path / "store", "both", weight=4), "training.max_epochs=2"]
    script = str(Path(sys.executable).parent / "vidcap")  # which the second process is started with, too
    command = [script, "train", "advanced", *overrides, "training.devices=2", "training.batch_size=4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'both' / 'last.ckpt'}\n"
    assert re.findall(r"^epoch (\d/\d)", done.stderr, re.MULTILINE) == ["1/2", "2/2"]
    assert checkpoint.load(tmp_path / "both" / "last.ckpt")[1].kind == "advanced"
