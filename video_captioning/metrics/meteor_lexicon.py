"""Which words and phrases METEOR takes for each other (Denkowski & Lavie 2011, section 2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import chain
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from video_captioning.errors import MissingExtraError
from video_captioning.metrics.meteor_alignment import Match
from video_captioning.metrics.meteor_data import open_tables
from video_captioning.metrics.meteor_tables import LONGEST, Tables
from video_captioning.metrics.meteor_text import normalize, parse_prefixes
from video_captioning.metrics.ngrams import Tokens

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
Ints = NDArray[np.int64]
_ENDINGS = (
    *(
        ("s", ""),
        ("ses", "s"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    *(("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    *(("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
)
"""Of inflected and base forms, as WordNet's own `morphy` has them; the first that leads to a known word."""


class Lexicon:
    """Function words, stems, synonyms and paraphrases of English."""

    def __init__(self, tables: Tables) -> None:
        """Raises MissingExtraError where there is no stemmer."""
        try:
            from snowballstemmer.english_stemmer import EnglishStemmer  # not PyStemmer, whatever is installed
        except ImportError as error:
            raise MissingExtraError("METEOR", "metrics") from error
        self.function = frozenset(tables.function.split())
        self._prefixes = parse_prefixes(tables.prefixes)
        self._tables = tables
        self._lemmas = numbered(tables.lemmas)
        self._bases: dict[str, list[str]] = {}
        for base, *forms in map(str.split, tables.irregular.splitlines()):
            for form in forms:
                self._bases.setdefault(form, []).append(base)
        self._paraphrases = Paraphrases(tables)
        self._stemmer = EnglishStemmer()
        self.code = lru_cache(maxsize=1 << 16)(code)
        self.stem = lru_cache(maxsize=1 << 16)(self._stem)
        self.synsets = lru_cache(maxsize=1 << 16)(self._synsets)

    def normalize(self, tokens: Tokens) -> list[str]:
        """The words of a sentence as METEOR counts them."""
        return normalize(" ".join(tokens), self._prefixes)

    def matches(self, hypothesis: Tokens, references: Sequence[Tokens]) -> list[list[Match]]:
        """All matches with each reference; what several matchers find stands there as often.

        Those that begin at the same word of the reference are in the order in which the jar tries them: by matcher, by
        start and length in the hypothesis, by length in the reference.
        """
        same = _Alike(self, hypothesis)
        every = []
        for reference, spans in zip(references, self._paraphrases.matches(hypothesis, references), strict=True):
            found: list[Match] = []
            for place, word in enumerate(reference):
                if alike := same(word):
                    found += [Match(start, 1, place, 1, matcher) for start, matcher in alike]
            every.append(found + sorted(spans))
        return every

    def _stem(self, word: str) -> int:
        return code(self._stemmer.stemWord(word))

    def _synsets(self, word: str) -> frozenset[int]:
        """Of the word itself and of the word that it is a form of."""
        return frozenset(chain(self._own_synsets(word), *map(self._own_synsets, self._base_forms(word))))

    def _base_forms(self, word: str) -> Iterable[str]:
        if word in self._bases:
            return self._bases[word]
        if len(word) < 3 or word.endswith("ss"):
            return ()
        bases = (word.removesuffix(ending) + base for ending, base in _ENDINGS if word.endswith(ending))
        return [base for base in bases if base in self._lemmas][:1]

    def _own_synsets(self, word: str) -> list[int]:
        number = self._lemmas.get(word)
        if number is None:
            return []
        start, end = self._tables.synset_starts[number : number + 2].tolist()
        synsets: list[int] = self._tables.synsets[start:end].tolist()
        return synsets


class _Alike:
    """Places of a sentence that match a word, and by which matcher."""

    def __init__(self, lexicon: Lexicon, sentence: Tokens) -> None:
        self._lexicon = lexicon
        self._same: dict[int, list[int]] = {}
        self._places: dict[str, list[int]] = {}
        for place, word in enumerate(sentence):
            self._same.setdefault(lexicon.code(word), []).append(place)
            self._places.setdefault(word, []).append(place)
        self._initials: dict[str, list[str]] = {}
        for word in self._places:
            self._initials.setdefault(initial(word), []).append(word)
        self._synsets = [(word, synsets) for word in self._places if (synsets := lexicon.synsets(word))]
        self._all_synsets = frozenset[int]().union(*(synsets for _, synsets in self._synsets))
        self._known: dict[str, list[tuple[int, int]]] = {}

    def __call__(self, word: str) -> list[tuple[int, int]]:
        known = self._known.get(word)
        if known is None:
            known = self._known[word] = sorted(self._find(word), key=itemgetter(1, 0))
        return known

    def _find(self, word: str) -> list[tuple[int, int]]:
        code, stem = self._lexicon.code, self._lexicon.stem
        own = code(word)
        found = [(place, EXACT) for place in self._same.get(own, ())]
        first = initial(word)  # stemming is slow
        for other in [*self._initials.get(first, ()), *self._initials.get("", ())] if first else self._places:
            if code(other) != own and stem(other) == stem(word):
                found += [(place, STEM) for place in self._places[other]]
        synsets = self._lexicon.synsets(word)
        if self._all_synsets.isdisjoint(synsets):
            return found
        for other, others in self._synsets:
            if code(other) != own and not synsets.isdisjoint(others):
                found += [(place, SYNONYM) for place in self._places[other]]
        return found


def code(word: str) -> int:
    """What the jar compares words by: Java's hash of a string, which has "f1" equal "do"."""
    found = 0
    units = word.encode("utf-16-le", "surrogatepass")
    for low, high in zip(units[::2], units[1::2], strict=True):
        found = (31 * found + low + (high << 8)) & 0xFFFFFFFF
    return found


def initial(word: str) -> str:
    """What two words with one stem have in common; nothing where codes may be equal by chance."""
    return word[:1] if word.isascii() and word.isalpha() else ""


class Paraphrases:
    """The phrases of sentences, and which are in the table as a pair."""

    def __init__(self, tables: Tables) -> None:
        self._words = numbered(tables.vocabulary)
        self._edges = tables.edges
        self._starts = tables.other_starts
        self._others = tables.others
        self._marks = np.zeros(len(self._edges) + 1, np.bool_)

    def matches(self, hypothesis: Tokens, references: Sequence[Tokens]) -> list[list[Match]]:
        """Matches with each reference; a pair that the table lists both ways stands there twice."""
        found: list[list[Match]] = [[] for _ in references]
        places, lengths, nodes = self._phrases([hypothesis, *references])
        own = places < len(hypothesis)
        starts, said = places[own].tolist(), lengths[own].tolist()
        others, spans, other_nodes = places[~own] - len(hypothesis), lengths[~own], nodes[~own]
        if not len(starts) or not len(others):
            return found
        pairs = self._pairs(nodes[own], other_nodes)
        if not pairs:
            return found
        firsts = np.cumsum([0, *map(len, references)])
        chosen = np.flatnonzero(self._marked(list(pairs), other_nodes))
        owners = np.searchsorted(firsts, others[chosen], "right") - 1
        where = [owners, others[chosen] - firsts[owners], spans[chosen], other_nodes[chosen]]
        for owner, place, span, node in zip(*(values.tolist() for values in where), strict=True):
            for phrase, twice in pairs[node]:
                match = Match(starts[phrase], said[phrase], place, span, PARAPHRASE)
                found[owner] += [match, match] if twice else [match]
        return found

    def _phrases(self, sentences: Sequence[Tokens]) -> tuple[Ints, Ints, Ints]:
        """Places in all sentences one after the other, words and nodes of the phrases in them."""
        number = self._words.get
        words = np.array([number(word, -1) for word in chain.from_iterable(sentences)], np.int64)
        sizes = np.fromiter(map(len, sentences), np.int64)
        ends = np.repeat(np.cumsum(sizes), sizes)
        place, node = np.arange(len(words)), np.zeros(len(words), np.int64)
        found = []
        for length in range(LONGEST):
            inside = np.flatnonzero(place + length < ends[place])
            place, node = place[inside], node[inside]
            keys = node << 32 | words[place + length]
            edge = np.searchsorted(self._edges, keys)
            edge[edge == len(self._edges)] = 0
            known = np.flatnonzero(self._edges[edge] == keys)
            place, node = place[known], edge[known] + 1
            if not len(place):
                break
            whole = np.flatnonzero(self._starts[node + 1] > self._starts[node])
            found.append((place[whole], np.full(len(whole), length + 1), node[whole]))
        if not found:
            return (np.zeros(0, np.int64),) * 3
        places, lengths, nodes = map(np.concatenate, zip(*found, strict=True))
        return places, lengths, nodes

    def _pairs(self, nodes: Ints, others: Ints) -> dict[int, list[tuple[int, bool]]]:
        """Of the other nodes those that are paraphrases: which of `nodes` they pair with, and whether both ways."""
        starts, ends = self._starts[nodes].tolist(), self._starts[nodes + 1].tolist()
        listed = np.concatenate([self._others[start:end] for start, end in zip(starts, ends, strict=True)])
        hits = np.flatnonzero(self._marked(others, listed >> 1))
        bounds = np.cumsum(self._starts[nodes + 1] - self._starts[nodes])
        phrases = np.searchsorted(bounds, hits, "right")
        pairs: dict[int, list[tuple[int, bool]]] = {}
        for phrase, other in zip(phrases.tolist(), listed[hits].tolist(), strict=True):
            pairs.setdefault(other >> 1, []).append((phrase, bool(other & 1)))
        return pairs

    def _marked(self, nodes: Ints | list[int], of: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which of some nodes are among others; a mark at each is faster than sorting."""
        self._marks[nodes] = True
        found: NDArray[np.bool_] = self._marks[of]
        self._marks[nodes] = False
        return found


def numbered(lines: str) -> dict[str, int]:
    return {word: number for number, word in enumerate(lines.split("\n"))}


@cache
def load_lexicon() -> Lexicon:
    """The one of this process. Raises VidcapError as `open_tables` and `Lexicon` do."""
    return Lexicon(open_tables())
