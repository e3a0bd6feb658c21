"""`python -m benchmarks.clip PATH`: a clip of 15 s, 320x240, 25 fps, with something to decode in every frame."""

from __future__ import annotations

import sys
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT, FPS, SECONDS = 320, 240, 25, 15


def make_clip(path: str) -> None:
    """Write H.264: a window that wanders over a still of soft blobs, with a little grain."""
    rng = np.random.default_rng(0)
    blobs = rng.integers(0, 256, (24, 32, 3)).repeat(16, 0).repeat(16, 1).astype(np.float32)
    for axis in (0, 1):
        blobs = np.mean([np.roll(blobs, shift, axis) for shift in range(-8, 9)], axis=0)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FPS * SECONDS):
            top, left = (round(60 + 50 * np.sin(index / pace)) for pace in (40, 65))
            window = blobs[top : top + HEIGHT, left : left + WIDTH] + rng.normal(0, 4, (HEIGHT, WIDTH, 1))
            frame = av.VideoFrame.from_ndarray(window.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    make_clip(sys.argv[1])
