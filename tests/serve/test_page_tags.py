"""Tags and confidence on the page, in a real browser, with a tiny model that has both and one that has neither."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import tiny
from tests.conftest import MakeClip
from tests.serve.browsing import (
    CONTRASTS,
    LEAST_CONTRAST,
    Visit,
    check_accessibility,
    locally,
    sentences,
    shown_sentences,
    upload,
    wait_for_pictures,
    whole,
)
from tests.serve.comparing import comparable, rounded
from tests.serve.running import Client, running
from video_captioning.captioner import Caption, Captioner, Tag

pytestmark = pytest.mark.slow

NOT_SURE = "Not sure enough to say a sentence."


@pytest.fixture(scope="module")
def model() -> Captioner:
    return Captioner(tiny.sure_bundle(), threads=1)


@pytest.fixture(scope="module")
def plain_model() -> Captioner:
    """Without concepts and confidence."""
    return Captioner(tiny.bundle(), threads=1)


@pytest.fixture(scope="module")
def service(model: Captioner, plain_model: Captioner) -> Iterator[Client]:
    with running([model, plain_model]) as client:
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "blocks.mp4", tiny.pictures(24), fps=5)


@pytest.fixture
def caption(model: Captioner, clip: Path) -> Caption:
    caption = locally(model, clip)
    assert caption.tags
    return caption


def partial(caption: Caption) -> tuple[int, Tag]:
    """A tag that was seen after the first moment only, and its place."""
    return next((place, tag) for place, tag in enumerate(caption.tags or ()) if tag.times[0] > caption.frames[0])


def seen_at(page: Page) -> list[bool]:
    """For each moment, whether it is lit up as one at which a tag was seen; its bar, picture and name agree."""
    moments = page.locator("#strip button").evaluate_all("""all => all.map(each => [
      each.getAttribute("aria-label").endsWith(": seen"),
      each.querySelector("i").getBoundingClientRect().height > 0,
      getComputedStyle(each.querySelector("canvas")).opacity === "1",
    ])""")
    assert all(len(set(moment)) == 1 for moment in moments), moments
    return [moment[0] for moment in moments]


def now(page: Page) -> float:
    return float(page.locator("video").evaluate("video => video.currentTime"))


def ask_for(page: Page, least: str) -> None:
    page.locator("#options summary").click()
    page.get_by_label("Confidence at least").fill(least)


def test_a_tag_lights_up_its_moments(page: Page, caption: Caption, clip: Path) -> None:
    upload(page, clip)
    wait_for_pictures(page)
    chips = page.locator("#tags button")
    assert chips.all_text_contents() == [tag.name for tag in caption.tags or ()]
    place, tag = partial(caption)
    chip, about = chips.nth(place), page.locator("#about")
    several = f"{len(tag.times)} of {len(caption.frames)}"
    expect(chip).to_have_accessible_name(f"{tag.name}, {whole(tag.score)} sure, seen in {several}")
    widths = chip.locator(".meter, .meter i").evaluate_all("all => all.map(each => each.getBoundingClientRect().width)")
    assert widths[1] / widths[0] == pytest.approx(tag.score, abs=0.02)

    chip.hover()
    lit = [time in tag.times for time in caption.frames]
    said = f"“{tag.name}”, {whole(tag.score)}: seen at {several} moments, first at {tag.times[0]:.1f} s"
    expect(about).to_have_text(said)
    assert seen_at(page) == lit
    assert now(page) == 0, "the mouse alone does not move the clip"
    page.mouse.move(0, 0)
    expect(about).to_contain_text("All words")

    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(about).to_have_text(said)
    assert seen_at(page) == lit
    assert now(page) == pytest.approx(tag.times[0], abs=0.02)
    shown = [tag.times[0] in each.times for each in caption.tags or ()]
    assert chips.evaluate_all("all => all.map(each => each.classList.contains('lit'))") == shown
    page.locator("#words button").first.hover()
    expect(about).to_contain_text("strongest at")
    page.mouse.move(0, 0)
    expect(about).to_have_text(said)

    page.locator("#words button").first.click()
    expect(page.locator("#stage [aria-pressed=true]")).to_have_count(1)
    expect(chip).to_have_attribute("aria-pressed", "false")
    chip.click()
    chip.click()
    expect(page.locator("#stage [aria-pressed=true]")).to_have_count(0)
    expect(about).to_contain_text("All words")


def test_tags_by_keyboard(page: Page, caption: Caption, clip: Path) -> None:
    upload(page, clip)
    wait_for_pictures(page)
    place, tag = partial(caption)
    chips = page.locator("#tags button")
    page.locator("#words button").first.focus()
    page.keyboard.press("Tab")
    expect(chips.first).to_be_focused()
    page.keyboard.press("End")
    expect(chips.last).to_be_focused()
    page.keyboard.press("Home")
    for _ in range(place):
        page.keyboard.press("ArrowRight")
    expect(chips.nth(place)).to_be_focused()
    expect(chips.nth(place)).to_have_attribute("aria-pressed", "true")
    assert seen_at(page) == [time in tag.times for time in caption.frames]
    assert now(page) == pytest.approx(tag.times[0], abs=0.02)
    page.keyboard.press("Enter")
    expect(page.locator("#about")).to_contain_text("All words")
    page.keyboard.press("Space")
    expect(page.locator("#about")).to_contain_text(tag.name)
    page.keyboard.press("Escape")
    expect(page.locator("#about")).to_contain_text("All words")


def test_how_sure_it_is(page: Page, caption: Caption, clip: Path) -> None:
    upload(page, clip)
    wait_for_pictures(page)
    assert caption.confidence is not None
    assert 0.35 < caption.confidence < 0.6
    doubtful = [(word.text, whole(word.confidence)) for word in caption.words if 0 < (word.confidence or 0) < 0.495]
    assert 0 < len(doubtful) < len(caption.words)
    listed = ", ".join(f"{text} {share}" for text, share in doubtful)
    sure = f"Not very sure, {whole(caption.confidence)}"
    expect(page.locator("#sure")).to_have_text(f"{sure} · less sure of the dotted words: {listed}")
    expect(page.locator("#words")).to_have_text(caption.text)
    lines = "all => all.map(each => getComputedStyle(each).textDecorationLine)"
    buttons = page.locator("#words button")
    dotted = [line == "underline" for line in buttons.evaluate_all(lines)]
    assert dotted == [0 < (word.confidence or 0) < 0.495 for word in caption.words]
    text, share = doubtful[0]
    expect(buttons.nth(dotted.index(True))).to_have_accessible_name(f"{text}, only {share} sure")
    assert shown_sentences(page) == sentences(caption)
    expect(page.locator("#score-help")).to_contain_text("how sure the model is")


def test_too_unsure_for_a_sentence(page: Page, model: Captioner, clip: Path) -> None:
    caption = model(clip, min_confidence=0.99)
    assert caption.text == ""
    assert caption.tags
    ask_for(page, "0.99")
    upload(page, clip)
    wait_for_pictures(page)
    expect(page.locator("#nothing")).to_have_text(NOT_SURE)
    expect(page.locator("#words")).to_be_hidden()
    expect(page.locator("#said")).to_have_text(f"{clip.name}: {NOT_SURE}")
    expect(page.locator("#sure")).to_have_text(
        f"It was only {whole(caption.confidence or 0)} sure of the likeliest one."
    )
    expect(page.locator("#by-sentence")).to_be_hidden()
    expect(page.locator("#by-word")).to_be_hidden()
    expect(page.locator("#warnings")).to_contain_text("not sure enough of any sentence")
    expect(page.locator("#about")).to_have_text("The moments that the model looked at")
    place, tag = partial(caption)
    page.locator("#tags button").nth(place).click()
    assert seen_at(page) == [time in tag.times for time in caption.frames]
    check_accessibility(page)
    for name in ("Copy the sentence", "Download SRT subtitles"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()


def test_a_sentence_that_says_less(page: Page, model: Captioner, clip: Path) -> None:
    caption = model(clip, min_confidence=0.6)
    assert caption.text.startswith("A video of ")
    assert not caption.words
    ask_for(page, "0.6")
    expect(page.locator("#options-said")).to_have_text("confidence at least 0.6")
    upload(page, clip)
    wait_for_pictures(page)
    expect(page.locator("#words")).to_have_text(caption.text)
    expect(page.locator("#nothing")).to_be_hidden()
    expect(page.locator("#sure")).to_have_text(f"Fairly sure, {whole(caption.confidence or 0)}")
    expect(page.locator("#by-word")).to_be_hidden()
    check_accessibility(page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download SRT").click()
    assert saved.value.path().read_text().splitlines()[2] == caption.text


def test_a_threshold_out_of_range_is_not_sent(page: Page, clip: Path) -> None:
    ask_for(page, "70")
    upload(page, clip)
    expect(page.get_by_label("Confidence at least")).to_be_focused()
    expect(page.locator("#stage")).to_be_hidden()


def test_a_model_without_tags(page: Page, model: Captioner, plain_model: Captioner, clip: Path) -> None:
    page.locator("#options summary").click()
    page.get_by_label("Model").select_option("tiny")
    expect(page.get_by_label("Confidence at least")).to_be_hidden()
    upload(page, clip)
    wait_for_pictures(page)
    caption = locally(plain_model, clip)
    expect(page.locator("#words")).to_have_text(caption.text)
    expect(page.locator("#tags")).to_be_hidden()
    expect(page.locator("#sure")).to_be_hidden()
    expect(page.locator("#words .doubtful")).to_have_count(0)
    assert shown_sentences(page) == sentences(caption)
    expect(page.locator("#score-help")).to_contain_text("log-probability")

    page.get_by_label("Model").select_option("sure")
    expect(page.get_by_label("Confidence at least")).to_be_visible()
    page.get_by_role("button", name="Caption again").click()
    expect(page.locator("#words")).to_have_text(locally(model, clip).text)
    expect(page.locator("#tags")).to_be_visible()


def test_a_file_has_them_too(page: Page, caption: Caption, clip: Path) -> None:
    upload(page, clip)
    wait_for_pictures(page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSON").click()
    found = json.loads(saved.value.path().read_text())
    assert comparable(found) == rounded(comparable(caption.to_dict()))
    assert found["tags"]
    assert found["confidence"]


def test_each_scene_has_its_own(page: Page, model: Captioner, make_clip: MakeClip, tmp_path: Path) -> None:
    film = make_clip(tmp_path / "film.mp4", [each for each in tiny.pictures(3) for _ in range(32)], fps=8)
    scenes = list(model.segments(film, min_confidence=0.5))
    page.locator("#options summary").click()
    page.get_by_label("One caption per scene").check()
    page.get_by_label("Confidence at least").fill("0.5")
    upload(page, film)
    wait_for_pictures(page)
    lines = page.locator("#scenes button span:last-child")
    assert lines.all_text_contents() == [scene.text or NOT_SURE for scene in scenes]
    for place, scene in enumerate(scenes):
        page.locator("#scenes button").nth(place).click()
        wait_for_pictures(page)
        expect(page.locator("#tags button")).to_have_text([tag.name for tag in scene.tags or ()])
        if scene.tags:
            page.locator("#tags button").first.click()
            assert seen_at(page) == [time in scene.tags[0].times for time in scene.frames]


def test_a_finger_on_a_tag(visit: Visit, caption: Caption, clip: Path) -> None:
    page = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    upload(page, clip)
    wait_for_pictures(page)
    place, tag = partial(caption)
    chip = page.locator("#tags button").nth(place)
    chip.tap()
    assert seen_at(page) == [time in tag.times for time in caption.frames]
    chip.tap()
    expect(page.locator("#about")).to_contain_text("All words")
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    heights = page.locator("#tags button").evaluate_all("all => all.map(each => each.getBoundingClientRect().height)")
    assert min(heights) >= 24  # WCAG 2.2: targets of at least 24 pixels


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_tags(visit: Visit, caption: Caption, clip: Path, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    page.locator("#options summary").click()
    upload(page, clip)
    wait_for_pictures(page)
    page.locator("#tags button").first.click()
    check_accessibility(page)
    for chip in page.locator("#tags button").all():
        chip.click()
        assert min(page.locator("#tags button, #words button").evaluate_all(CONTRASTS)) >= LEAST_CONTRAST
