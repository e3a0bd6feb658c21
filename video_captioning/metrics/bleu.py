"""BLEU-1 to BLEU-4 of a corpus (Papineni et al. 2002), as the COCO caption tool computes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from video_captioning.metrics.ngrams import LONGEST, Gram, Tokens, ngrams

NO_MATCH, NO_GRAM = 1e-15, 1e-9
"""What the tool adds to every count of matches and of n-grams, so that nothing is divided by zero."""


@dataclass(frozen=True)
class BleuScore:
    scores: tuple[float, float, float, float]
    """BLEU-1 to BLEU-4 of the corpus, 0 to 1."""
    segments: NDArray[np.float64]
    """The same of each hypothesis alone, `[N, 4]`."""


class Bleu:
    """Matched n-grams over all n-grams of all hypotheses, against the reference closest in length."""

    def __init__(self) -> None:
        self._rows: list[list[int]] = []

    def update(self, hypothesis: Tokens, references: Sequence[Tokens]) -> None:
        grams = [ngrams(reference) for reference in references]
        known = set[Gram]().union(*grams)
        correct = [0] * LONGEST
        for gram, times in Counter(ngrams(hypothesis)).items():
            if gram in known:  # counted only where it matters: most n-grams stand once in a sentence
                correct[len(gram) - 1] += times if times == 1 else min(times, max(of.count(gram) for of in grams))
        length = len(hypothesis)
        guesses = [max(0, length - n) for n in range(LONGEST)]
        closest = min(map(len, references), key=lambda reference: (abs(reference - length), reference))
        self._rows.append([*correct, *guesses, length, closest])

    def merge(self, other: Bleu) -> None:
        """Add what `other` has seen after what this one has."""
        self._rows += other._rows

    @property
    def statistics(self) -> NDArray[np.float64]:
        """What each hypothesis adds to the sums that BLEU is made of, `[N, 10]`."""
        return np.array(self._rows, np.float64).reshape(-1, 2 * LONGEST + 2)

    @staticmethod
    def formula(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Statistics, or sums of them, `[..., 10]` → BLEU-1 to BLEU-4 `[..., 4]`."""
        correct, guesses = sums[..., :LONGEST], sums[..., LONGEST : 2 * LONGEST]
        precisions = (correct + NO_MATCH) / (guesses + NO_GRAM)
        means = np.cumprod(precisions, -1) ** (1 / np.arange(1, LONGEST + 1))
        ratio = (sums[..., -2:-1] + NO_MATCH) / (sums[..., -1:] + NO_GRAM)
        brevity: NDArray[np.float64] = np.exp(np.minimum(0, 1 - 1 / ratio))
        return means * brevity

    def compute(self) -> BleuScore:
        one, two, three, four = self.formula(self.statistics.sum(0)).tolist()
        return BleuScore((one, two, three, four), self.formula(self.statistics))


def bleu(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> BleuScore:
    """BLEU of hypotheses, each with its references."""
    metric = Bleu()
    for hypothesis, known in zip(hypotheses, references, strict=True):
        metric.update(hypothesis, known)
    return metric.compute()
