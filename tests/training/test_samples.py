"""The page that shows what the model says of the same items, epoch by epoch."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.training.watched import Stop, fit, heard
from video_captioning.data.items import Item
from video_captioning.errors import OutputError
from video_captioning.training.samples import Samples


def items(folder: Path, count: int) -> list[Item]:
    made = []
    for number, picture in enumerate(tiny.pictures(count)):
        Image.fromarray(picture).save(folder / f"{number}.png")
        made.append(Item(f"item{number}", folder / f"{number}.png", (f"a <script> & {number}", "another")))
    return made


def articles(page: str) -> list[str]:
    return page.split("<article>")[1:]


def epochs(article: str) -> list[tuple[int, str]]:
    return [(int(epoch), said) for epoch, said in re.findall("<tr><th>(.*?)</th><td>(.*?)</td></tr>", article)]


def test_what_was_said_newest_first(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(out, Samples(items(tmp_path, 3), out), epochs=3)
    page = (out / "samples.html").read_text()
    shown = articles(page)
    assert len(shown) == 3
    for number, article in enumerate(shown):
        assert epochs(article) == [(epoch, f"epoch {epoch} &lt;b&gt;&amp;") for epoch in (3, 2, 1)]
        assert f"<li>a &lt;script&gt; &amp; {number}</li><li>another</li>" in article
        [data] = re.findall('src="data:image/jpeg;base64,(.*?)"', article)
        thumbnail, picture = Image.open(BytesIO(base64.b64decode(data))), Image.open(tmp_path / f"{number}.png")
        assert thumbnail.format == "JPEG"
        assert thumbnail.width * picture.height == thumbnail.height * picture.width
        difference = np.asarray(thumbnail.resize(picture.size), float) - np.asarray(picture, float)
        assert abs(difference).mean() < 20
    assert "<script" not in page
    assert not list(out.glob("*.part"))


def test_a_resumed_run_goes_on_with_the_page(tmp_path: Path) -> None:
    shown, out, whole = items(tmp_path, 2), tmp_path / "run", tmp_path / "whole"
    with pytest.raises(KeyError):
        fit(out, Samples(shown, out), Stop(epoch=2, batch=1), epochs=3)
    before = (out / "samples.html").read_text()
    assert [epoch for epoch, _ in epochs(before)] == [2, 1, 2, 1]
    fit(out, Samples(shown, out), epochs=3)
    fit(whole, Samples(shown, whole), epochs=3)
    assert (out / "samples.html").read_text() == (whole / "samples.html").read_text()


@pytest.mark.parametrize(("count", "first", "last"), [(1, 0, 0), (12, 0, 11), (13, 0, 11), (40, 0, 36)])
def test_a_dozen_items_from_all_over(tmp_path: Path, count: int, first: int, last: int) -> None:
    made = items(tmp_path, 1) * count
    numbered = [Item(f"item{number}", item.path, item.captions) for number, item in enumerate(made)]
    fit(tmp_path, Samples(numbered, tmp_path), epochs=1)
    names = re.findall("<h2>item(.*?)</h2>", (tmp_path / "samples.html").read_text())
    assert len(names) == min(12, count)
    assert (int(names[0]), int(names[-1])) == (first, last)


def test_an_item_without_a_picture_or_a_caption(tmp_path: Path) -> None:
    lost = [Item("nobody", tmp_path / "lost.mp4", ("a",)), Item("item1", tmp_path / "lost.mp4", ("b",))]
    with heard() as said:
        fit(tmp_path, Samples(lost, tmp_path), epochs=2)
    assert len(said) == 2, "one a file, not one an epoch"
    assert all("no thumbnail: " in warning and "lost.mp4" in warning for warning in said)
    nobody, somebody = articles((tmp_path / "samples.html").read_text())
    assert epochs(nobody) == [(2, "—"), (1, "—")]
    assert len(epochs(somebody)) == 2
    assert "<img" not in nobody


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "samples.html").mkdir()
    with pytest.raises(OutputError, match=r"samples\.html: cannot be written \(Is a directory\)"):
        fit(tmp_path, Samples(items(tmp_path, 1), tmp_path), epochs=1)
