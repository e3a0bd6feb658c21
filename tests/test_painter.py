"""The model is given what a player shows: turned, mirrored, deinterlaced, in ordinary colours, on white."""

from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw, ImageOps

from tests.conftest import MakeClip
from video_captioning.frames import Resize, Sampling, sample

COLOURS = np.array([[255, 255, 255], [230, 20, 30], [0, 200, 60], [20, 40, 220], [128, 128, 128], [200, 120, 80]])
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087-0
WHITE = 203.0
FIELDS: dict[str, Any] = {"x264-params": "tff=1"}


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_and_mirrors(orientation: int, ending: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (3, 4, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    exif, path = Image.Exif(), tmp_path / f"picture.{ending}"
    exif[0x0112] = orientation
    Image.fromarray(picture).save(path, exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    found = sample(path).pixels[0]
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 4, "which is what other chroma upsampling makes of JPEG and WebP"


@pytest.mark.parametrize("ending", ["png", "webp", "gif", "avif"])
@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 0, 255)])
def test_transparency_is_on_white(hidden: tuple[int, int, int], ending: str, tmp_path: Path) -> None:
    picture = Image.new("RGBA", (64, 64), (*hidden, 0))
    ImageDraw.Draw(picture).rectangle((16, 16, 47, 47), fill=(0, 0, 0, 255))
    path = tmp_path / f"picture.{ending}"
    picture.save(path, **({"quality": 100, "subsampling": "4:4:4"} if ending == "avif" else {"lossless": True}))
    found = sample(path).pixels[0]
    assert found[8, 8].tolist() == [255, 255, 255]
    assert found[32, 32].max() <= 3
    edge = sample(path, resize=Resize(16)).pixels[0].astype(int)
    assert np.ptp(edge, axis=2).max() <= 3, "no colour of what is hidden"


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (255, 0, 0, 128)).save(tmp_path / "picture.png")
    assert sample(tmp_path / "picture.png").pixels[0][16, 16].tolist() == [255, 127, 127]


def linear(srgb: np.ndarray) -> np.ndarray:
    share = srgb / 255
    return np.asarray(np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4))


def perceptual_quantizer(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100-2, table 4."""
    power = (nits / 10000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def hybrid_log_gamma(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100-2, table 5, for a screen of 1000 cd/m²."""
    luminance = np.maximum(nits @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = nits / 1000 * (luminance / 1000) ** (-0.2 / 1.2)
    logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm))


def write_hdr(path: Path, signal: np.ndarray, transfer: str) -> None:
    """R'G'B' `[N, 3]` as vertical stripes of 32 pixels, in 10 bit BT.2020."""
    red, green, blue = np.repeat(signal, 32, axis=0).T
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = 219 * luma + 16, 224 * (blue - luma) / 1.8814 + 128, 224 * (red - luma) / 1.4746 + 128
    with av.open(str(path), "w") as output:
        parameters = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
        stream = output.add_stream("libx264", rate=25, options={"qp": "0", "x264-params": parameters})
        stream.width, stream.height, stream.pix_fmt = luma.size, 16, "yuv444p10le"
        frame = VideoFrame(luma.size, 16, "yuv444p10le")
        for plane, values in zip(frame.planes, planes, strict=True):
            rows = np.zeros((16, plane.line_size // 2), "<u2")
            rows[:, : luma.size] = np.round(4 * values)
            plane.update(rows.tobytes())
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(stream.encode(frame))
        output.mux(stream.encode())


@pytest.mark.parametrize(("transfer", "curve"), [("smpte2084", "pq"), ("arib-std-b67", "hlg")])
def test_hdr_shows_the_colours_it_was_made_of(transfer: str, curve: str, tmp_path: Path) -> None:
    nits = linear(COLOURS) @ TO_2020.T * WHITE
    signal = perceptual_quantizer(nits) if curve == "pq" else hybrid_log_gamma(nits)
    write_hdr(tmp_path / "clip.mkv", signal, transfer)
    found = sample(tmp_path / "clip.mkv", Sampling(frames=1)).pixels[0][8, 16::32].astype(int)
    assert np.abs(found - COLOURS).max() <= 8
    assert np.abs(found - COLOURS).mean() <= 2


def test_what_is_brighter_than_white_is_white(tmp_path: Path) -> None:
    write_hdr(tmp_path / "clip.mkv", perceptual_quantizer(np.array([[1000.0] * 3, [203.0] * 3])), "smpte2084")
    found = sample(tmp_path / "clip.mkv", Sampling(frames=1)).pixels[0][8, 16::32]
    assert found.min() >= 252


def moving(step: int) -> np.ndarray:
    """A texture that has moved by some steps."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 256, (18, 24, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    return np.roll(scene, 10 * step, axis=1)


def woven(number: int) -> np.ndarray:
    picture = moving(2 * number).copy()
    picture[1::2] = moving(2 * number + 1)[1::2]
    return picture


@pytest.mark.parametrize("size", [96, 160, 224])
def test_interlaced_frames_are_deinterlaced_before_they_are_scaled(
    size: int, make_clip: MakeClip, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"crf": "6", "pix_fmt": "yuv444p"}
    whole = make_clip(tmp_path / "whole.mp4", [moving(2 * n) for n in range(25)], 25, **options)
    fields = make_clip(tmp_path / "fields.mp4", [woven(n) for n in range(25)], 25, **options, **FIELDS)
    sampling = Sampling(frames=3)
    expected, found = (sample(path, sampling, Resize(size)).pixels.astype(int) for path in (whole, fields))
    assert np.abs(found - expected).mean() < 5
    assert sample(fields, sampling).times.tolist() == sample(whole, sampling).times.tolist()


def test_what_only_claims_to_be_interlaced_and_stands_still_stays(make_clip: MakeClip, tmp_path: Path) -> None:
    for count in (1, 10):
        pictures = [moving(0)] * count
        plain = make_clip(tmp_path / "plain.mp4", pictures, 25, crf="6", pix_fmt="yuv444p")
        flagged = make_clip(tmp_path / "flagged.mp4", pictures, 25, crf="6", pix_fmt="yuv444p", **FIELDS)
        expected, found = (sample(path, Sampling(frames=1), Resize(96)).pixels.astype(int) for path in (plain, flagged))
        assert np.abs(found - expected).mean() < 2


def test_frames_are_let_go(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", 60)
    gc.collect()
    gc.disable()
    try:
        sample(path, Sampling(fps=25, max_frames=60))
        alive = sum(isinstance(each, VideoFrame) for each in gc.get_objects())
    finally:
        gc.enable()
    assert alive <= 2
