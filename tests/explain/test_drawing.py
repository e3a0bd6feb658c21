"""Pictures: everything written in them is inside them and on nothing else, for any number of words and frames."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from tests.explain import made
from video_captioning.explain.drawing import drawn, figures, veil

SENTENCE = "a man in a blue shirt plays the guitar while two dogs run over the grass near the very old lighthouse"
LONG = [*SENTENCE.split(), "and", "$5", "or", "$10", "in", "incomprehensibilities", "look", "on"]
NAMES = ["attention.png", "words.png", "importance.png", "where.png", "occlusion.png"]


def written(figure: Figure) -> list[tuple[str, Bbox]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    texts = {text: text.get_text() for text in figure.findobj(Text) if text.get_visible()}
    number = re.compile(r"[\N{MINUS SIGN}+-]?[\d.]*")  # of ticks: those beyond the end of an axis are not drawn
    return [(said, text.get_window_extent(renderer)) for text, said in texts.items() if not number.fullmatch(said)]


@pytest.mark.parametrize("frames", [1, 8, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("words", [["sea"], LONG], ids=len)
def test_all_that_is_written_can_be_read(words: list[str], frames: int) -> None:
    names = []
    for name, figure in figures(made.explanation(words, frames), made.pictures(frames)):
        names.append(name)
        notes = written(figure)
        for text, box in notes:
            inside = 0 <= box.x0 < box.x1 <= figure.bbox.width + 1 and 0 <= box.y0 < box.y1 <= figure.bbox.height + 1
            assert inside, (name, text)
        labels = [(text, box) for text, box in notes if text.rstrip("%").endswith(" s") or text in words]
        for (one, box), (other, following) in pairwise(labels):
            assert not box.overlaps(following.padded(-1)), (name, one, other)
    assert names == NAMES


@pytest.mark.parametrize(
    ("frames", "positions", "occlusion"), [(1, 1, True), (1, 5, False), (3, 1, False), (3, 4, True)]
)
def test_which_pictures_there_are(frames: int, positions: int, occlusion: bool) -> None:
    found = made.explanation(["a", "dog"], frames, positions, occlusion=occlusion)
    wanted = {*NAMES} - ({"where.png"} if positions == 1 else set()) - (set() if occlusion else {"occlusion.png"})
    files = drawn(found, made.pictures(frames))
    assert set(files) == wanted
    for content in files.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200


def test_the_darkest_is_where_the_least_is() -> None:
    cover = veil(np.array([[0.4, 0.1], [0.0, -0.2]]))[..., 3]
    assert cover[0, 0] == 0
    assert 0 < cover[0, 1] < cover[1, 0] == cover[1, 1]
