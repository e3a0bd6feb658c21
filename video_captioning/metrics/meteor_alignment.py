"""Which of all possible matches between two sentences METEOR takes (Denkowski & Lavie 2011, section 2.1).

Most covered words, then fewest chunks, then the smallest sum of distances, by a beam search over the words of the
reference. What the jar sums, found out by asking it, is not the distances of the matches that are taken: a match adds
its distance to the alternatives at the same word that are tried after it, and to leaving the word out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

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


_CHUNK, _COVERED = 1 << 48, 1 << 80
"""What a chunk that has ended and a weighted word add to the rank of a path, beside which the distance counts."""
_ALONE = [_COVERED * 2 * int(weight) for weight in WEIGHTS]
"""What a match of a word with a word takes from it."""
_Chain = tuple[Any, Match]
"""A match after those before it; the first is None."""


class _Option(NamedTuple):
    """A match, made ready for the search."""

    bits: int
    """Words of the hypothesis."""
    gain: int
    """What its words take from the rank of a path."""
    distance: int
    start: int
    end: int
    reached: int
    match: Match


class _Path(NamedTuple):
    """A partial alignment."""

    rank: int
    """The smaller, the better."""
    used: int
    """Words of the hypothesis as bits."""
    reached: int
    """First word of the reference that is free."""
    last: int
    """Word of the hypothesis after the last match; -1 where a word of the reference was left out since."""
    chosen: _Chain | None


def resolve(matches: Sequence[Match], hypothesis_length: int, reference_length: int) -> list[Match]:
    """Choose matches that share no word: most words covered, then fewest chunks, then least moved.

    Args:
        matches: all of them, sorted by matcher and start at each word of the reference. One that two matchers find, or
            a paraphrase that the table lists both ways, stands there as often: a match is certain where no other, the
            same one included, shares a word.
    """
    hypothesis, reference = [0] * hypothesis_length, [0] * reference_length
    for start, length, other, span, _ in matches:
        if length == span == 1:  # nearly all
            hypothesis[start] += 1
            reference[other] += 1
            continue
        for place in range(start, start + length):
            hypothesis[place] += 1
        for place in range(other, other + span):
            reference[place] += 1
    certain = [
        match
        for match in matches
        if hypothesis[match[0]] == 1 == reference[match[2]] and _alone(match, hypothesis, reference)
    ]
    if len(certain) == len(matches):
        return certain
    at: list[list[_Option]] = [[] for _ in reference]
    for match in matches:
        at[match.other].append(_option(match))
    found = []
    chain = _search(at, {match.other for match in certain})
    while chain is not None:
        chain, match = chain
        found.append(match)
    return found


def _alone(match: Match, hypothesis: Sequence[int], reference: Sequence[int]) -> bool:
    start, length, other, span, _ = match
    return max(hypothesis[start : start + length]) == 1 == max(reference[other : other + span])


def _option(match: Match) -> _Option:
    start, length, other, span, matcher = match
    if length == span == 1:
        return _Option(1 << start, _ALONE[matcher], abs(start - other), start, start + 1, other + 1, match)
    covered = int(length * WEIGHTS[matcher]) + int(span * WEIGHTS[matcher])
    bits = ((1 << length) - 1) << start
    return _Option(bits, _COVERED * covered, abs(start - other), start, start + length, other + span, match)


def _search(at: Sequence[Sequence[_Option]], certain: Collection[int]) -> _Chain | None:
    """The matches of the best path; those at the words of `certain` are certain."""
    blocked = sum(at[place][0].bits for place in certain)
    paths: list[Any] = [_Path(0, blocked, 0, -1, None)]  # plain tuples from then on
    for place, options in enumerate(at):
        grown: list[Any] = []
        if place in certain:
            _, gain, _, start, end, beyond, match = options[0]
            for rank, used, _, last, chosen in paths:
                ended = rank if last < 0 or last == start else rank + _CHUNK
                grown.append((ended - gain, used, beyond, end, (chosen, match)))
        else:
            for path in paths:
                rank, used, reached, last, chosen = path
                if reached > place:
                    grown.append(path)
                    continue
                ended = rank if last < 0 else rank + _CHUNK
                moved = 0
                for bits, gain, distance, start, end, beyond, match in options:
                    if not used & bits:
                        begun = (rank if last == start else ended) - gain + moved
                        grown.append((begun, used | bits, beyond, end, (chosen, match)))
                        moved += distance
                grown.append((ended + moved, used, place + 1, -1, chosen))
        if len(grown) > 1:
            grown.sort(key=itemgetter(0))
        paths = grown[:BEAM]
    best: _Chain | None = min(paths, key=lambda path: path[0] if path[3] < 0 else path[0] + _CHUNK)[4]
    return best
