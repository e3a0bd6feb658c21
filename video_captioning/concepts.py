"""What a model believes that it sees: logits of concepts in each frame → tags, and what supports a word."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, tanh
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from video_captioning.words import content_stems

Floats = NDArray[np.floating[Any]]

MOST = 12
"""Tags of a clip."""


@dataclass(frozen=True)
class Tag:
    """A concept that a clip shows."""

    name: str
    score: float
    """How sure the model is of it, 0 to 1."""
    times: tuple[float, ...]
    """Of the frames that show it, seconds."""


@dataclass(frozen=True)
class Concepts:
    """What a model looks for, in the order of its logits. Raises ValueError for what cannot be."""

    names: tuple[str, ...]
    phrases: tuple[str, ...]
    """As in a sentence: `a giant panda`; empty where the concept is not a thing."""
    scale: float = 1.0
    shift: float = 0.0
    """A logit is calibrated as scale · logit + shift; its sigmoid is the score."""
    threshold: float = 0.5
    """Least score of a tag, 0 to 1."""

    def __post_init__(self) -> None:
        if not self.names or len(self.phrases) != len(self.names):
            raise ValueError("concepts: not one name and one phrase for each")
        if not all(type(text) is str for text in (*self.names, *self.phrases)) or not all(self.names):
            raise ValueError("concepts: a name or phrase is not text, or a name is empty")
        for field in ("scale", "shift", "threshold"):
            if not is_number(getattr(self, field)):
                raise ValueError(f"concepts.{field} is not a number")
        if self.scale <= 0 or not 0 <= self.threshold <= 1:
            raise ValueError("concepts.scale must be above 0 and concepts.threshold from 0 to 1")

    def calibrated(self, logits: Floats) -> NDArray[np.float64]:
        """Logits of the frames of a clip `[T, C]` → calibrated logits of the clip `[C]`, by the mean of its frames."""
        calibrated: NDArray[np.float64] = self.scale * logits.astype(np.float64).mean(0) + self.shift
        return calibrated

    def surest(self, calibrated: Floats, least: float) -> list[int]:
        """The places of the concepts with a score of at least `least`, the surest first; of equal ones the first."""
        scores = sigmoid(calibrated)
        return [place for place in np.argsort(-scores, kind="stable").tolist() if scores[place] >= least]

    def tags(self, logits: Floats, times: Sequence[float]) -> tuple[Tag, ...]:
        """The concepts with a score of at least `threshold`, the surest first, at most 12.

        Args:
            logits: of the frames of one clip, `[T, C]`.
            times: of the frames, seconds.
        """
        calibrated = self.calibrated(logits)
        found = []
        for place in self.surest(calibrated, self.threshold)[:MOST]:
            own = sigmoid(self.scale * logits[:, place].astype(np.float64) + self.shift)
            shown = np.flatnonzero(own >= min(self.threshold, own.max()))
            score = probability(calibrated[place])
            found.append(Tag(self.names[place], score, tuple(times[frame] for frame in shown.tolist())))
        return tuple(found)

    def things(self, logits: Floats, least: float) -> list[tuple[str, float]]:
        """Phrases and scores of the surest two tags that are things and have a score of at least `least`.

        Of two that name the same thing, a panda and a giant panda, it is the surer one.

        Args:
            logits: of the frames of one clip, `[T, C]`.
        """
        calibrated = self.calibrated(logits)
        found: dict[str, tuple[str, float]] = {}
        for place in self.surest(calibrated, max(least, self.threshold))[:MOST]:
            if phrase := self.phrases[place]:
                thing = (content_stems(phrase) or [phrase])[-1]
                found.setdefault(thing, (phrase, probability(calibrated[place])))
        return list(found.values())[:2]

    def surest_things(self, calibrated: Floats) -> list[tuple[float, frozenset[str]]]:
        """Scores of the things that are likeliest to be seen, with the stems of their names, the surest first."""
        places, stems = self._things
        order = np.argsort(-calibrated[places], kind="stable")[:MOST].tolist()
        return [(probability(calibrated[places[number]]), stems[number]) for number in order]

    @cached_property
    def _things(self) -> tuple[list[int], list[frozenset[str]]]:
        """The places of the concepts that are things, and the stems of their names."""
        places = [place for place, phrase in enumerate(self.phrases) if phrase]
        return places, [frozenset(content_stems(self.names[place])) for place in places]

    @cached_property
    def by_stem(self) -> dict[str, list[int]]:
        """The places of the concepts that a word with this stem names.

        Where there are none, of those with a name of several words the last of which it is, for that tells what they
        are: a giant panda supports `panda` but not `giant`, and not even `panda` where that is a concept of its own.
        """
        alone: dict[str, list[int]] = {}
        ending: dict[str, list[int]] = {}
        for place, name in enumerate(self.names):
            if stems := content_stems(name):
                (alone if len(stems) == 1 else ending).setdefault(stems[-1], []).append(place)
        return ending | alone


def read_concepts(path: Path, section: Mapping[str, Any]) -> Concepts:
    """The concepts that a bundle states: a list of `{"name", "phrase"}` in a file, and how they are calibrated.

    Raises:
        ValueError, TypeError, KeyError: it is something else.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        names, phrases = (tuple(entry[field] for entry in listed) for field in ("name", "phrase"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not a list of names and phrases") from error
    return Concepts(names, phrases, **{name: value for name, value in section.items() if name != "file"})


def sigmoid(values: Floats) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64)))
    return found


def probability(logit: float) -> float:
    """The sigmoid of one number."""
    return 0.5 * (1 + tanh(0.5 * logit))


def is_number(value: object) -> bool:
    return type(value) in (int, float) and isfinite(value)  # type: ignore[arg-type]
