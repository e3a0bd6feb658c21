"""ROUGE-L (Lin 2004), as the COCO caption tool computes it: the best precision and the best recall over references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from video_captioning.metrics.intervals import mean, segment_statistics
from video_captioning.metrics.ngrams import Tokens

BETA = 1.2
"""How much more recall counts than precision."""


@dataclass(frozen=True)
class RougeScore:
    score: float
    """Mean over the hypotheses, 0 to 1."""
    segments: NDArray[np.float64]
    """Of each hypothesis, `[N]`."""


class Rouge:
    """F-measure of the longest common subsequence."""

    def __init__(self) -> None:
        self._segments: list[float] = []

    def update(self, hypothesis: Tokens, references: Sequence[Tokens]) -> None:
        said = list(hypothesis) or [""]  # to the tool an empty sentence is one empty word
        known = [list(reference) or [""] for reference in references]
        common = common_lengths(said, known)
        precision = max(common) / len(said)
        recall = max(length / len(reference) for length, reference in zip(common, known, strict=True))
        weight = recall + BETA**2 * precision
        self._segments.append((1 + BETA**2) * precision * recall / weight if weight else 0.0)

    def merge(self, other: Rouge) -> None:
        """Add what `other` has seen after what this one has."""
        self._segments += other._segments

    @property
    def statistics(self) -> NDArray[np.float64]:
        return segment_statistics(self._segments)

    @staticmethod
    def formula(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return mean(sums)

    def compute(self) -> RougeScore:
        segments = np.array(self._segments)
        return RougeScore(float(segments.mean()), segments)


def common_lengths(sentence: Tokens, others: Sequence[Tokens]) -> list[int]:
    """Length of the longest common subsequence of a sentence and each of the others.

    A column of the usual table is one number whose bits say where it grows (Hyyrö 2004, "Bit-parallel LCS-length
    computation revisited", figure 2).
    """
    every = (1 << len(sentence)) - 1
    places: dict[str, int] = {}
    for place, word in enumerate(sentence):
        places[word] = places.get(word, 0) | 1 << place
    lengths = []
    for other in others:
        column = every
        for word in other:
            if word in places:
                matched = column & places[word]
                column = (column + matched) | (column - matched)
        lengths.append(len(sentence) - (column & every).bit_count())
    return lengths


def rouge(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> RougeScore:
    """ROUGE-L of hypotheses, each with its references."""
    metric = Rouge()
    for hypothesis, known in zip(hypotheses, references, strict=True):
        metric.update(hypothesis, known)
    return metric.compute()
