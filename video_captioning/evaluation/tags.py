"""Does a model see what people speak of? Mean average precision of its concepts against the words of references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from video_captioning.concepts import Concepts, Floats
from video_captioning.words import stems

ENOUGH = 0.25
"""Of up to five references: one of fewer than five, two of five or more."""


@dataclass(frozen=True)
class Precision:
    """How early what people speak of stands among the concepts, the surest first."""

    mean: float
    """Of the average precisions of the items, 0 to 1."""
    items: int
    """Those whose references speak of any concept; the others do not count."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def precision(concepts: Concepts, scores: Floats, references: Sequence[Sequence[str]]) -> Precision:
    """Mean average precision over items.

    Args:
        scores: of the concepts in each item, `[items, C]`.
        references: of each item.
    """
    names = [frozenset(stems(name)) for name in concepts.names]
    found = [
        average_precision(own, right)
        for own, wanted in zip(scores, references, strict=True)
        if (right := spoken_of(names, wanted)).any()
    ]
    return Precision(float(np.mean(found)) if found else 0.0, len(found))


def spoken_of(names: Sequence[frozenset[str]], references: Sequence[str]) -> np.ndarray:
    """Which concepts, by the stems of their names, enough references speak of: with all of the stems, `[C]`."""
    said = [frozenset(stems(reference)) for reference in references]
    least = ENOUGH * min(len(said), 5)
    return np.array([bool(name) and sum(name <= one for one in said) >= least for name in names])


def average_precision(scores: Floats, right: np.ndarray) -> float:
    """Mean, over what is right `[C]`, of the share that is right from the highest score to its own."""
    hits = right[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
