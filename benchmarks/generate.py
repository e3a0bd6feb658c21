"""Sentences from features that are there already: processor time per clip, by part and by beam, on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from benchmarks.caption import videos
from benchmarks.report import Report, machine
from benchmarks.timing import confine, in_turns
from video_captioning.captioner import Captioner
from video_captioning.confidence import Judge
from video_captioning.decoding import Decoding
from video_captioning.frames import sample

BATCH = 8  # clips, as `vidcap caption FOLDER` has them
NARROWER = (5, 4, 3, 1)  # beams, beside the bundle's own
PARTS = ("memory", "steps", "choice")

P = ParamSpec("P")
R = TypeVar("R")


class Batch(NamedTuple):
    """Features `[B, T, P, D]` and mask `[B, T]` of some clips."""

    features: np.ndarray
    frame_mask: np.ndarray


@dataclass
class Clock:
    """Adds up the processor time of calls."""

    seconds: float = 0.0

    def timed(self, work: Callable[P, R]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            start = process_time()
            result = work(*args, **kwargs)
            self.seconds += process_time() - start
            return result

        return call


def measure(folder: Path, model: str, repeat: int) -> Report:
    """Raises MediaError for a clip that cannot be sampled, BundleError for the model."""
    confine(1)
    captioner = Captioner(model, threads=1)
    paths = videos(folder)
    batches = [encoded(captioner, paths[at : at + BATCH]) for at in range(0, len(paths), BATCH)]
    own = captioner.bundle.decoding
    beams = [own.beam, *(beam for beam in NARROWER if own.alternatives <= beam < own.beam)]
    passes = in_turns(
        {str(beam): partial(generate, captioner, batches, replace(own, beam=beam)) for beam in beams}, repeat
    )
    setting = {"clips": len(paths), "batch": BATCH, "threads": 1, "rounds": repeat, "model": captioner.bundle.name}
    return Report("generate", setting | machine(), (tabulate(passes, len(paths)),))


def encoded(captioner: Captioner, paths: Sequence[Path]) -> Batch:
    bundle = captioner.bundle
    return Batch(*captioner.runtime.encode([sample(path, bundle.sampling, bundle.resize).pixels for path in paths]))


def generate(captioner: Captioner, batches: Sequence[Batch], decoding: Decoding) -> tuple[float, ...]:
    """Seconds of all batches in each of PARTS: the last is all that is not the model's own."""
    judge = Judge(captioner.tokenizer, captioner.bundle.concepts, captioner.bundle.confidence)
    memory_clock, step_clock = Clock(), Clock()
    remember, step = memory_clock.timed(captioner.runtime.remember), step_clock.timed(captioner.runtime.step)
    start = process_time()
    for batch in batches:
        memory, state = remember(*batch)
        judge.search(step, state, memory, batch.frame_mask, decoding)
    whole = process_time() - start
    return memory_clock.seconds, step_clock.seconds, whole - memory_clock.seconds - step_clock.seconds


def tabulate(passes: dict[str, list[tuple[float, ...]]], clips: int) -> list[dict[str, Any]]:
    """A row for each beam: of its rounds the one that took least, since other programs only ever add."""
    rows = []
    for beam, rounds in passes.items():
        least = [1000 * seconds / clips for seconds in min(rounds, key=sum)]
        rows.append({"beam": int(beam), **dict(zip(PARTS, least, strict=True)), "ms per clip": sum(least)})
    return rows
