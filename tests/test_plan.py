"""What a plan keeps of a clip is what a full decode keeps, and it is not decoded in full."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import MakeClip
from video_captioning.frames import Frames, Resize, Sampling, choose, gather, sample
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


def in_full(path: Path, sampling: Sampling = SAMPLING) -> Frames:
    """What every frame, decoded, gives."""
    with open_video(path, Limits(), threads=1) as video:
        painter = Painter(video, SMALL, Limits())
        stretch = (0.0, float("inf"))
        return gather(
            choose(neighbours(video.frames()), sampling, stretch, video.duration, video, painter.paint), video, painter
        )


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
