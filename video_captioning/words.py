"""Content words of captions, and which forms of them are one word."""

from __future__ import annotations

import re

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any there here it its he his him himself she her herself they their them
    themselves we us our you your i my who which what while when then where how than
    is are was were be been being am has have had having do does did doing done can could will would may might must
    and or but so as if of in on at to from by with without into onto over under near next up down out off for about
    around through between behind beside front back against along across away toward towards inside outside above below
    after before during just also not no very too one two three four several many few more most other another each both
    all something someone somebody anything nothing thing
    video clip shown showing shows seen scene person people man woman men women group
    """.split()  # noqa: SIM905 (a list of so many is a page)
)
"""Words that say little of what a clip shows, or are true of nearly every clip."""


def stem(word: str) -> str:
    """A word without its ending, crudely: what is compared need not be a word ("riding" and "rides" become "rid")."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith("ss") or (ending == "es" and not re.search("(s|x|z|ch|sh)es$", word)):
            continue
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = re.sub(r"([^aeiouls])\1$", r"\1", word.removesuffix(ending))
            break
    return re.sub("y$", "i", word.removesuffix("e"))


def content_words(text: str) -> list[str]:
    """Words of a text that are not function words, in lower case and in their order."""
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word not in FUNCTION_WORDS]


def content_stems(text: str) -> list[str]:
    """Stems of the content words of a text."""
    return [stem(word) for word in content_words(text)]


def stems(text: str) -> list[str]:
    """Stems of all words of a text, in their order."""
    return [stem(word) for word in re.findall(r"[a-z]+", text.lower())]
