"""Which of all possible matches between two sentences METEOR takes (Denkowski & Lavie 2011, section 2.1).

Most covered words, then fewest chunks, then the smallest sum of distances, by a beam search over the words of the
reference. What the jar sums, found out by asking it, is not the distances of the matches that are taken: a match adds
its distance to the alternatives at the same word that are tried after it, and to leaving the word out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BEAM = 40
"""Partial alignments kept at each word."""
WEIGHTS = 1.0, 0.6, 0.8, 0.6
"""Of a match by matcher; words times weight are rounded down on each side, so that a lone stem counts nothing."""


class Match(NamedTuple):
    """Neighbouring words of the hypothesis that match neighbouring words of the reference."""

    start: int
    length: int
    other: int
    """Where it starts in the reference."""
    span: int
    """How many words of the reference."""
    matcher: int
    """0 exact, 1 stem, 2 synonym, 3 paraphrase."""


class _Path(NamedTuple):
    """A partial alignment; the smaller, the better."""

    covered: int
    """Weighted words of both sentences, negative."""
    chunks: int
    """That have ended."""
    distance: int
    """See above."""
    used: int
    """Words of the hypothesis as bits."""
    reached: int
    """First word of the reference that is free."""
    last: int
    """Word of the hypothesis after the last match; -1 where a word of the reference was left out since."""
    chosen: tuple[Match, ...]


def resolve(matches: Sequence[Match], hypothesis_length: int, reference_length: int) -> list[Match]:
    """Choose matches that share no word: most words covered, then fewest chunks, then least moved.

    Args:
        matches: all of them, in the order of `start`. One that two matchers find, or a paraphrase that the table lists
            both ways, stands there as often: a match is certain where no other, the same one included, shares a word.
    """
    hypothesis, reference = [0] * hypothesis_length, [0] * reference_length
    for start, length, other, span, _ in matches:
        for place in range(start, start + length):
            hypothesis[place] += 1
        for place in range(other, other + span):
            reference[place] += 1
    certain = [match for match in matches if _alone(match, hypothesis, reference)]
    if len(certain) == len(matches):
        return certain
    blocked = sum(((1 << match.length) - 1) << match.start for match in certain)
    at: list[list[Match]] = [[] for _ in reference]
    for match in matches:
        at[match.other].append(match)
    surely = {match.other: match for match in certain}
    return list(_search(at, surely, blocked).chosen)


def _alone(match: Match, hypothesis: Sequence[int], reference: Sequence[int]) -> bool:
    start, length, other, span, _ = match
    return max(hypothesis[start : start + length]) == 1 == max(reference[other : other + span])


def _search(at: Sequence[Sequence[Match]], certain: dict[int, Match], blocked: int) -> _Path:
    paths = [_Path(0, 0, 0, blocked, 0, -1, ())]
    for place, options in enumerate(at):
        grown: list[_Path] = []
        for path in paths:
            if path.reached > place:
                grown.append(path)
            elif place in certain:
                grown.append(_take(path, certain[place], path.distance, 0))
            else:
                grown += _alternatives(path, place, options)
        grown.sort(key=_rank)
        paths = grown[:BEAM]
    return min((path._replace(chunks=path.chunks + (path.last >= 0)) for path in paths), key=_rank)


def _rank(path: _Path) -> tuple[int, int, int]:
    return path[:3]


def _alternatives(path: _Path, place: int, options: Sequence[Match]) -> list[_Path]:
    """The path with each of the matches at a word, and without."""
    found = []
    distance = path.distance
    for match in options:
        bits = ((1 << match.length) - 1) << match.start
        if not path.used & bits:
            found.append(_take(path, match, distance, bits))
            distance += abs(match.start - place)
    chunks = path.chunks + (path.last >= 0)
    found.append(path._replace(chunks=chunks, distance=distance, reached=place + 1, last=-1))
    return found


def _take(path: _Path, match: Match, distance: int, bits: int) -> _Path:
    start, length, other, span, matcher = match
    covered = int(length * WEIGHTS[matcher]) + int(span * WEIGHTS[matcher])
    return _Path(
        path.covered - covered,
        path.chunks + (path.last >= 0 and path.last != start),
        distance,
        path.used | bits,
        other + span,
        start + length,
        (*path.chosen, match),
    )
