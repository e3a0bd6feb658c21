"""CIDEr-D (Vedantam et al. 2015, equations 1 to 3 and section 5), as the COCO caption tool computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from video_captioning.metrics.intervals import Floats, mean, segment_statistics
from video_captioning.metrics.ngrams import LONGEST, Entries, Ints, Numbering, Tokens

SIGMA = 6.0
"""Of the penalty on a difference in length; the tool takes the number of bigrams for the length."""


@dataclass(frozen=True)
class CiderScore:
    score: float
    """Mean over the hypotheses, 0 to 10."""
    segments: Floats
    """Of each hypothesis, `[N]`."""


@dataclass(frozen=True)
class DocumentFrequency:
    """In how many documents each n-gram occurs; a document is all references of one clip."""

    documents: int
    numbering: Numbering
    counts: list[Ints]
    """Of the n-grams of each length, by their numbers."""

    def weights(self, order: int) -> Floats:
        """Inverse document frequency, log of documents over those that hold the n-gram; the last is of unseen ones."""
        weights: Floats = math.log(self.documents) - np.log(np.append(self.counts[order], 1))
        return weights


def document_frequency(references: Sequence[Sequence[Tokens]]) -> DocumentFrequency:
    """Count the references of a set of clips, so that another set can borrow its weights."""
    numbering = Numbering()
    found = numbering.count(list(chain.from_iterable(references)), learn=True)
    return frequency_of(found, owners(references), numbering)


def frequency_of(found: Sequence[Entries], clips: Ints, numbering: Numbering) -> DocumentFrequency:
    """Of the n-grams found in sentences of these clips."""
    counts = []
    for entries, size in zip(found, numbering.sizes, strict=True):
        keys = np.sort(clips[entries.sentence] << 32 | entries.gram)
        first = np.append(True, keys[1:] != keys[:-1])[: len(keys)]  # np.unique takes ten times as long
        counts.append(np.bincount(keys[first] & 0xFFFFFFFF, minlength=size))
    return DocumentFrequency(int(clips[-1]) + 1, numbering, counts)


def owners(references: Sequence[Sequence[Tokens]]) -> Ints:
    """The clip of each reference."""
    return np.repeat(np.arange(len(references)), np.fromiter(map(len, references), np.int64))


class Known(NamedTuple):
    """The n-grams of one length in all references, an entry for each n-gram of each, sorted by clip and n-gram."""

    keys: Ints
    """Clip and n-gram in one."""
    sentence: Ints
    times: Ints
    scaled: Floats
    """Times squared weight over the length of the reference's vector: what a match of one word counts."""
    weights: Floats
    """Of the n-grams by their numbers; the last is of unseen ones."""


class Consensus:
    """References of clips, made ready to be compared with any number of hypotheses: a metric, and a reward."""

    def __init__(self, references: Sequence[Sequence[Tokens]], frequency: DocumentFrequency | None = None) -> None:
        """`references` of each clip; without a `frequency` they give the weights of n-grams themselves."""
        sentences = list(chain.from_iterable(references))
        clips = owners(references)
        self._numbering = frequency.numbering.copy() if frequency else Numbering()
        found = self._numbering.count(sentences, learn=True)
        frequency = frequency or frequency_of(found, clips, self._numbering)
        self._known = [prepare(clips, entries, frequency.weights(order)) for order, entries in enumerate(found)]
        self._lengths = bigrams(sentences)
        self._sizes = np.bincount(clips)

    def score(self, clips: Sequence[int], hypotheses: Sequence[Tokens]) -> Floats:
        """CIDEr-D of each hypothesis against the references of the clip of that number, `[N]`."""
        clip, lengths = np.asarray(clips, np.int64), bigrams(hypotheses)
        total = np.zeros(len(hypotheses))
        for said, known in zip(self._numbering.count(hypotheses), self._known, strict=True):
            each, row = matches(known.keys, clip[said.sentence] << 32 | said.gram)
            hypothesis = said.sentence[each]
            clipped = np.minimum(said.times[each], known.times[row])  # a word said too often is no better a match
            difference = lengths[hypothesis] - self._lengths[known.sentence[row]]
            penalty = np.exp(-(difference**2) / (2 * SIGMA**2))
            similar = divide(clipped * known.scaled[row] * penalty, norms(said, known.weights)[each])
            total += np.bincount(hypothesis, similar, len(hypotheses))
        return 10 * total / (LONGEST * self._sizes[clip])


def prepare(clips: Ints, found: Entries, weights: Floats) -> Known:
    keys = clips[found.sentence] << 32 | found.gram
    weight = weights[np.minimum(found.gram, len(weights) - 1)]
    scaled = divide(found.times * weight**2, norms(found, weights))
    sort = np.argsort(keys, kind="stable")
    return Known(keys[sort], found.sentence[sort], found.times[sort], scaled[sort], weights)


def norms(found: Entries, weights: Floats) -> Floats:
    """The length of the tf-idf vector that each entry is in, `[E]`."""
    squares = (found.times * weights[np.minimum(found.gram, len(weights) - 1)]) ** 2
    lengths: Floats = np.sqrt(np.bincount(found.sentence, squares))
    return lengths[found.sentence]


def matches(keys: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """All pairs of equal keys: places in `wanted`, and places in `keys`, which are sorted."""
    first, last = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
    counts = last - first
    each = np.repeat(np.arange(len(wanted)), counts)
    return each, np.arange(len(each)) - np.repeat(np.cumsum(counts) - last, counts)


def divide(numbers: Floats, by: Floats) -> Floats:
    """0 where a vector has no length."""
    return np.divide(numbers, by, out=np.zeros(len(by)), where=by > 0)


def bigrams(sentences: Sequence[Tokens]) -> Ints:
    return np.maximum(np.fromiter(map(len, sentences), np.int64) - 1, 0)


class Cider:
    """Mean over n and references of the cosine between tf-idf vectors of n-grams, clipped, in tens.

    The weights of n-grams come from the references themselves, so that scores of two sets are comparable only where
    the sets are about as large and as varied; small sets can borrow the `frequency` of a large one.
    """

    def __init__(self, frequency: DocumentFrequency | None = None) -> None:
        self._frequency = frequency
        self._hypotheses: list[Tokens] = []
        self._references: list[Sequence[Tokens]] = []

    def update(self, hypothesis: Tokens, references: Sequence[Tokens]) -> None:
        self._hypotheses.append(hypothesis)
        self._references.append(references)

    def merge(self, other: Cider) -> None:
        """Add what `other` has seen after what this one has."""
        self._hypotheses += other._hypotheses
        self._references += other._references

    @property
    def statistics(self) -> Floats:
        return segment_statistics(self.compute().segments)

    @staticmethod
    def formula(sums: Floats) -> Floats:
        return mean(sums)

    def compute(self) -> CiderScore:
        consensus = Consensus(self._references, self._frequency)
        segments = consensus.score(range(len(self._hypotheses)), self._hypotheses)
        return CiderScore(float(segments.mean()), segments)


def cider(
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    frequency: DocumentFrequency | None = None,
) -> CiderScore:
    """CIDEr-D of hypotheses, each with its references."""
    metric = Cider(frequency)
    for hypothesis, known in zip(hypotheses, references, strict=True):
        metric.update(hypothesis, known)
    return metric.compute()
