from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from tests.serve.running import PATIENCE, Client, running
from video_captioning.captioner import Captioner

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.serve.browsing import Visit

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def captioner() -> Captioner:
    return Captioner(tiny.bundle(), threads=1)


@pytest.fixture(scope="session")
def client(captioner: Captioner) -> Iterator[Client]:
    """A service as it comes, that all tests share which leave it as it is."""
    with running([captioner]) as client:
        yield client


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> list[Path]:
    """A picture and clips of different lengths, formats and captions."""
    folder = tmp_path_factory.mktemp("media")
    Image.fromarray(tiny.pictures(1)[0]).save(folder / "still.png")
    clips = [
        make_clip(folder / f"clip {seed}.{ending}", tiny.pictures(frames, seed), fps=8)
        for seed, (frames, ending) in enumerate([(4, "mp4"), (40, "mkv"), (12, "mp4"), (20, "mov")], 1)
    ]
    return [folder / "still.png", *clips]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def troubles() -> list[str]:
    """What the browser complains of; a test that brings some on takes them out."""
    return []


@pytest.fixture
def visit(browser: Browser, service: Client, troubles: list[str]) -> Iterator[Visit]:
    """Open the page in a browser of its own. No complaint on its console, and no request to anywhere else.

    `service` is what the module of the test has under this name.
    """
    with ExitStack() as stack:

        def opened(client: Client = service, **context: Any) -> Page:
            options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **context}
            own = browser.new_context(**options)
            stack.callback(own.close)
            page = own.new_page()
            page.set_default_timeout(1000 * PATIENCE)
            page.on("console", lambda message: troubles.append(message.text))
            page.on("pageerror", lambda error: troubles.append(str(error)))
            home = (f"{client.address}/", f"blob:{client.address}/")
            page.on("request", lambda asked: asked.url.startswith(home) or troubles.append(asked.url))
            page.goto(client.address)
            return page

        yield opened
    assert troubles == []


@pytest.fixture
def page(visit: Visit) -> Page:
    page = visit()
    page.locator("#model option").first.wait_for(state="attached")
    return page
