"""`vidcap explain`: what it prints and writes, and what it says of bad input."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from video_captioning.captioner import Captioner
from video_captioning.cli import vidcap
from video_captioning.errors import MissingFileError, NotMediaError, OutputError

PICTURES = ["attention.png", "words.png", "importance.png", "where.png"]
TOLD = ("index.html", "explanation.json", *PICTURES)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "my clip.mp4", tiny.pictures(12), fps=4)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explain(*arguments: str | Path) -> Result:
    model = ("--model", str(tiny.bundle()), "--threads", "1")
    return CliRunner().invoke(vidcap, ["explain", *map(str, arguments), *model])


def test_it_prints_the_caption_and_the_files(clip: Path, here: Path) -> None:
    done = explain(clip, "--beam", "2", "--frames", "3", "--min-tokens", "4")
    assert done.exit_code == 0, done.output
    caption, *files = done.output.splitlines()
    assert files == [f"my clip-explained/{name}" for name in TOLD]
    assert sorted(path.name for path in (here / "my clip-explained").iterdir()) == sorted(TOLD)
    said = json.loads((here / "my clip-explained" / "explanation.json").read_text())
    assert said["caption"]["text"] == caption
    assert len(said["importance"]) == 3
    assert [path.name for path in here.iterdir()] == ["my clip-explained"], "nothing else is left"


def test_occlusion_is_compared(clip: Path, here: Path) -> None:
    done = explain(clip, "-o", "there", "--occlusion")
    assert done.exit_code == 0, done.output
    said = json.loads((here / "there" / "explanation.json").read_text())["occlusion"]
    value = said["rank_correlation"]
    assert f"rank correlation of attention and occlusion over frames: {value:.2f}" in done.output.splitlines()
    assert (here / "there" / "occlusion.png").exists()


def test_a_picture(here: Path) -> None:
    Image.fromarray(tiny.pictures(1)[0]).save("picture.png")
    done = explain("picture.png", "--occlusion")
    assert done.exit_code == 0, done.output
    assert json.loads(Path("picture-explained/explanation.json").read_text())["occlusion"]["of"] == "regions"


def test_without_matplotlib_the_rest_is_written(clip: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = explain(clip, "-o", "there")
    assert done.exit_code == 0
    [told] = done.stderr.splitlines()
    assert told.endswith("install it with: pip install 'vidcap[plots]'")
    assert sorted(path.name for path in (here / "there").iterdir()) == ["explanation.json", "index.html"]


def test_bad_input_leaves_nothing(clip: Path, here: Path) -> None:
    Path("text.mp4").write_text("no video")
    Path("taken").mkdir()
    before = sorted(here.iterdir())
    for error, arguments in (
        (MissingFileError, ("missing.mp4",)),
        (NotMediaError, ("text.mp4",)),
        (NotMediaError, (".", "-o", "there")),
        (OutputError, (clip, "-o", "taken")),
        (OutputError, (clip, "-o", "text.mp4/there")),
    ):
        done = explain(*arguments)
        assert isinstance(done.exception, error), (arguments, done.output)
        assert sorted(here.iterdir()) == before
    if os.geteuid():
        Path("text.mp4").chmod(0)
        assert isinstance(explain("text.mp4").exception, MissingFileError)
    wrong = explain(clip, "--beam", "0")
    assert wrong.exit_code == 2
    assert "beam must be" in wrong.output
    assert explain().exit_code == 2


@pytest.mark.slow
def test_a_real_clip_with_the_embedded_model(shared: Path, here: Path) -> None:
    clip = shared / "data" / "clips" / "validation" / "msrvtt_video8690.mp4"
    done = CliRunner().invoke(vidcap, ["explain", str(clip), "-o", "there", "--occlusion", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0] == Captioner(threads=1)(clip).text
    said = json.loads(Path("there/explanation.json").read_text())
    assert said["patches"] == 4
    for word in said["words"]:
        assert sum(word["weights"]) == pytest.approx(1, abs=1e-4)
    assert "<video" in Path("there/index.html").read_text()
