"""Captioning a folder with a loaded model, against decoding the same clips once with PyAV and no more.

Decoding is the floor: no captioner that looks through the whole clip can do without it. Both get the same cores, and
decoding takes them in the faster of two ways: a file a core, or all cores on one file (FFmpeg's frame threads).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import av

from benchmarks.report import Report, machine
from benchmarks.timing import confine, in_turns, median_ratio
from video_captioning.captioner import Caption, Captioner
from video_captioning.errors import MediaError, MissingFileError, NoPictureError
from video_captioning.frames import Sampling
from video_captioning.media import EXTENSIONS

BASELINES = ("decode, a file a core", "decode, frame threads")
BARS = {"caption": 0.95, "caption, key frames": 0.8}
STAGES = ("decode", "encode", "generate")


@dataclass(frozen=True)
class Pass:
    """One pass over all clips."""

    seconds: float
    processor: float
    """Seconds of all cores together; other programs change it little."""
    frames: int
    """Decoded, or looked at."""
    captions: tuple[Caption, ...] = ()

    def stage(self, name: str) -> float:
        """Seconds of `decode` (summed over the threads that share it), `encode` or `generate`."""
        return float(sum(getattr(caption.timings, name) for caption in self.captions))


def measure(folder: Path, model: str, threads: int, repeat: int) -> Report:
    """Raises MediaError for a clip that cannot be captioned or decoded to its end, BundleError for the model."""
    paths = videos(folder)
    confine(threads)
    captioner = Captioner(model, threads=threads)
    sampling = captioner.bundle.sampling
    passes = in_turns(
        {
            "caption": partial(caption_all, captioner, paths, sampling),
            "caption, key frames": partial(caption_all, captioner, paths, replace(sampling, keyframes=True)),
            "decode, a file a core": partial(decode_all, paths, threads, 1),
            "decode, frame threads": partial(decode_all, paths, 1, threads),
        },
        repeat,
    )
    length = sum(caption.video.duration or 0 for caption in passes["caption"][0].captions)
    setting = {
        "clips": len(paths),
        "seconds of video": round(length),
        "threads": threads,
        "rounds": repeat,
        "model": f"{captioner.bundle.name} {captioner.bundle.version}",
        **machine(),
    }
    return Report("caption", setting, tabulate(passes, len(paths), length))


def tabulate(
    passes: dict[str, list[Pass]], clips: int, length: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Medians over the rounds: a row a kind of pass, then the stages of the captioning ones."""
    seconds = {name: [one.seconds for one in rounds] for name, rounds in passes.items()}
    baseline = min(BASELINES, key=lambda name: median(seconds[name]))
    whole = [
        {
            "pass": name,
            "seconds": median(seconds[name]),
            "processor s": median(one.processor for one in rounds),
            "frames": rounds[0].frames,
            "clips/s": clips / median(seconds[name]),
            "× real time": length / median(seconds[name]),
            "ratio": median_ratio(seconds[name], seconds[baseline]),
            "bar": BARS.get(name),
        }
        for name, rounds in passes.items()
    ]
    stages = [
        {"stage, s": name, **{stage: median(one.stage(stage) for one in passes[name]) for stage in STAGES}}
        for name in BARS
    ]
    return whole, stages


def videos(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.name[0] != ".")
    if not found:
        raise MissingFileError(folder, "the folder holds no video", "name another with --clips")
    return found


def timed(work: Callable[[], tuple[int, tuple[Caption, ...]]]) -> Pass:
    wall, processor = perf_counter(), process_time()
    frames, captions = work()
    return Pass(perf_counter() - wall, process_time() - processor, frames, captions)


def caption_all(captioner: Captioner, paths: Sequence[Path], sampling: Sampling) -> Pass:
    def work() -> tuple[int, tuple[Caption, ...]]:
        captions = tuple(whole(captioner.captions(paths, sampling=sampling)))
        return sum(len(caption.frames) for caption in captions), captions

    return timed(work)


def whole(found: Iterable[Caption | MediaError]) -> Iterable[Caption]:
    """The captions; a clip that has none would be cheap, so it ends the measurement."""
    for item in found:
        if isinstance(item, MediaError):
            raise item
        yield item


def decode_all(paths: Sequence[Path], files: int, threads: int) -> Pass:
    """Decode so many files at a time, each with so many threads."""

    def work() -> tuple[int, tuple[Caption, ...]]:
        with ThreadPoolExecutor(files) as pool:
            return sum(pool.map(partial(decode, threads=threads), paths)), ()

    return timed(work)


def decode(path: Path, threads: int) -> int:
    """The number of frames of a clip; each is decoded, none converted. Raises NoPictureError."""
    try:
        with av.open(str(path)) as container:
            codec = container.streams.video[0].codec_context
            codec.thread_type = "AUTO"
            codec.thread_count = threads
            return sum(1 for _ in container.decode(video=0))
    except (av.FFmpegError, IndexError) as error:
        raise NoPictureError(path, f"it cannot be decoded to its end ({error})", "leave it out") from error
