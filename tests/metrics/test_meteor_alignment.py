"""Which matches METEOR takes: what the jar answered, beam 40, exact matches only, and laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_captioning.metrics.meteor_alignment import Match, resolve


def exact(hypothesis: str, reference: str) -> list[Match]:
    """All matches of sentences whose words are letters."""
    return [
        Match(start, 1, other, 1, 0)
        for other, wanted in enumerate(reference)
        for start, word in enumerate(hypothesis)
        if word == wanted
    ]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "places"),
    [
        ("x", "xx", {0: 1}),
        ("x", "xxx", {0: 1}),
        ("yx", "xxx", {1: 0}),
        ("yx", "zxx", {1: 2}),
        ("ab", "abzab", {0: 3, 1: 4}),
        ("ab", "abbab", {0: 0, 1: 1}),
        ("ab", "abzabza", {0: 3, 1: 4}),
        ("aa", "aaa", {0: 0, 1: 1}),
        ("xqw", "xxww", {0: 1, 2: 3}),
        ("xqxq", "xzxzx", {0: 0, 2: 4}),
        ("bb", "ba", {0: 0}),
        ("bbaab", "aba", {2: 2, 3: 0, 4: 1}),
        ("bab", "aba", {0: 1, 1: 2}),
        ("cbba", "baba", {1: 2, 2: 0, 3: 1}),
        (
            "fcgabbfadabggbdbgabdagad",
            "acegcbecbdfbbadhgfhhfedc",
            {0: 10, 1: 4, 2: 3, 3: 0, 4: 5, 5: 11, 6: 17, 7: 13, 8: 14, 10: 12, 11: 16, 13: 8, 14: 9, 19: 22},
        ),
        (
            "dbehfhebbgcfchgabfffhhbb",
            "ehbaehegfahfcbhadecdgghb",
            {
                0: 16,
                1: 13,
                2: 4,
                3: 5,
                4: 8,
                5: 10,
                6: 0,
                7: 23,
                9: 7,
                10: 18,
                11: 11,
                12: 12,
                13: 14,
                14: 20,
                15: 3,
                20: 22,
                21: 1,
                22: 2,
            },
        ),
    ],
)
def test_the_choice_of_the_jar(hypothesis: str, reference: str, places: dict[int, int]) -> None:
    chosen = resolve(exact(hypothesis, reference), len(hypothesis), len(reference))
    assert {match.start: match.other for match in chosen} == places


SENTENCES = st.text("abc", max_size=7)


@given(SENTENCES, SENTENCES)
def test_no_word_twice_and_as_many_as_can_be(hypothesis: str, reference: str) -> None:
    matches = exact(hypothesis, reference)
    chosen = resolve(matches, len(hypothesis), len(reference))
    assert set(chosen) <= set(matches)
    assert len({match.start for match in chosen}) == len({match.other for match in chosen}) == len(chosen)
    assert len(chosen) == sum(min(hypothesis.count(word), reference.count(word)) for word in "abc")
