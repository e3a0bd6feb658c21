"""The page: safe, alone, and alive in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.conftest import MakeClip
from tests.explain import made
from video_captioning.explain import page as pages
from video_captioning.explain.page import page


class Read(HTMLParser):
    """Tags with their attributes, and the text of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", tiny.pictures(40, size=(64, 64)), fps=4)


def test_what_a_model_or_a_file_is_called_is_text() -> None:
    evil = "</script><script>alert(1)</script><img/src=x>&quot;\"'"
    html = page(made.explanation([evil, "dog"], 3, path=f"{evil}\x1b\udc80.mp4"), made.pictures(3))
    found = Read(html)
    assert len(found.scripts) == 2
    assert found.count("img") == Read(page(made.explanation(["a", "dog"], 3), made.pictures(3))).count("img")
    assert json.loads(found.scripts[0])["words"][0]["text"] == evil
    html.encode()


@pytest.mark.parametrize("frames", [1, 3])
def test_nothing_outside_is_asked_for_and_only_the_script_of_the_page_may_run(frames: int, clip: Path) -> None:
    found = Read(page(made.explanation(["a", "dog"], frames, path=str(clip)), made.pictures(frames)))
    for tag, attributes in found.tags:
        assert tag not in {"link", "iframe", "object", "base", "form"}
        assert not any(name.startswith("on") or name == "href" for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
    [policy] = [attributes["content"] or "" for tag, attributes in found.tags if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'")
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_clip_is_inside_if_browsers_play_it(
    clip: Path, tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_of(path: Path, codec: str) -> str:
        return page(made.explanation(["a"], 3, path=str(path), codec=codec), made.pictures(3))

    def inside(html: str) -> bool:
        return bool(Read(html).count("video"))

    assert base64.b64encode(clip.read_bytes()).decode() in made_of(clip, "h264")
    webm = make_clip(tmp_path / "clip.webm", 4, codec="libvpx-vp9")
    assert inside(made_of(webm, "vp9"))
    assert not inside(made_of(clip, "hevc"))
    avi = make_clip(tmp_path / "clip.avi", 4)
    assert not inside(made_of(avi, "h264"))
    assert "Browsers do not play h264 in this kind of file" in made_of(avi, "h264")
    assert "could not be read" in made_of(tmp_path / "gone.mp4", "h264")
    monkeypatch.setattr(pages, "LARGEST", 10)
    assert not inside(made_of(clip, "h264"))
    assert "too much for a page" in made_of(clip, "h264")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium)
        yield running
        running.close()


def opened(browser: Any, html: str, folder: Path) -> Any:
    """The page in a tab; what goes wrong in it is collected in its `problems`."""
    (folder / "index.html").write_text(html)
    tab = browser.new_page(viewport={"width": 400, "height": 700})
    tab.set_default_timeout(120_000)
    tab.problems = []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.on("console", lambda message: tab.problems.append(message.text) if message.type == "error" else None)
    tab.goto((folder / "index.html").as_uri(), wait_until="domcontentloaded")
    return tab


def shown(tab: Any) -> int:
    """The frame that is marked as the present one."""
    return int(tab.evaluate("[...document.querySelectorAll('.frame')].findIndex(f => f.ariaCurrent === 'true')"))


def lamps(tab: Any) -> list[float]:
    script = "[...document.querySelectorAll('.word')].map(word => Number(word.style.getPropertyValue('--lit')))"
    return [float(value) for value in tab.evaluate(script)]


@pytest.mark.slow
@pytest.mark.parametrize("plays", [True, False])
def test_a_word_leads_to_its_strongest_moment(browser: Any, clip: Path, tmp_path: Path, plays: bool) -> None:
    words, frames = ["a", "red", "ball", "rolls"], 20
    found = made.explanation(words, frames, path=str(clip), codec="h264" if plays else "hevc")
    tab = opened(browser, page(found, made.pictures(frames)), tmp_path)
    for place, peak in enumerate(found.weights.argmax(1).tolist()):
        tab.locator(".word").nth(place).click()
        assert shown(tab) == peak
        assert lamps(tab)[place] == pytest.approx(1)
        assert tab.locator(".word[aria-pressed=true]").inner_text().lower().rstrip(".") == words[place]
        assert f"strongest at {peak / 2:.1f} s" in tab.locator("#about").inner_text()
        if plays:
            assert tab.evaluate("document.querySelector('video').currentTime") == pytest.approx(peak / 2)
    tab.locator(".frame").nth(3).click()
    average = 1 / frames
    over = [(row[3] - average) / (row.max() - average) for row in found.weights]
    np.testing.assert_allclose(lamps(tab), np.clip(over, 0, 1), atol=1e-3)
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert shown(tab) == 4
    tab.keyboard.press("Escape")
    assert tab.locator(".word[aria-pressed=true]").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400, "nothing is wider than a phone"
    assert tab.problems == []


@pytest.mark.slow
def test_slides_play_and_a_picture_has_none(browser: Any, tmp_path: Path) -> None:
    tab = opened(browser, page(made.explanation(["a", "dog"], 3), made.pictures(3)), tmp_path)
    tab.locator("#play").click()
    tab.get_by_role("button", name="Pause").wait_for()
    tab.get_by_role("button", name="Play").wait_for()
    assert shown(tab) == 2
    assert tab.problems == []
    tab = opened(browser, page(made.explanation(["a", "dog"], 1), made.pictures(1)), tmp_path)
    tab.locator(".word").nth(1).click()
    assert shown(tab) == 0
    assert tab.locator("#play").count() == 0
    assert tab.locator(".grid").count() == 2, "attention and occlusion"
    assert tab.problems == []


@pytest.mark.slow
def test_a_clip_that_the_browser_cannot_play_becomes_slides(browser: Any, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:64] + bytes(2000))
    tab = opened(browser, page(made.explanation(["a", "dog"], 3, path=str(broken)), made.pictures(3)), tmp_path)
    tab.locator("video").wait_for(state="detached")
    tab.locator("#play").wait_for()
    assert "does not play the clip" in tab.locator("#note").inner_text()
