"""The listings that the decoder learns from: pictures, clips, and sentences about videos.

There are few training clips, and thousands of sentences about videos that are not at hand. If people used every content
word of such a sentence for a picture, it is true of the picture, too: the best few of each picture are its captions
where it is shown as a clip that stands still.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from recipes.default.sources import Source, clips, picture_sentences, pictures, validation, video_sentences
from video_captioning.files import write_whole
from video_captioning.words import content_stems

Row = dict[str, Any]

WEIGHTS = {"flickr8k": 1.0, "coco": 1.0, "web": 0.5, "unlabelled": 0.8, "clips": 4.0}
"""How often an epoch draws an item: clips are few and what the model is for."""
STILL = {"flickr8k": 0.5, "coco": 0.7, "web": 0.3, "unlabelled": 0.4}
"""The same of pictures that are shown as clips."""
STILL_FRAMES = 4
PEOPLE = 4
"""Captions that make a reward: with fewer, chance decides."""
REWARDED = {"flickr8k": 0.7, "coco": 0.4, "clips": 4.0}
"""How often an epoch draws an item for it."""
SENTENCES = 8
"""Matching sentences of a picture, at most."""
VALIDATED = 300
"""Pictures of dev that an epoch is validated on, beside the clips."""


def row(source: Source, captions: Sequence[str], weight: float, **more: Any) -> Row:
    return {"id": source.id, "file": str(source.path.resolve()), "captions": list(captions), "weight": weight} | more


def matrix(texts: Iterable[list[str]], vocabulary: dict[str, int]) -> csr_matrix:
    """How often each word of the vocabulary stands in each text."""
    columns = [[vocabulary[word] for word in text if word in vocabulary] for text in texts]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([column for text in columns for column in text], np.int32)
    return csr_matrix((np.ones(len(flat), np.float32), flat, ends), (len(columns), len(vocabulary)))


def match(sources: Sequence[Source], counts: Counter[str], block: int = 100) -> list[list[str]]:
    """For each picture the best few sentences of which people used every content word for it, at least two.

    Best are those that share the most with its captions, rare words above frequent ones; of these, those that were said
    of many videos.
    """
    words = {sentence: content_stems(sentence) for sentence in sorted(counts) if len(sentence.split()) >= 4}
    words = {sentence: found for sentence, found in words.items() if 2 <= len(set(found)) <= 8}
    sentences = list(words)
    vocabulary = {word: number for number, word in enumerate(sorted({w for found in words.values() for w in found}))}
    candidates = (matrix(words.values(), vocabulary) > 0).astype(np.float32)
    usual = 1 + 0.25 * np.log([counts[sentence] for sentence in sentences])
    lengths = np.asarray(candidates.sum(1)).ravel()
    frequency = np.asarray(candidates.sum(0)).ravel()
    rarity = np.log((1 + len(sentences)) / (1 + frequency))
    found = []
    for at in range(0, len(sources), block):
        part = sources[at : at + block]
        used = matrix(
            ([w for caption in source.captions for w in content_stems(caption)] for source in part), vocabulary
        )
        covered = ((used > 0).astype(np.float32) @ candidates.T).toarray()
        gain = (used.minimum(5).multiply(rarity).tocsr() @ candidates.T).toarray() * usual / lengths**0.4
        gain[covered < lengths] = 0
        for scores in gain:
            best = np.argpartition(-scores, min(SENTENCES, len(scores)) - 1)[:SENTENCES]
            found.append([sentences[index] for index in best[np.argsort(-scores[best])] if scores[index] > 0])
    return found


def training(data: Path) -> list[Row]:
    shown = pictures(data)
    matches = match(shown, Counter(video_sentences(data)))
    stills = [
        row(source, sentences, STILL[source.kind], frames=STILL_FRAMES)
        for source, sentences in zip(shown, matches, strict=True)
        if sentences
    ]
    return [*(row(s, s.captions, WEIGHTS[s.kind]) for s in [*shown, *clips(data)]), *stills]


def references(data: Path) -> list[Row]:
    """What several captions describe, to be rewarded for agreeing with them."""
    return [
        row(source, source.captions, REWARDED[source.kind])
        for source in [*pictures(data), *clips(data)]
        if source.kind in REWARDED and len(source.captions) >= PEOPLE
    ]


def held(data: Path) -> list[Row]:
    found = validation(data)
    return [
        row(source, source.captions, 1.0)
        for source in [*found["dev"][:VALIDATED], *found["validation"], *found["more_validation"]]
    ]


def write(data: Path, out: Path) -> None:
    """Write `train.jsonl`, `references.jsonl`, `validation.jsonl` and `text.txt` into `out`, where they are missing."""
    listings = {"train": training, "references": references, "validation": held}
    for name, made in listings.items():
        if not (out / f"{name}.jsonl").exists():
            lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in made(data))
            write_whole(out / f"{name}.jsonl", "".join(lines).encode(), "run again")
    if not (out / "text.txt").exists():
        text = dict.fromkeys([*video_sentences(data), *picture_sentences(data)])
        write_whole(out / "text.txt", "\n".join(text).encode(), "run again")
