"""Where shots begin in a video, found in small pictures while it is read.

PySceneDetect (optional part `scenes`) finds changes from one picture to the next that stand out from those around
them, so that a pan is none. What it lacks is told here, in seconds and not in pictures, so that a slide is one however
few pictures it has:

- A slide is on screen for so long that nothing is around it; a new one may differ in part of the picture only.
- A flash is followed by what was there before it. So is a lamp that is switched on, but for its brightness.
- Black is no shot: it belongs to the one before, and what comes after it is compared with what came before it.
- While one shot dissolves into the next, or fades through a colour, each picture is a mixture of the two (and that
  colour). A pan or a zoom changes a picture along its own gradients, which a mixture does not.
- A camera that is jerked shows the same picture, shifted.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from video_captioning.errors import MissingExtraError
from video_captioning.painter import Pixels

Floats = npt.NDArray[np.float32]

AHEAD = 2.0  # seconds; a picture so long ago, and with two after it, begins a shot or never will

_SIDE = 32  # pixels; of the pictures in which cuts are looked for: as good as 160, and five times as fast
_AROUND = 2  # pictures before and after a change that it must stand out from

_CONTENT = 15.0  # levels of hue, saturation and value; a change of so much is a cut
_UNLIKE = 5.0  # the same, if the pictures also have nothing in common
_LEAST = 0.6  # the same, between two slides
_JERKED = 0.9  # likeness with the camera moved, if it is much less without; such a change is no cut
_CHANGED = 0.05  # share of the picture that is new with a new slide; a bullet that appears is less
_SLIDE = 1.2  # seconds; a picture that is shown for longer is a slide, and no part of a slow video

_FLASH = 0.45  # seconds; what was there before is back within this
_BACK = 0.4  # of the change at the flash; how far what is back may be from what was there

_FLAT = 30.0  # square levels; the variance of a picture of a single colour is less

_STEP = 0.1  # seconds between the samples in which dissolves are looked for
_COARSE = 16  # pixels, side of a sample: what moves within a shot matters less
_BACK_IN = 5  # steps in which a shot that comes out of black or white can be told
_LENGTHS = (5, 10, 16, 24)  # steps that a dissolve may take
_CALM = 3  # steps before and after it that change less than it does
_CALMER = 0.35  # of its change; so much less
_MIXED = 0.3  # share of a picture that may be no mixture; less, where the shots are alike
_ALIKE = 0.45  # likeness of what is one shot
_PANNED = 0.75  # the same, with the camera moved
_MOVED = 0.35  # share of the change that a moving camera may explain


class _Picture(NamedTuple):
    number: int  # from 0
    time: float  # seconds
    small: Pixels  # [32, 32, 3]


class _Sample(NamedTuple):
    number: int
    time: float  # seconds; of the picture
    levels: Floats  # [256, 3]
    shape: Floats  # [768] of length 1; the same, whatever the light; 0 for a flat one
    back: bool  # does it come out of black or white?


class Cuts:
    """Finds where shots begin, in one pass; only the pictures of about the last two seconds are held, in small."""

    def __init__(self) -> None:
        """Raises MissingExtraError: PySceneDetect is not installed."""
        try:
            import cv2
            from scenedetect import AdaptiveDetector, FrameTimecode
        except ModuleNotFoundError as error:
            raise MissingExtraError("cutting a video where its scene changes", "scenes") from error
        self._cv2, self._clock = cv2, FrameTimecode
        self._changes: Any = AdaptiveDetector(min_scene_len=0, window_width=_AROUND, min_content_val=_LEAST)
        self._recent: deque[_Picture] = deque()
        self._abrupt: deque[tuple[_Picture, float]] = deque()  # changes to be judged, after so many seconds
        self._samples: deque[_Sample] = deque(maxlen=max(_LENGTHS) + 2 * _CALM + 1)  # of the running shot; none flat
        self._faint = False  # is the last picture black or white?
        self._next = 0.0  # seconds; when the next sample is due

    def see(self, time: float, picture: Pixels | None) -> list[int]:
        """The next picture → the numbers, from 0, of pictures with which a shot is now known to begin.

        Args:
            time: seconds, later than the last.
            picture: uint8 RGB `[height, width, 3]`; None for the end of the video.
        """
        found = self._watch(time) if self._recent else []
        if picture is not None:
            small = self._shrink(picture, _SIDE)
            number = self._recent[-1].number + 1 if self._recent else 0
            self._recent.append(_Picture(number, time, small))
            self._compare(small)
        while self._abrupt and (picture is None or time >= self._abrupt[0][0].time + self._abrupt[0][1]):
            first, wait = self._abrupt.popleft()
            if self._is_cut(first, wait):
                found.append(first.number)
                while self._samples and self._samples[0].number < first.number:
                    self._samples.popleft()
        while len(self._recent) > 2 * _AROUND + 1 and self._recent[1].time < time - 2 * _SLIDE:
            self._recent.popleft()
        return found

    def _shrink(self, picture: Pixels, side: int) -> Pixels:
        return np.asarray(self._cv2.resize(picture, (side, side), interpolation=self._cv2.INTER_AREA), np.uint8)

    def _levels(self, pictures: list[_Picture]) -> Floats:
        """[pictures, 256, 3]"""
        coarse = [self._shrink(each.small, _COARSE) for each in pictures]
        return np.stack(coarse).astype(np.float32).reshape(len(coarse), -1, 3)

    def _watch(self, until: float) -> list[int]:
        """The last picture is on screen until then."""
        last = self._recent[-1]
        if until - last.time > _SLIDE:
            for _ in range(_AROUND):
                self._compare(last.small)
        found = []
        self._next = max(self._next, last.time)
        sample = None
        while self._next < min(until, last.time + AHEAD):
            sample = sample or self._sample(last)
            flat = not sample.shape.any()
            if not flat:
                self._samples.append(sample._replace(back=self._faint))
                found += self._faded() or self._dissolved(self._next)
            self._faint = flat and abs(float(sample.levels.mean()) - 127.5) > 100
            self._next += _STEP
        return found

    # Abrupt

    def _compare(self, small: Pixels) -> None:
        """With the pictures around it."""
        clock = self._clock(self._recent[-1].number, fps=25.0)  # it counts; when pictures are shown is for us to know
        for change in self._changes.process_frame(clock, self._cv2.cvtColor(small, self._cv2.COLOR_RGB2BGR)):
            place = change.frame_num - self._recent[0].number
            first, last = self._recent[place], self._recent[place - 1]
            one, other = (self._cv2.cvtColor(each.small, self._cv2.COLOR_RGB2HSV) for each in (last, first))
            content = float(self._cv2.absdiff(one, other).mean())
            before, after = self._levels([last, first])
            likeness, panned = _likeness(before, after), _shifted(before, after)
            jerked = panned > _JERKED and 1 - panned < (1 - likeness) / 2 and first.time - last.time < _SLIDE
            sure = (content >= _CONTENT or (content >= _UNLIKE and likeness < 0.4)) and not jerked
            new = float((self._cv2.absdiff(last.small, first.small).max(2) > 12).mean())
            if sure:
                self._abrupt.append((first, _FLASH))
            elif new >= _CHANGED and _is_still(self._levels(self._before(first, _SLIDE)), after - before):
                self._abrupt.append((first, _SLIDE))

    def _before(self, first: _Picture, seconds: float) -> list[_Picture]:
        """What was on screen in so many seconds before that picture."""
        return [
            each
            for each in self._recent
            if each.number < first.number and (each.time >= first.time - seconds or each.number == first.number - 1)
        ]

    def _is_cut(self, first: _Picture, seconds: float) -> bool:
        """Is what comes with that picture another scene, and here to stay for so many seconds?"""
        before = self._levels(self._before(first, _FLASH))
        after = self._levels([each for each in self._recent if 0 <= each.time - first.time <= seconds])
        change = after[0] - before[-1]
        if _is_black(after[0]) or (seconds == _SLIDE and not _is_still(after, change)):
            return False
        seen = [each for each in before if not _is_black(each)]
        seen = seen or [each.levels for each in self._samples if each.number < first.number][-_CALM:]
        if not seen:
            return False  # it is the first that is not black
        coming = np.stack([each for each in after if not _is_black(each)])
        return _distance(np.stack(seen), coming) > _BACK * float(np.sqrt((change**2).mean()))

    # Gradual

    def _sample(self, picture: _Picture) -> _Sample:
        levels = self._levels([picture])[0]
        shape = _centred(levels)
        power = float(shape @ shape)
        flat = power < _FLAT * len(shape)
        return _Sample(picture.number, picture.time, levels, shape * 0 if flat else shape / np.sqrt(power), False)

    def _faded(self) -> list[int]:
        """The first picture of a second shot that has come out of black or white."""
        samples = list(self._samples)
        before, after = samples[-3 * _BACK_IN : -_BACK_IN], samples[-_BACK_IN:]
        if not before or not after[0].back:
            return []
        contrasts = [max(float(each.levels.var(0).mean()) for each in side) for side in (before, after)]
        likeness = np.stack([each.shape for each in before]) @ np.stack([each.shape for each in after]).T
        if likeness.max() > _ALIKE or min(contrasts) < 4 * _FLAT:
            return []
        self._samples = deque(after, self._samples.maxlen)
        return [after[0].number]

    def _dissolved(self, now: float) -> list[int]:
        """The picture from which on the second shot outweighs the first, if a dissolve has just come to rest."""
        if self._abrupt:
            return []  # a shot may begin with it
        samples = list(self._samples)
        end = len(samples) - 1 - _CALM
        for length in _LENGTHS:
            start = end - length
            if start < 0:
                break
            between = samples[start : end + 1]
            middle = _middle(samples[max(start - _CALM, 0)], between, samples[-1])
            if middle is not None:
                while samples[start + middle].time <= now - AHEAD:
                    middle += 1
                for _ in range(end):
                    self._samples.popleft()
                return [samples[start + middle].number]
        return []


def _middle(before: _Sample, between: list[_Sample], after: _Sample) -> int | None:
    """If the samples are a dissolve from the first to the last: from which on they are nearer to the last."""
    likeness = float(between[0].shape @ between[-1].shape)
    if likeness > _ALIKE:
        return None
    first, last = between[0].levels, between[-1].levels
    change = float(np.abs(first - last).mean())
    calm = max(float(np.abs(before.levels - first).mean()), float(np.abs(after.levels - last).mean()))
    if change < 10 or calm > _CALMER * change:
        return None
    levels = np.stack([each.levels for each in between])
    apart = np.abs(levels[None] - levels[[0, -1], None]).mean((2, 3))  # [2, samples], from the first and from the last
    mixed = np.count_nonzero(apart.min(0) > change / 8)
    if mixed < 2 or len({each.number for each in between}) < 0.4 * len(between):
        return None  # so few pictures are mixtures by chance
    inside = _centred(levels)
    ends = inside[[0, -1]]
    gram = ends @ ends.T
    rest = inside - np.linalg.solve(gram + np.eye(2, dtype=np.float32), ends @ inside.T).T @ ends
    power = np.minimum((inside**2).sum(1) * 2, np.trace(gram) / 2)  # a mixture has half the power of its parts
    if float(((rest**2).sum(1) / power).max()) + 0.4 * max(likeness, 0.0) > _MIXED:
        return None
    if _shifted(first, last) > _PANNED or _moved(levels) > _MOVED:
        return None
    return int(np.flatnonzero(apart[0] < apart[1])[-1]) + 1


def _centred(levels: Floats) -> Floats:
    """[..., pixels, 3] → [..., pixels * 3], without each picture's mean colour."""
    centred: Floats = levels - levels.mean(-2, keepdims=True)
    return centred.reshape(*centred.shape[:-2], -1)


def _likeness(one: Floats, other: Floats) -> float:
    """Correlation of two pictures, -1 to 1, whatever their colour and contrast; 0 for a flat one."""
    a, b = _centred(one), _centred(other)
    power = float(a @ a) * float(b @ b)
    return float(a @ b) / float(np.sqrt(power)) if power > (_FLAT * len(a)) ** 2 else 0.0


def _distance(some: Floats, others: Floats) -> float:
    """Root mean square of the difference of the two most alike, one from each side, apart from brightness."""
    a, b = some.reshape(len(some), 1, -1), others.reshape(1, len(others), -1)
    apart = float(((a - b) ** 2).mean(2).min())
    a, b = _centred(some), _centred(others)
    power_a, power_b = (a**2).mean(1)[:, None], (b**2).mean(1)[None]
    common = np.maximum(a @ b.T / a.shape[1], 0) ** 2 / (power_a * power_b + 1e-3)
    least = np.minimum(power_a, power_b)
    relit = np.where((common > 0.64) & (least > _FLAT), least * (1 - common), np.inf)
    return float(np.sqrt(max(min(apart, relit.min()), 0.0)))


def _shifted(one: Floats, other: Floats) -> float:
    """The likeness of two pictures where the camera has moved by up to two pixels."""
    a, b = (each.reshape(_COARSE, _COARSE, 3) for each in (one, other))
    inner, side = a[2:-2, 2:-2].reshape(-1, 3), _COARSE - 4
    moved = (b[y : y + side, x : x + side].reshape(-1, 3) for y in range(5) for x in range(5))
    return max(_likeness(inner, each) for each in moved)


def _moved(levels: Floats) -> float:
    """Share of the change from each picture to the next that is a shift, zoom or turn of it."""
    pictures = levels.reshape(len(levels), _COARSE, _COARSE, 3)
    change = np.diff(pictures, axis=0).reshape(len(pictures) - 1, -1, 1)
    down, right = np.gradient((pictures[1:] + pictures[:-1]) / 2, axis=(1, 2))
    y, x = np.mgrid[-1 : 1 : _COARSE * 1j, -1 : 1 : _COARSE * 1j].astype(np.float32)[..., None]
    ways = np.stack([right, down, x * right + y * down, x * down - y * right], 1).reshape(len(change), 4, -1)
    along = ways @ change
    amounts = np.linalg.solve(ways @ ways.transpose(0, 2, 1) + np.eye(4, dtype=np.float32), along)
    return float((amounts * along).sum() / ((change**2).sum() + 1e-3))


def _is_black(levels: Floats) -> bool:
    return bool(levels.mean() < 20 and levels.std() < 6)


def _is_still(levels: Floats, change: Floats) -> bool:
    """Do pictures of one side of a change differ little, compared with it?"""
    return bool(np.abs(levels[-1] - levels[0]).mean() < np.abs(change).mean() / 10)
