"""Explanations of any size, with random weights."""

from __future__ import annotations

import numpy as np

from tests import tiny
from video_captioning.captioner import Caption, Model, Timings, Video, Word, sentence
from video_captioning.explain.explanation import Explanation
from video_captioning.explain.occlusion import Occlusion
from video_captioning.painter import Pixels


def explanation(
    words: list[str],
    frames: int,
    positions: int = 5,
    *,
    occlusion: bool = True,
    path: str = "clip.mp4",
    codec: str = "h264",
) -> Explanation:
    """Of a clip of two frames a second; of a picture where `frames` is 1."""
    rng = np.random.default_rng(frames)
    attention = rng.exponential(size=(len(words), frames, positions)).astype(np.float32) ** 3
    attention /= attention.sum((1, 2), keepdims=True)
    said = tuple(Word(word, -1.5, tuple(row.sum(1).tolist()), None) for word, row in zip(words, attention, strict=True))
    caption = Caption(
        text=sentence(" ".join(words)),
        score=-1.0,
        confidence=None,
        words=said,
        alternatives=(),
        frames=tuple((np.arange(frames) / 2).tolist()),
        segment=None,
        tags=None,
        video=Video(path, None if frames == 1 else frames / 2, 128, 96, 30.0, codec),
        model=Model("tiny", "1", "0" * 64),
        timings=Timings(0, 0, 0),
        warnings=(),
    )
    falls = rng.normal(size=(4 if frames == 1 else frames, len(words) + 1))
    hidden = Occlusion("regions" if frames == 1 else "frames", falls) if occlusion else None
    return Explanation(caption, attention, tuple((place,) for place in range(len(words))), hidden)


def pictures(frames: int) -> list[Pixels]:
    return tiny.pictures(frames)
