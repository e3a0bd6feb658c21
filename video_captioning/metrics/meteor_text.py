"""How METEOR divides a sentence into words once more: the jar's `-norm`, found out by asking it.

It follows the rules of the Moses tokenizer (Koehn et al. 2007) with some of its own: hyphens between letters divide
words, "u.s." becomes "us", curly quotes straight ones. Each rule goes over the whole sentence from left to right, and a
character that took part in one change of a rule takes part in no other: "a-b-c" becomes "a b-c". That is kept.
"""

# ruff: noqa: RUF001 (it is about characters that look alike)
from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import NamedTuple

_LETTERS = "a-zA-Z\xc0-\xd6\xd8-\xf6\xf8-\u017e\u0400-\u0527\u1d00-\u1d7f\ua640-\ua69f"
_WORD = f"{_LETTERS}0-9"
_SPACES = frozenset("\xa0\u202f\u205f\u3000").union(map(chr, range(0x2000, 0x200B)))
"""Words of their own until the end."""
_TRIMMED = "".join(map(chr, range(33)))
_RULES = tuple(
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in (
        ("[‘’`]", "'"),
        ("[“”]|''", '"'),
        (rf"([^{_WORD}\s.',-])", r" \1 "),
        (r"(\.\.+)", r" \1 "),
        ("([^0-9]),([^0-9])", r"\1 , \2"),
        ("([0-9]),([^0-9])", r"\1 , \2"),
        ("([^0-9]),([0-9])", r"\1 , \2"),
        ("--|–", "-"),
        (f"([{_WORD}.])-([{_WORD}])", r"\1 \2"),
        (f"([^{_LETTERS}])'([^{_LETTERS}])", r"\1 ' \2"),
        (f"([^{_WORD}])'([{_LETTERS}])", r"\1 ' \2"),
        (f"([{_LETTERS}])'([^{_LETTERS}])", r"\1 ' \2"),
        (f"([{_LETTERS}])'([{_LETTERS}])", r"\1 '\2"),
        ("([0-9])'s", r"\1 's"),
    )
)
_PLAIN = re.compile("[a-z0-9 ]*")
_GAPS = re.compile("[ \t\n\r\f]+")
_LETTER = re.compile(f"[{_LETTERS}]")


class Prefixes(NamedTuple):
    """Words that a full stop belongs to; lower case is another word."""

    always: AbstractSet[str]
    before_numbers: AbstractSet[str]


def parse_prefixes(text: str) -> Prefixes:
    """From the table of the jar: a word a line, `#` starts a remark."""
    always, numbers = set[str](), set[str]()
    for line in text.splitlines():
        word, _, remark = line.partition("#")
        if word.strip():
            (numbers if "NUMERIC_ONLY" in remark else always).add(word.strip())
    return Prefixes(frozenset(always), frozenset(numbers))


def normalize(sentence: str, prefixes: Prefixes) -> list[str]:
    """The words of a sentence, in lower case. Takes any text without a line break."""
    if _PLAIN.fullmatch(sentence):
        return sentence.split()
    return list(_normalize(sentence, prefixes))


def _rewrite(sentence: str) -> list[str]:
    text = f" {sentence.strip(_TRIMMED)} "
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return _GAPS.split(text.strip(_TRIMMED))


@lru_cache(maxsize=1 << 14)  # captions recur
def _normalize(sentence: str, prefixes: Prefixes) -> tuple[str, ...]:
    chunks = _rewrite(sentence)
    words: list[str] = []
    for chunk, following in zip(chunks, [*chunks[1:], ""], strict=True):
        words += _without_stop(chunk, following, prefixes) if chunk.endswith(".") else [chunk]
    text = " ".join(word for word in words if word not in _SPACES).strip(_TRIMMED).lower()
    return tuple(_GAPS.split(text)) if text else ()


def _without_stop(chunk: str, following: str, prefixes: Prefixes) -> list[str]:
    """A sentence's stop is a word of its own, that of an abbreviation is not, and initials lose theirs."""
    word = chunk[:-1]
    if not word or chunk.startswith("..") or _stays(word, following, prefixes):
        return [chunk]
    return [word.replace(".", "")] if _initials(word) else [word, "."]


def _initials(word: str) -> bool:
    return "." in word and _LETTER.search(word) is not None


def _stays(word: str, following: str, prefixes: Prefixes) -> bool:
    if _initials(word):
        return False
    if word in prefixes.always or "a" <= following[:1] <= "z":
        return True
    return word in prefixes.before_numbers and "0" <= following[:1] <= "9"
