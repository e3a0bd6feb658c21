"""The report: HTML that parses, pictures that decode, words that stay words, a size that stays small."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import video_captioning
from tests.conftest import MakeClip
from video_captioning.data.items import Item
from video_captioning.data.thumbnails import SIDE, jpeg, thumbnails
from video_captioning.decoding import Decoding
from video_captioning.evaluation import report
from video_captioning.evaluation.evaluate import Evaluation, evaluate
from video_captioning.frames import Sampling, sample
from video_captioning.metrics.score import score

DEMO = Path(__file__).parents[2] / "examples" / "demo.mp4"
EVIL = '<script>alert("a & b")</script>'


class Page(HTMLParser):
    """What a browser would find: tags, text by the tag around it, links, pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[str] = []
        self.outside: list[str] = []
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.append(tag)
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if "href" in found else []
        if tag == "img":
            self.pictures.append(found["src"] or "")
        elif "src" in found:
            self.outside.append(found["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style") and data.strip():
            self.texts.append(data.strip())


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Evaluation:
    """Of the demo, a tall clip and a picture, twice the same, whose ids and references are hostile."""
    folder = tmp_path_factory.mktemp("clips")
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(folder / "a.png")
    (folder / "broken.mp4").write_bytes(b"<script>" * 50)
    items = [
        Item("demo", DEMO, ("a cup of coffee", EVIL)),
        Item(EVIL, make_clip(folder / "tall.mp4", 40, size=(96, 160)), ("bars",)),
        Item("a", folder / "a.png", ("grey", "a wall", "half a \ud800 character")),
        Item("b", folder / "a.png", ("grey",)),
        Item("<b>", folder / "broken.mp4", ("nothing",)),
    ]
    return evaluate(video_captioning.load(), items, Decoding(beam=1, max_tokens=8))


@pytest.fixture(scope="module")
def html(evaluation: Evaluation) -> str:
    demo, tall, *pair = evaluation.captions  # whatever the model says, only the pair says the same
    said = (replace(demo, text=EVIL), replace(tall, text="Bars."), *pair)
    return report.page(replace(evaluation, captions=said), f"data {EVIL}", "vidcap x > y")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_words_stay_words(html: str, page: Page) -> None:
    assert html.count("<script") == 1 and page.tags.count("script") == 1
    assert "<b>" in page.texts
    assert page.texts.count(EVIL) >= 6, "as caption, reference and id, in cards and in the table"
    assert any(text.endswith(f"on data {EVIL}") for text in page.texts)
    assert any("half a \\ud800 character" in text for text in page.texts)
    html.encode()


def test_every_picture_decodes_and_nothing_is_fetched(page: Page) -> None:
    sizes = []
    for uri in page.pictures:
        head, data = uri.split(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            picture.load()
            assert picture.format == "JPEG"
            sizes.append(picture.size)
    # Each of four items as a best or a worst one: two clips with four frames, two pictures; and the repeated pair.
    assert sorted(sizes) == sorted([(SIDE, 156)] * 4 + [(96, 160)] * 4 + [(60, 40)] * 4)
    assert not page.outside
    assert all(link.removeprefix("#") in page.ids for link in page.links) and page.links


def test_head_scores_and_sections(evaluation: Evaluation, page: Page) -> None:
    for name, value in evaluation.scores.scores.items():
        interval = evaluation.scores.intervals[name]
        assert {name, f"{value:.4f}", f"[{interval.low:.4f}, {interval.high:.4f}]"} <= set(page.texts)
    for said in ("vidcap x > y", "beam 1, max_tokens 8, length_penalty 1.0, top_p 1.0, alternatives 1"):
        assert said in page.texts
    assert {"Best", "Worst", "Most repeated", "Not captioned", "All 4"} <= set(page.texts)
    assert "2 times, 50.0% of the captions" in page.texts
    assert f"{evaluation.failed['<b>']}" in page.texts
    assert page.tags.count("article") == 2 + 2 + 1


def test_sections_without_content_are_left_out(evaluation: Evaluation) -> None:
    one = evaluate(video_captioning.load(), evaluation.items[:1], Decoding(beam=1, max_tokens=4))
    texts = Page(report.page(one, "one", "")).texts
    assert "Best" in texts and not {"Worst", "Most repeated", "Not captioned"} & set(texts)


def test_best_and_worst_are_ranked_by_cider(evaluation: Evaluation) -> None:
    values = dict(zip(evaluation.scores.ids, evaluation.scores.segments["CIDEr-D"], strict=True))
    articles = report.page(evaluation, "data", "").split("<article>")[1:5]
    shown = [float(article.split("CIDEr-D <b>")[1].split("<")[0]) for article in articles]
    ordered = sorted(values.values(), reverse=True)
    assert shown == pytest.approx([*ordered[:2], ordered[3], ordered[2]], abs=5e-4)


def test_shuffled_is_said(evaluation: Evaluation) -> None:
    assert "each with the caption of the next item" in report.page(replace(evaluation, shuffled=True), "data", "")


@pytest.mark.slow
def test_a_test_set_of_three_thousand_items_stays_small(
    evaluation: Evaluation, make_clip: MakeClip, tmp_path: Path
) -> None:
    """As many items and references as MSR-VTT's test set has, with real pictures."""
    clip = make_clip(tmp_path / "short.mp4", list(sample(DEMO, Sampling(frames=4)).pixels))
    sentences = tuple(f"a man in a red shirt is talking about the engine of a car, number {n}" for n in range(20))
    items = tuple(Item(f"video{n}", clip, sentences) for n in range(2990))
    captions = tuple(
        replace(evaluation.captions[0], text=f"A man is talking about car {n % 700}.") for n in range(2990)
    )
    large = replace(evaluation, items=items, captions=captions)
    scores = score(large.references, large.hypotheses, metrics=())
    segments = {"CIDEr-D": np.linspace(0, 1, 2990)}
    html = report.page(replace(large, scores=replace(evaluation.scores, ids=scores.ids, segments=segments)), "d", "c")
    assert html.count("<tr><td class=") == 2990
    assert len(html.encode()) < 20e6
    assert html.count("<img") == 4 * 50 + 4 * report.REPEATED


def test_thumbnails_show_the_clip(make_clip: MakeClip, tmp_path: Path) -> None:
    red, blue = (np.full((120, 480, 3), colour, np.uint8) for colour in ((200, 30, 30), (30, 30, 200)))
    clip = make_clip(tmp_path / "clip.mp4", [red] * 20 + [blue] * 20, fps=10)
    found = thumbnails(clip, 4)
    assert [picture.time for picture in found] == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=0.11)
    for picture, colour in zip(found, [red, red, blue, blue], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(picture.jpeg)).convert("RGB")).astype(int)
        assert pixels.shape == (picture.height, picture.width, 3) == (SIDE // 4, SIDE, 3)
        assert np.abs(pixels - colour[0, 0]).max() < 25


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (3, 7), (417, 211)])
def test_pictures_of_any_shape_become_jpegs(size: tuple[int, int]) -> None:
    made = jpeg(np.full((*size, 3), 90, np.uint8), 0.0)
    with Image.open(io.BytesIO(made.jpeg)) as picture:
        picture.load()
        assert picture.size == (made.width, made.height)
    assert max(made.width, made.height) == min(SIDE, max(size))
