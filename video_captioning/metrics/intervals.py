"""How sure a score is: bootstrap intervals, and whether one system beats another.

A corpus score is a formula of sums of statistics over hypotheses, so that a resampled corpus costs a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Formula = Callable[[Floats], Floats]
"""Sums of statistics `[..., K]` → scores `[..., S]`."""

BLOCK = 2**22  # numbers held at once


def segment_statistics(segments: Sequence[float] | Floats) -> Floats:
    """The statistics of a metric that is the mean of its segments: each segment's score and 1, `[N, 2]`."""
    return np.column_stack([segments, np.ones(len(segments))])


def mean(sums: Floats) -> Floats:
    """The formula of such a metric: statistics, or sums of them, `[..., 2]` → the score `[..., 1]`."""
    return sums[..., :1] / sums[..., 1:]


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def bootstrap(
    statistics: Floats, formula: Formula, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Percentile intervals of each score, hypotheses drawn anew with replacement (Koehn 2004, section 3).

    Args:
        statistics: of each hypothesis, `[N, K]`, and `formula` makes scores of their sums.
    """
    count = len(statistics)
    rng = np.random.default_rng(seed)
    sums = []
    for size in blocks(resamples, count):
        chosen = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(chosen.ravel(), minlength=size * count).reshape(size, count)
        sums.append(times @ statistics)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(formula(np.concatenate(sums)), [tail, 100 - tail], axis=0)
    return [Interval(*pair) for pair in zip(low.tolist(), high.tolist(), strict=True)]


def significance(first: Floats, second: Floats, formula: Formula, rounds: int = 10000, seed: int = 0) -> list[float]:
    """How likely a difference as large is where both systems are alike: p of each score, two-sided.

    Approximate randomization (Riezler & Maxwell 2005, figure 1): in each round the systems swap half of their
    hypotheses at random.

    Args:
        first, second: statistics of two systems for the same clips in the same order, `[N, K]`.
    """
    found = np.abs(formula(first.sum(0)) - formula(second.sum(0)))
    rng = np.random.default_rng(seed)
    as_large = np.zeros(len(found), np.int64)
    change, total = second - first, first.sum(0) + second.sum(0)
    for size in blocks(rounds, len(first)):
        swapped = rng.integers(2, size=(size, len(first)), dtype=np.int8)
        sums = first.sum(0) + swapped @ change
        differences = np.abs(formula(sums) - formula(total - sums))
        as_large += (differences >= found - 1e-12).sum(0)  # an equal one, but for rounding
    return [float(share) for share in (as_large + 1) / (rounds + 1)]


def blocks(rounds: int, count: int) -> Iterator[int]:
    """Sizes that add up to `rounds` and fit into memory."""
    most = max(1, BLOCK // max(1, count))
    while rounds > 0:
        yield min(most, rounds)
        rounds -= most
