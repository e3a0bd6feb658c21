"""What the tests share: the real data, and small clips made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt
import pytest

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, pictures and captions beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the real data (../shared) is not here")
    return folder


class MakeClip(Protocol):
    def __call__(
        self,
        path: Path,
        frames: int | Sequence[Picture] = ...,
        fps: float = ...,
        size: tuple[int, int] = ...,
        codec: str = ...,
        *,
        times: Sequence[float] | None = ...,
        pix_fmt: str = ...,
        gop: int = ...,
        container: dict[str, str] | None = ...,
        **options: str,
    ) -> Path: ...


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """A function that writes a clip with PyAV and returns its path."""
    return _make_clip


def _make_clip(
    path: Path,
    frames: int | Sequence[Picture] = 30,
    fps: float = 30,
    size: tuple[int, int] = (128, 96),
    codec: str = "libx264",
    *,
    times: Sequence[float] | None = None,
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    container: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """`frames` are pictures, or a number of pictures that show their own index as 16 black and white bars.

    `times` (seconds, exact to the millisecond) make a variable frame rate; `size` is width, height; `container` goes
    to the muxer and `options` to the encoder. The ending of `path` chooses the container.
    """
    pictures = [_numbered(i, size) for i in range(frames)] if isinstance(frames, int) else frames
    height, width = pictures[0].shape[:2]
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=dict(options))
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, pix_fmt, gop
        unit = Fraction(1, 1000) if times is not None else 1 / rate
        stream.codec_context.time_base = unit
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = i if times is None else round(times[i] * 1000)
            frame.time_base = unit
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def _numbered(number: int, size: tuple[int, int]) -> Picture:
    width, height = size
    bars = np.array([number >> bit & 1 for bit in range(16)], np.uint8) * 255
    row = np.repeat(bars, -(-width // 16))[:width]
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))
