"""What BLEU and CIDEr count: the n-grams of one to four words, as tuples or, for many sentences, as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Tokens = Sequence[str]
Gram = tuple[str, ...]
Ints = NDArray[np.int64]

LONGEST = 4
"""Words of the longest n-gram."""


def ngrams(tokens: Tokens) -> list[Gram]:
    """All n-grams of a sentence, the short ones first."""
    second, third, fourth = tokens[1:], tokens[2:], tokens[3:]  # written out: three times as fast as a loop over n
    pairs, triples = zip(tokens, second, strict=False), zip(tokens, second, third, strict=False)
    return [*zip(tokens, strict=True), *pairs, *triples, *zip(tokens, second, third, fourth, strict=False)]


@dataclass(frozen=True)
class Entries:
    """The n-grams of one length in some sentences, one entry for each n-gram of each sentence, `[E]`, in order."""

    sentence: Ints
    gram: Ints
    times: Ints


PARTS = (0, 0, 1), (1, 0, 2), (1, 1, 2)
"""Of what pairs, triples and quadruples consist: n-grams of index a, and of index b so many words later."""


class Numbering:
    """Numbers words and n-grams, so that arrays can be counted instead of tuples."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._codes = [np.zeros(0, np.int64) for _ in PARTS]  # sorted: the numbers of both parts in one
        self._numbers = [np.zeros(0, np.int64) for _ in PARTS]  # of these codes

    def copy(self) -> Numbering:
        other = Numbering()
        other._words, other._codes, other._numbers = dict(self._words), [*self._codes], [*self._numbers]
        return other

    @property
    def sizes(self) -> list[int]:
        """How many n-grams of each length are known."""
        return [len(self._words), *map(len, self._codes)]

    def count(self, sentences: Sequence[Tokens], learn: bool = False) -> list[Entries]:
        """The n-grams of each length. New ones get the next numbers, and keep them if they are learned."""
        sentence = np.repeat(np.arange(len(sentences)), np.fromiter(map(len, sentences), np.int64))
        found = [np.array(self._number_words(chain.from_iterable(sentences), learn), np.int64)]
        for order, (first, last, later) in enumerate(PARTS):
            start = np.flatnonzero(sentence[: -order - 1] == sentence[order + 1 :])
            codes = found[first][start] << 32 | found[last][start + later]
            numbers = np.full(len(sentence), -1)
            numbers[start] = self._number(order, codes, learn)
            found.append(numbers)
        return [entries(sentence[numbers >= 0], numbers[numbers >= 0]) for numbers in found]

    def _number_words(self, words: Iterable[str], learn: bool) -> list[int]:
        known, new = self._words, dict[str, int]()
        numbers = [
            known[word] if word in known else new.setdefault(word, len(known) + len(new)) for word in words
        ]  # fmt: skip
        if learn:
            known |= new
        return numbers

    def _number(self, order: int, codes: Ints, learn: bool) -> Ints:
        known, numbers = self._codes[order], self._numbers[order]
        place = np.searchsorted(known, codes)
        hit = place < len(known)
        hit[hit] = known[place[hit]] == codes[hit]
        new, inverse = np.unique(codes[~hit], return_inverse=True)
        result = np.empty(len(codes), np.int64)
        result[hit] = numbers[place[hit]]
        result[~hit] = len(known) + inverse
        if learn and len(new):
            codes = np.concatenate([known, new])
            sort = np.argsort(codes, kind="stable")
            self._codes[order] = codes[sort]
            self._numbers[order] = np.concatenate([numbers, len(known) + np.arange(len(new))])[sort]
        return result


def entries(sentence: Ints, gram: Ints) -> Entries:
    keys, times = np.unique(sentence << 32 | gram, return_counts=True)
    return Entries(keys >> 32, keys & 0xFFFFFFFF, times)
