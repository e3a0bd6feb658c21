"""What a plan keeps of a clip is what a full decode keeps, and it is not decoded in full."""

from __future__ import annotations

import logging
import math
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.conftest import MakeClip
from video_captioning.frames import Frames, Resize, Sampling, choose, gather, sample, too_far_apart
from video_captioning.media import Limits, open_video
from video_captioning.painter import Painter, neighbours

SAMPLING, SMALL = Sampling(frames=5), Resize(64)
FULL = "every frame is decoded"
X264, X265 = "x264-params", "x265-params"

TRUSTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "H.264, pyramid of B frames": (".mp4", "libx264", {X264: "bframes=5:b-pyramid=normal:ref=4:scenecut=0"}),
    "H.264, open groups": (".mkv", "libx264", {X264: "open-gop=1:bframes=3:scenecut=0"}),
    "H.264, intra refresh": (".mp4", "libx264", {X264: "intra-refresh=1:bframes=0"}),
    "H.264 in MPEG-TS": (".ts", "libx264", {X264: "bframes=2:scenecut=0"}),
    "H.264 in AVI, no B frames": (".avi", "libx264", {X264: "bframes=0:scenecut=0"}),
    "H.264, slices": (".mp4", "libx264", {X264: "slices=4:bframes=2:weightp=2"}),
    "HEVC, leading pictures that are skipped": (".mp4", "libx265", {X265: "open-gop=1:bframes=4:log-level=none"}),
    "HEVC, closed groups": (".mkv", "libx265", {X265: "open-gop=0:bframes=3:log-level=none"}),
    "HEVC, layers in time": (".mp4", "libx265", {X265: "temporal-layers=3:bframes=7:b-adapt=0:log-level=none"}),
    "MPEG-1": (".mpg", "mpeg1video", {"bf": "2"}),
    "MPEG-2": (".mkv", "mpeg2video", {"bf": "2"}),
    "MPEG-2 in MPEG-TS": (".ts", "mpeg2video", {"bf": "2"}),
    "MPEG-4 ASP": (".mp4", "mpeg4", {"bf": "2"}),
    "MPEG-4 in AVI": (".avi", "mpeg4", {"bf": "0"}),
    "VP8, hidden frames": (".webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "12", "b": "200k"}),
    "VP9, hidden frames": (".webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "12", "b": "200k"}),
    "AV1, hidden frames": (".mkv", "libsvtav1", {"preset": "12", "svtav1-params": "keyint=24"}),
    "Motion JPEG": (".avi", "mjpeg", {"pix_fmt": "yuvj420p"}),
}
"""Ending, encoder and its options."""


def in_full(path: Path, sampling: Sampling = SAMPLING, stated: float | None = None) -> Frames:
    """What every frame, decoded, gives; `stated`: the duration in seconds, where that of the header is wrong."""
    with open_video(path, Limits(), threads=1) as video:
        painter, duration = Painter(video, SMALL, Limits()), stated or video.duration
        kept = choose(neighbours(video.frames()), sampling, (0.0, math.inf), duration, video, painter.paint)
        found = gather(kept, video, painter)
    if too_far_apart(len(kept), sampling, 0.0, duration, found.info.duration):
        return in_full(path, sampling, found.info.duration)
    return found


def assert_same(path: Path, sampling: Sampling = SAMPLING) -> None:
    found, expected = sample(path, sampling, SMALL, threads=1), in_full(path, sampling)
    assert found.times.tolist() == expected.times.tolist()
    assert np.array_equal(found.pixels, expected.pixels)
    assert (found.info, found.warnings) == (expected.info, expected.warnings)


def pictures(count: int) -> list[np.ndarray]:
    """A texture that moves, so that frames refer to each other."""
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 256, (12, 40, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    return [np.ascontiguousarray(np.roll(wide, -2 * number, axis=1)[:, :128]) for number in range(count)]


@pytest.mark.parametrize("kind", TRUSTED)
def test_the_same_frames_as_in_full(
    kind: str, make_clip: MakeClip, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "video_captioning.frames")
    ending, codec, options = TRUSTED[kind]
    path = make_clip(tmp_path / f"clip{ending}", pictures(100), 25, codec=codec, **options)
    for count in (1, 3, 8, 30):
        assert_same(path, Sampling(frames=count))
    assert_same(path, Sampling(fps=2, max_frames=8))
    assert FULL not in caplog.text


UNSURE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "H.264 with B frames in AVI": (".avi", "libx264", {X264: "bframes=3:b-pyramid=normal:scenecut=0"}),
    "MPEG-4 with B frames in AVI": (".avi", "mpeg4", {"bf": "2"}),
    "H.264 without a container": (".h264", "libx264", {X264: "bframes=2"}),
    "HEVC without a container": (".hevc", "libx265", {X265: "log-level=none"}),
    "H.264, interlaced": (".mp4", "libx264", {X264: "tff=1:bframes=2"}),
    "MPEG-2, interlaced": (".ts", "mpeg2video", {"flags": "+ildct+ilme", "bf": "2"}),
}


@pytest.mark.parametrize("kind", UNSURE)
def test_where_it_is_not_sure_the_same_frames_too(kind: str, make_clip: MakeClip, tmp_path: Path) -> None:
    ending, codec, options = UNSURE[kind]
    path = make_clip(tmp_path / f"clip{ending}", pictures(60), 25, codec=codec, **options)
    for count in (1, 5, 20):
        assert_same(path, Sampling(frames=count))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_damaged_and_cut_short(ending: str, place: float, make_clip: MakeClip, tmp_path: Path) -> None:
    options = {"movflags": "+faststart"} if ending == "mp4" else None
    whole = make_clip(tmp_path / f"clip.{ending}", pictures(100), 25, container=options, gop=10).read_bytes()
    at = int(place * len(whole))
    for data in (whole[:at], whole[:at] + bytes(300) + whole[at + 300 :]):
        path = tmp_path / f"damaged.{ending}"
        path.write_bytes(data)
        assert_same(path)


@pytest.mark.parametrize(
    ("ending", "codec"), [("mp4", "libx264"), ("mkv", "mpeg4"), ("mkv", "mpeg2video"), ("webm", "libvpx-vp9")]
)
def test_packets_that_only_claim_to_be_key_frames(ending: str, codec: str, make_clip: MakeClip, tmp_path: Path) -> None:
    true, path = make_clip(tmp_path / f"true.{ending}", pictures(60), 25, codec=codec), tmp_path / f"false.{ending}"
    with av.open(str(true)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.is_keyframe = True
                packet.stream = stream
                output.mux(packet)
    assert_same(path)


def test_a_clock_that_starts_anew(make_clip: MakeClip, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "video_captioning.frames")
    part = make_clip(tmp_path / "part.ts", pictures(50), 25).read_bytes()
    (tmp_path / "twice.ts").write_bytes(part + part)
    assert_same(tmp_path / "twice.ts")
    assert f"twice.ts: {FULL}" in caplog.text


def test_frames_that_are_not_shown(make_clip: MakeClip, tmp_path: Path) -> None:
    """An edit list that begins in the middle of a group of pictures."""
    path = make_clip(tmp_path / "clip.mov", pictures(60), 25, gop=30)
    data = path.read_bytes()
    at = data.index(b"elst") + 12
    duration, _ = struct.unpack(">Ii", data[at : at + 8])
    scale = struct.unpack(">I", data[(begin := data.index(b"mdhd") + 16) : begin + 4])[0]
    path.write_bytes(data[:at] + struct.pack(">Ii", duration // 2, scale // 2) + data[at + 8 :])
    assert len(sample(path, Sampling(fps=math.inf, max_frames=100)).times) < 60
    for count in (1, 4, 20):
        assert_same(path, Sampling(frames=count))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_long_film(ending: str, make_clip: MakeClip, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "video_captioning.frames")
    path = make_clip(tmp_path / f"film.{ending}", pictures(60) * 60, 25, gop=50)
    for count in (2, 5):
        assert_same(path, Sampling(frames=count))
    assert FULL not in caplog.text
