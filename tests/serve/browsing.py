"""What the tests of the page do with a browser, and what they hold against it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.serve.running import PATIENCE
from video_captioning.bundle import read
from video_captioning.captioner import Alternative, Caption, Captioner

expect.set_options(timeout=1000 * PATIENCE)

Visit = Callable[..., Page]
DEMO = Path(__file__).parents[2] / "examples" / "demo.mp4"
LEAST_CONTRAST = 4.5  # WCAG 2.2, level AA, text
MINUS = "\N{MINUS SIGN}"  # how the page writes negative numbers


def upload(page: Page, *clips: Path) -> None:
    page.locator("#files").set_input_files(clips)


def wait_for_pictures(page: Page) -> None:
    expect(page.locator("#result")).to_be_visible()
    expect(page.locator("#strip canvas:not([data-drawn])")).to_have_count(0)


@cache
def locally(model: Captioner, clip: Path, **options: Any) -> Caption:
    """What the page asks for unless told otherwise: all sentences of the beam."""
    beam = options.get("beam", model.bundle.decoding.beam)
    return model(clip, decoding=replace(model.bundle.decoding, **{"alternatives": beam, **options}))


def shown_sentences(page: Page) -> list[tuple[str, str]]:
    """Each sentence and what stands beside it."""
    texts = page.locator("#sentences li span:first-child").all_text_contents()
    return list(zip(texts, page.locator("#sentences .score").all_text_contents(), strict=True))


def sentences(caption: Caption) -> list[tuple[str, str]]:
    """What they should be: confidences, or scores where the model has none."""
    return [(each.text, beside(each)) for each in (caption, *caption.alternatives)]


def beside(said: Caption | Alternative) -> str:
    return f"{said.score:.2f}".replace("-", MINUS) if said.confidence is None else whole(said.confidence)


def whole(share: float) -> str:
    """A share as a percentage, as JavaScript rounds it."""
    return f"{int(100 * share + 0.5)}%"


def strongest(weights: tuple[float, ...]) -> int:
    return weights.index(max(weights))


def seen(page: Page, selector: str) -> np.ndarray:
    """What a video or canvas shows, as pixels of the embedded model's size S, float `[S, S, 3]`."""
    draw = """(element, side) => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [side, side];
      canvas.getContext("2d").drawImage(element, 0, 0, side, side);
      return canvas.toDataURL().split(",")[1];
    }"""
    data = page.locator(selector).evaluate(draw, read("default").resize.size)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), float)


def check_accessibility(page: Page) -> None:
    found = Axe().run(page, options={"resultTypes": ["violations", "passes"]}).response
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    checked = {each["id"]: len(each["nodes"]) for each in found["passes"]}
    assert checked["color-contrast"] > 20
    assert checked["label"] >= 7


CONTRASTS = """all => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = colours => {
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = colours => paint(colours)
    .map(value => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const page = getComputedStyle(document.body).backgroundColor;
  return all.map(element => {
    const { color, backgroundColor } = getComputedStyle(element);
    const [low, high] = [luminance([color]), luminance([page, backgroundColor])].sort((one, other) => one - other);
    return (high + 0.05) / (low + 0.05);
  });
}"""
"""Contrast of elements that stand on the page and overlap, where axe does not decide (WCAG 2.2, relative luminance)."""
