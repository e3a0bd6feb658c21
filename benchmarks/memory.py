"""The most memory that `vidcap caption` takes: against the number of files, and against the length of a video.

It should not grow with either. Each row is a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from benchmarks.cold import run
from benchmarks.decode import join
from benchmarks.report import Report, machine
from video_captioning.errors import MissingFileError
from video_captioning.media import EXTENSIONS

COUNTS, LENGTHS = (10, 100, 339), (15, 122, 600)
FOLDER_BAR, VIDEO_BAR = 500, 350
"""Most memory for the most files, and for segments of the longest video, 10⁶ bytes."""
WAYS = {"": [], " --segments": ["--segments"]}


def measure(data: Path, model: str, threads: int) -> Report:
    """Raises MissingFileError where there are too few files, VidcapError where a command fails."""
    command = [sys.executable, "-m", "video_captioning", "caption", "--model", model, "--threads", str(threads)]
    rows = []
    with TemporaryDirectory() as folder:
        files = mixed(data, max(COUNTS))
        videos = {seconds: long_video(Path(folder), seconds) for seconds in LENGTHS}
        for way, options in WAYS.items():
            for count in COUNTS:
                rows.append(row(f"{count} files{way}", [*command, *options, *files[:count]], FOLDER_BAR))
            for seconds, path in videos.items():
                rows.append(row(f"{seconds} s of 1080p{way}", [*command, *options, path], VIDEO_BAR))
    return Report("memory", {"threads": threads, "model": model, **machine()}, (rows,))


def row(name: str, command: Sequence[str | Path], bar: int) -> dict[str, Any]:
    found = run([str(part) for part in command], statuses=(0, 1))  # 1: some of all kinds cannot be captioned
    return {"captioned": name, "peak MB": round(found.memory), "bar, MB": bar, "seconds": found.seconds}


def mixed(data: Path, count: int) -> list[Path]:
    """So many files of all kinds, in an order that mixes them. Raises MissingFileError."""
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if len(found) < count:
        raise MissingFileError(data, f"holds only {len(found)} of {count} files", "name another folder with --data")
    return [found[index] for index in np.random.default_rng(0).permutation(len(found))[:count]]


def long_video(folder: Path, seconds: int) -> Path:
    """Noise of 1920x1080 pixels that changes its scene every two seconds; two scenes over and over."""
    scene = folder / "scenes.mp4"
    if not scene.exists():
        rng = np.random.default_rng(0)
        with av.open(str(scene), "w") as output:
            stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
            for number in range(100):
                if number % 50 == 0:
                    picture = rng.integers(0, 256, (27, 48, 3), np.uint8).repeat(40, 0).repeat(40, 1)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(picture, 4 * number, 1)), "rgb24")
                frame.pts = number
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
    return join(scene, folder / f"{seconds}.mp4", seconds)
