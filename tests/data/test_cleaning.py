"""Mends of captions: what is mended, and what is left alone because one cannot be sure."""

from __future__ import annotations

from collections import Counter

import pytest

from video_captioning.data.cleaning import Mends, mend


def mended(*captions: str) -> list[str]:
    return list(mend([captions])[0][0])


@pytest.mark.parametrize(
    ("caption", "parts"),
    [
        ("A man is cooking. The dog sleeps!", ["A man is cooking.", "The dog sleeps!"]),
        (
            "a corn field is moving past  there is a shot of a city",
            ["a corn field is moving past", "there is a shot of a city"],
        ),
        ("a man is playing tennis alone he is wearing a red shirt", ["a man is playing tennis alone"]),
    ],
    ids=["stops", "no stops", "a sentence about nobody named goes"],
)
def test_several_sentences_in_one(caption: str, parts: list[str]) -> None:
    found, mends = mend([[caption]])
    assert found == [tuple(parts)]
    assert mends == Mends(split=1)


@pytest.mark.parametrize(
    "caption",
    [
        "a woman is talking about the car she is driving in town",
        "a man is cooking while he is wearing a hat",
        "a man is cooking and in the pan there is a big fish",
        "a man says there is a dog",
        "mr. bean is here",
        "St. Petersburg is shown",
        "there is a there is a woman talking",
    ],
)
def test_one_sentence_stays_one(caption: str) -> None:
    assert mended(caption) == [caption]


FREQUENT = {"people": 60, "black": 60, "into": 90, "minecraft": 3, "boat": 60, "riding": 60}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("poeple", "people"),
        ("peoplle", "people"),
        ("Poeple", "People"),
        ("balck", "black"),
        ("intro", "intro"),
        ("borat", "borat"),
        ("minecraft", "minecraft"),
        ("hiding", "hiding"),
        ("ridding", "ridding"),
    ],
)
def test_spelling(word: str, meant: str) -> None:
    clips = [[f"number {place} {known}"] for known, count in FREQUENT.items() for place in range(count)]
    found, mends = mend([*clips, [f"look {word}, there"]])
    assert found[-1] == (f"look {meant}, there",)
    assert mends.spelling == (word != meant)


def test_a_word_that_is_often_used_is_no_slip() -> None:
    clips = [
        [f"number {place} {word}"] for word, count in {"people": 60, "poeple": 10}.items() for place in range(count)
    ]
    found, mends = mend(clips)
    assert mends.spelling == 0
    assert Counter(word for [caption] in found for word in caption.split())["poeple"] == 10


def test_duplicates_within_a_clip() -> None:
    captions = [
        "A man is folding paper.",
        "a man is  folding paper",
        "a man is folding the piece of white paper on a table",
        "a man is folding a piece of white paper on a table",
        "a man is folding a piece of red paper in the dark",
    ]
    found, mends = mend([captions, captions[:1]])
    assert found == [(captions[0], captions[2], captions[4]), (captions[0],)]
    assert mends == Mends(duplicates=2)
