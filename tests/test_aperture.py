"""What a container says not to show is not shown, and a damaged statement is no statement."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import MakeClip
from video_captioning import aperture
from video_captioning.aperture import Aperture
from video_captioning.frames import Sampling, sample

SIDES = Aperture(top=16, bottom=8, left=32, right=4)
WIDTH, HEIGHT = 128, 96


def framed() -> np.ndarray:
    """White where it is to be shown, red around it."""
    picture = np.full((HEIGHT, WIDTH, 3), (255, 0, 0), np.uint8)
    picture[SIDES.top : HEIGHT - SIDES.bottom, SIDES.left : WIDTH - SIDES.right] = 255
    return picture


def grown_boxes(data: bytes, path: list[bytes], added: bytes, at: int) -> bytes:
    """An MP4 with bytes inserted at a place inside the boxes of a path, the first of each kind."""
    place = 0
    for kind in path:
        place = data.index(kind, place) - 4
        size = struct.unpack(">I", data[place : place + 4])[0] + len(added)
        data = data[:place] + struct.pack(">I", size) + data[place + 4 :]
        place += 8
    return data[:at] + added + data[at:]


def with_clean_aperture(path: Path, sides: Aperture = SIDES) -> Path:
    width, height = WIDTH - sides.left - sides.right, HEIGHT - sides.top - sides.bottom
    right, down = sides.left - sides.right, sides.top - sides.bottom
    box = struct.pack(">I4sIIIIiIiI", 40, b"clap", width, 1, height, 1, right, 2, down, 2)
    data = path.read_bytes()
    kinds = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]
    path.write_bytes(grown_boxes(data, kinds, box, data.index(b"avcC") - 4))
    return path


def number(value: int) -> bytes:
    """An EBML size in eight bytes."""
    return (1 << 56 | value).to_bytes(8, "big")


def element(data: bytes, wanted: bytes, at: int) -> int:
    """Where the size of the first element with an id, from a place on, stands."""
    while data[at : at + len(wanted)] != wanted:
        at += 9 - data[at].bit_length()
        length = 9 - data[at].bit_length()
        at += length + (int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1))
    return at + len(wanted)


def grown_elements(data: bytes, ids: list[bytes], added: bytes) -> bytes:
    """A Matroska file with bytes at the beginning of the last of some nested elements."""
    place, sizes = 0, []
    for identifier in ids:
        place = element(data, identifier, place)
        sizes.append(place)
        place += 9 - data[place].bit_length()
    data = data[:place] + added + data[place:]
    more = len(added)
    for start in reversed(sizes):
        length = 9 - data[start].bit_length()
        value = int.from_bytes(data[start : start + length], "big") & ((1 << 7 * length) - 1)
        data = data[:start] + number(value + more) + data[start + length :]
        more += 8 - length
    return data


def with_pixel_crop(path: Path, sides: Aperture = SIDES) -> Path:
    elements = {0x54BB: sides.top, 0x54AA: sides.bottom, 0x54CC: sides.left, 0x54DD: sides.right}
    added = b"".join(struct.pack(">HBB", kind, 0x81, value) for kind, value in elements.items())
    ids = [b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"]
    path.write_bytes(grown_elements(path.read_bytes(), ids, added))
    return path


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_only_what_is_to_be_shown_is_shown(ending: str, make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / f"clip.{ending}", [framed()] * 10, crf="4", pix_fmt="yuv444p")
    whole = sample(path, Sampling(frames=1))
    assert whole.pixels.shape == (1, HEIGHT, WIDTH, 3)
    (with_pixel_crop if ending == "mkv" else with_clean_aperture)(path)
    found = sample(path, Sampling(frames=1))
    assert found.pixels.shape == (1, HEIGHT - 24, WIDTH - 36, 3)
    assert found.pixels.min() > 240
    assert (found.info.width, found.info.height) == (WIDTH - 36, HEIGHT - 24)


def test_a_statement_that_would_leave_nothing_is_ignored(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", [framed()] * 10)
    with_clean_aperture(path, Aperture(48, 48, 0, 0))
    assert sample(path, Sampling(frames=1)).pixels.shape == (1, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_cut_short_anywhere_it_never_fails(ending: str, make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / f"clip.{ending}", [framed()] * 3)
    data = (with_pixel_crop if ending == "mkv" else with_clean_aperture)(path).read_bytes()
    assert aperture.read(BytesIO(data), 0) == SIDES
    assert aperture.read(BytesIO(data), 1) == Aperture()
    for length in range(0, len(data), 7):
        found = aperture.read(BytesIO(data[:length]), 0)
        assert all(side in (0, whole) for side, whole in zip(found, SIDES, strict=True))
