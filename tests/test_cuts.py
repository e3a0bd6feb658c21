"""Where shots begin: slides, flashes, dissolves, and what moves but is no cut; through `segments`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.conftest import MakeClip, Picture
from video_captioning.frames import Resize, Sampling
from video_captioning.scenes import segments

SIZE = (160, 120)


def starts(path: Path) -> list[float]:
    return [each.start for each in segments(path, Sampling(frames=1), Resize(64), threads=1)]


def scene(seed: int, blocks: tuple[int, int] = (12, 9), smooth: bool = False, size: tuple[int, int] = SIZE) -> Picture:
    """A picture of coloured blocks, none like another."""
    colours = np.random.default_rng(seed).integers(20, 200, (blocks[1], blocks[0], 3), dtype=np.uint8)
    filter_ = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(colours).resize(size, filter_))


def shot(seed: int, count: int, slow: int = 6) -> list[Picture]:
    """A scene that moves by a pixel every so many frames."""
    return [np.roll(scene(seed), number // slow, 1) for number in range(count)]


def text(seed: int) -> Picture:
    """A slide with the same title bar and margins as all others, and its own words."""
    rng = np.random.default_rng(seed)
    page = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, 320, 30), fill=(20, 40, 120))
    for line in range(7):
        words = " ".join(
            "".join(chr(97 + letter) for letter in rng.integers(0, 26, 6)) for _ in range(rng.integers(2, 6))
        )
        draw.text((20, 40 + 27 * line), words, fill="black", font=ImageFont.load_default(16))
    return np.asarray(page)


def mixture(one: Sequence[Picture], other: Sequence[Picture]) -> list[Picture]:
    """The first shot dissolves into the second."""
    shares = (np.arange(len(one)) + 1) / (len(one) + 1)
    return [(a * (1 - share) + b * share).astype(np.uint8) for a, b, share in zip(one, other, shares, strict=True)]


# Slides


@pytest.mark.parametrize("offsets", [(0,), (0, 0.1), (0, 0.1, 0.2), (0, 1.5), (0, 0.04, 2.0)])
@pytest.mark.parametrize("page", [scene, text])
def test_each_slide_is_a_segment(
    tmp_path: Path, make_clip: MakeClip, page: Callable[[int], Picture], offsets: tuple[float, ...]
) -> None:
    slides = [page(number) for number in range(6)]
    shown = [(3 * number + offset, slide) for number, slide in enumerate(slides) for offset in offsets]
    shown.append((18, slides[-1]))  # so that the file says for how long the last is shown
    path = make_clip(tmp_path / "slides.mkv", [slide for _, slide in shown], times=[time for time, _ in shown])
    assert starts(path) == [0, 3, 6, 9, 12, 15]


def test_a_shot_that_stops_after_a_few_pictures(tmp_path: Path, make_clip: MakeClip) -> None:
    times = [*(number / 25 for number in range(60)), *(8 + number / 25 for number in range(60))]
    pictures = [*shot(1, 50), *[scene(2)] * 10, *[scene(3)] * 60]
    assert starts(make_clip(tmp_path / "stops.mkv", pictures, times=times)) == [0, 2, 8]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_video_of_few_pictures_is_one_segment(tmp_path: Path, make_clip: MakeClip, count: int) -> None:
    assert starts(make_clip(tmp_path / "short.mp4", [scene(number) for number in range(count)], 25)) == [0]


# Flashes and other light


@pytest.mark.parametrize("fps", [10, 25, 60])
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("kind", ["white", "blue", "bright", "half", "black"])
def test_a_flash_is_no_cut(tmp_path: Path, make_clip: MakeClip, kind: str, length: int, fps: int) -> None:
    pictures = shot(1, 5 * fps)
    for first in (2 * fps, 3 * fps + fps // 3):
        for number in range(first, first + length):
            flash = pictures[number].copy()
            if kind == "bright":
                flash = np.clip(flash.astype(int) + 120, 0, 255).astype(np.uint8)
            elif kind == "half":
                flash[:, : SIZE[0] // 2] = 255
            else:
                flash[:] = {"white": (255, 255, 255), "blue": (40, 40, 250), "black": (0, 0, 0)}[kind]
            pictures[number] = flash
    assert starts(make_clip(tmp_path / "flash.mp4", pictures, fps, crf="18")) == [0]


def test_light_is_no_cut(tmp_path: Path, make_clip: MakeClip) -> None:
    flicker = np.random.default_rng(1).uniform(0.5, 1.2, 125)
    switched = np.where(np.arange(125) < 60, 0.4, 1)
    for number, gains in enumerate((flicker, switched, switched[::-1])):
        lit = [(each * gain).clip(0, 255).astype(np.uint8) for each, gain in zip(shot(1, 125), gains, strict=True)]
        assert starts(make_clip(tmp_path / f"{number}.mp4", lit, 25)) == [0]


def test_a_cut_with_a_flash_after_it_stays(tmp_path: Path, make_clip: MakeClip) -> None:
    pictures = [*shot(1, 75), *shot(2, 75)]
    pictures[78] = np.full_like(pictures[78], 255)
    assert starts(make_clip(tmp_path / "both.mp4", pictures, 25)) == [0, 3]


# Dissolves and fades


@pytest.mark.parametrize("fps", [10, 25, 50])
@pytest.mark.parametrize("seconds", [0.5, 1, 2])
@pytest.mark.parametrize("through", [None, 0, 255])
def test_a_dissolve_is_one_cut(
    tmp_path: Path, make_clip: MakeClip, through: int | None, seconds: float, fps: int
) -> None:
    still, mixed = 3 * fps, int(seconds * fps)
    one, other = shot(1, still + mixed, slow=fps // 2), shot(2, mixed + still, slow=fps // 2)
    if through is None:
        middle = mixture(one[still:], other[:mixed])
    else:
        colour = [np.full_like(one[0], through)] * mixed
        half = mixed // 2
        middle = mixture(one[still : still + half], colour[:half]) + mixture(colour[half:], other[half:mixed])
    path = make_clip(tmp_path / "dissolve.mp4", [*one[:still], *middle, *other[mixed:]], fps, crf="18")
    first, second = starts(path)
    assert first == 0
    assert 3 <= second <= 3 + seconds


def test_black_belongs_to_the_shot_before(tmp_path: Path, make_clip: MakeClip) -> None:
    black = [np.zeros_like(scene(1))] * 50
    assert starts(make_clip(tmp_path / "a.mp4", [*shot(1, 50), *black, *shot(2, 50)], 25)) == [0, 4]
    assert starts(make_clip(tmp_path / "b.mp4", [*black, *shot(1, 50), *black], 25)) == [0]
    same = shot(1, 100)
    assert starts(make_clip(tmp_path / "c.mp4", [*same[:50], *black, *same[50:]], 25)) == [0]


# What moves


def camera(kind: str, number: int, seconds: float, page: Picture) -> Picture:
    """What a moving camera sees of a large picture."""
    height, width = page.shape[:2]
    x, y, w = 0.0, height / 4, width / 4
    if kind == "pan":
        x = 60 * seconds
    elif kind == "whip":
        x = 150 * (1 + np.tanh((seconds - 2.5) * 4))
    elif kind == "zoom":
        w = width / 4 * 1.25**seconds
        x, y = (width - w) / 2, (height - w * 0.75) / 2
    else:  # in the hand
        x, y = 200 + 30 * np.sin(2.1 * seconds), y + 20 * np.sin(3.3 * seconds + 1)
    view = Image.fromarray(page).resize(SIZE, Image.Resampling.BILINEAR, (x, y, x + w, y + w * 0.75))
    return np.asarray(view)


@pytest.mark.parametrize("fps", [5, 12, 30])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("kind", ["pan", "whip", "zoom", "hand"])
def test_a_moving_camera_is_no_cut(tmp_path: Path, make_clip: MakeClip, kind: str, smooth: bool, fps: int) -> None:
    page = scene(5, (40, 30), smooth, (640, 480))
    pictures = [camera(kind, number, number / fps, page) for number in range(5 * fps)]
    assert starts(make_clip(tmp_path / "moving.mp4", pictures, fps)) == [0]


def test_a_camera_that_passes_a_wall_or_is_jerked_is_no_cut(tmp_path: Path, make_clip: MakeClip) -> None:
    page = np.concatenate([scene(1, smooth=True), np.full_like(scene(1), (90, 130, 200)), scene(2, smooth=True)], 1)
    wall = [page[:, left : left + SIZE[0]] for left in range(0, 320, 3)]
    assert starts(make_clip(tmp_path / "wall.mp4", wall, 25)) == [0]
    jerk = [np.roll(scene(1, (8, 6), smooth=True), number // 3 + 10 * (number > 60), 1) for number in range(125)]
    assert starts(make_clip(tmp_path / "jerk.mp4", jerk, 25)) == [0]


def test_an_object_that_crosses_is_no_cut(tmp_path: Path, make_clip: MakeClip) -> None:
    pictures = [each.copy() for each in shot(1, 125)]
    for number in range(40, 80):
        left = 8 * (number - 40) - 80
        pictures[number][20:110, max(left, 0) : max(left + 80, 0)] = (10, 60, 220)
    assert starts(make_clip(tmp_path / "object.mp4", pictures, 25)) == [0]
