"""Mends of captions after Chen et al. 2024 (arXiv 2102.06448): several sentences in one, spelling, duplicates.

Each mend is a rule that is right far more often than not and leaves alone what it is not sure of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spellchecker import SpellChecker

from video_captioning.tokenizer import clean

SIMILAR = 0.85
"""The paper's threshold: captions of one clip that are more alike than this are one."""
FREQUENT = 20
"""A misspelling is at least this many times rarer than the word that was meant."""
SHORTEST = 4
"""Letters of a word that is mended, where two of them changed places."""
LONG = 6
"""Letters of a word that is mended whatever the slip; shorter ones have too many neighbours (intro, into)."""

WORD = re.compile(r"[^\W\d_]+")
# A conjunction or a relative before "she is …" keeps the clause in the sentence; so does a verb of saying.
JOINED = (
    *("and", "or", "but", "nor", "so", "if", "as", "than", "that", "then", "which", "who", "whom", "whose", "what"),
    *("why", "how", "when", "where", "while", "whereas", "because", "since", "until", "after", "before", "though"),
    *("although", "unless", "like", "about", "of", "to", "for", "with", "in", "on", "at", "by", "from"),
    *("say", "says", "said", "saying", "think", "thinks", "show", "shows", "showing"),
)
NOT_JOINED = "".join(rf"(?<!\b{word} )" for word in JOINED)
# A clause that is whole: a pronoun, "is", a verb and its object at once, so that it is no relative clause
# ("the car she is driving").
CLAUSE = (
    r"(?:(?:he|she|it|they) (?:is|are) (?:also |now |then )?\w+ing (?:an?|the|his|her|its|their|some) "
    r"|there (?:is|are) (?:also )?(?:an?|another|some|many|two|three) )\w+"
)
SENTENCE = re.compile(rf"(?<=[.!?]) (?=\w+ \w+)| (?={CLAUSE}){NOT_JOINED}", re.IGNORECASE)
WHOLE = re.compile(r"\b(?:is|are|was|were) (?:(?!\b(?:and|but|then|as|while|where)\b).)+$|[.!?]$", re.IGNORECASE)
"""A verb in what comes after the last conjunction: not "a man is cooking and in the pan"."""
PRONOUN = re.compile(r"(?:he|she|it|they) ", re.IGNORECASE)


@dataclass(frozen=True)
class Mends:
    """How many captions were mended."""

    split: int = 0
    """held more than one sentence"""
    spelling: int = 0
    """held a word that was misspelt"""
    duplicates: int = 0
    """were the same as another of the clip, or nearly, and went"""


def mend(clips: Sequence[Sequence[str]]) -> tuple[list[tuple[str, ...]], Mends]:
    """Mended captions of each clip, and the counts. What is misspelt is judged by all captions together."""
    parts = [[sentences(caption) for caption in captions] for captions in clips]
    split = sum(
        found != [caption]
        for one, old in zip(parts, clips, strict=True)
        for found, caption in zip(one, old, strict=True)
    )
    flat = [[sentence for found in captions for sentence in found] for captions in parts]
    meant = misspelt(
        Counter(word.lower() for captions in flat for caption in captions for word in WORD.findall(caption))
    )
    spelt = [[respell(caption, meant) for caption in captions] for captions in flat]
    changed = sum(
        new != old for captions, olds in zip(spelt, flat, strict=True) for new, old in zip(captions, olds, strict=True)
    )
    unique = [distinct(captions) for captions in spelt]
    gone = sum(map(len, spelt)) - sum(map(len, unique))
    return unique, Mends(split, changed, gone)


def sentences(caption: str) -> list[str]:
    """The sentences that a caption strings together, but for those about a "she" of whom only the first one tells."""
    first, *others = SENTENCE.split(" ".join(caption.split()))
    before = (first, *others[:-1])
    if not others or not all(WHOLE.search(sentence) and sentence.count(" ") > 2 for sentence in before):
        return [caption]
    return [first, *(sentence for sentence in others if not PRONOUN.match(sentence))]


def misspelt(counts: Counter[str]) -> dict[str, str]:
    """Words that no dictionary has → the dictionary's word, one edit away, that these captions use far more often."""
    dictionary = SpellChecker()
    found = {}
    for word in dictionary.unknown(word for word in counts if len(word) >= SHORTEST):
        near = dictionary.known(dictionary.edit_distance_1(word))
        if len(word) < LONG:
            near = {other for other in near if sorted(other) == sorted(word)}
        best = max(near, key=lambda other: (counts[other], other), default="")
        if counts[best] >= FREQUENT * counts[word]:
            found[word] = best
    return found


def respell(caption: str, meant: dict[str, str]) -> str:
    def mended(match: re.Match[str]) -> str:
        word = match[0]
        right = meant.get(word.lower(), word)
        return right.capitalize() if word[0].isupper() else right

    return WORD.sub(mended, caption)


def distinct(captions: Sequence[str]) -> tuple[str, ...]:
    """The captions without those that say what one before them says."""
    kept: dict[str, tuple[list[str], Counter[str]]] = {}
    for caption in captions:
        words = clean(caption).split()
        bag = Counter(words)
        if not any(alike(words, bag, *other) for other in kept.values()):
            kept[caption] = words, bag
    return tuple(kept)


def alike(one: list[str], bag: Counter[str], other: list[str], others: Counter[str]) -> bool:
    """Is the longest common subsequence, as a mean share of both, above the threshold?"""
    if one == other:
        return True
    enough = SIMILAR * 2 / (1 / max(len(one), 1) + 1 / max(len(other), 1))
    if min(len(one), len(other)) <= enough or sum(min(n, others[word]) for word, n in bag.items()) <= enough:
        return False  # without the long way
    return longest_common(one, other) > enough


def longest_common(one: list[str], other: list[str]) -> int:
    row = [0] * (len(other) + 1)
    for word in one:
        above = row
        row = [0]
        for place, match in enumerate(other):
            row.append(above[place] + 1 if word == match else max(above[place + 1], row[place]))
    return row[-1]
