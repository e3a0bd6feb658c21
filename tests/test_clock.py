"""Times are those of players: from where the file starts, as a browser plays a GIF, and right after a seek."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from tests.conftest import MakeClip
from video_captioning.errors import MediaError
from video_captioning.frames import Resize, Sampling, sample

EVERY = Sampling(fps=float("inf"), max_frames=1000)


def write_late(path: Path, late: int, count: int) -> None:
    """Sound from 0 s; `count` frames at 25 a second, from `late` s on."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        sound = output.add_stream("aac" if path.suffix != ".mkv" else "ac3", rate=48000, layout="mono")
        for number in range((late + count // 25) * 48000 // 1024):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts, silence.time_base = 48000, 1024 * number, Fraction(1, 48000)
            output.mux(sound.encode(silence))
        for number in range(count):
            frame = VideoFrame.from_ndarray(np.full((48, 64, 3), 2 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = 25 * late + number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        output.mux(sound.encode())


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv", "mov"])
def test_a_picture_that_starts_after_the_sound(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"late.{ending}"
    write_late(path, late=5, count=100)
    found = sample(path, Sampling(frames=4), Resize(16))
    assert found.info.duration == pytest.approx(9, abs=0.1)
    assert found.times == pytest.approx([5.5, 6.5, 7.5, 8.5], abs=0.1), "evenly spread over what there is to see"
    assert found.pixels.mean((1, 2, 3)) == pytest.approx([25, 75, 125, 175], abs=6)
    some = sample(path, Sampling(frames=2), Resize(16), start=7)
    assert some.times == pytest.approx([7.5, 8.5], abs=0.1)


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        *[("ts", "libx264"), ("m2ts", "mpeg2video"), ("mpg", "mpeg2video"), ("vob", "mpeg2video"), ("avi", "mpeg4")],
        *[("mp4", "libx264"), ("mkv", "libx264"), ("flv", "libx264"), ("webm", "libvpx-vp9")],
    ],
)
@pytest.mark.parametrize("start", [0.5, 2.5, 3.96])
def test_a_stretch_is_what_a_full_decode_shows_there(
    ending: str, codec: str, start: float, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / f"clip.{ending}", 110, 25, codec=codec, gop=50)
    whole, part = sample(path, EVERY, Resize(16)), sample(path, EVERY, Resize(16), start=start)
    first = int(np.searchsorted(whole.times, start + 1e-6)) - 1  # on screen at `start`
    assert part.times.tolist() == pytest.approx(whole.times[first:].tolist())
    assert np.array_equal(part.pixels, whole.pixels[first:])


def write_gif(path: Path, delays: list[int]) -> None:
    """`delays`: of each frame, milliseconds."""
    pictures = [Image.fromarray(np.full((16, 16, 3), 3 * number, np.uint8)) for number in range(len(delays))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=delays, loop=0)


@pytest.mark.parametrize(
    ("delays", "duration"),
    [([10] * 60, 6.0), ([0] * 40, 4.0), ([20] * 50, 1.0), ([100] * 20, 2.0), ([10, 500] * 10, 6.0), ([0] * 2, 0.2)],
)
def test_a_gif_lasts_as_long_as_in_a_browser(delays: list[int], duration: float, tmp_path: Path) -> None:
    write_gif(tmp_path / "clip.gif", delays)
    found = sample(tmp_path / "clip.gif", EVERY)
    assert found.info.duration == pytest.approx(duration)
    shown = np.cumsum([0, *(delay if delay > 10 else 100 for delay in delays)])[:-1] / 1000
    assert found.times == pytest.approx(shown.tolist())
    assert found.warnings == ()
    few = sample(tmp_path / "clip.gif", Sampling(fps=2))
    assert len(few.times) == min(len(delays), max(1, round(2 * duration)))


def test_an_animated_webp_is_not_supported(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / "clip.webp", save_all=True, append_images=pictures[1:])
    with pytest.raises(MediaError, match=r"clip.webp: it is an animated WebP, .* convert it to GIF, APNG or MP4"):
        sample(tmp_path / "clip.webp")


@pytest.mark.parametrize("flags", ["", "frag_keyframe+empty_moov", "dash+frag_keyframe"])
def test_encrypted_video_is_told(flags: str, make_clip: MakeClip, tmp_path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    path = make_clip(tmp_path / "clip.mp4", 30, container=key | ({"movflags": flags} if flags else {}))
    with pytest.raises(MediaError, match=r"clip.mp4: its video is encrypted; name a copy without protection"):
        sample(path)
