"""Real captions as references and hypotheses, some of them corrupted."""

from __future__ import annotations

import random
from typing import NamedTuple


class Set(NamedTuple):
    """Captions of a data set, tokens divided by spaces."""

    hypotheses: dict[str, str]
    references: dict[str, list[str]]


def corrupted(sentence: str, rng: random.Random) -> str:
    """As it is, or with words dropped, repeated or shuffled, or nothing."""
    words = sentence.split()
    match rng.randrange(8):
        case 0:
            rng.shuffle(words)
        case 1:
            words = [word for word in words if rng.random() < 0.6]
        case 2:
            words = [word for word in words for _ in range(rng.choice([1, 1, 3]))]
        case 3 if rng.random() < 0.1:
            words = []
    return " ".join(words)


def random_captions() -> random.Random:
    """What decides how captions are corrupted, the same each time."""
    return random.Random(0)


def from_people(captions: dict[str, list[str]]) -> Set:
    """One sentence of each id, or in part of another id, is the hypothesis, the rest are the references."""
    rng = random_captions()
    hypotheses, references = {}, {}
    ids = list(captions)
    for name, sentences in captions.items():
        plain = [" ".join(sentence.lower().replace(".", " ").split()) for sentence in sentences]
        other = captions[rng.choice(ids)][0].lower() if rng.random() < 0.3 else plain[0]
        hypotheses[name], references[name] = corrupted(other, rng), plain[1:]
    return Set(hypotheses, references)
