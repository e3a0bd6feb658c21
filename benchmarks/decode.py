"""Finding and decoding the few frames of clips that are looked at, against decoding all of their frames.

One row for a folder of short clips, one for a film of two hours: the clip of middling bit rate, joined to itself
without another encoding. Processor time of one thread: other programs change it little.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import av

from benchmarks.caption import decode, videos
from benchmarks.report import Report, machine
from benchmarks.timing import confine, in_turns, median_ratio
from video_captioning.bundle import read
from video_captioning.frames import Resize, Sampling, sample

FILM = 7200.0
"""Seconds."""
BARS = {"clips": None, "film": 0.05}


def measure(folder: Path, model: str, repeat: int) -> Report:
    """Raises MediaError for a clip that cannot be decoded to its end, BundleError for the model."""
    paths = videos(folder)
    confine(1)
    found = read(model)
    sampling, resize = found.sampling, found.resize
    with TemporaryDirectory() as room:
        by_rate = sorted(paths, key=lambda path: path.stat().st_size / length(path))
        film = join(by_rate[len(by_rate) // 2], Path(room) / "film.mkv")
        rows = [
            row("clips", paths, sampling, resize, repeat),
            row("film", [film], Sampling(frames=sampling.most), resize, 1),
        ]
    setting = {"clips": len(paths), "film, s": round(FILM), "threads": 1, "rounds": repeat, "model": model, **machine()}
    return Report("decode", setting, (rows,))


def row(name: str, paths: Sequence[Path], sampling: Sampling, resize: Resize, repeat: int) -> dict[str, Any]:
    seconds = in_turns({"chosen": partial(chosen, paths, sampling, resize), "all": partial(whole, paths)}, repeat)
    return {
        "files": name,
        "chosen frames, s": median(seconds["chosen"]),
        "all frames, s": median(seconds["all"]),
        "ratio": median_ratio(seconds["chosen"], seconds["all"]),
        "bar": BARS[name],
    }


def chosen(paths: Sequence[Path], sampling: Sampling, resize: Resize) -> float:
    """Seconds to read the frames that the model looks at, as pictures of its size."""
    start = process_time()
    for path in paths:
        sample(path, sampling, resize, threads=1)
    return process_time() - start


def whole(paths: Sequence[Path]) -> float:
    """Seconds to decode every frame, and no more."""
    start = process_time()
    for path in paths:
        decode(path, threads=1)
    return process_time() - start


def length(path: Path) -> float:
    """Seconds."""
    with av.open(str(path)) as container:
        return float(container.duration or 1) / av.time_base


def join(clip: Path, film: Path, seconds: float = FILM) -> Path:
    """A film that shows a clip over and over for so long; returns its path."""
    with av.open(str(film), "w") as output:
        start, stream = 0.0, None
        while start < seconds:
            with av.open(str(clip)) as source:
                video = source.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                unit = float(video.time_base or 1)
                end = start
                for packet in source.demux(video):
                    if packet.dts is not None and packet.pts is not None:
                        end = max(end, start + (packet.pts + (packet.duration or 1)) * unit)
                        packet.pts, packet.dts = packet.pts + round(start / unit), packet.dts + round(start / unit)
                        packet.stream = stream
                        output.mux(packet)
                start = end
    return film
