"""Clip → frames → features → memory → hypotheses → Caption: one direction, one pass, each stage timed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any
from zlib import crc32

import numpy as np

from video_captioning.bundle import Bundle, Runtime, read
from video_captioning.decoding import Decoding, Hypothesis, Special, decode
from video_captioning.errors import MediaError
from video_captioning.frames import Frames, Sampling, sample
from video_captioning.parallel import available_cores, in_order
from video_captioning.scenes import segments
from video_captioning.tokenizer import Tokenizer


@dataclass(frozen=True)
class Word:
    """A word of a caption and where it came from."""

    text: str
    logprob: float
    """Sum over the pieces of the word."""
    weights: tuple[float, ...]
    """Attention to each frame, summing to one."""


@dataclass(frozen=True)
class Alternative:
    """Another sentence of the same search."""

    text: str
    score: float


@dataclass(frozen=True)
class Video:
    """What the file says of itself."""

    path: str
    duration: float | None
    """Seconds."""
    width: int
    height: int
    fps: float | None
    codec: str


@dataclass(frozen=True)
class Model:
    """Which bundle said it."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Timings:
    """Seconds for this clip; a batch's encoding and generating are shared out evenly."""

    decode: float
    encode: float
    generate: float


@dataclass(frozen=True)
class Caption:
    """One sentence about one clip."""

    text: str
    score: float
    """Mean log-probability of the tokens."""
    words: tuple[Word, ...]
    alternatives: tuple[Alternative, ...]
    frames: tuple[float, ...]
    """Times of the frames that were looked at, seconds."""
    segment: tuple[float, float] | None
    """Start and end of the stretch that it is about, seconds; None for the whole clip."""
    video: Video
    model: Model
    timings: Timings
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the CLI, the service and the catalog."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Examined:
    """A caption with what it was made from."""

    caption: Caption
    hypothesis: Hypothesis
    frames: Frames
    features: np.ndarray
    """`[frames, positions, width]`"""


class Captioner:
    """A loaded model. Calling it with a path gives a Caption; `captions` takes many paths and batches them."""

    def __init__(self, model: str | Path | Bundle = "default", *, threads: int | None = None) -> None:
        """Load a bundle.

        Args:
            model: a bundle, its folder, or the name of one that ships with the package.
            threads: processor cores to use; all that this process may use unless given.

        Raises:
            BundleError: missing, truncated, changed, or of a newer schema.
        """
        self.bundle = model if isinstance(model, Bundle) else read(model)
        self.threads = threads or available_cores()
        self.runtime = Runtime(self.bundle, self.threads)
        self.tokenizer = Tokenizer.load(self.bundle.tokenizer)
        self._special = Special(Tokenizer.bos, Tokenizer.eos, Tokenizer.pad, Tokenizer.unk)
        self._model = Model(self.bundle.name, self.bundle.version, self.bundle.sha256)

    def __call__(
        self, path: str | Path, *, sampling: Sampling | None = None, decoding: Decoding | None = None
    ) -> Caption:
        """Caption one clip, with the bundle's own sampling and decoding unless others are given.

        Raises:
            MediaError: the file gives no picture; the message says why.
        """
        return self.examine(path, sampling=sampling, decoding=decoding).caption

    def examine(
        self, path: str | Path, *, sampling: Sampling | None = None, decoding: Decoding | None = None
    ) -> Examined:
        """As calling it, with what the caption was made from."""
        start = perf_counter()
        frames = sample(path, sampling or self.bundle.sampling, self.bundle.resize, threads=self.threads)
        return self._examine([(frames, perf_counter() - start)], decoding or self.bundle.decoding)[0]

    def captions(
        self,
        paths: Iterable[str | Path],
        *,
        sampling: Sampling | None = None,
        decoding: Decoding | None = None,
        batch_size: int = 8,
    ) -> Iterator[Caption | MediaError]:
        """Caption many clips, in their order; a clip that gives no picture gives its error instead."""
        samples = self._samples(paths, sampling or self.bundle.sampling, 2 * batch_size)
        while batch := list(islice(samples, batch_size)):
            good = [item for item in batch if not isinstance(item, MediaError)]
            made = iter(self._examine(good, decoding or self.bundle.decoding) if good else [])
            yield from (item if isinstance(item, MediaError) else next(made).caption for item in batch)

    def _samples(
        self, paths: Iterable[str | Path], sampling: Sampling, ahead: int
    ) -> Iterator[tuple[Frames, float] | MediaError]:
        """Frames of each clip and the seconds they took, a clip a core, at most `ahead` clips ahead."""
        alone = isinstance(paths, Sized) and len(paths) == 1
        threads = self.threads if alone else 1

        def one(path: str | Path) -> tuple[Frames, float] | MediaError:
            start = perf_counter()
            try:
                return sample(path, sampling, self.bundle.resize, threads=threads), perf_counter() - start
            except MediaError as error:
                return error

        return in_order(one, paths, self.threads, ahead)

    def segments(
        self,
        path: str | Path,
        *,
        sampling: Sampling | None = None,
        decoding: Decoding | None = None,
        batch_size: int = 8,
    ) -> Iterator[Caption]:
        """A caption for each scene of a long video, `batch_size` at a time, while the rest is still being read.

        Raises:
            MediaError, MissingExtraError, ConfigError: as `scenes.segments`.
        """
        found = segments(path, sampling or self.bundle.sampling, self.bundle.resize, threads=self.threads)
        while batch := list(islice(found, batch_size)):
            captions = self.caption_frames([(each.frames, each.seconds) for each in batch], decoding)
            for caption, each in zip(captions, batch, strict=True):
                yield replace(caption, segment=(each.start, each.end))

    def hypotheses(self, clips: Sequence[np.ndarray], decoding: Decoding | None = None) -> list[list[Hypothesis]]:
        """What is said of clips given as frames, uint8 `[T, S, S, 3]` each, with the bundle's side S; best first."""
        return self._generate(*self.runtime.encode(clips), clips, decoding or self.bundle.decoding)

    def caption_frames(self, clips: Sequence[tuple[Frames, float]], decoding: Decoding | None = None) -> list[Caption]:
        """Captions, made in one batch, of clips sampled with the bundle's `resize`; each with the seconds that took."""
        return [one.caption for one in self._examine(clips, decoding or self.bundle.decoding)]

    def text(self, hypothesis: Hypothesis) -> str:
        """The sentence of a hypothesis."""
        return sentence(self.tokenizer.decode(hypothesis.tokens))

    def _generate(
        self, features: np.ndarray, frame_mask: np.ndarray, clips: Sequence[np.ndarray], decoding: Decoding
    ) -> list[list[Hypothesis]]:
        memory, state = self.runtime.remember(features, frame_mask)
        keys = [crc32(pixels.tobytes()) for pixels in clips]  # a draw depends on the clip, not on its batch
        return decode(self.runtime.step, state, memory, decoding, self._special, keys)

    def _examine(self, clips: Sequence[tuple[Frames, float]], decoding: Decoding) -> list[Examined]:
        start = perf_counter()
        pixels = [frames.pixels for frames, _ in clips]
        features, frame_mask = self.runtime.encode(pixels)
        encoded = perf_counter()
        found = self._generate(features, frame_mask, pixels, decoding)
        done = perf_counter()
        share = Timings(0.0, (encoded - start) / len(clips), (done - encoded) / len(clips))
        return [
            Examined(
                self._caption(frames, hypotheses, features.shape[2], replace(share, decode=seconds)),
                hypotheses[0],
                frames,
                own[: len(frames.times)],
            )
            for (frames, seconds), hypotheses, own in zip(clips, found, features, strict=True)
        ]

    def _caption(self, frames: Frames, hypotheses: Sequence[Hypothesis], positions: int, timings: Timings) -> Caption:
        best, *others = hypotheses
        info = frames.info
        return Caption(
            text=self.text(best),
            score=best.mean_logprob,
            words=self._words(best, len(frames.times), positions),
            alternatives=tuple(Alternative(self.text(other), other.mean_logprob) for other in others),
            frames=tuple(frames.times.tolist()),
            segment=None,
            video=Video(str(info.path), info.duration, info.width, info.height, info.fps, info.codec),
            model=self._model,
            timings=timings,
            warnings=frames.warnings,
        )

    def _words(self, hypothesis: Hypothesis, frames: int, positions: int) -> tuple[Word, ...]:
        tokens, slots = hypothesis.attention.shape
        attention = hypothesis.attention.reshape(tokens, slots // positions, positions).sum(2)[:, :frames]
        words = []
        for text, places in self.tokenizer.words(hypothesis.tokens):
            weights = attention[places].mean(0)
            logprob = sum(hypothesis.logprobs[place] for place in places)
            words.append(Word(text, float(logprob), tuple((weights / weights.sum()).tolist())))
        return tuple(words)


def sentence(text: str) -> str:
    """Words as a sentence: a capital first, a full stop last."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text[-1:] in {'.', '!', '?', ''} else '.'}"
