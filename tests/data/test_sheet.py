"""`vidcap data show`: a page that stands alone, with pictures and captions of random items."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from html import unescape
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.conftest import MakeClip
from video_captioning.cli import vidcap


def show(*arguments: str) -> Result:
    return CliRunner().invoke(vidcap, ["data", "show", *arguments])


@pytest.fixture
def listing(tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    colours = {"red": (220, 20, 20), "blue": (20, 20, 220)}
    for name, colour in colours.items():
        pictures = [np.full((90, 160, 3), colour, np.uint8)] * 12
        make_clip(tmp_path / f"{name}.mp4", pictures, fps=4)
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    rows = [*(f"{name}.mp4\t<b>{name}</b> & more" for name in colours), "bad.mp4\tbroken", "gone.mp4\tgone"]
    (tmp_path / "captions.tsv").write_text("\n".join(rows))
    return "captions.tsv"


def test_the_sheet_shows_frames_and_captions(listing: str) -> None:
    result = show(listing)
    assert result.exit_code == 0, result.output
    assert result.stdout == "sheet.html\n"
    page = Path("sheet.html").read_text()
    assert not re.search(r"<(script|link|iframe)|https?://|<b>", page), "nothing from elsewhere, nothing of a caption"
    parts = page.split("<article>")[1:]
    assert len(parts) == 4
    for part, name, channel in ((parts[0], "red", 0), (parts[1], "blue", 2)):
        assert f"<b>{name}</b> & more" in unescape(part)
        pictures = [picture(code) for code in re.findall(r"data:image/jpeg;base64,([^\"]+)", part)]
        assert [found.shape for found in pictures] == [(90, 160, 3)] * 3
        assert all(found.mean((0, 1)).argmax() == channel and found.mean() < 120 for found in pictures)
    assert 'class="error"' in parts[2] and "broken" in parts[2]
    assert "2 items cannot be decoded" in result.stderr


def picture(code: str) -> np.ndarray:
    with av.open(io.BytesIO(b64decode(code))) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


def test_a_seed_draws_some(listing: str) -> None:
    drawn = []
    for seed in range(5):
        show(listing, "-o", "some.html", "--count", "2", "--seed", str(seed))
        page = Path("some.html").read_text()
        assert f"2 of 4 items, drawn with seed {seed}" in page
        drawn.append(re.findall(r"<h2>(\w+)", page))
    assert all(len(names) == 2 for names in drawn) and len({tuple(names) for names in drawn}) > 1
    show(listing, "-o", "again.html", "--count", "2", "--seed", "4")
    assert Path("again.html").read_text() == page


def test_a_sheet_that_cannot_be_made(listing: str) -> None:
    assert "absent.tsv: cannot be read" in str(show("absent.tsv").exception)
    assert "no/sheet.html: cannot be written" in str(show(listing, "-o", "no/sheet.html").exception)
