"""How long one model takes in several engines, stage by stage: latency and throughput by threads and batch.

All engines get the same frames in the same batches, and take turns. Stages follow one another: what `vidcap caption`
gains on a folder, where it decodes the next clips while it captions these, is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter

from video_captioning.bundle import Bundle
from video_captioning.decoding import Decoding
from video_captioning.export.engines import Clip, Engine, Loader
from video_captioning.export.timing import in_turns, median_ratio
from video_captioning.frames import sample

STAGES = ("decode", "encode", "memory", "generate")
GREEDY = Decoding(beam=1)
BATCH = 8  # clips, where nothing is timed

Pass = list[dict[str, float]]
"""Seconds of each stage of each batch, all clips once."""


@dataclass(frozen=True)
class Spread:
    """Of several measurements of the same."""

    median: float
    least: float


@dataclass(frozen=True)
class Result:
    """How one engine does in one setting."""

    engine: str
    threads: int
    batch: int
    milliseconds: dict[str, Spread]
    """A clip in each stage (none of Triton, which tells none) and in `all`; over rounds."""
    latency: Spread
    """Milliseconds from the files of a batch to all of its captions; over batches and rounds."""
    clips_per_second: float
    speedup: dict[str, float]
    """How many times as fast as the reference, in the same stages."""


def read_clips(paths: Sequence[Path], bundle: Bundle, threads: int) -> list[Clip]:
    """The frames that a bundle looks at. Raises MediaError."""
    return [Clip(path, sample(path, bundle.sampling, bundle.resize, threads=threads).pixels) for path in paths]


def same_captions(engines: Mapping[str, Loader], clips: Sequence[Clip], reference: str, threads: int) -> dict[str, int]:
    """For each engine the number of clips whose greedy tokens are those of the reference."""
    said = {}
    for name, load in engines.items():
        engine = load(threads)
        batches = [clips[at : at + BATCH] for at in range(0, len(clips), BATCH)]
        said[name] = [tokens for batch in batches for tokens in engine(batch, GREEDY).tokens]
    return {name: sum(a == b for a, b in zip(said[name], said[reference], strict=True)) for name in said}


def measure(
    engines: Mapping[str, Loader],
    clips: Sequence[Clip],
    bundle: Bundle,
    reference: str,
    *,
    threads: Sequence[int],
    batches: Sequence[int],
    rounds: int,
) -> Iterator[list[Result]]:
    """The results of all engines, setting by setting: each number of threads with each batch.

    A round is a pass over all clips in full batches; the last one is filled up with the first clips.
    """
    for count in threads:
        loaded = {name: load(count) for name, load in engines.items()}
        for size in batches:
            parts = full_batches(clips, size)
            works = {name: partial(caption, engine, parts, bundle.decoding) for name, engine in loaded.items()}
            passes = in_turns({"decode": partial(decode, parts, bundle, count), **works}, rounds)
            decoded = passes.pop("decode")
            whole = {
                name: [joined(*pair) for pair in zip(decoded, found, strict=True)] for name, found in passes.items()
            }
            yield [result(name, count, size, found, whole[reference]) for name, found in whole.items()]


def full_batches(clips: Sequence[Clip], size: int) -> list[list[Clip]]:
    endless = cycle(clips)
    return [list(islice(endless, size)) for _ in range(0, len(clips), size)]


def decode(batches: Sequence[Sequence[Clip]], bundle: Bundle, threads: int) -> Pass:
    """Frames of each clip once more, a clip a thread; of a batch of one with all threads."""
    found = []
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            one = partial(sample, sampling=bundle.sampling, resize=bundle.resize, threads=threads // len(batch) or 1)
            start = perf_counter()
            list(pool.map(one, [clip.path for clip in batch]))
            found.append({"decode": perf_counter() - start})
    return found


def caption(engine: Engine, batches: Sequence[Sequence[Clip]], decoding: Decoding) -> Pass:
    return [engine(batch, decoding).seconds for batch in batches]


def joined(decoded: Pass, captioned: Pass) -> Pass:
    """Each batch with its decoding and with `all`, unless the engine did both at once."""
    batches = []
    for before, after in zip(decoded, captioned, strict=True):
        stages = after if "all" in after else before | after
        batches.append({"all": sum(stages.values())} | stages)
    return batches


def result(engine: str, threads: int, batch: int, rounds: Sequence[Pass], reference: Sequence[Pass]) -> Result:
    stages = [name for name in (*STAGES, "all") if name in rounds[0][0]]
    clips = batch * len(rounds[0])
    seconds = {name: totals(rounds, name) for name in stages}
    latencies = [one["all"] for found in rounds for one in found]
    return Result(
        engine=engine,
        threads=threads,
        batch=batch,
        milliseconds={name: spread([1000 * one / clips for one in values]) for name, values in seconds.items()},
        latency=spread([1000 * one for one in latencies]),
        clips_per_second=clips / median(seconds["all"]),
        speedup={name: median_ratio(totals(reference, name), values) for name, values in seconds.items()},
    )


def totals(rounds: Sequence[Pass], stage: str) -> list[float]:
    """Seconds of a stage in each round."""
    return [sum(batch[stage] for batch in found) for found in rounds]


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values))
