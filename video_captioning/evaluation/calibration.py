"""Is a model as often right as it says? Reliability by bins, and the expected calibration error (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from video_captioning.captioner import Caption
from video_captioning.concepts import Floats
from video_captioning.evaluation.support import Support
from video_captioning.words import content_stems

BINS = 10


@dataclass(frozen=True)
class Bin:
    """What was said with much the same confidence."""

    low: float
    high: float
    """Least and greatest confidence."""
    count: int
    confidence: float
    """Mean."""
    right: float
    """Share that is right."""


@dataclass(frozen=True)
class Calibration:
    """Confidence beside truth, the least sure first."""

    bins: tuple[Bin, ...]

    @property
    def error(self) -> float:
        """Expected calibration error: how far confidence is from the share that is right, on average."""
        total = sum(one.count for one in self.bins)
        return sum(one.count * abs(one.confidence - one.right) for one in self.bins) / max(1, total)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"expected_calibration_error": self.error, "bins": [asdict(one) for one in self.bins]}


def calibration(confidences: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Calibration in ten bins that hold equally many, but for one; of fewer than ten, each has its own."""
    order = np.argsort(np.asarray(confidences), kind="stable")
    parts = np.array_split(order, min(BINS, len(order))) if len(order) else []
    sure, true = np.asarray(confidences, float), np.asarray(right, float)
    return Calibration(tuple(one_bin(sure[part], true[part]) for part in parts))


def one_bin(sure: Floats, right: Floats) -> Bin:
    """A bin of confidences in their order and of 1 for what is right."""
    return Bin(float(sure[0]), float(sure[-1]), len(sure), float(sure.mean()), float(right.mean()))


def of_sentences(captions: Sequence[Caption], supported: Support) -> Calibration | None:
    """A sentence is right if references use at least half of its content words; None of a model without confidence."""
    told = [
        (caption.confidence, right)
        for caption, right in zip(captions, supported.right, strict=True)
        if caption.confidence is not None
    ]
    return calibration([sure for sure, _ in told], [right for _, right in told]) if told else None


def of_words(captions: Sequence[Caption], references: Sequence[Sequence[str]]) -> Calibration | None:
    """A content word is right if a reference uses one of its stem; None of a model without confidence."""
    told = []
    for caption, wanted in zip(captions, references, strict=True):
        known = {stem for reference in wanted for stem in content_stems(reference)}
        told += [
            (word.confidence, content_stems(word.text)[-1] in known)
            for word in caption.words
            if word.confidence is not None
        ]
    return calibration([sure for sure, _ in told], [right for _, right in told]) if told else None
