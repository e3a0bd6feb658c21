"""Which words carry meaning, and which forms are one word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_captioning.words import FUNCTION_WORDS, content_stems, content_words, stem, stems

FORMS = [
    "dog dogs",
    "run runs running",
    "ride rides riding",
    "baby babies",
    "grass",
    "glass glasses",
    "box boxes",
    "cut cuts cutting",
    "dance dances dancing danced",
    "kiss kisses kissing kissed",
    "fall falls falling",
    "tree trees",
    "horse horses",
    "bus buses",
    "shoe shoes",
    "movie movies",
    "play plays playing played",
    "catch catches catching",
    "dish dishes",
]


@pytest.mark.parametrize("forms", FORMS)
def test_forms_of_a_word_have_one_stem(forms: str) -> None:
    assert len({stem(word) for word in forms.split()}) == 1


def test_different_words_have_different_stems() -> None:
    assert len({stem(forms.split()[0]) for forms in FORMS}) == len(FORMS)


@pytest.mark.parametrize("word", ["sing", "ring", "king", "bed", "sled", "bus", "grass"])
def test_what_only_looks_like_an_ending_stays(word: str) -> None:
    assert stem(word) == word


def test_content_words_keep_their_order_and_lose_what_says_little() -> None:
    assert content_words("A man is riding his Horses on the beach.") == ["riding", "horses", "beach"]
    assert content_stems("A man is riding his Horses on the beach.") == ["rid", "hors", "beach"]
    assert content_words("a group of people") == []


@given(st.text())
def test_content_words_are_some_of_all_words(text: str) -> None:
    assert not set(content_words(text)) & FUNCTION_WORDS
    assert set(content_stems(text)) <= set(stems(text))
