"""The tokenizer gives back what it was given, on any text of its letters, and says what is wrong with a bad model."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_captioning.errors import ConfigError, DataError
from video_captioning.tokenizer import Tokenizer, clean

CAPTIONS = ["a red ball rolls over the grass", "two dogs run", "a man in a blue shirt plays the guitar", "the sea"]
LETTERS = sorted({letter for caption in CAPTIONS for letter in caption if letter != " "})
texts = st.lists(st.text(LETTERS, min_size=1, max_size=9), max_size=9).map(" ".join)


@cache
def learnt() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, 100)


@settings(deadline=None)
@given(texts)
def test_text_comes_back(text: str) -> None:
    tokenizer = learnt()
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(deadline=None)
@given(texts)
def test_words_share_out_the_pieces(text: str) -> None:
    tokenizer = learnt()
    ids = tokenizer.encode(text)
    words = tokenizer.words(ids)
    assert [word for word, _ in words] == text.split()
    assert [place for _, places in words for place in places] == list(range(len(ids)))


@settings(deadline=None)
@given(st.lists(st.integers(4, 10**9), max_size=12))
def test_words_are_those_of_the_sentence_whatever_is_generated(numbers: list[int]) -> None:
    tokenizer = learnt()
    ids = [4 + number % (len(tokenizer) - 4) for number in numbers]
    words = tokenizer.words(ids)
    assert " ".join(word for word, _ in words) == " ".join(tokenizer.decode(ids).split())
    places = [place for _, places in words for place in places]
    assert places == sorted(set(places))
    left_out = [tokenizer.decode([ids[place]]) for place in set(range(len(ids))) - set(places)]
    assert not "".join(left_out).strip(), "only spaces belong to no word"


def test_whole_words_and_only_the_most_frequent() -> None:
    tokenizer = Tokenizer.train([*CAPTIONS, "a dog"], 6, "word")
    assert [tokenizer.piece(token) for token in range(len(tokenizer))][4:] == ["\u2581a", "\u2581the"]
    assert tokenizer.encode("a dog by the sea") == [4, tokenizer.unk, 5, tokenizer.unk]
    with pytest.raises(ConfigError, match="must be one of bpe, word"):
        Tokenizer.train(CAPTIONS, 100, "letters")  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert "  " not in clean(text)


def test_captions_are_cleaned_before_they_are_encoded() -> None:
    tokenizer = learnt()
    assert tokenizer.encode("  Two  DOGS run .\n") == tokenizer.encode("two dogs run")
    assert tokenizer.encode("") == tokenizer.encode(" . ") == []


def test_a_letter_that_was_never_seen_costs_only_its_word() -> None:
    tokenizer = learnt()
    ids = tokenizer.encode("two ☂ dogs")
    assert tokenizer.unk in ids
    assert [word for word, _ in tokenizer.words(ids)] == ["two", "⁇", "dogs"]


def test_special_tokens_are_never_in_a_text() -> None:
    tokenizer = learnt()
    special = {tokenizer.pad, tokenizer.bos, tokenizer.eos}
    assert len(special) == 3
    assert special.isdisjoint(tokenizer.encode("<s> two dogs </s> <pad> <unk>"))


def test_a_small_corpus_gives_a_small_vocabulary() -> None:
    assert len(Tokenizer.train(["a cat", "a cat sits"], 3000)) < 30
    assert Tokenizer.train(["x"], 3000).encode("x")


@pytest.mark.parametrize(("captions", "size"), [([], 100), (["."], 100), (["the quick brown fox"], 5), (["a"], 0)])
def test_a_vocabulary_that_cannot_be_is_refused(captions: list[str], size: int) -> None:
    with pytest.raises(ConfigError, match=rf"no vocabulary of {size} pieces .*; give ") as caught:
        Tokenizer.train(captions, size)
    assert "\n" not in str(caught.value)


def test_the_smallest_vocabulary_is_named_and_works() -> None:
    with pytest.raises(ConfigError) as caught:
        Tokenizer.train(CAPTIONS, 5)
    least = int(str(caught.value).rpartition(" ")[2])
    assert len(Tokenizer.train(CAPTIONS, least)) == least


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    tokenizer = learnt()
    path = tmp_path / "tokenizer.model"
    path.write_bytes(tokenizer.model)
    loaded = Tokenizer.load(path)
    assert len(loaded) == len(tokenizer)
    assert [loaded.encode(caption) for caption in CAPTIONS] == [tokenizer.encode(c) for c in CAPTIONS]


@pytest.mark.parametrize("content", [b"", b"not a model", b"cut short", None])
def test_a_broken_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.model"
    if content is not None:
        path.write_bytes(learnt().model[:500] if content == b"cut short" else content)
    with pytest.raises(DataError, match=r"tokenizer\.model: no SentencePiece model") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)
