"""What the encoder learns to tell of: words of captions and ImageNet's classes, by plain names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from video_captioning.words import FUNCTION_WORDS, content_words, stem

GENERIC = frozenset(["person", "people", "man", "woman", "men", "women", "group"])
"""Words that say little and are still concepts."""
SOURCES = 24
"""Pictures and clips whose captions use a word, at least, that is a concept."""
BEFORE = frozenset(
    ["a", "an", "the", "his", "her", "their", "its", "two", "three", "some", "many", "of", "with", "in", "on", "and"]
)
"""Words that come right before the name of a thing."""
LED, ENDING = 0.04, 0.55
"""Shares that tell names of things from other words: of the uses that follow one of these, and of those, the uses that
no other content word follows but a verb ("a dog runs", not "a white dog")."""
COUNTED = 0.12
"""Share of a name's uses after such a word, at least, that follow "a" or "an", where the name takes an article."""


@dataclass(frozen=True)
class Concept:
    """Something that a frame can show."""

    name: str
    phrase: str
    """The name with its article; empty where it does not name a thing."""
    stems: tuple[str, ...]
    """Of the words that a caption must use to name it."""
    classes: tuple[int, ...] = ()
    """ImageNet's classes of this name."""


def visible(caption: str) -> list[str]:
    """Words of a caption that can be concepts."""
    words = caption.lower().replace("-", " ").split()
    return [word.strip(".,!?\"'()") for word in words if word.strip(".,!?\"'()") in GENERIC] + content_words(caption)


def choose(captions: Sequence[Sequence[str]], text: Iterable[str], classes: Sequence[str]) -> list[Concept]:
    """Words that enough captioned sources use, then the classes that are not such a word."""
    uses = Counter(s for texts in captions for s in {stem(w) for text in texts for w in visible(text)} if len(s) > 1)
    chosen = [word for word, count in uses.most_common() if count >= SOURCES]
    forms = common_forms([*(text for texts in captions for text in texts), *text], set(chosen))
    numbers: dict[tuple[str, ...], list[int]] = {}
    for number, name in enumerate(classes):
        numbers.setdefault(tuple(stem(word) for word in content_words(name)), []).append(number)
    words = [Concept(*forms[word], (word,), tuple(numbers.pop((word,), ()))) for word in chosen]
    rest = [
        Concept(classes[found[0]], with_article(classes[found[0]]), stems, tuple(found))
        for stems, found in numbers.items()
        if stems
    ]
    return words + rest


def common_forms(text: Sequence[str], wanted: set[str]) -> dict[str, tuple[str, str]]:
    """The most frequent form of each stem, and its phrase."""
    forms: dict[str, Counter[str]] = {word: Counter() for word in wanted}
    uses, led, ending, counted = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for caption in text:
        words = ["", *caption.lower().replace(".", " ").replace(",", " ").split(), ""]
        for before, word, after in zip(words, words[1:], words[2:], strict=False):
            s = stem(word)
            if s not in forms:
                continue
            forms[s][word] += 1
            uses[s] += 1
            if before in BEFORE:
                led[s] += 1
                ending[s] += not after or after in FUNCTION_WORDS or after.endswith("ing") or stem(after) + "s" == after
                counted[word] += before in ("a", "an")
    made = {}
    for s, found in forms.items():
        name = found.most_common(1)[0][0]
        verb = name.endswith("ing") or (name.endswith("ed") and s != name)
        thing = led[s] >= LED * uses[s] and ending[s] >= ENDING * led[s] and not verb
        article = with_article(name) if counted[name] >= COUNTED * led[s] else name
        made[s] = name, (article if thing else "")
    return made


def with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def targets(captions: Sequence[Sequence[str]], found: Sequence[Concept]) -> np.ndarray:
    """Share of the captions of each source that use all words of each concept, float32 `[sources, concepts]`."""
    columns = {stems: column for column, concept in enumerate(found) for stems in [concept.stems]}
    several = [(set(stems), column) for stems, column in columns.items() if len(stems) > 1]
    by_first: dict[str, list[tuple[set[str], int]]] = {}
    for stems, column in several:
        by_first.setdefault(min(stems), []).append((stems, column))
    made = np.zeros((len(captions), len(found)), np.float32)
    for row, texts in enumerate(captions):
        for text in texts:
            used = {stem(word) for word in visible(text)}
            for s in used:
                if (s,) in columns:
                    made[row, columns[s,]] += 1
                for stems, column in by_first.get(s, ()):
                    made[row, column] += stems <= used
        made[row] /= max(1, len(texts))
    return made
