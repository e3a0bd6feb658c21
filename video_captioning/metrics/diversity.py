"""How varied captions are: a captioner that says the same of everything must be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from video_captioning.metrics.ngrams import Tokens


@dataclass(frozen=True)
class DiversityScore:
    distinct_1: float
    """Different words over all words (Li et al. 2016)."""
    distinct_2: float
    """Different pairs of words over all pairs."""
    vocabulary: int
    """Different words."""
    words: float
    """A caption, on average."""
    distinct: float
    """Share of the captions that differ from all before them."""
    repeated: float
    """Share of the captions that are the most repeated one."""
    most_repeated: str
    novel: float | None
    """Share of the captions that are not among the known ones; None where none are known."""


class Diversity:
    """Counts of captions, words and pairs of words."""

    def __init__(self, known: Collection[Tokens] = ()) -> None:
        """`known` captions, such as those a model was trained on."""
        self._known = {tuple(caption) for caption in known}
        self._captions: Counter[tuple[str, ...]] = Counter()

    def update(self, hypothesis: Tokens) -> None:
        self._captions[tuple(hypothesis)] += 1

    def merge(self, other: Diversity) -> None:
        """Add what `other` has seen after what this one has."""
        self._known |= other._known
        self._captions.update(other._captions)

    def compute(self) -> DiversityScore:
        words: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for caption, times in self._captions.items():
            for _ in range(times):
                words.update(caption)
                pairs.update(pairwise(caption))
        count = self._captions.total()
        (most, times), *_ = self._captions.most_common(1)
        novel = sum(number for caption, number in self._captions.items() if caption not in self._known)
        return DiversityScore(
            distinct_1=len(words) / max(1, words.total()),
            distinct_2=len(pairs) / max(1, pairs.total()),
            vocabulary=len(words),
            words=words.total() / count,
            distinct=len(self._captions) / count,
            repeated=times / count,
            most_repeated=" ".join(most),
            novel=novel / count if self._known else None,
        )


def diversity(hypotheses: Sequence[Tokens], known: Collection[Tokens] = ()) -> DiversityScore:
    """Diversity of hypotheses, at least one."""
    metric = Diversity(known)
    for hypothesis in hypotheses:
        metric.update(hypothesis)
    return metric.compute()
