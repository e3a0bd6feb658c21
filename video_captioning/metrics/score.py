"""The field's metrics on a set of captions, with intervals, and the comparison of two systems."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from video_captioning.metrics.bleu import Bleu
from video_captioning.metrics.cider import Cider, DocumentFrequency, document_frequency
from video_captioning.metrics.diversity import DiversityScore, diversity
from video_captioning.metrics.intervals import Interval, bootstrap, significance
from video_captioning.metrics.meteor import Meteor
from video_captioning.metrics.ngrams import Tokens
from video_captioning.metrics.rouge import Rouge
from video_captioning.metrics.spice import Spice
from video_captioning.metrics.tokenization import tokenize

Floats = NDArray[np.float64]
References = Mapping[str, Sequence[str]]
Hypotheses = Mapping[str, str]

NAMES = {
    Bleu: ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"),
    Meteor: ("METEOR",),
    Rouge: ("ROUGE-L",),
    Cider: ("CIDEr-D",),
    Spice: ("SPICE",),
}
"""What each metric gives, in the order in which the COCO caption tool prints it."""
USUAL = Bleu, Meteor, Rouge, Cider
"""Those without Java. METEOR needs the optional part 'metrics'."""


class Metric(Protocol):
    """What the siblings have in common."""

    def update(self, hypothesis: Tokens, references: Sequence[Tokens], /) -> None: ...

    @property
    def statistics(self) -> Floats:
        """Of each hypothesis, `[N, K]`."""

    @staticmethod
    def formula(sums: Floats) -> Floats:
        """Statistics, or sums of them, `[..., K]` → scores `[..., S]`."""


@dataclass(frozen=True)
class Scores:
    """What a set of captions scored; by the names of the metrics."""

    ids: tuple[str, ...]
    scores: dict[str, float]
    intervals: dict[str, Interval]
    """95 of 100 resampled sets score between these."""
    segments: dict[str, Floats]
    """Scores of each caption, in the order of `ids`."""
    diversity: DiversityScore
    empty: tuple[str, ...]
    """Ids whose caption has no word."""
    statistics: dict[type[Any], Floats]
    """What each metric is a formula of, `[N, K]`."""

    def to_dict(self) -> dict[str, Any]:
        """What can be written as JSON: everything but the scores of single captions."""
        return {
            "items": len(self.ids),
            "scores": self.scores,
            "intervals": {name: [interval.low, interval.high] for name, interval in self.intervals.items()},
            "diversity": vars(self.diversity),
        }


def score(
    references: References,
    hypotheses: Hypotheses,
    *,
    metrics: Collection[type[Any]] = USUAL,
    frequency: DocumentFrequency | None = None,
    known: Collection[str] = (),
) -> Scores:
    """Score the caption of every id of `hypotheses`, at least one, of which each has references.

    Args:
        metrics: those of NAMES that are wanted.
        frequency: of n-grams in another set, for CIDEr-D of few clips.
        known: captions that are not novel.

    Raises:
        VidcapError: SPICE is wanted and fails, or METEOR and its tables cannot be had.
    """
    said = [tokenize(caption) for caption in hypotheses.values()]
    wanted = [[tokenize(reference) for reference in references[name]] for name in hypotheses]
    made: dict[type[Any], Metric] = {kind: Cider(frequency) if kind is Cider else kind() for kind in metrics}
    statistics: dict[type[Any], Floats] = {}
    scores: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    segments: dict[str, Floats] = {}
    for kind, metric in made.items():
        divided = divide if kind in (Bleu, Cider) else list
        for hypothesis, known_ones in zip(said, wanted, strict=True):
            metric.update(divided(hypothesis), [divided(reference) for reference in known_ones])
        statistics[kind] = metric.statistics
        names = NAMES[kind]
        scores |= dict(zip(names, kind.formula(statistics[kind].sum(0)).tolist(), strict=True))
        intervals |= dict(zip(names, bootstrap(statistics[kind], kind.formula), strict=True))
        segments |= dict(zip(names, kind.formula(statistics[kind]).T, strict=True))
    varied = diversity(said, [tokenize(caption) for caption in known])
    empty = tuple(name for name, tokens in zip(hypotheses, said, strict=True) if not tokens)
    return Scores(tuple(hypotheses), scores, intervals, segments, varied, empty, statistics)


def divide(tokens: Tokens) -> list[str]:
    """As the tool's BLEU and CIDEr read a sentence: no-break spaces, which a few tokens hold, end words as well."""
    return " ".join(tokens).split()


def compare(first: Scores, second: Scores) -> dict[str, float]:
    """How likely a difference as large as that of two systems on the same ids is by chance: p by metric."""
    found: dict[str, float] = {}
    for kind, statistics in first.statistics.items():
        values = significance(statistics, second.statistics[kind], kind.formula)
        found |= dict(zip(NAMES[kind], values, strict=True))
    return found


def borrowed(references: References) -> DocumentFrequency:
    """The weights of n-grams of a set, for CIDEr-D of another."""
    return document_frequency([[tokenize(caption) for caption in captions] for captions in references.values()])
