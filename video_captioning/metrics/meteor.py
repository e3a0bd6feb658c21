"""METEOR 1.5 of English (Denkowski & Lavie 2014), as the COCO caption tool computes it with Java's jar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from video_captioning.errors import VidcapError
from video_captioning.metrics.intervals import Floats
from video_captioning.metrics.meteor_alignment import WEIGHTS, Match, resolve
from video_captioning.metrics.meteor_lexicon import load_lexicon
from video_captioning.metrics.ngrams import Tokens

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
"""Weight of recall, shape and size of the penalty on disorder, weight of content words: tuned on human rankings."""
_SIZES, _COUNTS = 4, 16


@dataclass(frozen=True)
class MeteorScore:
    score: float
    """Of all hypotheses, 0 to 1: a formula of summed statistics, not the mean of `segments`."""
    segments: Floats
    """Of each hypothesis, `[N]`."""


class Meteor:
    """F-mean of matched words, less where they stand in another order; the best reference counts."""

    def __init__(self) -> None:
        """Raises VidcapError where the tables cannot be had: `meteor_data.open_tables` says which."""
        self._lexicon = load_lexicon()
        self._rows: list[NDArray[np.int32]] = []  # of each hypothesis, a row a reference

    def update(self, hypothesis: Tokens, references: Sequence[Tokens]) -> None:
        said = self._lexicon.normalize(hypothesis)
        known = list(dict.fromkeys(tuple(self._lexicon.normalize(one)) for one in references))  # people agree at times
        function = self._lexicon.function
        hypothesis_function = [word in function for word in said]
        rows = []
        for reference, matches in zip(known, self._lexicon.matches(said, known), strict=True):
            chosen = resolve(matches, len(said), len(reference))
            rows.append(count(chosen, hypothesis_function, [word in function for word in reference]))
        self._rows.append(np.array(rows, np.int32))

    def merge(self, other: Meteor) -> None:
        """Add what `other` has seen after what this one has."""
        self._rows += other._rows

    @property
    def statistics(self) -> Floats:
        """The numbers that the jar gives for each hypothesis and its best reference, `[N, 23]`.

        Words of both, function words of both; of each matcher content words matched in both, function words matched in
        both; chunks; words matched in both. Where all words are one chunk there is no penalty, for a sum either: the
        chunks are 0, which the jar does when it sums.
        """
        if not self._rows:
            return np.zeros((0, _SIZES + _COUNTS + 3))
        rows = np.concatenate(self._rows).astype(np.float64)
        ends = np.cumsum([len(part) for part in self._rows])
        parts = np.split(self.formula(rows)[:, 0], ends[:-1])
        return rows[[end - len(part) + int(part.argmax()) for end, part in zip(ends.tolist(), parts, strict=True)]]

    @staticmethod
    def formula(sums: Floats) -> Floats:
        """Statistics, or sums of them, `[..., 23]` → the score `[..., 1]` (equations 1 to 5)."""
        words, function = sums[..., :2], sums[..., 2:4]
        matched = sums[..., _SIZES : _SIZES + _COUNTS].reshape(*sums.shape[:-1], 4, 2, 2)
        content, functional = np.moveaxis(np.tensordot(matched, WEIGHTS, (-3, 0)), -2, 0)
        possible = DELTA * (words - function) + (1 - DELTA) * function
        both = divide(DELTA * content + (1 - DELTA) * functional, possible)
        precision, recall = both[..., 0], both[..., 1]
        mean = divide(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
        chunks, covered = sums[..., -3], sums[..., -2:]
        penalty = GAMMA * divide(chunks, covered.mean(-1)) ** BETA
        score: Floats = mean * (1 - penalty)
        return score[..., None]

    def compute(self) -> MeteorScore:
        statistics = self.statistics
        return MeteorScore(float(self.formula(statistics.sum(0))[0]), self.formula(statistics)[:, 0])


def count(chosen: Sequence[Match], hypothesis: Sequence[bool], reference: Sequence[bool]) -> list[int]:
    """The statistics of two sentences, whose function words are marked."""
    counts = [0] * _COUNTS
    chunks, said, known, end, other_end = 0, 0, 0, -1, -1
    for start, length, other, span, matcher in sorted(chosen):
        chunks += start != end or other != other_end
        end, other_end = start + length, other + span
        functional, other_functional = sum(hypothesis[start:end]), sum(reference[other:other_end])
        said += length
        known += span
        at = 4 * matcher
        counts[at] += length - functional
        counts[at + 1] += span - other_functional
        counts[at + 2] += functional
        counts[at + 3] += other_functional
    sizes = len(hypothesis), len(reference), sum(hypothesis), sum(reference)
    whole = chunks == 1 and (said, known) == sizes[:2]
    return [*sizes, *counts, 0 if whole else chunks, said, known]


def divide(numbers: Floats, by: Floats) -> Floats:
    """0 where there is nothing to divide by."""
    return np.divide(numbers, by, out=np.zeros_like(numbers), where=by > 0)


def why_not() -> str | None:
    """Why METEOR cannot be had here, and the way out; None where it can."""
    try:
        load_lexicon()
    except VidcapError as error:
        return str(error)
    return None


def meteor(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> MeteorScore:
    """METEOR of hypotheses, each with its references."""
    metric = Meteor()
    for hypothesis, known in zip(hypotheses, references, strict=True):
        metric.update(hypothesis, known)
    return metric.compute()
