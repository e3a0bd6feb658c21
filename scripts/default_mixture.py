"""The listings that the embedded model learns captions from: text, pictures, clips, and sentences about videos.

    python -m scripts.default_mixture OUT [--data ../shared/data]

There are few training clips and thousands of sentences about videos that are not at hand. A sentence whose every
content word people used for a picture is true of it too, and says it as one says it of a video: the best few of each
picture are its captions where it is shown as a clip that stands still. Before it sees anything the model learns how
people speak: sentences alone are captions of a grey picture, those about videos of one that stands still.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from scipy.sparse import csr_matrix

Row = dict[str, Any]

PICTURES = (("flickr8k", "train.jsonl"), ("coco", "captions.jsonl"), ("web", "captions.jsonl"))
# How often an epoch draws an item. The web's alternative texts are noisy; clips are few and what the model is for.
WEIGHTS = {"flickr8k": 1.0, "coco": 1.0, "web": 0.3, "msrvtt": 5.0, "msvd": 5.0, "panda70m": 3.0}
STILL = {"flickr8k": 0.7, "coco": 1.0, "web": 0.5}
STILL_FRAMES = 4
PEOPLE = 5
"""Captions that make a reward: with fewer, chance decides."""
REWARDED, REWARDED_LAST = 5.0, 15.0
"""How often an epoch draws a clip for it, at first and at last."""
OVERSHOWN = "phone"
"""Five of the 80 clips show somebody on one: learned from often, everybody who talks has one."""
READ = 1 / 12
"""Draws of the grey picture for each sentence; each draw shows several."""
SENTENCES = 8
FUNCTION_WORDS = """
a an the this that these those some any there here it its he his him she her they their them we you i my your who which
is are was were be been being am has have had having do does did doing can could will would and or but so as if of in on
at to from by with without into onto over under near up down out off for about around through while when then very just
also not no one other another each both all something someone somebody video shown showing shows seen scene
"""
SKIPPED = frozenset(FUNCTION_WORDS.split())


def rows(listing: Path) -> list[Row]:
    return [json.loads(line) for line in listing.read_text().splitlines()]


def item(row: Row, folder: Path, captions: list[str], weight: float, **more: Any) -> Row:
    return {"id": row["id"], "file": str(folder.resolve() / row["file"]), "captions": captions, "weight": weight} | more


def video_sentences(data: Path) -> Counter[str]:
    """How often each sentence was said of MSR-VTT's and MSVD's training videos, not those of validation and test."""
    held = {row["id"].partition("_")[2] for row in rows(data / "clips" / "validation.jsonl")}
    with gzip.open(data / "msrvtt" / "train_val_videodatainfo.json.gz") as file:
        msrvtt = json.load(file)
    train = {video["video_id"] for video in msrvtt["videos"] if video["split"] == "train"} - held
    found = [row["caption"] for row in msrvtt["sentences"] if row["video_id"] in train]
    train = set(json.loads((data / "msvd" / "official_split.json").read_text())["train"]) - held
    with gzip.open(data / "msvd" / "AllVideoDescriptions.txt.gz", "rt") as lines:
        found += [text for name, _, text in (line.strip().partition(" ") for line in lines) if name in train]
    return Counter(" ".join(sentence.lower().split()) for sentence in found)


def stem(word: str) -> str:
    """A word without its ending, crudely: what is compared need not be a word."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return re.sub(r"(.)\1$", r"\1", word.removesuffix(ending)).rstrip("e")
    return word.rstrip("e")


def content(sentence: str) -> list[str]:
    words = re.findall(r"[a-z]+", sentence.lower())
    return [stem(word) for word in words if word not in SKIPPED]


def matrix(texts: Iterable[list[str]], vocabulary: dict[str, int]) -> csr_matrix:
    """How often each word of the vocabulary stands in each text."""
    columns = [[vocabulary[word] for word in text if word in vocabulary] for text in texts]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([column for text in columns for column in text], np.int32)
    return csr_matrix((np.ones(len(flat), np.float32), flat, ends), (len(columns), len(vocabulary)))


def match(pictures: list[Row], counts: Counter[str], block: int = 100) -> list[list[str]]:
    """For each picture the best few sentences of which people used every content word for it, at least two.

    Best are those that share the most with what people said, rare words above frequent ones; of these, those that
    were said of many videos, since they are how one speaks of videos.
    """
    words = {sentence: content(sentence) for sentence in sorted(counts) if len(sentence.split()) >= 4}
    words = {sentence: found for sentence, found in words.items() if 2 <= len(set(found)) <= 8}
    sentences = list(words)
    vocabulary = {word: number for number, word in enumerate(sorted({w for found in words.values() for w in found}))}
    candidates = (matrix(words.values(), vocabulary) > 0).astype(np.float32)
    usual = 1 + 0.25 * np.log([counts[sentence] for sentence in sentences])
    lengths = np.asarray(candidates.sum(1)).ravel()
    frequency = np.asarray(candidates.sum(0)).ravel()
    rarity = np.log((1 + len(sentences)) / (1 + frequency))
    found = []
    for at in range(0, len(pictures), block):
        part = pictures[at : at + block]
        said = matrix(([w for caption in row["captions"] for w in content(caption)] for row in part), vocabulary)
        covered = ((said > 0).astype(np.float32) @ candidates.T).toarray()
        gain = (said.minimum(5).multiply(rarity).tocsr() @ candidates.T).toarray() * usual / lengths**0.4
        gain[covered < lengths] = 0
        for scores in gain:
            best = np.argpartition(-scores, min(SENTENCES, len(scores)) - 1)[:SENTENCES]
            found.append([sentences[index] for index in best[np.argsort(-scores[best])] if scores[index] > 0])
    return found


def training(data: Path) -> list[Row]:
    """Charades and ActivityNet are left out: six clips whose captions tell a story, not a scene."""
    sentences = video_sentences(data)
    items = []
    for source, listing in PICTURES:
        folder, pictures = data / source, rows(data / source / listing)
        items += [item(row, folder, row["captions"], WEIGHTS[source]) for row in pictures]
        matches = match(pictures, sentences)
        items += [
            item(row, folder, captions, STILL[source], frames=STILL_FRAMES)
            for row, captions in zip(pictures, matches, strict=True)
            if captions
        ]
    clips = [row for row in rows(data / "clips" / "train.jsonl") if row["dataset"] in WEIGHTS]
    return items + [item(row, data / "clips", row["captions"], WEIGHTS[row["dataset"]]) for row in clips]


def references(data: Path, weight: float) -> list[Row]:
    """What several people described, to be rewarded for agreeing with them; no picture is shown as a clip."""
    pictures = [
        item(row, data / source, row["captions"], 1.0)
        for source, listing in PICTURES
        for row in rows(data / source / listing)
        if len(row["captions"]) >= PEOPLE
    ]
    clips = [
        row
        for row in rows(data / "clips" / "train.jsonl")
        if row["dataset"] in WEIGHTS and len(row["captions"]) >= PEOPLE
    ]
    return pictures + [item(row, data / "clips", row["captions"], clip_weight(row, weight)) for row in clips]


def clip_weight(row: Row, weight: float) -> float:
    """`weight`, but not more than 1 for a clip in which more than a tenth of people saw what too many clips show."""
    saw = sum(OVERSHOWN in caption for caption in row["captions"])
    return min(weight, 1.0) if saw > len(row["captions"]) / 10 else weight


def text(data: Path, grey: Path) -> list[Row]:
    """Sentences about pictures, and about videos, alone."""
    Image.new("RGB", (224, 224), (127, 127, 127)).save(grey)
    pictures = []
    for name in ("flickr30k", "coco_val2017"):
        with gzip.open(data / "text" / f"{name}.txt.gz", "rt") as lines:
            pictures += [line.strip() for line in lines]
    videos = list(video_sentences(data).elements())
    kinds = ("pictures", pictures, 1), ("videos", videos, STILL_FRAMES)
    return [
        item({"id": name, "file": grey.name}, grey.parent, said, READ * len(said), frames=frames)
        for name, said, frames in kinds
    ]


def validation(data: Path) -> list[Row]:
    pictures = [item(row, data / "flickr8k", row["captions"], 1.0) for row in rows(data / "flickr8k" / "dev.jsonl")]
    clips = rows(data / "clips" / "validation.jsonl")
    return pictures[:400] + [item(row, data / "clips", row["captions"], 1.0) for row in clips]


def write_mixture(data: Path, out: Path) -> None:
    """`text.jsonl`, `train.jsonl`, `references.jsonl`, `clips.jsonl` and `validation.jsonl` in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    listings = {
        "text": text(data, out / "grey.png"),
        "train": training(data),
        "references": references(data, REWARDED),
        "clips": references(data, REWARDED_LAST),
        "validation": validation(data),
    }
    for name, items in listings.items():
        part = out / f"{name}.part"
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in items))
        part.replace(out / f"{name}.jsonl")
        click.echo(f"{out / name}.jsonl: {len(items)} items, {sum(len(row['captions']) for row in items)} captions")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="../shared/data", show_default=True)
def main(out: Path, data: Path) -> None:
    """Write OUT/text.jsonl, OUT/train.jsonl, OUT/references.jsonl, OUT/clips.jsonl and OUT/validation.jsonl."""
    write_mixture(data, out)


if __name__ == "__main__":
    main()
