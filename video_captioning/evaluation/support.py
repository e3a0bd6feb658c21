"""How many of a caption's content words does any reference use? It counts what CIDEr-D hides: what is not there.

Crude, since suffixes are cut and there are no synonyms, and harsh where there are few references. The lists are its own
and not those of `words`, so that figures stay comparable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PLAIN = frozenset(
    """
    a an the of in on at to and is are with his her their its it this that from for by as while two three one some there
    up out down over off through into near next front back being other another each something someone them him he she
    they who has have be group people person man woman doing very
    """.split()  # noqa: SIM905 (a list of so many is a page)
)


@dataclass(frozen=True)
class Support:
    """How many content words of each caption there are, and how many of them a reference uses."""

    words: tuple[int, ...]
    supported: tuple[int, ...]

    @property
    def share(self) -> float:
        """Of all content words, those that a reference uses."""
        return sum(self.supported) / max(1, sum(self.words))

    @property
    def all(self) -> int:
        """Captions whose content words are all supported; one at least."""
        return sum(0 < words == found for words, found in zip(self.words, self.supported, strict=True))

    @property
    def none(self) -> int:
        """Captions without a supported content word."""
        return self.supported.count(0)

    @property
    def right(self) -> tuple[bool, ...]:
        """Of each caption, whether at least half of its content words, one at least, are supported."""
        return tuple(0 < words <= 2 * found for words, found in zip(self.words, self.supported, strict=True))

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"content_words": sum(self.words), "supported": self.share, "all": self.all, "none": self.none}


def support(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, str]) -> Support:
    """Support of the caption of every id of `hypotheses`, in their order."""
    words, supported = [], []
    for name, caption in hypotheses.items():
        known = {word for reference in references[name] for word in content(reference)}
        said = content(caption)
        words.append(len(said))
        supported.append(sum(word in known for word in said))
    return Support(tuple(words), tuple(supported))


def content(text: str) -> list[str]:
    """Content words of a text without their endings."""
    return [cut(word) for word in re.findall("[a-z]+", text.lower()) if word not in PLAIN]


def cut(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
