"""Clip → frames → features → memory → hypotheses → Caption: one direction, one pass, each stage timed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from zlib import crc32

import numpy as np

from video_captioning.bundle import Bundle, Runtime, read
from video_captioning.caption import Alternative, Caption, Model, Timings, Video, Word, sentence
from video_captioning.concepts import Tag, is_number
from video_captioning.confidence import Found, Judge, Said, sure_enough
from video_captioning.decoding import Decoding, Hypothesis
from video_captioning.errors import ConfigError, MediaError
from video_captioning.frames import Frames, Sampling, sample
from video_captioning.parallel import available_cores, in_order
from video_captioning.scenes import segments
from video_captioning.tokenizer import Tokenizer

__all__ = ["Alternative", "Caption", "Captioner", "Examined", "Model", "Tag", "Timings", "Video", "Word", "sentence"]


@dataclass(frozen=True, eq=False)
class Examined:
    """A caption with what it was made from."""

    caption: Caption
    hypothesis: Hypothesis
    """The best of the search."""
    frames: Frames
    features: np.ndarray
    """`[frames, positions, width]`"""
    concepts: np.ndarray | None
    """Logits of the concepts in each frame, `[frames, C]`; None of a model without."""


@dataclass(frozen=True)
class Asked:
    """How a batch is to be captioned."""

    decoding: Decoding
    min_confidence: float | None


class Captioner:
    """A loaded model. Calling it with a path gives a Caption; `captions` takes many paths and batches them.

    `min_confidence`, wherever it is taken, is from 0 to 1: a sentence of which the model is less sure is replaced by
    the most specific one that holds. That is the next best sentence of the search of which it is sure enough, else "A
    video of X." or "A video of X and Y." with the one or two surest tags that are things ("A picture of" where the
    file is a still), which has no words and the confidence of its least sure thing, else nothing: an empty text with a
    warning. The latter two have the score of the search's best sentence. Nothing below it is among the alternatives.
    """

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
        self._judge = Judge(self.tokenizer, self.bundle.concepts, self.bundle.confidence)
        self._model = Model(self.bundle.name, self.bundle.version, self.bundle.sha256)

    def __call__(
        self,
        path: str | Path,
        *,
        sampling: Sampling | None = None,
        decoding: Decoding | None = None,
        min_confidence: float | None = None,
    ) -> Caption:
        """Caption one clip, with the bundle's own sampling and decoding unless others are given.

        Raises:
            MediaError: the file gives no picture; the message says why.
            ConfigError: `min_confidence` is out of range, or the model has no confidence.
        """
        return self.examine(path, sampling=sampling, decoding=decoding, min_confidence=min_confidence).caption

    def examine(
        self,
        path: str | Path,
        *,
        sampling: Sampling | None = None,
        decoding: Decoding | None = None,
        min_confidence: float | None = None,
    ) -> Examined:
        """As calling it, with what the caption was made from."""
        asked = self._asked(decoding, min_confidence)
        start = perf_counter()
        frames = sample(path, sampling or self.bundle.sampling, self.bundle.resize, threads=self.threads)
        return self._examine([(frames, perf_counter() - start)], asked)[0]

    def captions(
        self,
        paths: Iterable[str | Path],
        *,
        sampling: Sampling | None = None,
        decoding: Decoding | None = None,
        min_confidence: float | None = None,
        batch_size: int = 8,
    ) -> Iterator[Caption | MediaError]:
        """Caption many clips, in their order; a clip that gives no picture gives its error instead.

        Raises:
            ConfigError: `min_confidence` is out of range, or the model has no confidence.
        """
        asked = self._asked(decoding, min_confidence)
        found = self._each(paths, sampling or self.bundle.sampling, asked, batch_size)
        return (item if isinstance(item, MediaError) else item.caption for item in found)

    def examined(
        self,
        paths: Iterable[str | Path],
        *,
        sampling: Sampling | None = None,
        decoding: Decoding | None = None,
        batch_size: int = 8,
    ) -> Iterator[Examined | MediaError]:
        """As `captions`, with what each was made from."""
        return self._each(paths, sampling or self.bundle.sampling, self._asked(decoding), batch_size)

    def _each(
        self, paths: Iterable[str | Path], sampling: Sampling, asked: Asked, batch_size: int
    ) -> Iterator[Examined | MediaError]:
        samples = self._samples(paths, sampling, 2 * batch_size)
        while batch := list(islice(samples, batch_size)):
            good = [item for item in batch if not isinstance(item, MediaError)]
            made = iter(self._examine(good, asked) if good else [])
            yield from (item if isinstance(item, MediaError) else next(made) for item in batch)

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
        min_confidence: float | None = None,
        batch_size: int = 8,
    ) -> Iterator[Caption]:
        """A caption for each scene of a long video, `batch_size` at a time, while the rest is still being read.

        Raises:
            MediaError, MissingExtraError, ConfigError: as `scenes.segments`.
            ConfigError: `min_confidence` is out of range, or the model has no confidence.
        """
        found = segments(path, sampling or self.bundle.sampling, self.bundle.resize, threads=self.threads)
        while batch := list(islice(found, batch_size)):
            captions = self.caption_frames([(each.frames, each.seconds) for each in batch], decoding, min_confidence)
            for caption, each in zip(captions, batch, strict=True):
                yield replace(caption, segment=(each.start, each.end))

    def hypotheses(self, clips: Sequence[np.ndarray], decoding: Decoding | None = None) -> list[list[Hypothesis]]:
        """What is said of clips given as frames, uint8 `[T, S, S, 3]` each, with the bundle's side S; best first."""
        found = self._say(*self.runtime.encode(clips), clips, self._asked(decoding))
        return [[one.hypothesis for one in each.said] for each in found]

    def caption_frames(
        self,
        clips: Sequence[tuple[Frames, float]],
        decoding: Decoding | None = None,
        min_confidence: float | None = None,
    ) -> list[Caption]:
        """Captions, made in one batch, of clips sampled with the bundle's `resize`; each with the seconds that took.

        Raises:
            ConfigError: `min_confidence` is out of range, or the model has no confidence.
        """
        return [one.caption for one in self._examine(clips, self._asked(decoding, min_confidence))]

    def text(self, hypothesis: Hypothesis) -> str:
        """The sentence of a hypothesis."""
        return sentence(self.tokenizer.decode(hypothesis.tokens))

    def _asked(self, decoding: Decoding | None, min_confidence: float | None = None) -> Asked:
        if min_confidence is not None:
            if not is_number(min_confidence) or not 0 <= min_confidence <= 1:
                raise ConfigError(f"min_confidence must be a number from 0 to 1; it is {min_confidence!r}")
            if self.bundle.confidence is None:
                problem = f"the model '{self.bundle.name}' does not tell how sure it is"
                raise ConfigError(f"{problem}; leave out min_confidence, or choose a model that does, such as default")
        return Asked(decoding or self.bundle.decoding, min_confidence)

    def _say(
        self, features: np.ndarray, frame_mask: np.ndarray, clips: Sequence[np.ndarray], asked: Asked
    ) -> list[Found]:
        memory, state = self.runtime.remember(features, frame_mask)
        sampled = asked.decoding.temperature is not None  # a draw depends on the clip, not on its batch
        keys = [crc32(np.ascontiguousarray(pixels).data) for pixels in clips] if sampled else None
        whole = asked.min_confidence is not None
        return self._judge.search(self.runtime.step, state, memory, frame_mask, asked.decoding, keys, whole=whole)

    def _examine(self, clips: Sequence[tuple[Frames, float]], asked: Asked) -> list[Examined]:
        start = perf_counter()
        pixels = [frames.pixels for frames, _ in clips]
        features, frame_mask = self.runtime.encode(pixels)
        encoded = perf_counter()
        found = self._say(features, frame_mask, pixels, asked)
        done = perf_counter()
        share = Timings(0.0, (encoded - start) / len(clips), (done - encoded) / len(clips))
        return [
            Examined(
                self._caption(frames, one, features.shape[2], replace(share, decode=seconds), asked),
                one.said[0].hypothesis,
                frames,
                own[: len(frames.times)],
                one.logits,
            )
            for (frames, seconds), one, own in zip(clips, found, features, strict=True)
        ]

    def _caption(self, frames: Frames, found: Found, positions: int, timings: Timings, asked: Asked) -> Caption:
        info, times = frames.info, tuple(frames.times.tolist())
        concepts, best = self.bundle.concepts, found.said[0]
        caption = Caption(
            text="",
            score=best.hypothesis.mean_logprob,
            confidence=best.confidence,
            words=(),
            alternatives=(),
            frames=times,
            segment=None,
            tags=None if concepts is None or found.logits is None else concepts.tags(found.logits, times),
            video=Video(str(info.path), info.duration, info.width, info.height, info.fps, info.codec),
            model=self._model,
            timings=timings,
            warnings=frames.warnings,
        )
        if not (said := sure_enough(found.said, asked.min_confidence)):
            return self._less(caption, found, asked.min_confidence or 0.0)
        best, *others = said[: asked.decoding.alternatives]
        return replace(
            caption,
            text=self.text(best.hypothesis),
            score=best.hypothesis.mean_logprob,
            confidence=best.confidence,
            words=self._words(best, len(times), positions),
            alternatives=tuple(
                Alternative(self.text(one.hypothesis), one.hypothesis.mean_logprob, one.confidence) for one in others
            ),
        )

    def _less(self, caption: Caption, found: Found, least: float) -> Caption:
        """What is said where the model is not sure enough of any sentence."""
        concepts = self.bundle.concepts
        things = concepts.things(found.logits, least) if concepts and found.logits is not None else []
        if things:
            kind = "picture" if caption.video.duration is None else "video"
            text = f"A {kind} of {' and '.join(phrase for phrase, _ in things)}."
            return replace(caption, text=text, confidence=min(score for _, score in things))
        most = max(one.confidence or 0.0 for one in found.said)
        warning = f"the model is not sure enough of any sentence (confidence {most:.2f}, wanted {least:.2f})"
        return replace(caption, confidence=most, warnings=(*caption.warnings, warning))

    def _words(self, said: Said, frames: int, positions: int) -> tuple[Word, ...]:
        hypothesis = said.hypothesis
        tokens, places = hypothesis.attention.shape
        attention = hypothesis.attention.reshape(tokens, places // positions, positions).sum(2)[:, :frames]
        words = []
        for (text, own), confidence in zip(self.tokenizer.words(hypothesis.tokens), said.words, strict=True):
            weights = attention[own].mean(0)
            logprob = sum(hypothesis.logprobs[place] for place in own)
            words.append(Word(text, float(logprob), tuple((weights / weights.sum()).tolist()), confidence))
        return tuple(words)
