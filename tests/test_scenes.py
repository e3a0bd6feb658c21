"""Segments: where they are cut, that nothing is left out or told twice, and that their frames are those of `sample`."""

from __future__ import annotations

import math
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import tiny
from tests.conftest import MakeClip
from video_captioning.errors import ConfigError, MediaError, MissingExtraError, TooLargeError
from video_captioning.frames import Frames, Resize, Sampling, sample
from video_captioning.media import Limits
from video_captioning.scenes import Cutting, Segment, segments

SMALL = Resize(64)
NEVER = Cutting(longest=1e6, shortest=1e6)
RATE = 10  # frames a second of the clips of `shots`


def cut(path: Path, cutting: Cutting = Cutting(), sampling: Sampling = Sampling()) -> list[Segment]:  # noqa: B008
    """The segments of a file, which follow each other from 0 on."""
    found = list(segments(path, sampling, SMALL, cutting=cutting, threads=1))
    assert found[0].start == 0
    assert all(one.start < one.end == next_one.start for one, next_one in pairwise(found))
    for one in found:
        assert one.frames.times[0] >= one.start
        assert one.frames.times[-1] < one.end
    return found


def shots(lengths: Sequence[int]) -> list[np.ndarray]:
    """Still shots, one after the other, of so many frames each."""
    each = zip(tiny.pictures(len(lengths), size=(32, 32)), lengths, strict=True)
    return [picture for picture, length in each for _ in range(length)]


def same(one: Frames, other: Frames) -> bool:
    return np.array_equal(one.times, other.times) and np.array_equal(one.pixels, other.pixels)


def assert_as_sampled(path: Path, found: list[Segment], sampling: Sampling = Sampling()) -> None:  # noqa: B008
    """Each segment holds what `sample` keeps of its stretch; the last, of the rest of the file."""
    ends = [*(each.end for each in found[:-1]), None]
    for each, end in zip(found, ends, strict=True):
        assert same(each.frames, sample(path, sampling, SMALL, start=each.start, end=end, threads=1))


# Where


def frames_of(path: Path, seconds: float) -> Iterator[av.VideoFrame]:
    """The first seconds of a real clip, 25 frames each."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        number = 0
        for frame in container.decode(stream):
            while number / 25 <= float((frame.pts - (stream.start_time or 0)) * stream.time_base):
                if number == seconds * 25:
                    return
                yield frame.reformat(320, 240, "yuv420p")
                number += 1


@pytest.fixture(scope="module")
def joined(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds each of three real clips, in one file."""
    path = tmp_path_factory.mktemp("joined") / "joined.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height = 320, 240
        names = ("msrvtt_video9111", "msrvtt_video9908", "msrvtt_video9880")
        clips = (shared / "data" / "clips" / "validation" / f"{name}.mp4" for name in names)
        for number, frame in enumerate(frame for clip in clips for frame in frames_of(clip, 5)):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def test_joints_of_real_clips_are_found_within_two_frames(joined: Path) -> None:
    found = cut(joined)
    starts = [each.start for each in found]
    for joint in (5, 10):
        assert min(abs(start - joint) for start in starts) <= 2 / 25
    assert len(found) <= 8, "and few cuts beside them"
    assert found[-1].end == 15
    assert_as_sampled(joined, found)


@example(lengths=[9, 3], shortest=3, more=0, fps=2)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(3, 40), min_size=1, max_size=7),
    shortest=st.integers(1, 15),
    more=st.integers(0, 40),
    fps=st.sampled_from([0.5, 2, 6, math.inf]),
)
def test_how_long_segments_are(
    tmp_path: Path, make_clip: MakeClip, lengths: list[int], shortest: int, more: int, fps: float
) -> None:
    """In frames: half a frame keeps the bounds off the times of frames."""
    few, many = shortest + 0.5, shortest + more + 0.5
    sampling = Sampling(fps=fps, max_frames=5)
    path = make_clip(tmp_path / "shots.mp4", shots(lengths), RATE, gop=5)
    found = cut(path, Cutting(longest=many / RATE, shortest=few / RATE), sampling)

    end = sum(lengths)
    joints = [sum(lengths[:place]) for place in range(1, len(lengths))]
    expected = [0]
    while True:
        start = expected[-1]
        by_length = math.ceil(start + many)
        chosen = min((joint for joint in joints if start + few < joint < by_length + few), default=by_length)
        if end - chosen < few:
            break
        expected.append(chosen)
    assert [each.start * RATE for each in found] == pytest.approx(expected)
    assert found[-1].end * RATE == pytest.approx(end)
    for each in found:
        assert few < (each.end - each.start) * RATE < many + 2 * few + 1 or len(found) == 1
    assert_as_sampled(path, found, sampling)


def test_a_frame_that_stays_for_longer_than_a_segment_may(tmp_path: Path, make_clip: MakeClip) -> None:
    times = [0, 0.1, 0.2, 0.3, 9, 9.1, 20, 20.1, 20.2]
    path = make_clip(tmp_path / "slides.mkv", shots([9]), times=times)
    found = cut(path, Cutting(longest=4, shortest=1))
    assert [each.start for each in found] == [0, 9, 20][: len(found)]
    assert_as_sampled(path, found)


def test_every_shot_comes_before_the_next_is_read(tmp_path: Path, make_clip: MakeClip) -> None:
    whole = make_clip(tmp_path / "whole.mkv", shots([30] * 6), RATE)
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(whole.read_bytes())
    found = segments(broken, Sampling(), SMALL, threads=1, limits=Limits(duration=100))
    assert next(found).end == 3
    found.close()  # type: ignore[attr-defined]
    with pytest.raises(TooLargeError):
        list(segments(broken, Sampling(), SMALL, limits=Limits(duration=10)))


# Files of any kind


@pytest.mark.slow
def test_a_file_of_one_scene_is_sampled_as_without_segments(shared: Path) -> None:
    data = shared / "data"
    for path in [*sorted((data / "formats").iterdir()), *sorted((data / "clips" / "validation").glob("*.mp4"))[:6]]:
        try:
            frames = sample(path, Sampling(), SMALL, threads=1)
        except MediaError as error:
            with pytest.raises(type(error)) as caught:
                list(segments(path, Sampling(), SMALL, threads=1))
            assert str(caught.value) == str(error)
            continue
        [whole] = cut(path, NEVER)
        assert same(whole.frames, frames), path
        assert whole.frames.warnings == frames.warnings
        assert whole.frames.info.duration == pytest.approx(frames.info.duration, abs=0.05)


def test_a_picture_is_one_segment(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    Image.fromarray(tiny.pictures(1)[0]).save(path)
    [only] = cut(path)
    assert same(only.frames, sample(path, Sampling(), SMALL))
    assert only.frames.info.duration is None


def test_a_file_without_a_duration_and_one_whose_header_promises_too_much(tmp_path: Path, make_clip: MakeClip) -> None:
    live = make_clip(tmp_path / "live.mkv", shots([40, 40, 40]), RATE, container={"live": "1"})
    found = cut(live)
    assert [each.start for each in found] == pytest.approx([0, 4, 8])
    assert_as_sampled(live, found)
    half = tmp_path / "half.mkv"
    content = make_clip(tmp_path / "whole.mkv", tiny.pictures(120), RATE).read_bytes()
    half.write_bytes(content[: len(content) // 3])
    [only] = cut(half, NEVER)
    assert same(only.frames, sample(half, Sampling(), SMALL))
    assert "the file ends early" in " ".join(only.frames.warnings)


def test_what_is_damaged_is_told_once(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip(tmp_path / "clip.mp4", shots([30, 30, 30]), RATE, gop=1)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][55]
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    warnings = [each.frames.warnings for each in cut(path)]
    assert warnings == [(), ("1 damaged packet was skipped",), ()]


# Memory


def peak(path: Path, resize: Resize) -> tuple[int, list[Segment]]:
    """Bytes, and the segments without their pictures being held all at once."""
    tracemalloc.start()
    try:
        found = []
        for each in segments(path, Sampling(frames=1), resize, threads=1):
            found.append(each)
        return tracemalloc.get_traced_memory()[1], found
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_length(tmp_path: Path, make_clip: MakeClip) -> None:
    resize = Resize(128)
    cut_once, _ = peak(make_clip(tmp_path / "short.mp4", shots([50] * 3), RATE), resize)
    often, found = peak(make_clip(tmp_path / "long.mp4", shots([50] * 40), RATE), resize)
    assert len(found) == 40
    assert often < cut_once + 40 * 128 * 128 * 3 + 500_000  # what is kept, and small change


def test_a_long_shot_of_many_large_pictures_is_thinned(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip(tmp_path / "still.mp4", shots([250]), RATE)
    resize = Resize(500)  # 187 MB
    most, [only] = peak(path, resize)
    assert most < 110_000_000
    assert only.frames.times == pytest.approx([12.5], abs=0.2)


# What is refused


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_clip: MakeClip) -> None:
    path = make_clip(tmp_path / "clip.mp4", 4)
    with pytest.raises(ConfigError, match="keyframes"):
        next(segments(path, Sampling(keyframes=True), SMALL))
    for longest, shortest in ((1, 2), (1, 0), (math.inf, 1), (math.nan, 1)):
        with pytest.raises(ConfigError, match="shortest ≤ longest"):
            Cutting(longest, shortest)
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(MissingExtraError, match=r"vidcap\[scenes\]"):
        next(segments(path, Sampling(), SMALL))
