"""The frames that the model looked at, for people: larger than the model had them, and not squashed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from av import VideoFrame

from video_captioning.errors import MissingFileError
from video_captioning.frames import Resize, Sampling, sample
from video_captioning.painter import Pixels

SIDE = 400  # pixels, the longer side


def pictures(path: str | Path, sampling: Sampling, resize: Resize, times: Sequence[float]) -> list[Pixels]:
    """What lies in the squares that the model saw at `times` (seconds), uint8 RGB `[height, width, 3]` each.

    A crop stays a crop, so that the model's patches are where they were. The clip is decoded once more.

    Raises:
        MediaError: the file cannot be read any more, or is another by now.
    """
    frames = sample(path, sampling, replace(resize, size=SIDE))
    if tuple(frames.times) != tuple(times):
        raise MissingFileError(path, "it has changed since it was captioned", "try again when it is complete")
    if resize.mode == "crop":
        return list(frames.pixels)
    return [stretched(picture, frames.info.width / frames.info.height) for picture in frames.pixels]


def stretched(picture: Pixels, aspect: float) -> Pixels:
    """In the shape that it was squashed from; `aspect` is width by height."""
    width, height = (max(1, round(SIDE * min(1.0, side))) for side in (aspect, 1 / aspect))
    frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(width, height, interpolation="AREA")
    return frame.to_ndarray().astype(np.uint8, copy=False)
