"""The tokenizer against stored answers of the COCO caption tool, against the tool itself, and against its laws."""

# ruff: noqa: RUF001 (quotes and dashes that look alike are what it is about)
from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_captioning.metrics import tokenization
from video_captioning.metrics.tokenization import PUNCTUATION, tokenize

Ask = Callable[[list[str]], list[list[str]]]

STORED = [  # what the tool answers
    ("A man doesn't play the guitar, he can't!", "a man does n't play the guitar he ca n't"),
    ("they cannot wanna gonna gotta gimme lemme", "they can not wan na gon na got ta gim me lem me"),
    (
        "'Tis o'clock: y'all rock'n'roll, I'm we've dogs' 'hello'",
        "'t is o'clock y' all rock 'n' roll i 'm we 've dogs hello",
    ),
    ("it’s the ’90s, don’t “say” ‘hi’", "it 's the ’90s do n't say hi"),
    ("He lives in the U.S. with Mr. Smith, etc.", "he lives in the u.s. with mr. smith etc."),
    ("No. 5 and no, p. 7", "no. 5 and no p. 7"),
    ("vitamin C. The end of S. Main", "vitamin c the end of s. main"),
    ("She is a Ph.D. student at St. Mary's at 5 a.m.", "she is a ph.d. student at st. mary 's at 5 a.m."),
    ("$5.50 or €5, £3, 20¢ and US$10, 50% of 1,000.50", "$ 5.50 or $ 5 # 3 20 cents and us$ 10 50 % of 1,000.50"),
    ("3 1/2 cups, ½ cup, 1/4 cup on 12/25/2010 at 10:30pm", "3\xa01/2 cups 1/2 cup 1/4 cup on 12/25/2010 at 10:30 pm"),
    ("call (555) 123-4567 or 925 606 0946", "call -lrb-555-rrb-\xa0123-4567 or 925\xa0606\xa00946"),
    ("-5 +5 .5 1-2 1st 2x4", "-5 +5 .5 1-2 1st 2x4"),
    (
        "[0.00-2.27] a (small) {dog} <b>runs</b>",
        "-lsb- 0.00-2 .27 -rsb- a -lrb- small -rrb- -lcb- dog -rcb- <b> runs </b>",
    ),
    ("AT&T &amp; R&D &quot;a&quot; &lt;3 caf&eacute; &#39;", "at&t & r&d a < 3 caf&eacute; &#39;"),
    (
        "see http://a.com/b?c=d. or www.foo.com, mail me@foo.com",
        "see http://a.com/b?c=d or www.foo.com mail me@foo.com",
    ),
    ("@someone #tag c++ C# photo.jpg", "@someone #tag c++ c# photo.jpg"),
    (":) :-( ;D (^_^) =P", ":-rrb- :--lrb- ;d -lrb-^_^-rrb- =p"),
    ("well-known mid-1990s and/or 24/7 a/b/c/d", "well-known mid-1990s and/or 24/7 a/b/c / d"),
    ("wow!!! what?! no.... -- --- -----", "wow !!! what ?! no -----"),
    ("*** a*b __ a_b ~ ^ | \\", "*** a * b __ a_b ~ ^ | \\"),
    (
        "😀 👍🏽 👨\u200d👩 日本語 Привет γεια नमस्ते สวัสดี مرحبا",
        "日本語 привет γεια नमस्ते สวัสดี مرحبا",
    ),
    ("na\xefve r\xe9sum\xe9 e\u0301 a\xadb c\xa0d \ufeff x\u200by", "naïve résumé é ab c d x y"),
    ("a\rb\x0bc\u2028d\x85e\x00f\tg", "a b c d e f g"),
    ("  spaces   everywhere  ", "spaces everywhere"),
    ("anti-war pro- and anti-", "anti-war pro- and anti-"),
    ("AB&CD A+B a&b 6'2\" 5'10", "ab&cd a+b a & b 6 2 5 '10"),
    ("“‘x’” `` '' '' `y'", "``` x ''' y"),
    ("D'antan, O'Neil, Hawai'i, ma'am, ol', 'em", "d'antan o'neil hawai'i ma'am ol' 'em"),
    ("", ""),
    ("...", ""),
    ("-LRB- -RRB-", "-lrb- -rrb-"),
    ("person A. <br> x", "person a <br> x"),
    ("x,y;z:w a.b Ave. etc.", "x y z w a.b ave. etc."),
    ("tour.The shoes.This U.S.-based", "tour.the shoes.this u.s.-based"),
    ("³ m² 5°C ®©™ §", "³ m ² 5 ° c ® © ™ §"),
    ("he said.\"Go\" 'n' 'n x '05 '9", "he said go 'n' 'n x '05 9"),
]


PIECES = """
don't can't 'tis 'twas cannot gonna wanna o'clock y'all rock'n'roll 's 'm 've n't d' l' 'n' 'em 'til mr. Mr. etc.
e.g. i.e. u.s. U.S. a.m. p.m. No. no. fig. p. pp. St. Ph.D. inc. Co. Pa. A. The the He pro- anti- 5 10 1,000.50 3/4
1/2 1st 10:30 12/25/2010 555-1234 (555) 123-4567 +44 $5 US$ 50% -5 .5 '90s '05 http://a.com/b?c www.foo.com
foo.com/bar a.gz 1.mp3 foo@bar.com @me #tag &amp; &quot; &lt; &gt; &apos; &nbsp; &eacute; &#39; &mdash; <b> </b>
<br/> :) :-( ;D =P ^_^ -_- (^_^) ... .... !!! ?! -- --- ----- *** ** -LRB- -rrb- AT&T R&D A+B a/b and/or w/o c++ C#
word-of-mouth mid-1990s x-ray a b I dog Привет καλός 日本 naïve résumé don’t ’90s ’s“ ‘a’ ½ €5 4²"""
FRAGMENTS = PIECES.split()
HARD = [
    *"..,,''\"\"--//&&@@##$%()[]{}<>:;!?*_+=~^|\\`  \t\r\x0b\x0c\x00\x07\x1c\x7f",
    *"\x80\x85\x91\x92\x93\x96aAbBsSnNtTxX01590",
    *"éЖя中ع\u0301\u0947\xad\u2010‘’“”«»‹›–—…½¼²₂€£¢\xa0\u2003\u3000\u2028\u2029٫⁄٣😀👍\U0001f3fd\u200d\ufe0f®™•¡\ufeff′´Ⅷⓐ",
]
OPEN_TAG = re.compile("<[a-zA-Z][^<>]*=\\s*(\"[^\"]*|'[^']*)$")  # swallows the lines that follow
law = settings(deadline=None)  # the first call compiles the rules
texts = st.lists(st.sampled_from([*HARD, *FRAGMENTS, " "]) | st.characters(), max_size=12).map("".join)


@pytest.mark.parametrize(("caption", "words"), STORED)
def test_gives_the_tools_words(caption: str, words: str) -> None:
    assert tokenize(caption) == [word for word in words.split(" ") if word]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """What the COCO caption tool makes of captions, each on its own."""
    tool = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer", reason="the COCO caption tool is not installed")
    if not shutil.which("java"):
        pytest.skip("the COCO caption tool needs Java")
    jar = Path(tool.__file__).with_name(tool.STANFORD_CORENLP_3_4_1_JAR)
    mark = "qqzzqq"  # a line between captions: none can look into the next, and breaks in one do not move the others

    def ask_tool(captions: list[str]) -> list[list[str]]:
        file = tmp_path_factory.mktemp("tool") / "captions.txt"
        file.write_bytes("".join(f"{caption.replace(chr(10), ' ')}\n{mark}\n" for caption in captions).encode())
        main = "edu.stanford.nlp.process.PTBTokenizer"
        command = [
            "java",
            "-XX:ActiveProcessorCount=1",
            "-cp",
            str(jar),
            main,
            "-preserveLines",
            "-lowerCase",
            str(file),
        ]
        output = subprocess.run(command, capture_output=True, check=True, timeout=1200).stdout.decode()
        *answers, rest = f"\n{output}".split(f"\n{mark}\n"[:-1])
        assert len(answers) == len(captions) and not rest.strip()
        return [_kept(answer.removeprefix("\n"), tool.PUNCTUATIONS) for answer in answers]

    return ask_tool


def _kept(answer: str, dropped: list[str]) -> list[str]:
    lines = answer.split("\n")
    return [word for line in lines for word in line.rstrip().split(" ") if word and word not in dropped]


def _differences(captions: list[str], ask: Ask) -> list[tuple[str, list[str], list[str]]]:
    asked = zip(captions, map(tokenize, captions), ask(captions), strict=True)
    return [(caption, ours, theirs) for caption, ours, theirs in asked if ours != theirs]


@pytest.mark.slow
def test_agrees_with_the_tool_on_every_real_caption(shared: Path, ask: Ask) -> None:
    captions = list(dict.fromkeys(_real(shared / "data")))
    assert len(captions) > 500_000
    assert _differences(captions, ask) == []


def _real(data: Path) -> Iterator[str]:
    for file in sorted(data.glob("msrvtt/*.json.gz")):
        yield from (row["caption"] for row in json.loads(gzip.decompress(file.read_bytes()))["sentences"])
    for file in sorted(data.glob("*/*.jsonl")):
        for line in file.read_text("utf-8").splitlines():
            yield from json.loads(line)["captions"]
    for file in sorted(data.glob("text/*.gz")):
        yield from gzip.decompress(file.read_bytes()).decode().splitlines()
    lines = gzip.decompress((data / "msvd" / "AllVideoDescriptions.txt.gz").read_bytes()).decode().splitlines()
    yield from (line.partition(" ")[2] for line in lines)


@pytest.mark.slow
def test_agrees_with_the_tool_on_hard_captions(ask: Ask) -> None:
    captions = list(dict.fromkeys(_hard(random.Random(7), 60_000)))
    assert _differences([caption for caption in captions if not OPEN_TAG.search(caption)], ask) == []


def _hard(chance: random.Random, number: int) -> Iterator[str]:
    plain = [caption for caption, _ in STORED if caption]
    for _ in range(number):
        kind, size = chance.randrange(4), chance.randint(1, 8)
        if kind == 0:
            yield "".join(chance.choices(HARD, k=size))
        elif kind == 1:
            yield "".join(
                chance.choice(FRAGMENTS) + chance.choice(["", " ", " ", ".", "-", "'", ","]) for _ in range(size)
            )
        elif kind == 2:
            yield "".join(chance.choice([chance.choice(HARD), chance.choice(FRAGMENTS)]) for _ in range(size))
        else:
            place = chance.randrange(len(caption := chance.choice(plain)))
            yield caption[:place] + chance.choice([*HARD, *FRAGMENTS]) + caption[place + chance.randint(0, 2) :]


@pytest.mark.slow
def test_agrees_with_the_tool_on_every_character(ask: Ask) -> None:
    characters = {chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000} - {
        "Σ"
    }  # the one known difference
    ways = ("a{0}b {0}{0}", "1{0}2 a-{0}", "{0}'s {0}-a A.{0}", "#{0} ({0}) 5{0} {0}.")
    assert _differences([way.format(character) for character in characters for way in ways], ask) == []


@law
@given(texts)
def test_any_text_has_words_in_lower_case_without_spaces_and_punctuation(text: str) -> None:
    for word in tokenize(text):
        assert word
        assert word == word.lower()
        assert " " not in word
        assert word not in PUNCTUATION


@law
@given(texts)
def test_chunks_that_are_read_apart_give_what_the_whole_gives(text: str) -> None:
    with patch.object(tokenization, "_ACROSS", re.compile("")):
        whole = tokenize(text)
    assert tokenize(text) == whole


@law
@given(texts)
def test_spaces_at_the_end_change_nothing(text: str) -> None:
    assert tokenize(text + "  ") == tokenize(text)


@law
@given(st.lists(st.from_regex("[a-zA-Z]{2,9}", fullmatch=True)), st.sampled_from(["", " .", "!", ","]))
def test_plain_words_stay_as_they_are(words: list[str], ending: str) -> None:
    words = [word for word in words if word.lower() not in {"cannot", "gimme", "gonna", "gotta", "lemme", "wanna"}]
    assert tokenize(" ".join(words) + ending) == [word.lower() for word in words]


def test_lone_surrogates_are_dropped() -> None:
    assert tokenize("a \ud800b") == ["a", "b"]


@pytest.mark.parametrize("text", ["a", "a.", "'", "&", "-", "1-", " a. ", '<a b="', "a@", "é#", "\xad", "www.a."])
def test_long_lines_come_to_an_end(text: str) -> None:
    assert all(tokenize(text * 2_000))
