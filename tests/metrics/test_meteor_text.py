"""How METEOR divides sentences into words: against the jar, and what it said where it is not here."""

# ruff: noqa: RUF001 (it is about characters that look alike)
from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.captions import Set
from tests.metrics import jar
from video_captioning.metrics.meteor_text import Prefixes, normalize
from video_captioning.metrics.tokenization import tokenize

PREFIXES = Prefixes(frozenset({"Mr", "v", "vs", "i.e"}), frozenset({"No"}))
SAID = {
    "a dog isn't running": "a dog isn 't running",
    "the dog 's ball and children's toys": "the dog ' s ball and children 's toys",
    "don't 'tis 'hello' o'clock rock'n'roll": "don 't ' tis ' hello ' o 'clock rock 'n'roll",
    "``there`` ''hi'' “curly” ‘quotes’ it’s": '" there " " hi " " curly " \' quotes \' it \'s',
    "mr. smith in u.s. today e.g. us": "mr. smith in us today eg us",
    "Mr. Smith No. 5 no. 5 No. X": "mr. smith no. 5 no . 5 no . x",
    "a. b ab. Cd ab. é 3. x 3.5. a.b.c.d": "a. b ab . cd ab . é 3. x 3.5. a.b.c.d",
    "3.5 1,000 1, 2 a,b a,,b 5's 3:30 3/4": "3.5 1,000 1 , 2 a , b a , ,b 5 's 3 : 30 3 / 4",
    "t-shirt a-b-c pre- -post a--b --- 1-2": "t shirt a b-c pre- -post a b -- 1 2",
    "— dash – dash… wow... hmm.. ..a": "— dash - dash … wow ... hmm .. .. a",
    "é ñ 狗 日本語 привет. мир dog😀cat": "é ñ 狗 日 本 語 привет . мир dog 😀 cat",
    "http://www.foo.com/a?b=c foo@bar.com #tag": "http : / / www.foo.com / a ? b = c foo @ bar.com # tag",
    "-lrb- ( [x] $5 5% a_b a|b -lrb-x": "-lrb- ( [ x ] $ 5 5 % a _ b a | b -lrb x",
    "a\u2009b.\u2009c\xa0d": "a b . c d",
}
"""What the jar made of them."""
PIECES = [*"abéяAs1'’`\"“.,-–—  !狗😀×ž\u0483\u2009\u3000…$&|", "--", "..", "''", "No.", "u.s.", "Mr."]


@pytest.mark.parametrize("sentence", SAID)
def test_known_sentences(sentence: str) -> None:
    assert " ".join(normalize(sentence, PREFIXES)) == SAID[sentence]


@given(st.text())
def test_any_text_becomes_words(text: str) -> None:
    words = normalize(text.replace("\n", " "), PREFIXES)
    assert all(words) and not any(re.search("[ \t\r\f]", word) for word in words)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_no_letter_is_lost_or_moved(text: str) -> None:
    letters = re.compile("[^a-z0-9]")
    assert letters.sub("", "".join(normalize(text, PREFIXES))) == letters.sub("", text.lower())


@pytest.mark.slow
def test_the_words_of_the_jar_in_hard_texts(tmp_path: Path) -> None:
    lexicon = pytest.importorskip("video_captioning.metrics.meteor_lexicon")
    rng = random.Random(0)
    made = ["".join(rng.choices(PIECES, k=rng.randint(1, 9))) for _ in range(20000)]
    texts = [text for text in [*SAID, *made, "x" * 5000, "a-b.c, " * 400] if text.strip(" \u2009\u3000")]
    found = jar.words(texts, tmp_path)
    assert [" ".join(lexicon.load_lexicon().normalize([text])) for text in texts] == found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msrvtt", "flickr8k"])
def test_the_words_of_the_jar_in_real_captions(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    lexicon = pytest.importorskip("video_captioning.metrics.meteor_lexicon")
    real: Set = request.getfixturevalue(name)
    captions = {" ".join(tokenize(one)) for known in real.references.values() for one in known}
    hard = sorted(caption for caption in captions if not re.fullmatch("[a-z ]*", caption))
    found = jar.words(hard, tmp_path)
    assert [" ".join(lexicon.load_lexicon().normalize([caption])) for caption in hard] == found
