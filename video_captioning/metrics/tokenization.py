"""The words of a caption as the COCO caption tool counts them (Chen et al. 2015, arXiv 1504.00325).

The tool hands captions to the tokenizer of Stanford CoreNLP 3.4.1, which follows the Penn Treebank (Marcus et al. 1993:
"don't" is two tokens, "U.S." is one), puts them in lower case and drops the tokens of `PUNCTUATION`. This reproduces
what comes out, found out by asking the tool; tests compare the two on all our captions and on text made to be hard.
Some of it surprises, and is kept because scores depend on it:

- Brackets stay as `-lrb-` and the like: the tool drops the names in upper case only, after the lower-casing. So do
  runs such as `!!` and `-----`. `€5` becomes `$ 5`, `£5` `# 5`, emoji and letters that came after Unicode 6 vanish.
- A few tokens hold no-break spaces ("3 1/2", phone numbers, tags).

The tool reads all captions from one file, a line each. Here each is read on its own, as a line that a harmless one
follows. So what differs from the tool is

- a caption with a line break other than `\\n` (`\\r`, `\\x0b`, `\\x0c`, U+2028, U+2029), or that opens a quote in a tag
  and does not close it: the tool then gives the captions that follow to the wrong videos;
- a caption that ends in one letter and a full stop, or in "No." and the like: the tool keeps the full stop, or not, by
  how the next caption begins ("person A." before "The …"), and looks in vain for a line's end after the last caption;
- a capital sigma beside punctuation in one token, which may become the other small sigma.
"""

from __future__ import annotations

import re
from functools import lru_cache

from video_captioning.metrics.ptb import outline, rules

PUNCTUATION = frozenset(["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:-;", "--", "..."])
"""Tokens that are no words to the tool."""

# Where a rule may look across a space: tags, "3 1/2", "(555) 123-4567", "No. 5", "vitamin C. The", ". . .5"
_ACROSS = re.compile(r"[<\t\xa0\u2000-\u200a\u3000]|[\d.)]\s[\d.]|(?<![A-Za-z])[A-Za-z]\.\s+[A-Z]")


def tokenize(caption: str) -> list[str]:
    """The words of a caption, in lower case, without `PUNCTUATION`. Takes any text."""
    caption = caption.replace("\n", " ")
    if _ACROSS.search(caption):
        words = list(_words(caption))
    else:
        words = []
        for chunk in caption.split(" "):
            words += _known_words(chunk)
    if words and words[-1][-1].isspace() and caption.rstrip().lower().endswith(words[-1].rstrip()):
        words[-1] = words[-1].rstrip()  # an address can hold odd spaces, but the tool strips its lines
    return words


def _words(text: str) -> tuple[str, ...]:
    shape = outline(text) + "\n"
    words: list[str] = []
    place = 0
    while place < len(text):
        reach = place
        for rule in rules(shape[place]):
            match = rule.pattern.match(shape, place)
            if match is not None and match.end() > reach:
                best, reach, end = rule, match.end(), match.end(1)
        token = best.write(text[place:end]).lower()
        if token and token not in PUNCTUATION:
            words.append(token)
        place = end
    return tuple(words)


_known_words = lru_cache(maxsize=1 << 16)(_words)  # words recur: this is what makes it fast
