"""A long video → segments, in one decoding pass: cut where the scene changes, each with the frames of its own.

    packets → frames → pictures → where a shot begins → stretches → segments

Each arrow is a generator, and only the pictures of the running stretch and of two seconds more are held, so that memory
stays flat however long the video is. Where shots begin is found in `cuts` (optional part `scenes`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import perf_counter

from video_captioning.cuts import AHEAD, Cuts
from video_captioning.errors import ConfigError
from video_captioning.frames import Frames, Resize, Sampling, choose, gather, reading, too_far_apart
from video_captioning.media import Limits, Video, open_video
from video_captioning.painter import Painter, Pixels, neighbours

_HELD = 80_000_000  # bytes of pictures; a stretch with more keeps every other one


@dataclass(frozen=True)
class Cutting:
    """How long segments may be.

    None but the whole of a shorter video is shorter than `shortest`, and none longer than `longest` and twice
    `shortest`, unless a single frame is on screen for longer.
    """

    longest: float = 30.0  # seconds; a longer shot is cut here, unless it ends within `shortest`
    shortest: float = 1.0  # seconds; a shorter shot belongs to the next, the last to the one before

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= self.longest < inf:
            raise ConfigError(f"cutting needs 0 < shortest ≤ longest, not {self.shortest:g} and {self.longest:g}")


@dataclass(frozen=True)
class Segment:
    """A stretch of a video. Segments follow each other without a gap, from 0 to the end."""

    start: float  # seconds
    end: float  # seconds; the start of the next
    frames: Frames  # as `frames.sample` keeps of this stretch, with times of the whole video
    seconds: float  # that it took to read


def segments(
    path: str | Path,
    sampling: Sampling,
    resize: Resize,
    *,
    cutting: Cutting = Cutting(),
    threads: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 (it is frozen)
) -> Iterator[Segment]:
    """Cut a video where its scene changes; each segment comes as soon as its end is known.

    A video of one scene or a still image is one segment, with the frames of `frames.sample`. Where the pictures of a
    stretch would take more than 80 MB, its frames are chosen from every other one, or fewer.

    Args:
        path: a regular file.
        sampling: which frames of each segment; every frame is decoded, so `keyframes` is refused.
        resize: to what square. Shots are looked for in these pictures.
        cutting: how long segments may be.
        threads: decoder threads; None for one a CPU.
        limits: the largest picture and the longest video that are decoded.

    What could not be read is told by the `frames.warnings` of that segment or the one before.

    Raises:
        MediaError: the file gives no picture at all; or in the middle, it is beyond `limits` or the disk fails.
        MissingExtraError: PySceneDetect is not installed.
        ConfigError: an option out of range.
    """
    if sampling.keyframes:
        raise ConfigError("sampling.keyframes is not for segments, which need every frame: leave it out")
    cuts = Cuts()
    began = perf_counter()
    with reading(path), open_video(Path(path), limits, threads) as video:
        painter = Painter(video, resize, limits)
        shown = neighbours(video.frames())
        pictures = ((time, None if frame is None else painter.paint(frame)) for time, frame in shown)
        for start, end, held in _stretches(_marked(pictures, cuts), cutting):
            if not held:
                raise video.no_picture()
            yield Segment(start, end, _choose(held, start, end, sampling, video, painter), perf_counter() - began)
            began = perf_counter()
            video.damaged = video.encrypted = 0  # told


def _marked(
    shown: Iterable[tuple[float, Pixels | None]], cuts: Cuts
) -> Iterator[tuple[float, Pixels | None, bool, float]]:
    """Each picture with its time, whether a shot begins with it, and how far has been read by then."""
    waiting: deque[tuple[int, float, Pixels | None]] = deque()
    beginnings: set[int] = set()
    for number, (time, picture) in enumerate(shown):
        waiting.append((number, time, picture))
        beginnings.update(cuts.see(time, picture))
        known = max(beginnings, default=-1)  # there is none between the last that is waiting and this
        while waiting and (
            picture is None or waiting[0][0] <= known or (waiting[0][0] < number - 1 and waiting[0][1] <= time - AHEAD)
        ):
            place, at, waited = waiting.popleft()
            yield at, waited, place in beginnings, time
        beginnings.clear()


def _stretches(
    marked: Iterable[tuple[float, Pixels | None, bool, float]], cutting: Cutting
) -> Iterator[tuple[float, float, list[tuple[float, Pixels]]]]:
    """(start, end, pictures with their times) of each segment; few of the pictures where they would fill the memory."""
    held: list[tuple[float, Pixels]] = []
    start, cut = 0.0, None  # a cut counts once what follows it has lasted for `shortest`
    by_length, stride = False, 1
    for number, (time, picture, begins, read) in enumerate(marked):
        if cut is not None and (time if by_length else read) - cut >= cutting.shortest:
            yield start, cut, [each for each in held if each[0] < cut]
            held = [each for each in held if each[0] >= cut]
            start, cut, stride = cut, None, 1
        if picture is None:
            yield start, time, held
            return
        if begins and time - start >= cutting.shortest and (cut is None or by_length):
            cut, by_length = time, False
        elif cut is None and time - start >= cutting.longest:
            cut, by_length = time, True
        if len(held) * picture.nbytes >= _HELD:
            held = [each for place, each in enumerate(held) if place % 2 == 0 or each[0] == cut]
            stride *= 2
        if number % stride == 0 or time == cut:
            held.append((time, picture))


def _choose(
    held: list[tuple[float, Pixels]], start: float, end: float, sampling: Sampling, video: Video, painter: Painter
) -> Frames:
    """What `frames.sample` keeps of the stretch, or for the last one, of all from its start on."""
    last = end == video.end
    shown = [*held, (end, None)]
    stretch = (start, inf if last else end)
    kept = choose(shown, sampling, stretch, video.duration, video, _as_it_is)
    if last and too_far_apart(len(kept), sampling, start, video.duration, end):
        kept = choose(shown, sampling, stretch, end, video, _as_it_is)
    return gather(kept, video, painter)


def _as_it_is(picture: Pixels) -> Pixels:
    return picture
