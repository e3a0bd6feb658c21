"""What is said of a clip, and what is known of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from video_captioning.concepts import Tag


@dataclass(frozen=True)
class Word:
    """A word of a caption and where it came from."""

    text: str
    logprob: float
    """Sum over the pieces of the word."""
    weights: tuple[float, ...]
    """Attention to each frame, summing to one."""
    confidence: float | None
    """How likely it is true of the clip, 0 to 1; None of a function word, and of a model without confidence."""


@dataclass(frozen=True)
class Alternative:
    """Another sentence of the same search."""

    text: str
    score: float
    confidence: float | None


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
    confidence: float | None
    """How likely the sentence is true, 0 to 1; None of a model without confidence."""
    words: tuple[Word, ...]
    alternatives: tuple[Alternative, ...]
    frames: tuple[float, ...]
    """Times of the frames that were looked at, seconds."""
    segment: tuple[float, float] | None
    """Start and end of the stretch that it is about, seconds; None for the whole clip."""
    tags: tuple[Tag, ...] | None
    """What is to be seen, the surest first; None of a model without concepts."""
    video: Video
    model: Model
    timings: Timings
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the CLI, the service and the catalog."""
        return asdict(self)


def sentence(text: str) -> str:
    """Words as a sentence: a capital first, a full stop last."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text[-1:] in {'.', '!', '?', ''} else '.'}"
