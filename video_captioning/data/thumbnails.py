"""A few frames of a clip, small enough to lie inside a page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from video_captioning.frames import Sampling, sample
from video_captioning.painter import Pixels

SIDE = 208  # pixels, the longer side
QUALITY = 5  # FFmpeg's quantizer: 2 is best, 31 worst


@dataclass(frozen=True)
class Thumbnail:
    time: float
    """Seconds from the start of the clip."""
    width: int
    height: int
    jpeg: bytes

    @property
    def uri(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


def thumbnails(path: Path, count: int) -> list[Thumbnail]:
    """At most `count` frames, evenly spread over the clip. Raises MediaError."""
    frames = sample(path, Sampling(frames=count))
    return [jpeg(pixels, time) for pixels, time in zip(frames.pixels, frames.times.tolist(), strict=True)]


def jpeg(pixels: Pixels, time: float, side: int = SIDE) -> Thumbnail:
    """uint8 RGB `[height, width, 3]` → JPEG whose longer side has `side` pixels, or its own if that is shorter."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuvj420p"
    codec.time_base = Fraction(1)
    codec.thread_count = 1  # with more, a frame comes out later than it goes in
    codec.qmin = codec.qmax = QUALITY
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(width, height, "yuvj420p", interpolation="AREA")
    return Thumbnail(time, width, height, b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode()]))
