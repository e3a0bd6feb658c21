"""Any file FFmpeg reads → frames with exact times, in one sequential pass.

    packets → frames → the few that are kept → pixels

Each arrow is a generator, so that memory stays flat however long the file is, and only kept frames are converted and
resized, by swscale in one step.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from video_captioning import plan
from video_captioning.errors import ConfigError, MissingFileError, NoPictureError
from video_captioning.media import Limits, Video, VideoInfo, open_video
from video_captioning.painter import FILTERS, Painter, Pixels, neighbours

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Kept = TypeVar("Kept")

_TIE = 1e-6  # seconds; a frame is on screen from its own time on, whatever the rounding


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are kept.

    A clip of D seconds is cut into n = clamp(round(D * fps), 1, max_frames) equal intervals (or n = `frames`), and the
    frame on screen at the middle of each is kept. A frame on screen at several middles is kept once, so variable
    frame rates and clips with fewer than n frames give fewer. `fps=math.inf` keeps every frame, up to `max_frames`.
    """

    fps: float = 2.0  # frames kept a second
    max_frames: int = 16  # a longer clip is covered evenly by this many
    frames: int | None = None  # a fixed number, evenly spread, instead of `fps`
    keyframes: bool = False  # only key frames, up to `max_frames` (or `frames`) evenly; nothing else is decoded

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ConfigError(f"sampling.fps must be above 0, not {self.fps}")
        if self.max_frames < 1:
            raise ConfigError(f"sampling.max_frames must be at least 1, not {self.max_frames}")
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"sampling.frames must be at least 1, not {self.frames}")

    @property
    def most(self) -> int:
        """The most frames that any clip gives."""
        return self.frames or self.max_frames

    def count(self, duration: float) -> int:
        """How many frames a clip of `duration` seconds gives, if it has as many."""
        if self.frames or duration * self.fps >= self.max_frames or math.isinf(self.fps):
            return self.most
        return max(1, math.floor(duration * self.fps + 0.5))


@dataclass(frozen=True)
class Resize:
    """How a frame becomes the square picture that an encoder wants."""

    size: int = 224  # pixels, side of the square
    mode: Literal["squash", "crop"] = "squash"  # lose the aspect ratio, or what is outside the centre
    keep: float = 1.0  # share of the shorter side that a centre crop keeps
    filter: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"resize.size must be at least 1, not {self.size}")
        if self.mode not in ("squash", "crop"):
            raise ConfigError(f"resize.mode must be squash or crop, not {self.mode}")
        if not 0 < self.keep <= 1:
            raise ConfigError(f"resize.keep must be above 0 and at most 1, not {self.keep}")
        if self.filter not in FILTERS:
            raise ConfigError(f"resize.filter must be bilinear or bicubic, not {self.filter}")


@dataclass(frozen=True)
class Frames:
    """What was kept of a clip."""

    pixels: Pixels  # uint8 RGB [n, height, width, 3], n ≥ 1, right way up
    times: npt.NDArray[np.float64]  # [n] seconds from the start of the file, as players count, strictly increasing
    info: VideoInfo
    warnings: tuple[str, ...] = ()  # short phrases: what could not be read


def sample(
    path: str | Path,
    sampling: Sampling = Sampling(),
    resize: Resize | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
    threads: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 (it is frozen)
) -> Frames:
    """Keep a few frames of a video, GIF or still image.

    Args:
        path: a regular file; its name means nothing to FFmpeg.
        sampling: which frames.
        resize: to what square; None keeps the displayed size (that of the first kept frame, if it changes).
        start, end: seconds; sample only this stretch of the clip. Times stay those of the whole clip.
        threads: decoder threads; None for one a CPU.
        limits: the largest picture and the longest clip that are decoded.

    A damaged packet is skipped, a file that is cut short gives what can be had, and `warnings` says so.

    Raises:
        MediaError: one of its subclasses, where the file gives no picture at all.
        ConfigError: an option out of range.
    """
    path = Path(path)
    if not 0 <= start < math.inf or (end is not None and not end > start):
        raise ConfigError(f"a segment needs 0 ≤ start < end, not {start} to {end}")
    stretch = (start, math.inf if end is None else end)
    with reading(path):
        return _sample(path, sampling, resize, stretch, threads, limits)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Raises MissingFileError where the disk fails in the middle of a file."""
    try:
        yield
    except OSError as error:
        raise MissingFileError(path, f"reading it failed ({error.strerror})", "check the disk or network") from error


def _sample(
    path: Path,
    sampling: Sampling,
    resize: Resize | None,
    stretch: tuple[float, float],
    threads: int | None,
    limits: Limits,
    duration: float | None = None,
    planned: bool = True,
) -> Frames:
    """What `sample` gives.

    Args:
        duration: of the clip, seconds, where its header is wrong.
        planned: decode no more than is needed, where that is sure to give the same frames.
    """
    start = stretch[0]
    again = partial(_sample, path, resize=resize, stretch=stretch, threads=threads, limits=limits)
    with open_video(path, limits, threads) as video:
        stated = duration or video.duration
        painter = Painter(video, resize, limits)
        try:
            if sampling.keyframes:
                kept = _key_frames(video, painter, sampling, stretch)
            elif planned and not (start and video.seeks) and (found := plan.of(video)):
                wanted = choose(found.shown(), sampling, stretch, stated, video, lambda coded: coded.number)
                with open_video(path, limits, threads) as second:
                    kept = found.decode(second, wanted, painter.paint)
            else:
                video.seek(start)
                kept = choose(neighbours(video.frames()), sampling, stretch, stated, video, painter.paint)
        except plan.PlanError as reason:
            log.debug("%s: every frame is decoded: %s", path, reason)
            return again(sampling, duration=duration, planned=False)
        if start and video.end is not None and video.end <= start:
            raise NoPictureError(path, f"there is nothing at {start:g} s or later", "choose an earlier start")
        if not kept and sampling.keyframes:  # none of them is whole
            return again(replace(sampling, keyframes=False))
        if not kept:
            raise video.no_picture()
        frames = gather(kept, video, painter)
        if too_far_apart(len(kept), sampling, max(start, video.begin), stated, frames.info.duration):
            return again(sampling, duration=frames.info.duration, planned=planned)
        return frames


def _key_frames(
    video: Video, painter: Painter, sampling: Sampling, stretch: tuple[float, float]
) -> list[tuple[float, Pixels]]:
    start, stop = stretch
    video.seek(start)
    packets = _thin(_until(video.key_packets(), stop), _Grid(start, 0.0), sampling.most, lambda packet: packet)
    packets = _spread(packets, sampling.most, start, min(stop, video.end or stop))
    return [(time, painter.paint(frame)) for time, packet in packets for frame in video.decode_alone(packet)]


def choose(
    shown: Iterable[tuple[float, Item | None]],
    sampling: Sampling,
    stretch: tuple[float, float],
    stated: float | None,
    video: Video,
    keep: Callable[[Item], Kept],
) -> list[tuple[float, Kept]]:
    """Which of the frames on screen in a stretch (start, end; endless for the rest of the clip) are kept.

    `shown` is ordered by time and ends with (end, None); `keep` turns a frame into what is held of it; `stated` is the
    clip's duration as its header has it.
    """
    start, stop = max(stretch[0], video.begin), stretch[1]
    grid = _plan(sampling, start, stop, stated, video)
    kept = _thin(_until(shown, stop), grid, sampling.most, keep)
    seen = min(stop, stated or stop) if video.end is None else min(stop, video.end)
    return _spread(kept, max(grid.count or 1, sampling.count(seen - start)), start, seen)


def too_far_apart(kept: int, sampling: Sampling, start: float, stated: float | None, seen: float | None) -> bool:
    """Did the header promise more than twice what there is, so that too few frames were kept?"""
    return bool(stated and seen and seen < stated / 2 and kept < sampling.count(seen - start))


def gather(kept: list[tuple[float, Pixels]], video: Video, painter: Painter) -> Frames:
    """The kept frames with what is known of the clip by now."""
    duration = video.duration if video.end is None else video.end
    still = video.duration is None and video.packets == 1
    height, width = painter.displayed
    info = VideoInfo(
        video.path,
        None if still else duration,
        width,
        height,
        None if still else video.fps,
        video.stream.codec.canonical_name,
    )
    times = np.array([time for time, _ in kept])
    return Frames(np.stack([picture for _, picture in kept]), times, info, tuple(video.warnings()))


@dataclass(frozen=True)
class _Grid:
    """The moments whose frames are kept: first, first + step, …"""

    first: float  # seconds
    step: float  # seconds; 0 keeps every frame
    count: int | None = None  # moments in all, where the duration is known
    last: float = math.inf  # moments after which to stop, where the duration can be trusted


def _plan(sampling: Sampling, start: float, stop: float, stated: float | None, video: Video) -> _Grid:
    """The middles of equal intervals, as `Sampling` says; every frame where there may be too few to choose from."""
    if stated is None and stop == math.inf:
        step = 0.0 if sampling.frames else 1 / sampling.fps
        return _Grid(start + step / 2 + _TIE, step)
    length = max(min(stop, stated or stop) - start, 0.0)
    count = sampling.count(length)
    if length * (video.fps or math.inf) <= 2 * count:
        return _Grid(start, 0.0, count)
    step = length / count
    return _Grid(start + step / 2 + _TIE, step, count, count if video.has_index else math.inf)


def _until(shown: Iterable[tuple[float, Item | None]], stop: float) -> Iterator[tuple[float, Item | None]]:
    for time, item in shown:
        if time >= stop:
            yield stop, None
            return
        yield time, item


def _thin(
    shown: Iterable[tuple[float, Item | None]], grid: _Grid, most: int, keep: Callable[[Item], Kept]
) -> list[tuple[float, Kept]]:
    """The items on screen at the moments of a grid, each once; `keep` turns an item into what is held of it.

    `shown` is ordered by time and ends with (end, None). Where the grid turns out too fine, that is where more than
    2 * `most` items would be held, every other one is let go and the step doubled: what is held covers the clip
    evenly at all times, whatever its length.
    """
    held: list[tuple[float, Kept]] = []
    latest: tuple[float, Item] | None = None
    moment, step = 0, grid.step
    for (time, item), (until, _) in pairwise(shown):
        if item is None:
            break
        latest = (time, item)
        if until <= grid.first + moment * step:
            continue
        held.append((time, keep(item)))
        if len(held) > 2 * most:
            held = _spread(held, most, grid.first, until)
            step = max(2 * step, (until - grid.first) / most)
            moment = 0
        if step:
            moment = max(moment + 1, math.ceil((until - grid.first) / step))
        if moment >= grid.last:
            break
    if not held and latest:  # a clip that ends before the first moment
        held.append((latest[0], keep(latest[1])))
    return held


def _spread(items: list[tuple[float, Kept]], count: int, start: float, end: float) -> list[tuple[float, Kept]]:
    """`count` of the items (or all, if fewer): those on screen in the middle of equal intervals, none of them twice."""
    if len(items) <= count:
        return items
    times = [time for time, _ in items]
    chosen: list[tuple[float, Kept]] = []
    index = -1
    for i in range(count):
        middle = start + (i + 0.5) * (end - start) / count + _TIE
        on_screen = bisect_right(times, middle) - 1
        index = min(max(on_screen, index + 1), len(items) - count + i)
        chosen.append(items[index])
    return chosen
