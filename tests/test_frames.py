"""Frames: which are kept, when they were shown, and how they look."""

from __future__ import annotations

import csv
import math
import struct
import tracemalloc
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import MakeClip
from video_captioning.errors import ConfigError, MediaError
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.media import EXTENSIONS

Colours = tuple[tuple[int, int, int], ...]
EVERY = Sampling(fps=math.inf, max_frames=1_000_000)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
MUTED = ((200, 60, 60), (60, 160, 80), (70, 90, 190), (128, 128, 128))  # not cut off where range or matrix is wrong


def numbers(pixels: npt.NDArray[np.uint8]) -> list[int]:
    """The indices that pictures of `make_clip` show."""
    width = pixels.shape[2]
    centres = [int((bit + 0.5) * width / 16) for bit in range(16)]
    bits = pixels[:, pixels.shape[1] // 2, centres, 1] > 127
    return [int(n) for n in bits @ (1 << np.arange(16))]


def decoded_times(path: Path) -> list[float]:
    """Presentation times by plain PyAV, exact."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [float((frame.pts - stream.start_time) * stream.time_base) for frame in container.decode(stream)]


def four_colours(*colours: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """A picture of 96 rows and 128 columns with a colour in each quarter."""
    quarters = np.array(colours or (RED, GREEN, BLUE, WHITE), np.uint8).reshape(2, 2, 3)
    return quarters.repeat(48, axis=0).repeat(64, axis=1)


def close(one: npt.ArrayLike, other: npt.ArrayLike, tolerance: float = 3) -> bool:
    return bool(np.abs(np.asarray(one, float) - np.asarray(other, float)).max() <= tolerance)


# Real files


@pytest.mark.slow
def test_every_file_of_formats_gives_all_its_frames_or_one_clear_line(shared: Path) -> None:
    folder = shared / "data" / "formats"
    with (folder / "formats.tsv").open() as table:
        for row in csv.DictReader(table, delimiter="\t"):
            path = folder / row["file"]
            if row["frames"] == "0":
                with pytest.raises(MediaError) as caught:
                    sample(path)
                assert "\n" not in str(caught.value)
                assert row["file"] in str(caught.value)
                continue
            frames = sample(path, EVERY, Resize(32))
            wide, high = int(row["width"]), int(row["height"])
            assert (frames.info.width, frames.info.height) == (
                (high, wide) if "90" in row["rotation"] else (wide, high)
            )
            if row["error"]:  # the table stopped counting at the damage; what lies behind it is there too
                assert len(frames.times) > int(row["frames"])
                assert frames.warnings == ("1 damaged packet was skipped",)
            else:
                assert len(frames.times) == int(row["frames"]), row["file"]
                expected = decoded_times(path)
                if expected == sorted(expected):
                    assert frames.times.tolist() == expected, row["file"]
                else:  # packed B-frames: the right order, with the time stamps of neighbours
                    assert np.all(np.diff(frames.times) > 0)
                    assert frames.times[4:] == pytest.approx(np.sort(expected)[4:])
                assert frames.warnings == ()


def test_real_clips_default_sampling_keeps_the_frames_on_screen_at_the_middles(shared: Path) -> None:
    for path in sorted((shared / "data" / "clips" / "validation").glob("*.mp4"))[:4]:
        frames = sample(path, resize=Resize(16))
        shown, duration = np.array(decoded_times(path)), frames.info.duration
        assert duration is not None
        n = Sampling().count(duration)
        middles = (np.arange(n) + 0.5) * duration / n
        assert frames.times.tolist() == shown[np.searchsorted(shown, middles + 1e-9, "right") - 1].tolist()
        assert frames.pixels.shape == (n, 16, 16, 3)


def test_kept_frames_are_the_same_pictures_as_in_a_plain_decode(shared: Path) -> None:
    path = shared / "data" / "formats" / "realshort.mp4"
    frames = sample(path, Sampling(frames=5))
    with av.open(str(path)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    shown = decoded_times(path)
    for picture, time in zip(frames.pixels, frames.times, strict=True):
        assert np.abs(picture.astype(int) - plain[shown.index(time)]).mean() < 2  # chroma is interpolated here


def test_keyframes_are_the_key_frames_and_spread_where_there_are_more(shared: Path) -> None:
    path = shared / "data" / "formats" / "sample.avi"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        keys = [float(p.pts * stream.time_base) for p in container.demux(stream) if p.size and p.is_keyframe]
    whole = sample(path, Sampling(keyframes=True))
    assert whole.times.tolist() == keys
    assert len(keys) == 16
    everything = sample(path, EVERY)
    for time, picture in zip(whole.times, whole.pixels, strict=True):
        (index,) = np.flatnonzero(everything.times == time)
        assert np.array_equal(picture, everything.pixels[index])
    some = sample(path, Sampling(keyframes=True, max_frames=5))
    assert len(some.times) == 5
    assert set(some.times) <= set(keys)
    assert some.info.duration == pytest.approx(4.087, abs=0.01)


# Times


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov", "ts", "avi", "webm"])
def test_times_and_pictures_in_each_container(tmp_path: Path, make_clip: MakeClip, ending: str) -> None:
    codec = {"avi": "mpeg4", "webm": "libvpx"}.get(ending, "libx264")
    frames = sample(make_clip(tmp_path / f"clip.{ending}", 60, 30, codec=codec), Sampling(fps=5))
    assert numbers(frames.pixels) == [3, 9, 15, 21, 27, 33, 39, 45, 51, 57]
    assert frames.times == pytest.approx(np.array([3, 9, 15, 21, 27, 33, 39, 45, 51, 57]) / 30, abs=0.001)
    assert frames.info.duration == pytest.approx(2, abs=0.05)


def test_variable_frame_rate_keeps_what_is_on_screen(tmp_path: Path, make_clip: MakeClip) -> None:
    times = [0, 0.04, 0.08, 2.5, 2.54, 2.58, 2.62, 2.66, 2.7, 4.2, 4.24, 4.28, 4.32, 4.36, 4.4, 4.44, 4.48, 6.0]
    path = make_clip(tmp_path / "clip.mkv", len(times), times=times)
    assert sample(path, EVERY).times.tolist() == times
    frames = sample(path, Sampling(frames=6))  # middles: 0.5, 1.5, 2.5, 3.5, 4.5, 5.5
    assert frames.times.tolist() == [0.08, 2.5, 2.7, 4.48]
    assert numbers(frames.pixels) == [2, 3, 8, 16]


def test_a_fixed_number_larger_than_the_clip_gives_all_of_it(tmp_path: Path, make_clip: MakeClip) -> None:
    times = [0, 0.1, 0.2, 9.0, 9.1]
    path = make_clip(tmp_path / "clip.mp4", 5, times=times)
    assert sample(path, Sampling(frames=8)).times.tolist() == times
    assert sample(path, Sampling(frames=5)).times.tolist() == times
    assert len(sample(path, Sampling(frames=3)).times) == 3


def test_no_time_stamps_at_all(tmp_path: Path, make_clip: MakeClip) -> None:
    frames = sample(make_clip(tmp_path / "clip.h264", 50, 25), EVERY)
    assert numbers(frames.pixels) == list(range(50))
    assert np.all(np.diff(frames.times) > 0)
    assert frames.times[-1] == pytest.approx(49 / 25, abs=0.1)


def test_a_clock_that_starts_anew_goes_on(tmp_path: Path, make_clip: MakeClip) -> None:
    first, second = make_clip(tmp_path / "1.ts", 50, 25), make_clip(tmp_path / "2.ts", 50, 25)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames = sample(joined, EVERY)
    assert numbers(frames.pixels) == [*range(50), *range(50)]
    assert np.diff(frames.times) == pytest.approx(0.04, abs=0.001)
    covered = sample(joined, Sampling(frames=10))
    assert np.diff(covered.times).max() < 0.6


def test_segment(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip(tmp_path / "clip.mp4", 300, 30)
    frames = sample(path, Sampling(fps=2), start=4, end=6)
    assert numbers(frames.pixels) == [127, 142, 157, 172]
    assert frames.times == pytest.approx(np.array([127, 142, 157, 172]) / 30)
    assert numbers(sample(path, EVERY, start=2.0, end=2.1).pixels) == [60, 61, 62]
    assert numbers(sample(path, EVERY, start=9.95).pixels) == [298, 299]
    assert numbers(sample(path, Sampling(keyframes=True), start=1, end=2).pixels) == [24, 36, 48]
    for start in (11, 1e30):
        with pytest.raises(MediaError, match=f"nothing at {start:g} s or later".replace("+", r"\+")):
            sample(path, start=start)


# Durations that are missing or wrong


def lie_about_duration(path: Path, seconds: float) -> None:
    """Overwrites the duration in a Matroska file's header."""
    data = path.read_bytes()
    place = data.index(b"\x44\x89\x88") + 3
    path.write_bytes(data[:place] + struct.pack(">d", seconds * 1000) + data[place + 8 :])


@pytest.mark.parametrize("stated", [None, 0.2, 3.0, 20.0, 500.0])
@pytest.mark.parametrize("sampling", [Sampling(fps=2), Sampling(fps=4, max_frames=7), Sampling(frames=9)])
def test_wrong_duration(tmp_path: Path, make_clip: MakeClip, stated: float | None, sampling: Sampling) -> None:
    path = make_clip(tmp_path / "clip.mkv", 300, 30, (32, 16), "mpeg4", container={} if stated else {"live": "1"})
    if stated:
        lie_about_duration(path, stated)
    frames = sample(path, sampling)
    n = sampling.count(10)
    assert math.floor(n / 2) <= len(frames.times) <= n
    if stated != 20:
        assert len(frames.times) == n
    gaps = np.diff([0, *frames.times, 10])
    assert gaps.max() <= 2 * 10 / len(frames.times) + 0.1
    assert frames.info.duration == pytest.approx(10, abs=0.1)


@pytest.mark.slow
def test_memory_stays_flat_on_two_hours_without_a_duration(tmp_path: Path, make_clip: MakeClip) -> None:
    frame_count = 2 * 3600 * 2
    times = np.arange(frame_count) / 2
    grey = [np.full((16, 32, 3), 50, np.uint8)] * frame_count
    path = make_clip(tmp_path / "long.mkv", grey, 2, codec="mpeg4", times=times.tolist(), container={"live": "1"})
    tracemalloc.start()
    try:
        frames = sample(path, Sampling(max_frames=8), Resize(128))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 8 * 128 * 128 * 3 + 500_000  # twice what is kept, the result, and small change
    assert len(frames.times) == 8
    assert np.diff([0, *frames.times, 7200]).max() <= 1.6 * 7200 / 8


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(2, 90),
    rate=st.sampled_from([2, 10, 25, 30]),
    fps=st.floats(0.1, 60),
    most=st.integers(1, 40),
    stated=st.booleans(),
)
def test_count_law(
    tmp_path: Path, make_clip: MakeClip, count: int, rate: int, fps: float, most: int, stated: bool
) -> None:
    times = [round(i / rate, 3) for i in range(count)]
    container = {} if stated else {"live": "1"}
    path = make_clip(tmp_path / "law.mkv", count, rate, (32, 16), "ffv1", times=times, container=container)
    sampling = Sampling(fps=fps, max_frames=most)
    frames = sample(path, sampling)
    duration = frames.info.duration
    assert duration is not None
    assert duration == pytest.approx(count / rate, abs=0.002)
    expected = {min(count, sampling.count(duration + error)) for error in (-0.04, 0, 0.04)}  # at the rounding edge
    assert len(frames.times) in expected
    assert set(frames.times) <= set(times)
    assert np.all(np.diff(frames.times) > 0)
    assert np.diff([0, *frames.times, duration]).max() <= 2 * max(duration / len(frames.times), 1 / rate) + 0.01
    assert numbers(frames.pixels) == [times.index(time) for time in frames.times]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.integers(1, 900), min_size=1, max_size=60), n=st.integers(1, 20), stated=st.booleans())
def test_variable_rate_law(tmp_path: Path, make_clip: MakeClip, steps: list[int], n: int, stated: bool) -> None:
    times = [sum(steps[:i]) / 1000 for i in range(len(steps))]
    name, container = ("law.mp4", {}) if stated else ("law.mkv", {"live": "1"})
    path = make_clip(tmp_path / name, len(times), 25, (32, 16), "mpeg4", times=times, container=container)
    frames = sample(path, Sampling(frames=n))
    assert 1 <= len(frames.times) <= n
    assert set(frames.times) <= set(times)
    assert np.all(np.diff(frames.times) > 0)
    if len(times) <= n:
        assert frames.times.tolist() == times


def test_options_out_of_range(tmp_path: Path) -> None:
    for wrong in ({"fps": 0.0}, {"fps": -1.0}, {"fps": math.nan}, {"max_frames": 0}, {"frames": 0}):
        with pytest.raises(ConfigError):
            Sampling(**wrong)
    for wrong in ({"size": 0}, {"mode": "stretch"}, {"keep": 0.0}, {"keep": 1.1}, {"filter": "nearest"}):
        with pytest.raises(ConfigError):
            Resize(**wrong)
    for start, end in ((-1.0, None), (2.0, 2.0), (math.nan, None), (math.inf, None)):
        with pytest.raises(ConfigError):
            sample(tmp_path / "clip.mp4", start=start, end=end)


# Pictures


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "bmp", "tiff", "gif"])
def test_still_image_is_one_frame(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(four_colours()).save(path)
    frames = sample(path, resize=Resize(64))
    assert frames.pixels.shape == (1, 64, 64, 3)
    assert frames.times.tolist() == [0]
    assert (frames.info.width, frames.info.height) == (128, 96)
    assert frames.info.duration == (None if ending != "gif" else frames.info.duration)
    corners = frames.pixels[0][[16, 16, 48, 48], [16, 48, 16, 48]]
    assert close(corners, [RED, GREEN, BLUE, WHITE], 30)
    assert path.suffix in EXTENSIONS
    assert len(sample(path, Sampling(keyframes=True)).times) == 1


def test_gif_times(tmp_path: Path) -> None:
    path = tmp_path / "clip.gif"
    pictures = [Image.new("RGB", (40, 30), (i * 20, 0, 0)) for i in range(10)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 500, *[100] * 8])
    assert sample(path, EVERY).times.tolist() == [0, 0.1, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("colour_range", ["tv", "pc"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le"])
@pytest.mark.parametrize("colours", [(RED, GREEN, BLUE, WHITE), MUTED], ids=["pure", "muted"])
def test_colours(tmp_path: Path, matrix: str, colour_range: str, pix_fmt: str, colours: Colours) -> None:
    names = {"bt709": "ITU709", "smpte170m": "ITU601", "bt2020nc": "BT2020"}
    path = tmp_path / "clip.mkv"
    source = av.VideoFrame.from_ndarray(four_colours(*colours), "rgb24").reformat(
        format=pix_fmt, dst_colorspace=names[matrix], dst_color_range="JPEG" if colour_range == "pc" else "MPEG"
    )
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
        context = stream.codec_context
        context.colorspace = {"bt709": 1, "smpte170m": 6, "bt2020nc": 9}[matrix]
        context.color_range = 2 if colour_range == "pc" else 1
        for i in range(3):
            source.pts = i
            output.mux(stream.encode(source))
        output.mux(stream.encode())
    for resize in (None, Resize(64), Resize(64, "crop", filter="bicubic")):
        picture = sample(path, resize=resize).pixels[0]
        height, width = picture.shape[:2]
        corners = picture[[height // 8, height // 8, -height // 8, -height // 8], [width // 8, -width // 8] * 2]
        assert close(corners, colours, 6)


def with_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """A copy of an MP4 file whose track header turns or mirrors the picture."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    one = 1 << 16
    data[place : place + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    copy = path.with_name(f"turned{a}{b}{c}{d}.mp4")
    copy.write_bytes(data)
    return copy


ORIENTATIONS = {  # matrix → what becomes of the picture
    (0, 1, -1, 0): lambda picture: np.rot90(picture, -1),  # as phones held upright write it: a quarter turn clockwise
    (-1, 0, 0, -1): lambda picture: np.rot90(picture, 2),
    (0, -1, 1, 0): lambda picture: np.rot90(picture, 1),
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda picture: picture.transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_right_way_up(tmp_path: Path, make_clip: MakeClip, matrix: tuple[int, int, int, int]) -> None:
    stored = make_clip(tmp_path / "clip.mp4", [four_colours()] * 3, crf="1")
    turned = with_display_matrix(stored, *matrix)
    upright = ORIENTATIONS[matrix](sample(stored).pixels[0])
    frames = sample(turned)
    assert np.array_equal(frames.pixels[0], upright)
    assert (frames.info.height, frames.info.width) == upright.shape[:2]
    squashed = ORIENTATIONS[matrix](sample(stored, resize=Resize(32)).pixels[0])
    assert np.array_equal(sample(turned, resize=Resize(32)).pixels[0], squashed)
    assert sample(turned, resize=Resize(32, "crop")).pixels.shape == (1, 32, 32, 3)


def test_phone_photograph_is_turned_by_its_exif_tag(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right of the stored picture
    Image.fromarray(np.rot90(four_colours(), 1)).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    frames = sample(tmp_path / "photo.jpg")
    assert frames.pixels.shape == (1, 96, 128, 3)
    assert close(frames.pixels[0][[24, 24, 72, 72], [32, 96, 32, 96]], [RED, GREEN, BLUE, WHITE], 12)


def test_crop_keeps_the_aspect_ratio_and_the_centre(tmp_path: Path, make_clip: MakeClip) -> None:
    picture = np.zeros((120, 240, 3), np.uint8)
    picture[30:90, 90:150] = WHITE  # a square in the centre, half as high as the picture
    path = make_clip(tmp_path / "clip.mp4", [picture] * 2, crf="1")
    whole = sample(path, resize=Resize(60, "crop")).pixels[0, :, :, 0] > 127
    assert close([whole.sum(0).max(), whole.sum(1).max()], [30, 30], 1)
    centre = sample(path, resize=Resize(60, "crop", keep=0.75)).pixels[0, :, :, 0] > 127
    assert close([centre.sum(0).max(), centre.sum(1).max()], [40, 40], 1)
    squashed = sample(path, resize=Resize(60)).pixels[0, :, :, 0] > 127
    assert close([squashed.sum(0).max(), squashed.sum(1).max()], [30, 15], 1)


def test_pixels_that_are_not_square(tmp_path: Path, make_clip: MakeClip) -> None:
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[24:72, 52:76] = WHITE  # 24 pixels wide, 48 high: a square once pixels are twice as wide as high
    path = make_clip(tmp_path / "clip.mkv", [picture] * 2, **{"x264-params": "sar=2/1", "crf": "1"})
    frames = sample(path)
    assert frames.pixels.shape == (1, 96, 256, 3)
    assert (frames.info.width, frames.info.height) == (256, 96)
    square = sample(path, resize=Resize(96, "crop")).pixels[0, :, :, 0] > 127
    assert close([square.sum(0).max(), square.sum(1).max()], [48, 48], 2)


def test_odd_sizes_and_long_strips(tmp_path: Path) -> None:
    for width, height in ((1, 1), (3, 5), (2000, 2), (1, 700)):
        path = tmp_path / f"{width}.png"
        Image.new("RGB", (width, height), RED).save(path)
        assert sample(path).pixels.shape == (1, height, width, 3)
        for mode in ("squash", "crop"):
            picture = sample(path, resize=Resize(24, mode)).pixels[0]
            assert picture.shape == (24, 24, 3)
            assert close(picture, np.broadcast_to(RED, picture.shape))


def test_size_that_changes_in_the_middle(tmp_path: Path, make_clip: MakeClip) -> None:
    large, small = make_clip(tmp_path / "1.ts", 25, 25), make_clip(tmp_path / "2.ts", 25, 25, (64, 32))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(large.read_bytes() + small.read_bytes())
    assert sample(joined, EVERY).pixels.shape == (50, 96, 128, 3)
    assert numbers(sample(joined, EVERY, Resize(64)).pixels) == [*range(25), *range(25)]


def test_threads_change_nothing(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip(tmp_path / "clip.mp4", 60)
    one, many = sample(path, threads=1), sample(path, threads=4)
    assert np.array_equal(one.pixels, many.pixels)
    assert np.array_equal(one.times, many.times)
