"""The page in a real browser against the real service with the model that ships."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests import tiny
from tests.conftest import MakeClip
from tests.serve.browsing import (
    CONTRASTS,
    DEMO,
    LEAST_CONTRAST,
    Visit,
    check_accessibility,
    locally,
    seen,
    sentences,
    shown_sentences,
    strongest,
    upload,
    wait_for_pictures,
)
from tests.serve.running import Client, running
from video_captioning.captioner import Captioner

pytestmark = pytest.mark.slow

KEY = "a key of more than sixteen characters"
UNFINISHED = (
    "POST /v1/captions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 10000\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
)
NO_MEDIA = "Holds nothing that FFmpeg knows as video or picture."


@pytest.fixture(scope="module")
def model() -> Captioner:
    return Captioner("default", threads=1)


@pytest.fixture(scope="module")
def service(model: Captioner) -> Iterator[Client]:
    with running([model]) as client:
        yield client


@pytest.fixture(scope="module")
def strict_service(model: Captioner) -> Iterator[Client]:
    """One request at a time, and only with a key."""
    with running([model], [KEY], requests=1) as client:
        yield client


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A file that is no clip."""
    path = tmp_path / "notes.txt"
    path.write_text("not a clip\n" * 100)
    return path


@pytest.fixture
def real_clip() -> Path:
    clip = Path(__file__).parents[3] / "shared/data/clips/validation/msrvtt_video8133.mp4"
    return clip if clip.exists() else DEMO


def test_a_clip_gets_its_caption(page: Page, model: Captioner, real_clip: Path) -> None:
    caption = locally(model, real_clip)
    upload(page, real_clip)
    wait_for_pictures(page)
    expect(page.locator("#words")).to_have_text(caption.text)
    expect(page.locator("#words button")).to_have_count(len(caption.words))
    expect(page.locator("#said")).to_have_text(f"{real_clip.name}: {caption.text}")
    assert shown_sentences(page) == sentences(caption)
    moments = page.locator("#strip .at").all_text_contents()
    assert moments == [f"{time:.1f} s" for time in caption.frames]


def test_a_word_leads_to_its_moments(page: Page, model: Captioner, real_clip: Path) -> None:
    caption = locally(model, real_clip)
    upload(page, real_clip)
    wait_for_pictures(page)
    place = max(range(len(caption.words)), key=lambda word: strongest(caption.words[word].weights))
    weights = caption.words[place].weights
    peak = strongest(weights)

    page.locator("#words button").nth(place).click()

    expect(page.locator("#words [aria-pressed=true]")).to_have_text(caption.words[place].text, ignore_case=True)
    expect(page.locator("#strip [aria-current=true] .at")).to_have_text(f"{caption.frames[peak]:.1f} s")
    expect(page.locator("#about")).to_contain_text(f"strongest at {caption.frames[peak]:.1f} s")
    assert page.locator("video").evaluate("video => video.currentTime") == pytest.approx(caption.frames[peak], abs=0.02)
    heights = page.locator("#strip button").evaluate_all(
        "all => all.map(each => each.querySelector('i').getBoundingClientRect().height)"
    )
    assert np.array(heights) / max(heights) == pytest.approx(np.array(weights) / max(weights), abs=0.02)

    page.keyboard.press("ArrowRight")
    expect(page.locator("#words [aria-pressed=true]")).to_be_focused()
    page.locator("#words [aria-pressed=true]").click()
    expect(page.locator("#words [aria-pressed=true]")).to_have_count(0)
    expect(page.locator("#about")).to_contain_text("All words")


def test_pictures_are_the_frames_that_the_model_saw(
    page: Page, model: Captioner, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "blocks.mp4", tiny.pictures(24), fps=4)
    frames = model.examine(clip).frames
    upload(page, clip)
    wait_for_pictures(page)

    def nearest(picture: np.ndarray) -> int:
        return int(np.abs(frames.pixels - picture).mean((1, 2, 3)).argmin())

    thumbnails = [seen(page, f"#strip button:nth-child({place + 1}) canvas") for place in range(len(frames.times))]
    assert [nearest(thumbnail) for thumbnail in thumbnails] == list(range(len(frames.times)))
    page.locator("#strip button").nth(5).click()
    expect(page.locator("#strip button").nth(5)).to_have_attribute("aria-current", "true")
    page.locator("video").evaluate("video => video.seeking && new Promise(done => { video.onseeked = done; })")
    assert nearest(seen(page, "video")) == 5


def test_words_light_up_while_the_clip_plays(page: Page, model: Captioner) -> None:
    upload(page, DEMO)
    wait_for_pictures(page)
    page.locator("video").evaluate("video => { video.muted = true; video.playbackRate = 8; return video.play(); }")
    expect(page.locator("#strip button").last).to_have_attribute("aria-current", "true")
    last = len(model(DEMO).frames) - 1
    lit = page.locator("#words button").evaluate_all("all => all.map(word => word.classList.contains('lit'))")
    weights = np.array([word.weights for word in locally(model, DEMO).words])
    share = (weights[:, last] - 1 / (last + 1)) / (weights.max(1) - 1 / (last + 1))
    assert lit == (share > 0.5).tolist()


def test_a_clip_that_the_browser_cannot_play(page: Page, make_clip: MakeClip, tmp_path: Path) -> None:
    upload(page, make_clip(tmp_path / "clip.avi", tiny.pictures(24), fps=4, codec="mpeg4"))
    expect(page.locator("#cannot-play")).to_contain_text("cannot play this kind of file")
    expect(page.locator("#strip .at")).to_have_count(8)
    expect(page.locator("#strip canvas:visible")).to_have_count(0)
    page.locator("#words button").first.click()
    expect(page.locator("#strip [aria-current=true]")).to_have_count(1)


def test_several_clips(
    page: Page, model: Captioner, real_clip: Path, notes: Path, tmp_path: Path, troubles: list[str]
) -> None:
    still = tmp_path / "still.png"
    Image.fromarray(tiny.pictures(1)[0]).save(still)
    with page.expect_response(lambda response: response.status == 415):
        upload(page, DEMO, notes, real_clip, still)
        expect(page.get_by_role("progressbar", name=f"Progress of {DEMO.name}")).to_be_visible()
    lines = page.locator("#clips .line")
    expected = [locally(model, DEMO).text, None, locally(model, real_clip).text, locally(model, still).text]
    for place, text in enumerate(expected):
        expect(lines.nth(place)).to_have_text(text or f"No caption. {NO_MEDIA}")
    expect(page.locator("#clips progress:visible")).to_have_count(0)
    page.get_by_role("button", name=still.name).first.click()
    expect(page.locator("#screen img")).to_be_visible()
    expect(page.locator("#strip .at")).to_have_text(["picture"])
    for clip in (still, notes, DEMO):
        page.get_by_role("button", name=f"Remove {clip.name}").click()
    expect(page.locator("#queue")).to_be_hidden()
    expect(page.locator("#words")).to_have_text(locally(model, real_clip).text)
    troubles.clear()  # notes.txt is no clip


def test_a_file_without_pictures_is_refused_in_words(page: Page, troubles: list[str], notes: Path) -> None:
    upload(page, notes)
    expect(page.get_by_role("alert")).to_contain_text(NO_MEDIA)
    expect(page.get_by_role("alert")).to_contain_text("Check that it is a media file.")
    expect(page.get_by_role("alert").get_by_role("button", name="Try again")).to_be_visible()
    assert troubles == ["Failed to load resource: the server responded with a status of 415 (Unsupported Media Type)"]
    troubles.clear()


def test_options_are_the_services(page: Page, model: Captioner) -> None:
    page.locator("#options summary").click()
    assert page.get_by_label("Beam").get_attribute("placeholder") == str(model.bundle.decoding.beam)
    page.get_by_label("Beam").fill("1")
    expect(page.locator("#options-said")).to_have_text("beam 1")
    upload(page, DEMO)
    expect(page.locator("#words")).to_have_text(locally(model, DEMO, beam=1).text)
    assert shown_sentences(page) == sentences(locally(model, DEMO, beam=1))

    page.get_by_label("Beam").fill("")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Sentences", exact=True).fill("2")
    page.get_by_role("button", name="Caption again").click()
    drawn = locally(model, DEMO, temperature=0.5, alternatives=2)
    expect(page.locator("#sentences li")).to_have_count(len(drawn.alternatives) + 1)
    assert shown_sentences(page) == sentences(drawn)

    page.get_by_label("Frames at most").fill("1000")
    page.get_by_role("button", name="Caption again").click()
    expect(page.get_by_label("Frames at most")).to_be_focused()


def test_a_caption_to_take_away(page: Page, model: Captioner) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    upload(page, DEMO)
    caption = locally(model, DEMO)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSON").click()
    assert saved.value.suggested_filename == "demo.json"
    assert json.loads(saved.value.path().read_text())["text"] == caption.text
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download SRT").click()
    assert saved.value.suggested_filename == "demo.srt"
    assert saved.value.path().read_text() == f"1\n00:00:00,000 --> 00:00:12,000\n{caption.text}\n"
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == caption.text


@pytest.fixture
def film(make_clip: MakeClip, tmp_path: Path) -> Path:
    """Three scenes of four seconds."""
    return make_clip(tmp_path / "film.mp4", [each for each in tiny.pictures(3) for _ in range(32)], fps=8)


def test_scenes(page: Page, model: Captioner, film: Path) -> None:
    decoding = replace(model.bundle.decoding, alternatives=model.bundle.decoding.beam)
    first, second, third = model.segments(film, decoding=decoding)
    page.locator("#options summary").click()
    page.get_by_label("One caption per scene").check()
    expect(page.locator("#options-said")).to_have_text("one caption per scene")
    upload(page, film)
    wait_for_pictures(page)
    expect(page.locator("#scene-count")).to_have_text("3 scenes")
    expect(page.locator("#said")).to_have_text(f"film.mp4: 3 scenes. {first.text}")
    lines = page.locator("#scenes button")
    assert lines.all_inner_texts() == [
        f"{start}\n{each.text}" for start, each in (("0.0 s", first), ("4.0 s", second), ("8.0 s", third))
    ]
    check_accessibility(page)

    lines.nth(1).click()
    wait_for_pictures(page)
    expect(page.locator("#scenes [aria-current=true]")).to_contain_text(second.text)
    expect(page.locator("#words")).to_have_text(second.text)
    assert shown_sentences(page) == sentences(second)
    moments = [float(time.removesuffix(" s")) for time in page.locator("#strip .at").all_text_contents()]
    assert moments == pytest.approx(second.frames, abs=0.051)
    assert page.locator("video").evaluate("video => video.currentTime") == pytest.approx(4, abs=0.02)
    expect(page.locator("#facts")).to_contain_text("4.0 s to 8.0 s")
    page.keyboard.press("ArrowDown")
    expect(lines.nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#words")).to_have_text(third.text)
    assert page.locator("video").evaluate("video => video.currentTime") == pytest.approx(8, abs=0.02)

    with page.expect_download() as saved:
        page.get_by_role("button", name="Download SRT").click()
    spans = ("00:00:00,000 --> 00:00:04,000", "00:00:04,000 --> 00:00:08,000", "00:00:08,000 --> 00:00:12,000")
    cues = zip((1, 2, 3), spans, (first, second, third), strict=True)
    assert saved.value.path().read_text() == "\n".join(f"{n}\n{span}\n{each.text}\n" for n, span, each in cues)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSON").click()
    assert [each["segment"] for each in json.loads(saved.value.path().read_text())["results"]] == [
        [0, 4],
        [4, 8],
        [8, 12],
    ]

    page.get_by_label("One caption per scene").uncheck()
    page.get_by_role("button", name="Caption again").click()
    expect(page.locator("#words")).to_have_text(locally(model, film).text)
    expect(page.locator("#by-scene")).to_be_hidden()


def test_a_busy_service_is_asked_again_and_a_key_is_asked_for(
    visit: Visit, strict_service: Client, troubles: list[str]
) -> None:
    page = visit(strict_service)
    for key in ("a wrong one", KEY):
        page.get_by_label("API key", exact=True).fill(key)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#key-said")).to_have_text("The service does not know this key." if key != KEY else "")
    expect(page.locator("#key-wanted")).to_be_hidden()
    with strict_service.begin(UNFINISHED.format(KEY).encode()):
        upload(page, DEMO)
        expect(page.locator("#state")).to_contain_text("as many requests as it can take. Trying again in")
    expect(page.locator("#result")).to_be_visible()
    assert {text.rpartition(" (")[0][-3:] for text in troubles} == {"401", "503"}
    troubles.clear()


def test_without_a_network(page: Page, troubles: list[str]) -> None:
    page.context.set_offline(True)
    upload(page, DEMO)
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#result")).to_be_visible()
    assert troubles == ["Failed to load resource: net::ERR_INTERNET_DISCONNECTED"]
    troubles.clear()


def test_a_dropped_clip(page: Page, model: Captioner) -> None:
    content = base64.b64encode(DEMO.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """content => {
          const transfer = new DataTransfer(), bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt());
          transfer.items.add(new File([bytes], "dropped.mp4", { type: "video/mp4" }));
          return transfer;
        }""",
        content,
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#drop", event, {"dataTransfer": transfer})
    expect(page.locator("#words")).to_have_text(locally(model, DEMO).text)


def test_a_phone_scrolls_only_down(visit: Visit) -> None:
    page = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    too_wide = "document.documentElement.scrollWidth > innerWidth || document.body.scrollWidth > innerWidth"
    assert not page.evaluate(too_wide)
    page.locator("#options summary").click()
    upload(page, DEMO, DEMO)
    wait_for_pictures(page)
    page.locator(".table summary").click()
    assert not page.evaluate(too_wide)
    small = page.locator("button:visible, summary:visible, label.button").evaluate_all(
        "all => all.filter(each => each.getBoundingClientRect().height < 24).map(each => each.outerHTML)"
    )
    assert small == []  # WCAG 2.2: targets of at least 24 pixels


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(visit: Visit, troubles: list[str], notes: Path, scheme: str) -> None:
    """No violation of WCAG that axe finds, text contrast and labels included, in any state of the page."""
    page = visit(color_scheme=scheme)
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", str(scheme == "dark").lower())
    page.locator("#options summary").click()
    check_accessibility(page)
    upload(page, DEMO, notes)
    expect(page.locator("#clips li[data-state=done]")).to_have_count(1)
    expect(page.locator("#clips li[data-state=failed]")).to_have_count(1)
    wait_for_pictures(page)
    page.locator(".table summary").click()
    page.locator("#words button").nth(1).click()
    check_accessibility(page)
    assert min(page.locator("#words button").evaluate_all(CONTRASTS)) >= LEAST_CONTRAST
    page.get_by_role("button", name=notes.name).first.click()
    check_accessibility(page)
    troubles.clear()  # notes.txt is no clip


def test_the_theme_is_kept(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(background) == dark


def test_tab_goes_from_top_to_bottom(page: Page, model: Captioner) -> None:
    upload(page, DEMO)
    wait_for_pictures(page)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    stops: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stop, outline = page.evaluate("""() => {
          const at = document.activeElement, ring = at.id === "files" ? at.nextElementSibling : at;
          const name = at === document.body ? "end" : at.id || at.parentElement.id || at.textContent || at.tagName;
          return [name.trim().split("\\n")[0], getComputedStyle(ring).outlineStyle];
        }""")
        if stop == "end":
            break
        assert outline != "none" or stop == "screen", f"{stop} has the focus but does not show it"
        if stop not in stops[-1:]:  # the controls of a player are many, and the browser's
            stops.append(stop)
    top = ["Skip to the clips", "API", "theme", "files", "options", "again"]
    said = ["words", "tags"] if locally(model, DEMO).tags else ["words"]
    rest = ["screen", "strip", "copy", "save-json", "save-srt", "by-word"]
    assert stops == top + said + rest
